# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Insert of keys and values in one launch, beside a linear copy.

8 heads x 128 channels, bf16, random slots out of a pool of POOL_ROWS rows a
side (and, as the allocator of an engine hands them out, whole blocks of 16 in
random order), rows from a different buffer each call, 20 calls in one CUDA graph, median
of 9 replays. Bytes are read once and written once. The pool and the rotating
rows are larger than the L2 cache for the large sizes.

Runs from a bundle: bundle/run bench [--json FILE]
"""

import argparse
import collections
import json
import sys
from pathlib import Path

import cudadrv
import kvtest
import numpy as np
from programs import LAYOUTS, TOKENS, VARIANTS

HERE = Path(__file__).resolve().parent
SIZES = [1, 64, 512, 4096, 32768]
POOL_ROWS = 65536
ROW_BYTES = 8 * 128 * 2
BUFFERS = 8


def copy_times(stream):
    """Microseconds of a linear copy of what each size moves, by shape."""
    module = cudadrv.Module((HERE / "linear_copy.ptx").read_text())
    text = (HERE / "linear_copy.ptx").read_text()
    shapes = sorted({line.split("copy_u")[1].split("(")[0]
                     for line in text.splitlines() if ".entry" in line})
    largest = max(SIZES) * 2 * ROW_BYTES
    sources = [cudadrv.Buffer(largest) for _ in range(2)]
    targets = [cudadrv.Buffer(largest) for _ in range(2)]
    for number, source in enumerate(sources):
        source.fill(number + 1)
    times = {}
    for size in SIZES:
        nbytes = size * 2 * ROW_BYTES
        slots = largest // nbytes
        for shape in shapes:
            u, b = (int(x) for x in shape.split("_b"))
            if nbytes % (16 * u * b):
                continue
            kernel = module.kernel(f"copy_u{shape}")

            def call(i):
                at = i // 2 % slots * nbytes
                cudadrv.launch(kernel, nbytes // (16 * u * b), b, stream,
                               sources[i % 2].pointer + at,
                               targets[i % 2].pointer + at)

            times.setdefault(size, {})[shape] = cudadrv.graph_time(stream, call)
    return times


class Problem:
    """Buffers that all layouts share: they have the same size."""

    def __init__(self, rng):
        self.pool = cudadrv.Buffer(2 * 2 * POOL_ROWS * ROW_BYTES * 2)
        self.rows = []
        for _ in range(2 * BUFFERS):
            buffer = cudadrv.Buffer(max(SIZES) * ROW_BYTES)
            values = kvtest.random_storage(rng, max(SIZES) * 1024, "bf16")
            buffer.write(values)
            self.rows.append(buffer)
        self.slots = collections.defaultdict(list)
        for _ in range(BUFFERS):
            blocks = rng.permutation(POOL_ROWS // TOKENS)[:, None] * TOKENS
            for kind, values in (
                    ("rows", rng.permutation(POOL_ROWS)),
                    ("blocks", (blocks + np.arange(TOKENS)).ravel())):
                values = values[:max(SIZES)].astype(np.int64)
                for list_, numbers in (
                        (kind, values), (f"{kind}_block", values // TOKENS),
                        (f"{kind}_offset", values % TOKENS)):
                    buffer = cudadrv.Buffer(numbers.nbytes)
                    buffer.write(numbers)
                    self.slots[list_].append(buffer)

    def arguments(self, case, size, i, kind):
        blocks = POOL_ROWS // TOKENS
        shape, strides, count = case.geometry(blocks)
        empty = np.zeros(1, np.uint16)
        if case.layers > 1:
            pool = kvtest.Tensor(empty.view(np.uint8), "i8", [count * 2],
                                 device=kvtest.CUDA_DEVICE)
            first = [pool, case.layer_offset(1) * 2, blocks]
        else:
            pool = kvtest.Tensor(empty, "bf16", shape, strides,
                                 device=kvtest.CUDA_DEVICE)
            first = [pool]
        assert count * 2 <= self.pool.nbytes
        pool.dl.data = self.pool.pointer
        places = []
        lists = [kind]
        if case.op == "scatter":
            lists = [f"{kind}_block", f"{kind}_offset"]
        for list_ in lists:
            place = kvtest.Tensor(np.zeros(1, np.int64), "i64", [size],
                                  device=kvtest.CUDA_DEVICE)
            place.dl.data = self.slots[list_][i % BUFFERS].pointer
            places.append(place)
        tensors = []
        for side in range(2):
            row = kvtest.Tensor(empty, "bf16", [size, 8, 128],
                                device=kvtest.CUDA_DEVICE)
            row.dl.data = self.rows[2 * (i % BUFFERS) + side].pointer
            tensors.append(row)
        return [*first, *places, *tensors]


def insert_times(library, problem, cases, stream, kind="rows"):
    times = {}
    for case in cases:
        for size in SIZES:
            prepared = [problem.arguments(case, size, i, kind)
                        for i in range(BUFFERS)]

            def call(i):
                library.check_call(case.name, *prepared[i % BUFFERS],
                                   stream=stream.value)

            times.setdefault(case.name, {})[size] = cudadrv.graph_time(stream,
                                                                       call)
    return times


def row(label, values, form="{:>9.2f}"):
    return f"{label:<24}" + "".join(form.format(v) for v in values)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", help="write the raw figures to this file")
    parser.add_argument("--library", default="insert")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--all-shapes", action="store_true")
    options = parser.parse_args()

    device = cudadrv.Device()
    stream = cudadrv.Stream()
    rng = np.random.default_rng(3)
    library = kvtest.Library(
        HERE / "lib" / "cubin" / f"lib{options.library}.so", options.library)
    cases = LAYOUTS + VARIANTS
    if options.library != "insert":
        from schedules import SCHEDULES
        cases = SCHEDULES
    problem = Problem(rng)
    copies = copy_times(stream)
    # Layouts take turns, so that a drift of the machine hits them all; the
    # median of the rounds is reported.
    rounds = [insert_times(library, problem, cases, stream)
              for _ in range(options.rounds)]
    inserts = {name: {s: sorted(r[name][s] for r in rounds)[len(rounds) // 2]
                      for s in SIZES} for name in rounds[0]}
    in_blocks = insert_times(library, problem, cases, stream, "blocks")
    again = copy_times(stream)

    best = {s: min(min(copies[s].values()), min(again[s].values()))
            for s in SIZES}
    print(f"{device.name}: microseconds, key and value of T tokens")
    print(row("T", SIZES, "{:>9}"))
    print(row("linear copy, best", [best[s] for s in SIZES]))
    if options.all_shapes:
        for shape in copies[max(SIZES)]:
            print(row(f"  copy {shape}", [copies[s].get(shape, float("nan"))
                                          for s in SIZES]))
    for name, times in inserts.items():
        print(row(name, [times[s] for s in SIZES]))
    print("as a share of the best linear copy's time")
    for name, times in inserts.items():
        print(row(name, [times[s] / best[s] for s in SIZES], "{:>9.3f}"))
    print("whole blocks in random order: time, and share of the linear copy")
    for name, times in in_blocks.items():
        print(row(name, [times[s] for s in SIZES]))
        print(row("", [times[s] / best[s] for s in SIZES], "{:>9.3f}"))
    print("as a share of the fastest layout")
    for name, times in inserts.items():
        print(row(name, [times[s] / min(t[s] for t in inserts.values())
                         for s in SIZES], "{:>9.3f}"))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(dict(device=device.name, driver=device.driver,
                           pool_rows=POOL_ROWS, linear_copy_us=copies,
                           linear_copy_again_us=again, insert_us=inserts, insert_blocks_us=in_blocks,
                           insert_rounds_us=rounds),
                      file, indent=1)
            file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
