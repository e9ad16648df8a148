# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Programs with --checks on a GPU: every kind of offender, captured graphs, and
what checks cost. Runs from a bundle: bundle/run test-checks.
"""

import json
import sys

import checks
import cudadrv
import device
import kvtest
import numpy as np
from kvtest import ENTRY, OK

ROUNDS = 10
# (requests, tokens of each), of decode steps with 32 query and 8 kv heads.
DECODE = [(32, 4096), (8, 2048), (1, 16384)]
HEADS, CHANNELS, PAGE = 8, 128, 16


def folder(name):
    return device.HERE / "lib" / device.IMAGE / f"lib{name}.so"


def report(library, name, args):
    library.run(name, *args)
    code = library.check(device._stream.value)
    assert code in (OK, ENTRY), library.last_error()
    text = library.last_error() if code else ""
    assert library.check(device._stream.value) == OK, "a report came twice"
    return text


def offenders():
    rng = np.random.default_rng(0)
    library = device.Library(folder("checks"), "checks")
    count = sum(checks.check_one(library, rng, device, name, report)
                for _ in range(ROUNDS) for name in checks.MAKERS)
    print(f"PASS offenders: {count} calls")


class Decode:
    """A decode step in memory of the device."""

    def __init__(self, requests, tokens, spare=64):
        self.requests = requests
        columns = -(-tokens // PAGE)
        self.blocks = requests * columns + spare
        rng = np.random.default_rng(1)
        self.table = rng.permutation(self.blocks)[: requests * columns].reshape(
            requests, columns).astype(np.int32)
        lists = {"starts": np.arange(requests + 1, dtype=np.int32),
                 "lengths": np.full(requests, tokens, np.int32),
                 "table": self.table}
        self.buffers = {}
        for name, values in lists.items():
            self.buffers[name] = cudadrv.Buffer(values.nbytes)
            self.buffers[name].write(values)
        side = self.blocks * PAGE * HEADS * CHANNELS * 2
        rows = requests * 4 * HEADS * CHANNELS * 2
        for name, nbytes in dict(keys=side, values=side, query=rows, out=rows,
                                 workspace=64 << 20).items():
            self.buffers[name] = cudadrv.Buffer(nbytes)
            self.buffers[name].fill(0)
        pool = [self.blocks, PAGE, HEADS, CHANNELS]
        rows = [requests, 4 * HEADS, CHANNELS]
        self.arguments = [
            self._tensor(name, type_, shape) for name, type_, shape in [
                ("query", "bf16", rows), ("keys", "bf16", pool),
                ("values", "bf16", pool), ("starts", "i32", [requests + 1]),
                ("lengths", "i32", [requests]), ("table", "i32",
                                                 list(self.table.shape)),
                ("out", "bf16", rows)]]

    def _tensor(self, name, type_, shape):
        empty = np.zeros(1, kvtest.TYPES[type_][2])
        tensor = kvtest.Tensor(empty, type_, shape, device=kvtest.CUDA_DEVICE)
        tensor.dl.data = self.buffers[name].pointer
        return tensor

    def call(self, library, stream):
        library.check_call("attention_32_8_128_bf16", *self.arguments,
                           workspace_pointer=self.buffers["workspace"].pointer,
                           workspace_bytes=64 << 20, stream=stream.value)


def graphs():
    """An offender that is there in some replays only is reported by these."""
    library = kvtest.Library(folder("attention_checked"), "attention_checked")
    case, stream = Decode(8, 2048), cudadrv.Stream()
    case.call(library, stream)
    stream.synchronize()
    graph = stream.capture(lambda: case.call(library, stream))
    rng = np.random.default_rng(2)
    for turn in range(50):
        table = case.table.copy()
        spoiled = turn % 3 == 1
        r, j = int(rng.integers(8)), int(rng.integers(table.shape[1]))
        if spoiled:
            table[r, j] = case.blocks + 7
        case.buffers["table"].write(table)
        for _ in range(1 + turn % 2):
            graph.launch(stream)
        code = library.check(stream.value)
        if not spoiled:
            assert code == OK, library.last_error()
            continue
        expected = (
            "attention_32_8_128_bf16: attention: argument 'batch.table': expected a "
            f"block from 0 to {case.blocks - 1} for request {r}, entry {j} "
            f"(tokens {j * PAGE} to {j * PAGE + PAGE - 1}), got "
            f"{case.blocks + 7}")
        assert code == ENTRY and library.last_error() == expected, (
            code, library.last_error())
    # A call that is not told of it asks before it launches.
    table = case.table.copy()
    table[3, 5] = -1
    case.buffers["table"].write(table)
    graph.launch(stream)
    stream.synchronize()
    try:
        case.call(library, stream)
        raise SystemExit("FAIL graphs: the next call works")
    except AssertionError as error:
        assert "a check of an earlier call failed" in str(error), error
    print("PASS graphs: 50 changes in place")


def cost(json_path=None):
    figures = []
    libraries = {
        name: kvtest.Library(folder(name), name)
        for name in ("attention", "attention_checked")}
    for requests, tokens in DECODE:
        case, stream = Decode(requests, tokens), cudadrv.Stream()
        times = {name: [] for name in libraries}
        for _ in range(5):
            for name, library in libraries.items():
                times[name].append(cudadrv.graph_time(
                    stream, lambda _: case.call(library, stream)))
        plain, checked = (sorted(times[name])[2] for name in libraries)
        assert libraries["attention_checked"].check(stream.value) == OK
        share = checked / plain - 1
        figures.append(dict(requests=requests, tokens=tokens, plain_us=plain,
                            checked_us=checked))
        print(f"decode {requests} x {tokens}: {plain:.2f} us, with checks "
              f"{checked:.2f} us, {share:+.1%}")
    if json_path:
        with open(json_path, "w") as file:
            json.dump(figures, file, indent=1)


def main():
    cudadrv.Device()
    device._stream = cudadrv.Stream()
    offenders()
    graphs()
    cost(*sys.argv[1:2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
