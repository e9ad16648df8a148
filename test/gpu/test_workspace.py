# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Several functions of several libraries take turns on one workspace, as an
engine makes them do. Each call is made on a CPU as well, by the library of the
same program, and has to give the same.

Runs from a bundle: bundle/run test-workspace [seed]. make_bundle.py runs it
too, to learn which libraries the bundle needs.
"""

import subprocess
import sys

import kvtest
import numpy as np

HEADS, GROUP, CHANNELS, TOKENS = 8, 4, 64, 16
WORKSPACE = 32 << 20

BATCH = "!kvcache.batch<?R x ?M x i32, tokens = 16>"
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>"


def write(name, type_):
    """Rows of a batch go to the cache; the list of slots is a buffer."""
    pool = f"!kvcache.cache<2S x ?B x 16N x 8H x 64D x {type_}>"
    rows = f"memref<?x8x64x{type_}>"
    return f"""
func.func @{name}(%pool: {pool}, %batch: {BATCH}, %key: {rows}, %value: {rows}) {{
  %c0 = arith.constant 0 : index
  %n = memref.dim %key, %c0 : {rows}
  %list = memref.alloc(%n) : memref<?xi64>
  kvcache.slot_mapping %batch into %list : {BATCH} into memref<?xi64>
  %slots = kvcache.make_slots %list : memref<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %pool at %slots : {rows}, {rows} into {pool} at {SLOTS}
  return
}}
"""


def attend(name, type_):
    pool = f"!kvcache.cache<2S x ?B x 16N x 8H x 64D x {type_}>"
    rows = f"memref<?x32x64x{type_}>"
    return f"""
func.func @{name}(%pool: {pool}, %batch: {BATCH}, %query: {rows}, %out: {rows}) {{
  kvcache.attention %query over %pool in %batch into %out causal
    : {rows} over {pool} in {BATCH} into {rows}
  return
}}
"""


# One engine has all in one library, another one an artefact for each step.
TOGETHER = write("write_f16", "f16") + attend("attend_f16", "f16")
ALONE_WRITE = write("write_bf16", "bf16")
ALONE_ATTEND = attend("attend_bf16", "bf16")
PROGRAMS = [TOGETHER, ALONE_WRITE, ALONE_ATTEND]


class Case:
    """Requests that grow by a token in each step, and their pool."""

    def __init__(self, rng, type_, requests, length, blocks=None):
        self.rng, self.type = rng, type_
        self.requests, self.length = requests, length
        self.columns = (length + 64) // TOKENS + 1
        used = requests * self.columns
        self.blocks = used + 3 if blocks is None else blocks
        self.pool = self.random(2, self.blocks, TOKENS, HEADS, CHANNELS)
        self.table = rng.permutation(max(used, 1))[:used].astype(np.int32)
        if self.blocks < used:
            self.table[:] = rng.integers(-1, self.blocks + 1, used)
        self.starts = np.arange(requests + 1, dtype=np.int32)

    def random(self, *shape):
        return kvtest.random_storage(self.rng, int(np.prod(shape)), self.type)

    def step(self, number):
        """The calls of a step: function, arguments as (storage, type, shape)."""
        lengths = np.full(self.requests, self.length + number, np.int32)
        pool = (self.pool, self.type,
                [2, self.blocks, TOKENS, HEADS, CHANNELS])
        batch = [(self.starts, "i32", [self.requests + 1]),
                 (lengths, "i32", [self.requests]),
                 (self.table, "i32", [self.requests, self.columns])]

        def rows(heads, poison=False):
            values = self.random(self.requests, heads, CHANNELS)
            if poison:
                values.view(np.uint16)[:] = 0x7E7E
            return values, self.type, [self.requests, heads, CHANNELS]

        yield f"write_{self.type}", [pool, *batch, rows(HEADS), rows(HEADS)]
        yield f"attend_{self.type}", [pool, *batch, rows(HEADS * GROUP),
                                      rows(HEADS * GROUP, poison=True)]


def numbers(storage, type_):
    if type_ == "bf16":
        return (storage.astype(np.uint32) << 16).view(np.float32)
    return storage.astype(np.float32)


class Both:
    """The same function on both machines; what is written is compared."""

    def __init__(self, space):
        import device
        self.device, self.space = device, space
        self.functions = {}
        for text in PROGRAMS:
            gpu = device.compile_library(text)
            name = device.program_name(text)
            cpu = kvtest.Library(device.HERE / "lib" / "cpu" / f"lib{name}.so",
                                 name)
            for function in ("write_f16", "attend_f16", "write_bf16",
                             "attend_bf16"):
                if f"@{function}(" in text:
                    self.functions[function] = cpu, gpu

    def call(self, name, args):
        cpu, gpu = self.functions[name]
        expected = [storage.copy() for storage, *_ in args]
        cpu.run(name, *(kvtest.Tensor(storage, type_, shape)
                        for storage, (_, type_, shape) in zip(expected, args)))
        gpu.run_in(self.space, name, *(self.device.Tensor(*arg)
                                       for arg in args))
        worst = 0.0
        for want, (got, type_, _) in zip(expected, args):
            if name.startswith("attend") and want is expected[-1]:
                want, got = numbers(want, type_), numbers(got, type_)
                assert np.isfinite(got).all(), f"{name}: not finite"
                worst = (np.linalg.norm(got - want)
                         / max(np.linalg.norm(want), 1e-9))
                assert worst < 1e-2, f"{name}: error {worst:.2f}"
            else:
                assert np.array_equal(want.view(np.uint8), got.view(np.uint8)), (
                    f"{name}: other bits")
        return worst


def main(seed=0):
    import cudadrv
    import device

    cudadrv.Device()
    rng = np.random.default_rng(seed)
    calls, worst = 0, 0.0
    space = device.Workspace(WORKSPACE)
    both = Both(space)
    # All cases use the one workspace, which was zeroed once.
    for requests, length, blocks in ((1, 2000, None), (8, 500, None),
                                     (24, 300, None), (3, 40, 1), (3, 40, 0),
                                     (40, 1, None), (0, 16, 4)):
        cases = [Case(rng, type_, requests, length, blocks)
                 for type_ in ("f16", "bf16")]
        for number in range(12):
            for case in cases:
                for name, args in case.step(number):
                    try:
                        worst = max(worst, both.call(name, args))
                    except AssertionError as error:
                        raise AssertionError(
                            f"{requests} requests of {length}, step {number}: "
                            f"{error}") from None
                    calls += 1
    print(f"PASS workspace: {calls} calls in turn on one workspace, error at "
          f"most {worst:.1e}")
    return overwritten()


def overwritten():
    """Who writes where launches keep their state is told so, in a process that
    the error ends."""
    failed = 0
    for fill in ("slots", "ones", "number"):
        result = subprocess.run([sys.executable, __file__, fill],
                                capture_output=True, text=True, timeout=120)
        text = result.stdout + result.stderr
        ok = result.returncode and "8 KiB were overwritten" in text
        print("PASS" if ok else "FAIL", f"state overwritten by {fill}",
              "" if ok else text[-600:])
        failed += not ok
    return failed


def overwrite(fill):
    import cudadrv
    import device

    cudadrv.Device()
    space = device.Workspace(WORKSPACE)
    both = Both(space)
    case = Case(np.random.default_rng(1), "bf16", 4, 700)
    for number in range(3):
        for name, args in case.step(number):
            both.call(name, args)
        if number == 1:
            raw = space.read(64)
            if fill == "number":
                # As if fewer launches had been made, by who knows no mark.
                raw[:8], raw[8:16] = 0, 0
                raw[1] = 0x10
            else:
                raw.view(np.int64)[:] = {"slots": np.arange(800, 808),
                                         "ones": np.ones(8)}[fill]
            space.write(raw)
    print("no error")
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].isdigit():
        sys.exit(overwrite(sys.argv[1]))
    sys.exit(main(*map(int, sys.argv[1:])))
