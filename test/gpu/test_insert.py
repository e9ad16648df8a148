# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""index_copy on a GPU: bits, canaries, errors, graphs, and what a launch does.

Runs from a bundle: bundle/run test
"""

import os
import sys
from pathlib import Path

import cudadrv
import kvtest
import numpy as np
from programs import CORRECTNESS, LAYOUTS, TOKENS
from reference import Cache, index_copy

HERE = Path(__file__).resolve().parent
GUARD = 4096  # bytes on both sides of a buffer


class DeviceArray:
    """A NumPy array's copy on the device, between canaries."""

    def __init__(self, values):
        self.host = values
        self.buffer = cudadrv.Buffer(values.nbytes + 2 * GUARD)
        self.buffer.fill(0xA5)
        self.buffer.write(values, GUARD)
        self.pointer = self.buffer.pointer + GUARD

    def read(self, what):
        raw = np.empty(self.buffer.nbytes, np.uint8)
        self.buffer.read(raw)
        edges = np.concatenate([raw[:GUARD], raw[-GUARD:]])
        assert (edges == 0xA5).all(), f"{what}: a canary was overwritten"
        return raw[GUARD:-GUARD].view(self.host.dtype)

    def tensor(self, element_type, shape, strides=None, offset=0):
        tensor = kvtest.Tensor(self.host, element_type, shape, strides,
                               device=kvtest.CUDA_DEVICE)
        tensor.dl.data = self.pointer + offset * self.host.itemsize
        return tensor


def pool_arguments(case, pool, blocks, layer):
    if case.layers > 1:
        raw = kvtest.Tensor(pool.host.view(np.uint8), "i8",
                            [pool.host.nbytes], device=kvtest.CUDA_DEVICE)
        raw.dl.data = pool.pointer
        return [raw, case.layer_offset(layer) * case.element_bytes, blocks]
    shape, strides, _ = case.geometry(blocks)
    return [pool.tensor(case.element_type, shape, strides)]


def random_slots(rng, count, capacity, pad, dtype):
    slots = rng.permutation(capacity)[:count].astype(dtype)
    slots[rng.random(count) < 0.2] = -1
    if pad == "skip_out_of_range":
        slots[rng.random(count) < 0.1] = capacity + 7
    return slots


def run_case(library, case, count, rng, stream):
    blocks = max(4, -(-count // TOKENS) + 3)
    shape, strides, size = case.geometry(blocks)
    layer = case.layers - 1
    host = kvtest.random_storage(rng, size, case.element_type)
    pool = DeviceArray(host)
    row = case.heads * case.channels
    step = row * 3 if case.strided_rows else row
    rows = []
    for _ in range(2):
        values = kvtest.random_storage(rng, max(1, count * step),
                                       case.element_type)
        rows.append(DeviceArray(values))
    dtype = np.int32 if case.slots == "i32" else np.int64
    slots = np.zeros(max(1, count), dtype)
    slots[:count] = random_slots(rng, count, blocks * TOKENS, case.pad, dtype)
    where = DeviceArray(slots)

    row_shape = [count, case.heads, case.channels]
    row_strides = [step, case.channels, 1]
    expected = kvtest.Tensor(host.copy(), case.element_type, shape, strides,
                             offset=case.layer_offset(layer))
    index_copy(Cache.of(expected.view(), "SBNHD"),
               [kvtest.Tensor(r.host, case.element_type, row_shape,
                              row_strides).view() for r in rows],
               slots[:count], case.pad)
    library.check_call(
        case.name, *pool_arguments(case, pool, blocks, layer),
        where.tensor(case.slots, [count]),
        *[r.tensor(case.element_type, row_shape, row_strides) for r in rows],
        stream=stream.value)
    stream.synchronize()
    got = pool.read(case.name).view(np.uint8)
    want = expected.storage.view(np.uint8)
    assert np.array_equal(got, want), (
        f"{case.name}, {count} tokens: {np.count_nonzero(got != want)} bytes "
        "differ")
    for r in rows:
        assert np.array_equal(r.read("rows").view(np.uint8),
                              r.host.view(np.uint8))


def test_bits(library, stream):
    rng = np.random.default_rng(7)
    for case in CORRECTNESS:
        counts = [0, 1, 3, 37, 300, 2000]
        if case in LAYOUTS[:2]:
            counts.append(17000)
        for count in counts:
            run_case(library, case, count, rng, stream)
    return f"{len(CORRECTNESS)} layouts"


def small_problem(rng, count=64, blocks=8):
    case = LAYOUTS[0]
    shape, strides, size = case.geometry(blocks)
    pool = DeviceArray(kvtest.random_storage(rng, size, "bf16"))
    rows = [DeviceArray(kvtest.random_storage(rng, count * 1024, "bf16"))
            for _ in range(2)]
    slots = DeviceArray(rng.permutation(blocks * TOKENS)[:count])
    args = [pool.tensor("bf16", shape, strides), slots.tensor("i64", [count])]
    args += [r.tensor("bf16", [count, 8, 128]) for r in rows]
    return case, pool, rows, slots, args


def test_graph(library, stream):
    """Capture once, change the slots in place, replay."""
    rng = np.random.default_rng(8)
    case, pool, rows, slots, args = small_problem(rng)
    shape, strides, _ = case.geometry(8)
    expected = kvtest.Tensor(pool.host.copy(), "bf16", shape, strides)
    graph = stream.capture(
        lambda: library.check_call(case.name, *args, stream=stream.value))
    stream.synchronize()
    assert np.array_equal(pool.read("pool"), pool.host), "capture wrote"
    for _ in range(5):
        changed = rng.permutation(8 * TOKENS)[:64]
        changed[rng.random(64) < 0.2] = -3
        slots.buffer.write(changed, GUARD)
        index_copy(Cache.of(expected.view(), "SBNHD"),
                   [r.host.reshape(64, 8, 128) for r in rows], changed,
                   case.pad)
        graph.launch(stream)
        stream.synchronize()
        assert np.array_equal(pool.read("pool"), expected.storage)
    return "5 replays"


def test_errors(library, stream):
    rng = np.random.default_rng(9)
    case, pool, rows, slots, args = small_problem(rng)
    key = args[2]

    key.dl.device_type = kvtest.CPU_DEVICE
    library.expect_error(kvtest.DEVICE, "argument 'key': expected memory of "
                         "CUDA", case.name, *args)
    key.dl.device_type, key.dl.device_id = kvtest.CUDA_DEVICE, 1
    library.expect_error(kvtest.DEVICE, "argument 'key': expected device 0",
                         case.name, *args)
    key.dl.device_id = 0
    key.dl.data += 8
    library.expect_error(kvtest.ALIGNMENT, "argument 'key': expected an "
                         "address that is a multiple of 16", case.name, *args)
    key.dl.data -= 8
    for arg in args:
        arg.dl.device_id = 63
    library.expect_error(kvtest.CUDA, "the driver reports", case.name, *args)
    assert np.array_equal(pool.read("pool"), pool.host), "an error wrote"
    return "4 errors"


def test_other_context(library, stream):
    """A thread without a current context runs in the primary one."""
    import threading

    rng = np.random.default_rng(10)
    case, pool, rows, slots, args = small_problem(rng)
    codes = []
    thread = threading.Thread(
        target=lambda: codes.append(library.call(case.name, *args)))
    thread.start()
    thread.join()
    assert codes == [kvtest.OK]
    cudadrv.Device(0).synchronize()
    assert not np.array_equal(pool.read("pool"), pool.host)
    return "1 thread"


def test_launch_calls(_, stream):
    """The driver functions that a second call uses, counted by a library that
    stands in for the driver. Runs in a process of its own."""
    import subprocess

    environment = dict(os.environ, KV_REAL_LIBCUDA=real_driver())
    result = subprocess.run(
        [sys.executable, str(HERE / "count_calls.py")], env=environment,
        capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip()


def real_driver():
    """The path of the driver library that this process has loaded."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            if "libcuda.so" in line:
                return line.split()[-1]
    raise RuntimeError("the driver is not loaded")


def test_tvm_ffi(library, stream):
    """PyTorch tensors and PyTorch's stream through TVM-FFI."""
    import time

    import torch
    import tvm_ffi

    module = tvm_ffi.load_module(str(library.path))
    pool = torch.randn(2, 8, TOKENS, 8, 128, device="cuda").bfloat16()
    key, value = (torch.randn(64, 8, 128, device="cuda").bfloat16()
                  for _ in range(2))
    slots = torch.randperm(8 * TOKENS, device="cuda")[:64]
    slots[5] = -1
    expected = pool.clone()
    live = slots >= 0
    for side, rows in enumerate((key, value)):
        flat = expected[side].view(8 * TOKENS, 8, 128)
        flat[slots[live]] = rows[live]
    side_stream = torch.cuda.Stream()
    side_stream.wait_stream(torch.cuda.current_stream())
    insert = module.nhd
    with torch.cuda.stream(side_stream):
        insert(pool, slots, key, value)
    side_stream.synchronize()
    assert torch.equal(pool, expected)
    try:
        insert(pool.float(), slots, key, value)
        raise AssertionError("a wrong element type was accepted")
    except TypeError as error:
        assert "expected elements of bfloat16, got float32" in str(error)

    def per_call(function, n=2000):
        for _ in range(100):
            function()
        torch.cuda.synchronize()
        best = 1e9
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(n):
                function()
            best = min(best, (time.perf_counter() - start) / n)
            torch.cuda.synchronize()
        return best * 1e6

    call = per_call(lambda: insert(pool, slots, key, value))
    none = slots[:0]
    check = per_call(lambda: insert(pool, none, key[:0], value[:0]))
    slices = per_call(lambda: (none, key[:0], value[:0]))
    return (f"{call:.2f} us a call from Python with its launch, "
            f"{check - slices:.2f} us without one")


TESTS = [test_bits, test_graph, test_errors, test_other_context,
         test_launch_calls, test_tvm_ffi]


def main():
    device = cudadrv.Device()
    print(f"{device.name}, driver {device.driver}")
    stream = cudadrv.Stream()
    only = sys.argv[1:]
    passed = failed = skipped = 0
    for image in ("cubin", "ptx"):
        library = kvtest.Library(HERE / "lib" / image / "libinsert.so",
                                 "insert")
        for test in TESTS:
            name = f"{test.__name__} ({image})"
            if only and test.__name__ not in only:
                continue
            try:
                print(f"PASS {name}: {test(library, stream)}", flush=True)
                passed += 1
            except ModuleNotFoundError as missing:
                print(f"SKIP {name}: {missing}", flush=True)
                skipped += 1
            except Exception as error:
                print(f"FAIL {name}: {type(error).__name__}: {error}",
                      flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
