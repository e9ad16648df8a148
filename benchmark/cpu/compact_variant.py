# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Does a variant for compact strides earn its place beside the one for multiples
of 16, on a CPU?

Each operation is compiled for a type with compact strides and for one with
`strides = [B = ? mult 16]`, and both are called on the same packed pool, in turn,
on one thread. The ratio of two calls that follow each other is taken; the median
of many is what is reported, with that of the variant against itself as a measure
of the noise. Also: prompts that are written by token and by whole blocks.

    compact_variant.py [--json FILE]
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
os.environ.setdefault("KV_BUILD_DIR", str(ROOT / "build"))
os.environ["PATH"] = str(ROOT / "build/bin") + os.pathsep + os.environ["PATH"]
os.environ["KVRT_NUM_THREADS"] = "1"
sys.path.insert(0, str(ROOT / "test/numerics"))
from kvtest import Tensor, aligned, compile_library  # noqa: E402

from bound_call import bound  # noqa: E402

BLOCK = 16
SHAPES = [(1, 64), (1, 128), (2, 128), (1, 512), (8, 128)]  # heads, channels
SIZES = [(256, 32), (4096, 2048)]  # tokens of a call, blocks of the pool
ORDERS = {"nhd": "B, N, H, D", "hnd": "B, H, N, D"}
FACTS = {"compact": "", "multiple": ", strides = [B = ? mult 16]"}


def program(operation, order, facts, heads, dim):
    rows = f"memref<?x{heads}x{dim}xbf16>"
    run = (f"kvcache.index_copy %rows into %cache at %slots : {rows} into !kv at !slots"
           if operation == "index_copy" else
           f"kvcache.gather %cache at %slots zero into %rows : !kv at !slots into {rows}")
    return f"""
!kv = !kvcache.cache<?B x {BLOCK}N x {heads}H x {dim}D x bf16,
                     order = [{ORDERS[order]}]{FACTS[facts]}>
!slots = !kvcache.slots<?T x i64, rows_per_block = {BLOCK}, pad = skip_negative>
func.func @run(%cache: !kv, %rows: {rows}, %slots: !slots) {{
  {run}
  return
}}"""


def prompt(heads, dim, is_whole):
    """Whole blocks; or by token, as the list that is read is another argument
    than the one that is written. Both are called with one list."""
    rows = f"memref<?x{heads}x{dim}xbf16>"
    return f"""
!kv = !kvcache.cache<?B x {BLOCK}N x {heads}H x {dim}D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = {BLOCK}, pad = skip_negative>
func.func @run(%cache: !kv, %rows: {rows}, %blocks: memref<?xi64>,
               %list: memref<?xi64>, %same: memref<?xi64>) {{
  kvcache.block_slots %blocks of {BLOCK} into %list : memref<?xi64> into memref<?xi64>
  %slots = kvcache.make_slots %{'list' if is_whole else 'same'} : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %slots : {rows} into !kv at !slots
  return
}}"""


def compare(a, b, seconds):
    """Median of the ratios of times a / b, of b / b, and the medians in us."""
    repeat = 1
    while True:
        start = time.thread_time_ns()
        for _ in range(repeat):
            b()
        if time.thread_time_ns() - start > 200_000:
            break
        repeat *= 2

    def taken(call):
        start = time.thread_time_ns()
        for _ in range(repeat):
            call()
        return (time.thread_time_ns() - start) / repeat

    ratios, noise, times = [], [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(ratios) < 50:
        # In an order that a drift does not favour.
        a1, b1, b2, a2 = taken(a), taken(b), taken(b), taken(a)
        if min(a1, a2, b1, b2) <= 0:  # the clock of a thread, on some machines
            continue
        ratios.append((a1 + a2) / (b1 + b2))
        noise.append(b1 / b2)
        times.append((min(a1, a2), min(b1, b2)))
    best = np.min(times, axis=0)
    return {"pairs": len(ratios),
            "median of ratios": round(float(np.median(ratios)), 4),
            "ratio of the best": round(float(best[0] / best[1]), 4),
            "ratio to itself": round(float(np.median(noise)), 4),
            "us": [round(float(t) / 1e3, 2) for t in np.median(times, axis=0)]}


def tensor(values, element):
    storage = aligned(values.size, values.dtype)
    storage[:] = values.reshape(-1)
    return Tensor(storage, element, values.shape)


def case(rng, order, heads, dim, tokens, blocks):
    """A pool, rows, and slots of random blocks."""
    step = {"nhd": [BLOCK * heads * dim, heads * dim, dim, 1],
            "hnd": [BLOCK * heads * dim, dim, BLOCK * dim, 1]}[order]
    storage = aligned(blocks * BLOCK * heads * dim, np.uint16)
    storage[:] = 0x3f80
    pool = Tensor(storage, "bf16", [blocks, BLOCK, heads, dim], step)
    rows = tensor(rng.integers(0, 0x4000, (tokens, heads, dim), np.uint16), "bf16")
    slots = tensor(rng.permutation(blocks * BLOCK)[:tokens].astype(np.int64), "i64")
    return pool, rows, slots


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    results = []

    def report(name, a, b):
        for number in range(options.rounds):
            result = {"case": name, "round": number,
                      **compare(a, b, options.seconds)}
            results.append(result)
            print(f"{name:44} {result['median of ratios']:.4f} best "
                  f"{result['ratio of the best']:.4f} itself "
                  f"{result['ratio to itself']:.4f} us {result['us']}", flush=True)

    number = 0
    for heads, dim in SHAPES:
        for order in ORDERS:
            for operation in ("index_copy", "gather"):
                libraries = []
                for facts in FACTS:
                    number += 1
                    libraries.append(compile_library(
                        program(operation, order, facts, heads, dim),
                        f"variant{number}", "cpu", "--max-variants=1"))
                for tokens, blocks in SIZES[:1 + (heads == 8)]:
                    pool, rows, slots = case(rng, order, heads, dim, tokens,
                                             blocks)
                    calls = [bound(library, pool, rows, slots)
                             for library in libraries]
                    report(f"{operation} {order} {heads}x{dim} {tokens} tokens",
                           *calls)
    for heads, dim in SHAPES:
        whole, token = (
            compile_library(prompt(heads, dim, is_whole), f"prompt{number}{is_whole:d}")
            for is_whole in (True, False))
        number += 1
        for tokens, blocks in SIZES[:1 + (heads == 8)]:
            pool, rows, slots = case(rng, "nhd", heads, dim, tokens, blocks)
            chosen = tensor(rng.permutation(blocks)[:tokens // BLOCK].astype(np.int64),
                            "i64")
            report(f"whole blocks {heads}x{dim} {tokens} tokens",
                   *(bound(library, pool, rows, chosen, slots, slots)
                     for library in (whole, token)))
    if options.json:
        cpu = [line.split(":")[1].strip() for line in open("/proc/cpuinfo")
               if line.startswith("model name")]
        options.json.write_text(json.dumps(
            {"machine": f"{cpu[0]}, {len(cpu)} cores of a virtual machine, "
                        f"{platform.machine()}, one thread, x86-64-v3",
             "note": "a ratio below 1: the compact variant is faster than the "
                     "one for multiples of 16, or whole blocks than tokens",
             "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
