# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Relayout, copies of blocks, metadata and transfers, beside ceilings that are
taken in the same run.

What is on the device is timed in CUDA graphs, transfers over the link with
events; medians. Ceilings: the best of some linear copies (linear_copy.ptx), and
one contiguous asynchronous copy between device and pinned memory. Each result
is checked on some blocks.

Runs from a bundle: bundle/run bench-moves [--json FILE]
"""

import argparse
import json
import sys
from pathlib import Path

import cudadrv
import kvtest
import numpy as np
from move_programs import CHANNELS, HEADS, LAYERS, TOKENS, TRANSFERS

HERE = Path(__file__).resolve().parent
GIB = 1 << 30
BLOCK = 2 * TOKENS * HEADS * CHANNELS * 2  # bytes of one layer
EMPTY = {t: np.zeros(1, kvtest.TYPES[t][2]) for t in ("bf16", "i32", "i64")}


def tensor(pointer, type_, shape, strides=None, device=kvtest.CUDA_DEVICE):
    result = kvtest.Tensor(EMPTY[type_], type_, shape, strides, device=device)
    result.dl.data = pointer
    return result


def array(values):
    buffer = cudadrv.Buffer(values.nbytes)
    buffer.write(np.ascontiguousarray(values))
    return buffer


def pool_tensor(pointer, order, blocks, layers=None, device=kvtest.CUDA_DEVICE):
    sizes = dict(L=layers or 1, S=2, B=blocks, N=TOKENS, H=HEADS, D=CHANNELS)
    strides, step = {}, 1
    for axis in reversed(order):
        strides[axis] = step
        step *= sizes[axis]
    axes = [a for a in "LSBNHD" if a in order]
    return tensor(pointer, "bf16", [sizes[a] for a in axes],
                  [strides[a] for a in axes], device)


def view(raw, order, blocks, layers=None):
    """Raw storage as an array whose axes are L S B N H D."""
    sizes = dict(L=layers or 1, S=2, B=blocks, N=TOKENS, H=HEADS, D=CHANNELS)
    shaped = raw.reshape([sizes[a] for a in order])
    return shaped.transpose([order.index(a) for a in "LSBNHD" if a in order])


class Bench:
    def __init__(self, library):
        self.device = cudadrv.Device()
        self.stream = cudadrv.Stream()
        self.library = kvtest.Library(
            HERE / "lib" / "cubin" / f"lib{library}.so", library)
        self.rng = np.random.default_rng(4)
        self.results = {}
        self.a = cudadrv.Buffer(2 * GIB)
        self.b = cudadrv.Buffer(2 * GIB)
        pattern = self.rng.integers(0, 2**16, 64 << 20, np.uint16)
        for at in range(0, 2 * GIB, pattern.nbytes):
            # Each piece of the pool is another one.
            self.a.write(pattern ^ np.uint16(at // pattern.nbytes * 257), at)
        self.expected = np.empty(GIB, np.uint16)
        self.a.read(self.expected)

    def call(self, name, *args, **kwargs):
        self.library.check_call(name, *args, stream=self.stream.value, **kwargs)

    def graph(self, call, calls=4, replays=7):
        return cudadrv.graph_time(self.stream, call, calls, replays)

    def report(self, name, us, nbytes=None, ceiling=None):
        entry = dict(us=us)
        text = f"{name:<38}{us:>11.2f} us"
        if nbytes:
            entry["gb_per_s"] = nbytes / us / 1e3
            text += f"{entry['gb_per_s']:>9.1f} GB/s"
        if ceiling:
            entry["share"] = ceiling / us
            text += f"{100 * entry['share']:>8.1f}% of the ceiling"
        self.results[name] = entry
        print(text, flush=True)

    # --- On the device --------------------------------------------------------

    def linear(self, nbytes):
        """The best time of a linear copy of `nbytes` from a to b."""
        text = (HERE / "linear_copy.ptx").read_text()
        module = cudadrv.Module(text)
        best = None
        for line in text.splitlines():
            if ".entry" not in line:
                continue
            shape = line.split("copy_u")[1].split("(")[0]
            unroll, threads = (int(x) for x in shape.split("_b"))
            piece = 16 * unroll * threads
            if nbytes % piece:
                continue
            kernel = module.kernel(f"copy_u{shape}")
            us = self.graph(lambda i: cudadrv.launch(
                kernel, nbytes // piece, threads, self.stream, self.a.pointer,
                self.b.pointer))
            best = min(best or us, us)
        return best

    def relayouts(self):
        nbytes = 2 * GIB
        ceiling = self.linear(nbytes)
        self.report("linear copy, 2 GiB", ceiling, 2 * nbytes)
        for name, source, dest, layers in (
                ("relayout_nhd_hnd", "SBNHD", "SBHND", None),
                ("relayout_cross_to_layers", "BLSNHD", "LSBNHD", LAYERS),
                ("relayout_nhd_hdn", "SBNHD", "SBHDN", None)):
            blocks = nbytes // BLOCK // (layers or 1)
            args = (pool_tensor(self.a.pointer, source, blocks, layers),
                    pool_tensor(self.b.pointer, dest, blocks, layers))
            self.b.fill(0)
            self.call(name, *args)
            self.stream.synchronize()
            got = np.empty(GIB, np.uint16)
            self.b.read(got)
            some = self.rng.integers(0, blocks, 64)
            index = (slice(None),) * (2 if layers else 1) + (some,)
            assert np.array_equal(view(got, dest, blocks, layers)[index],
                                  view(self.expected, source, blocks,
                                       layers)[index]), name
            us = self.graph(lambda i: self.call(name, *args))
            self.report(name, us, 2 * nbytes, ceiling)

    def block_copies(self):
        count, blocks = 10000, 20000
        nbytes = count * BLOCK
        ceiling = self.linear(nbytes // (1 << 16) * (1 << 16))
        self.report("linear copy, 10000 x 64 KiB", ceiling, 2 * nbytes)
        numbers = self.rng.permutation(blocks).astype(np.int64)
        numbers = numbers.reshape(2, count).T
        pairs = array(numbers)
        args = (pool_tensor(self.a.pointer, "BSNHD", blocks),
                tensor(pairs.pointer, "i64", [count, 2]))
        us = self.graph(lambda i: self.call("copy_blocks", *args))
        got = np.empty(GIB, np.uint16)
        self.a.read(got)
        for raw in got, self.expected:
            assert raw.size >= blocks * BLOCK // 2
        flat = got[: blocks * BLOCK // 2].reshape(blocks, -1)
        want = self.expected[: blocks * BLOCK // 2].reshape(blocks, -1)
        some = self.rng.integers(0, count, 300)
        assert np.array_equal(flat[numbers[some, 1]], want[numbers[some, 0]])
        self.report("copy_blocks, 10000 x 64 KiB", us, 2 * nbytes, ceiling)
        # The same without the cost of blocks in no order.
        in_order = array(np.arange(2 * count, dtype=np.int64).reshape(2, count).T)
        in_args = (args[0], tensor(in_order.pointer, "i64", [count, 2]))
        us = self.graph(lambda i: self.call("copy_blocks", *in_args))
        got = np.empty(GIB, np.uint16)
        self.a.read(got)
        flat = got[: blocks * BLOCK // 2].reshape(blocks, -1)
        assert np.array_equal(flat[:count], flat[count : 2 * count])
        self.report("copy_blocks, 10000 x 64 KiB in order", us, 2 * nbytes,
                    ceiling)
        self.expected = got

    def metadata(self):
        requests, columns = 256, 128
        starts = array(np.arange(requests + 1, dtype=np.int32))
        lengths = array(self.rng.integers(
            1, columns * TOKENS, requests).astype(np.int32))
        table = array(self.rng.permutation(requests * columns).astype(np.int32))
        out = cudadrv.Buffer(1 << 20)
        batch = (tensor(starts.pointer, "i32", [requests + 1]),
                 tensor(lengths.pointer, "i32", [requests]),
                 tensor(table.pointer, "i32", [requests, columns]))
        slots = tensor(out.pointer, "i64", [requests])
        self.report("slot_mapping, 256 requests", self.graph(
            lambda i: self.call("slot_mapping", *batch, slots), 20))
        wide = cudadrv.Buffer(4 * 4 * requests * columns)
        mapped = tensor(wide.pointer, "i32", [requests, 4 * columns])
        self.report("map_blocks, 256 x 128 by 4", self.graph(
            lambda i: self.call("map_blocks", batch[2], mapped), 20))
        x, y = (cudadrv.Buffer(16 * requests) for _ in range(2))
        numbers = array(np.arange(requests, dtype=np.int32))
        valid = array(np.array([requests], np.int32))
        new, positions = (cudadrv.Buffer(8 * (requests + 1)) for _ in range(2))
        args = (tensor(x.pointer, "bf16", [requests, 8]), *batch,
                tensor(numbers.pointer, "i32", [requests]),
                tensor(valid.pointer, "i32", [1]),
                tensor(y.pointer, "bf16", [requests, 8]),
                tensor(new.pointer, "i32", [requests + 1]),
                tensor(positions.pointer, "i64", [requests]))
        size = self.library.workspace_size("select_rows", *args)
        assert size == 0
        self.report("select_rows, 256 of 256", self.graph(
            lambda i: self.call("select_rows", *args), 20))

    def steps(self):
        """Two kernels in one call, where the second begins while the first ends,
        and in two calls, where it does not."""
        requests, columns = 256, 8
        blocks = requests * columns
        starts = array(np.arange(requests + 1, dtype=np.int32))
        lengths = cudadrv.Buffer(4 * requests)
        table = array(self.rng.permutation(blocks).astype(np.int32))
        batch = (tensor(starts.pointer, "i32", [requests + 1]),
                 tensor(lengths.pointer, "i32", [requests]),
                 tensor(table.pointer, "i32", [requests, columns]))
        shape = [requests, HEADS, CHANNELS]
        rows = [array(self.rng.integers(1, 1 << 16, shape).astype(np.uint16))
                for _ in range(2)]
        key, value = (tensor(r.pointer, "bf16", shape) for r in rows)
        numbers = cudadrv.Buffer(8 * requests)
        slots = tensor(numbers.pointer, "i64", [requests])
        zeros = np.zeros(blocks * 2 * TOKENS * HEADS * CHANNELS, np.uint16)
        pools = [array(zeros) for _ in range(2)]
        one, two = (pool_tensor(p.pointer, "BSNHD", blocks) for p in pools)
        args = (*batch, key, value, one)
        size = self.library.workspace_size("write_tokens", *args)
        workspace = cudadrv.Buffer(size)

        def in_one(_):
            self.call("write_tokens", *args, workspace_pointer=workspace.pointer,
                      workspace_bytes=size)

        def in_two(_):
            self.call("slot_mapping", *batch, slots)
            self.call("write_rows", slots, key, value, two)

        def new_lengths():
            lengths.write(self.rng.integers(
                1, columns * TOKENS, requests).astype(np.int32))

        new_lengths()
        self.report("slots and rows, one call", self.graph(in_one, 20))
        self.report("slots and rows, two calls", self.graph(in_two, 20))
        # Slots of the calls before are still in memory: rows must not go there.
        for _ in range(20):
            for pool in pools:
                pool.write(zeros)
            new_lengths()
            got = []
            for step, pool in zip((in_one, in_two), pools):
                step(0)
                self.stream.synchronize()
                got.append(np.empty_like(zeros))
                pool.read(got[-1])
            assert np.array_equal(*got)
            assert np.count_nonzero(got[0]) == 2 * np.prod(shape)

    # --- Over the link --------------------------------------------------------

    def link_time(self, call, replays=5):
        begin, end = cudadrv.Event(), cudadrv.Event()
        times = []
        for replay in range(replays + 1):
            begin.record(self.stream)
            call()
            end.record(self.stream)
            self.stream.synchronize()
            if replay:
                times.append(begin.microseconds_until(end))
        return sorted(times)[len(times) // 2]

    def transfers(self):
        self.over_link(self.library, "", kvtest.CUDA_DEVICE, TRANSFERS)

    def engine(self):
        """By the copy engine, whatever the runs are."""
        library = kvtest.Library(HERE / "lib" / "cubin" / "libengine.so",
                                 "engine")
        self.over_link(library, ", copy engine", kvtest.CPU_DEVICE,
                       ["cross_layer", "per_layer", "per_side"])

    def over_link(self, library, label, pairs_device, names):
        blocks = 256
        nbytes = blocks * LAYERS * BLOCK
        pinned = cudadrv.PinnedBuffer(nbytes)
        pool_blocks = 2 * GIB // (LAYERS * BLOCK)
        chosen = self.rng.permutation(pool_blocks)[:blocks]
        place = self.rng.permutation(blocks)
        ceilings = {}
        for way, (to, source) in dict(
                out=(pinned.pointer, self.a.pointer),
                **{"in": (self.b.pointer, pinned.pointer)}).items():
            ceilings[way] = self.link_time(
                lambda: cudadrv.copy(to, source, nbytes, self.stream))
            self.report(f"one contiguous copy, {way}{label}", ceilings[way],
                        nbytes)
        pairs = {"out": np.stack([chosen, place], 1).astype(np.int64),
                 "in": np.stack([place, chosen], 1).astype(np.int64)}
        kept_alive = {way: array(p) for way, p in pairs.items()}
        for name in names:
            order = TRANSFERS[name]
            for way in ("out", "in"):
                buffer = self.a if way == "out" else self.b
                pool = pool_tensor(buffer.pointer, order, pool_blocks, LAYERS)
                host = pool_tensor(pinned.pointer, "BLSNHD", blocks, LAYERS,
                                   kvtest.CUDA_HOST)
                where = kept_alive[way].pointer
                if pairs_device == kvtest.CPU_DEVICE:
                    where = pairs[way].ctypes.data
                list_ = tensor(where, "i64", [blocks, 2], device=pairs_device)
                args = (pool, host) if way == "out" else (host, pool)
                us = self.link_time(lambda: library.check_call(
                    f"{name}_{way}", *args, list_, stream=self.stream.value))
                if way == "out":
                    content = self.expected
                else:
                    content = np.empty(GIB, np.uint16)
                    self.b.read(content)
                kept = view(content, order, pool_blocks, LAYERS)
                there = view(pinned.array.view(np.uint16), "BLSNHD", blocks,
                             LAYERS)
                some = self.rng.integers(0, blocks, 16)
                assert np.array_equal(kept[:, :, chosen[some]],
                                      there[:, :, place[some]]), (name, way)
                self.report(f"{name}, {way}{label}", us, nbytes, ceilings[way])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", help="write the raw figures to this file")
    parser.add_argument("--library", default="moves")
    parser.add_argument("--parts", nargs="*", default=[
        "relayouts", "block_copies", "metadata", "steps", "transfers",
        "engine"])
    options = parser.parse_args()
    bench = Bench(options.library)
    print(f"{bench.device.name}, driver {bench.device.driver}")
    for name in options.parts:
        part = getattr(bench, name)
        try:
            part()
        except Exception as error:
            print(f"FAIL {part.__name__}: {type(error).__name__}: {error}",
                  flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(dict(device=bench.device.name,
                           driver=bench.device.driver,
                           results=bench.results), file, indent=1)
            file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
