# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# REQUIRES: amx
# RUN: %python %s
"""attention on a CPU whose prompts are products of tiles (AMX): a grid of caches
of bf16, and values that only some rows of a tile see.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import attention_cases
import numpy as np
from attention import programs
from kvtest import Tensor, aligned, compile_library

CPU = "--cpu=x86-64-v4-amx"
KINDS = ["mixed", "hostile", "prefill", "steep"]
# The others have no tiles; long rows take several passes.
attention_cases.CHOICES.update(channels=[64, 80, 96, 128, 256, 320, 576])


class TileFunction(attention_cases.Function):
    weights = "bf16"


def check_grid(rng, count):
    # Queries of another type: only the values are tiles.
    choices = [*attention_cases.grid(rng, count, cache="bf16", query="bf16"),
               *attention_cases.grid(rng, count // 4, cache="bf16")]
    groups, texts = programs(rng, choices, TileFunction)
    calls = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        libraries = pool.map(
            lambda text, name: compile_library(text, name, "cpu", CPU), texts,
            [f"grid{i}" for i in range(len(texts))])
        for library, group in zip(libraries, groups):
            calls += attention_cases.run(library, rng, group, KINDS)
    print(f"{len(choices)} functions, {calls} calls")


def check_unseen_infinities():
    """A row sees nothing of later keys, whatever their values are."""
    heads, channels, tokens, rows = 4, 96, 16, 40
    library = compile_library(f"""
!kv = !kvcache.cache<2S x ?B x {tokens}N x 1H x {channels}D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = {tokens}>
!rows = memref<?x{heads}x{channels}xbf16>
!out = memref<?x{heads}x{channels}xf32>
func.func @run(%q: !rows, %c: !kv, %b: !batch, %out: !out) {{
  kvcache.attention %q over %c in %b into %out causal
    : !rows over !kv in !batch into !out
  return
}}""", "infinities", "cpu", CPU)
    blocks = -(-rows // tokens)
    one = 0x3f80
    query = aligned(rows * heads * channels, np.uint16)
    query[:] = 0
    pool = aligned(2 * blocks * tokens * channels, np.uint16)
    pool[:] = one
    values = pool.reshape(2, blocks * tokens, channels)[1]
    # Of key 20 on, some channels: infinite, negative and infinite, NaN.
    first = 20
    for channel, bits in ((3, 0x7f80), (40, 0xff80), (70, 0x7fc1)):
        values[first:, channel] = bits
    out = aligned(rows * heads * channels, np.float32)

    def integers(*numbers):
        storage = aligned(len(numbers), np.int32)
        storage[:] = numbers
        return storage
    table = integers(*range(blocks))
    library.run(
        "run", Tensor(query, "bf16", [rows, heads, channels]),
        Tensor(pool, "bf16", [2, blocks, tokens, 1, channels]),
        Tensor(integers(0, rows), "i32", [2]),
        Tensor(integers(rows), "i32", [1]),
        Tensor(table, "i32", [1, blocks]),
        Tensor(out, "f32", [rows, heads, channels]))
    got = out.reshape(rows, heads, channels)
    want = np.ones([rows, heads, channels], np.float32)
    for channel, value in ((3, np.inf), (40, -np.inf), (70, np.nan)):
        want[first:, :, channel] = value
    np.testing.assert_allclose(got, want, rtol=1e-2)


def main(count=40, seed=78):
    check_unseen_infinities()
    check_grid(np.random.default_rng(seed), count)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
