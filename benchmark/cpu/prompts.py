# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Attention of prompts, for several CPUs or compilers, called in turn.

    prompts.py [--json FILE] [--kv-compile PATH...] CPU...

Each CPU is one of `kv-compile --cpu`; with several compilers, each of them
compiles for each CPU. The best of many calls is the figure: other work on the
machine makes all but the best longer.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test/numerics"), str(ROOT / "benchmark/cpu")]
from kvtest import Library, Tensor, aligned  # noqa: E402

import programs  # noqa: E402
from bound_call import bound  # noqa: E402

HEADS, CACHE_HEADS, CHANNELS, BLOCK = 32, 8, 128, 16
# Rows and length of a request.
WORKS = {"1 x 2k": (2048, 2048), "512 rows on 8k": (512, 8192)}
STRIDES = {
    "nhd": [BLOCK * CACHE_HEADS * CHANNELS, CACHE_HEADS * CHANNELS, CHANNELS, 1],
    "hnd": [BLOCK * CACHE_HEADS * CHANNELS, CHANNELS, BLOCK * CHANNELS, 1],
}


def halves(rng, count):
    storage = aligned(count, np.uint16)
    storage[:] = rng.standard_normal(count, np.float32).view(np.uint32) >> 16
    return storage


def integers(values):
    storage = aligned(values.size, np.int32)
    storage[:] = values.reshape(-1)
    return Tensor(storage, "i32", values.shape)


def arguments(rng, layout, rows, length):
    blocks = length // BLOCK
    side = blocks * BLOCK * CACHE_HEADS * CHANNELS
    pool = Tensor(halves(rng, 2 * side), "bf16",
                  [2, blocks, BLOCK, CACHE_HEADS, CHANNELS],
                  [side, *STRIDES[layout]])
    shape = [rows, HEADS, CHANNELS]
    query = Tensor(halves(rng, np.prod(shape)), "bf16", shape)
    out = Tensor(aligned(np.prod(shape), np.uint16), "bf16", shape)
    table = rng.permutation(blocks).reshape(1, -1)
    return [query, pool, integers(np.array([0, rows])),
            integers(np.array([length])), integers(table), out]


def milliseconds(call):
    start = time.perf_counter()
    code = call()
    taken = time.perf_counter() - start
    assert code == 0, code
    return taken * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--kv-compile", nargs="+",
                        default=[str(ROOT / "build/bin/kv-compile")])
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("cpu", nargs="+")
    options = parser.parse_args()
    os.environ["KVRT_NUM_THREADS"] = str(options.threads)
    rng = np.random.default_rng(0)
    folder = Path(tempfile.mkdtemp(prefix="prompts-"))
    results = []
    for layout in STRIDES:
        text = programs.attention("bf16", layout, HEADS, CACHE_HEADS, CHANNELS,
                                  BLOCK)
        libraries = {}
        for i, compiler in enumerate(options.kv_compile):
            for cpu in options.cpu:
                path = folder / f"lib{layout}{i}_{len(libraries)}.so"
                subprocess.run([compiler, "-", f"--cpu={cpu}", "-o", str(path)],
                               input=text, text=True, check=True)
                name = cpu if len(options.kv_compile) == 1 else f"{i}: {cpu}"
                libraries[name] = Library(path, path.stem[3:])
        for work, (rows, length) in WORKS.items():
            values = arguments(rng, layout, rows, length)
            calls = {name: bound(library, *values)
                     for name, library in libraries.items()}
            times = {name: [] for name in calls}
            for _ in range(options.calls):
                for name, call in calls.items():
                    times[name].append(milliseconds(call))
            # A row sees its position and what is before it.
            seen = rows * (length - rows) + rows * (rows + 1) // 2
            flops = 4 * seen * HEADS * CHANNELS
            for name, ms in times.items():
                best = min(ms)
                results.append({
                    "work": work, "layout": layout, "cpu": name,
                    "best ms": round(best, 2),
                    "median ms": round(float(np.median(ms)), 2),
                    "GFLOP/s": round(flops / best / 1e6)})
                print(results[-1], flush=True)
    if options.json:
        model = [line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                 if line.startswith("model name")]
        options.json.write_text(json.dumps(
            {"machine": f"{model[0]}, a virtual machine that ran other work at "
                        f"the same time, {options.threads} threads",
             "note": f"{options.calls} calls each, in turn",
             "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
