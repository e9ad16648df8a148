# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiles the programs that kv-bench runs.

    programs.py --out FOLDER [--cpu LEVEL...] [--kv-compile PATH]

Each is one op on one layout; the library's name says which:
LEVEL/libattention_bf16_nhd_32_8_128_16.so and so on. kv-bench takes what it
finds, so a new layout is one line in LAYOUTS.
"""

import argparse
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Order of the axes in memory. "cross" is one layer of a pool that holds all
# layers of a block side by side.
LAYOUTS = {
    "nhd": "S, B, N, H, D",
    "hnd": "S, B, H, N, D",
    "paired": "B, S, N, H, D",
    "cross": "B, S, N, H, D",
    "cross_hnd": "B, S, H, N, D",
    "channels_first": "S, B, H, D, N",
}


def cache(layout, heads, head_dim, block, element):
    strides = ", strides = [B = ? mult 16]" if "cross" in layout else ""
    return (
        f"!kvcache.cache<2S x ?B x {block}N x {heads}H x {head_dim}D x {element},"
        f" order = [{LAYOUTS[layout]}]{strides}>"
    )


def attention(element, layout, query_heads, heads, head_dim, block):
    rows = f"memref<?x{query_heads}x{head_dim}x{element}>"
    return f"""
!kv = {cache(layout, heads, head_dim, block, element)}
!batch = !kvcache.batch<?R x ?M x i32, tokens = {block}>
func.func @run(%q: {rows}, %c: !kv, %b: !batch, %out: {rows}) {{
  kvcache.attention %q over %c in %b into %out causal
    : {rows} over !kv in !batch into {rows}
  return
}}"""


def insert(element, layout, heads, head_dim, block):
    rows = f"memref<?x{heads}x{head_dim}x{element}>"
    return f"""
!kv = {cache(layout, heads, head_dim, block, element)}
!slots = !kvcache.slots<?T x i64, rows_per_block = {block}, pad = skip_negative>
func.func @run(%c: !kv, %slots: !slots, %k: {rows}, %v: {rows}) {{
  kvcache.index_copy %k, %v into %c at %slots : {rows}, {rows} into !kv at !slots
  return
}}"""


def relayout(element, source, dest, heads, head_dim, block):
    return f"""
!from = {cache(source, heads, head_dim, block, element)}
!to = {cache(dest, heads, head_dim, block, element)}
func.func @run(%from: !from, %to: !to) {{
  kvcache.relayout %from into %to : !from into !to
  return
}}"""


def programs():
    """Name and text of each."""
    for element in ("bf16", "f32"):
        for layout, heads, block in (
            ("nhd", (32, 8), 16),
            ("hnd", (32, 8), 16),
            ("cross", (32, 8), 16),
            ("hnd", (32, 8), 32),
            ("nhd", (32, 8), 128),
            ("nhd", (32, 8), 1),
            ("nhd", (32, 32), 16),
            ("hnd", (32, 32), 16),
        ):
            name = f"attention_{element}_{layout}_{heads[0]}_{heads[1]}_128_{block}"
            yield name, attention(element, layout, *heads, 128, block)
        for layout in ("nhd", "hnd", "cross"):
            name = f"insert_{element}_{layout}_8_128_16"
            yield name, insert(element, layout, 8, 128, 16)
        for source, dest in (
            ("nhd", "nhd"),
            ("nhd", "hnd"),
            ("hnd", "nhd"),
            ("cross", "nhd"),
            ("hnd", "channels_first"),
            ("channels_first", "nhd"),
        ):
            name = f"relayout_{element}_{source}-{dest}_8_128_16"
            yield name, relayout(element, source, dest, 8, 128, 16)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cpu", nargs="+", default=["x86-64-v3"])
    parser.add_argument("--kv-compile", default="build/bin/kv-compile")
    parser.add_argument("--only", default="", help="names that hold this text")
    args = parser.parse_args()

    def compile_one(job):
        cpu, name, text = job
        folder = args.out / cpu
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"lib{name}.so"
        command = [args.kv_compile, "-", f"--cpu={cpu}", "-o", str(path)]
        subprocess.run(command, input=text, text=True, check=True)

    jobs = [
        (cpu, name, text)
        for cpu in args.cpu
        for name, text in programs()
        if args.only in name
    ]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, jobs))


if __name__ == "__main__":
    main()
