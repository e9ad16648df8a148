# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Writes of more than 8 MB, which stream past the caches of the CPU, and
relayouts whose two sides are contiguous along different axes."""

import numpy as np
from kvtest import Guarded, Tensor, compile_library, random_storage

SIZES = dict(S=2, N=16, H=8, D=128)
ORDERS = {
    "nhd": "SBNHD",
    "hnd": "SBHND",
    "paired": "BSNHD",
    "channels_first": "SBHDN",
    "heads_last": "BSNDH",
}
MANY, FEW = 300, 9  # blocks: 20 MB of f32 and 10 MB of bf16; less than 1 MB
INFLATED = 3  # the factor on the block stride of a slice


class Pool:
    """A cache in an order, its blocks perhaps further apart."""

    def __init__(self, rng, element, order, blocks, factor=1):
        sizes = SIZES | dict(B=blocks)
        self.letters = ORDERS[order]
        step, strides = 1, {}
        for axis in reversed(self.letters):
            if axis == "B":
                step *= factor
            strides[axis] = step
            step *= sizes[axis]
        self.buffer = Guarded(random_storage(rng, step, element))
        self.tensor = Tensor(self.buffer.inside, element,
                             [sizes[a] for a in "SBNHD"],
                             [strides[a] for a in "SBNHD"])

    def copy(self):
        return self.buffer.inside.copy()

    def check(self, expected, what):
        """The whole buffer: what is between blocks too."""
        assert np.array_equal(self.buffer.inside, expected), what
        self.buffer.check(what)

    def expect(self, change):
        """The buffer after a change of its elements, as [S, B, N, H, D]."""
        before = self.copy()
        change(self.tensor.view())
        after = self.copy()
        self.buffer.inside[:] = before
        return after


def cache_type(element, order, factor=1):
    letters = ORDERS[order]
    block = int(np.prod([SIZES[a] for a in letters[letters.index("B") + 1:]]))
    strides = f", strides = [B = {factor * block}]" if factor > 1 else ""
    return (f"!kvcache.cache<2S x ?B x 16N x 8H x 128D x {element}, "
            f"order = [{', '.join(letters)}]{strides}>")


MOVES = [("f32", "nhd", "hnd"), ("bf16", "hnd", "nhd"), ("f16", "paired", "nhd"),
         ("bf16", "hnd", "channels_first"), ("f32", "channels_first", "nhd"),
         ("f16", "channels_first", "heads_last"),
         ("bf16", "heads_last", "paired")]
WRITES = [("bf16", "nhd", 1), ("bf16", "hnd", 1), ("f32", "paired", INFLATED),
          ("f32", "hnd", INFLATED), ("f16", "channels_first", 1)]


def move_program(index, element, source, dest):
    a, b = cache_type(element, source), cache_type(element, dest)
    return f"""
func.func @move{index}(%a: {a}, %b: {b}) {{
  kvcache.relayout %a into %b : {a} into {b}
  return
}}"""


def write_program(index, element, order, factor):
    cache = cache_type(element, order, factor)
    rows = f"memref<?x8x128x{element}>"
    return f"""
func.func @write{index}(%c: {cache}, %k: {rows}, %v: {rows},
    %s: !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>) {{
  kvcache.index_copy %k, %v into %c at %s : {rows}, {rows} into {cache}
    at !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
  return
}}"""


def check_move(library, rng, index, element, source, dest, blocks):
    a = Pool(rng, element, source, blocks)
    b = Pool(rng, element, dest, blocks)
    untouched = a.copy()

    def change(logical):
        logical[...] = a.tensor.view()

    expected = b.expect(change)
    library.run(f"move{index}", a.tensor, b.tensor)
    what = f"{element} {source} to {dest}, {blocks} blocks"
    a.check(untouched, what)
    b.check(expected, what)


def check_write(library, rng, index, element, order, factor, blocks):
    pool = Pool(rng, element, order, blocks, factor)
    count = blocks * 16 - 5
    slots = rng.permutation(blocks * 16)[:count].astype(np.int64)
    slots[rng.integers(0, count, count // 20)] = -1
    slots[rng.integers(0, count, 5)] = blocks * 16 + 7
    # Several rows for one slot: the last one stays.
    slots[count // 2: count // 2 + 9] = slots[3:12]
    rows = [Tensor(random_storage(rng, count * 1024, element), element,
                   [count, 8, 128]) for _ in range(2)]

    def change(logical):
        flat = [(t, s) for t, s in enumerate(slots) if 0 <= s < blocks * 16]
        for t, s in flat:
            for side in range(2):
                logical[side, s // 16, s % 16] = rows[side].view()[t]

    expected = pool.expect(change)
    library.run(f"write{index}", pool.tensor, *rows,
                Tensor(slots, "i64", [count]))
    pool.check(expected, f"{element} {order} times {factor}, {blocks} blocks")


def main():
    rng = np.random.default_rng(5)
    programs = [move_program(i, *m) for i, m in enumerate(MOVES)]
    programs += [write_program(i, *w) for i, w in enumerate(WRITES)]
    library = compile_library("".join(programs))
    for blocks in (MANY, FEW):
        for i, move in enumerate(MOVES):
            check_move(library, rng, i, *move, blocks)
        for i, write in enumerate(WRITES):
            check_write(library, rng, i, *write, blocks)
    print("large: all equal")


main()
