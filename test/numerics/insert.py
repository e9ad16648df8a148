# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""index_copy against the reference, bit for bit, over layouts and types."""

import itertools

import numpy as np
from kvtest import Guarded, Tensor, aligned, compile_library
from kvtest import random_storage
from reference import Cache, index_copy

BLOCKS, TOKENS = 6, 16


def cache_type(element_type, heads, channels, order=None, strides=None,
               align=None):
    text = f"2S x ?B x {TOKENS}N x {heads}H x {channels}D x {element_type}"
    if order:
        text += f", order = [{', '.join(order)}]"
    if strides:
        text += f", strides = [{strides}]"
    if align:
        text += f", align = {align}"
    return f"!kvcache.cache<{text}>"


def program(name, cache, rows, slots="i64", pad="skip_negative"):
    """A function that writes tensors to a cache that it is given."""
    return f"""
func.func @{name}(%cache: {cache}, %slots: tensor<?x{slots}>,
                  %key: {rows}, %value: {rows}) {{
  %where = kvcache.make_slots %slots : tensor<?x{slots}>
    to !kvcache.slots<?T x {slots}, rows_per_block = {TOKENS}, pad = {pad}>
  kvcache.index_copy %key, %value into %cache at %where
    : {rows}, {rows} into {cache}
    at !kvcache.slots<?T x {slots}, rows_per_block = {TOKENS}, pad = {pad}>
  return
}}
"""


class Case:
    """One layout: what its type is, and which strides a caller has."""

    def __init__(self, name, order, strides=None, block_factor=1):
        self.name, self.order = name, order
        self.strides = strides
        self.block_factor = block_factor

    def shape_and_strides(self, heads, channels):
        sizes = dict(S=2, B=BLOCKS, N=TOKENS, H=heads, D=channels)
        listed = "SBNHD"
        shape = [sizes[a] for a in listed]
        step, strides = 1, [0] * 5
        for axis in reversed(self.order):
            if axis == "B":
                step *= self.block_factor
            strides[listed.index(axis)] = step
            step *= sizes[axis]
        return shape, strides, step


def cases(heads, channels):
    packed_block = TOKENS * heads * channels
    return [
        Case("nhd", "SBNHD"),
        Case("hnd", "SBHND"),
        Case("nhd_doubled", "SBNHD", f"B = {2 * packed_block}", 2),
        Case("hnd_doubled", "SBHND", f"B = {2 * packed_block}", 2),
        Case("pair_in_block", "BSNHD"),
        Case("run_time_stride", "SBNHD", "B = ?", 3),
        Case("run_time_stride_16", "SBHND", "B = ? mult 16", 4),
        Case("heads_slowest", "SHBND"),
        Case("channels_slow", "SBDNH"),
    ]


def make_slots(rng, count, capacity, pad):
    slots = rng.permutation(capacity)[:count].astype(np.int64)
    padding = rng.random(count) < 0.3
    slots[padding] = -1 - rng.integers(0, 5, padding.sum())
    if pad == "skip_out_of_range":
        past = rng.random(count) < 0.2
        slots[past] = capacity + rng.integers(0, 100, past.sum())
    return slots


def run_case(library, case, element_type, heads, channels, slot_type, pad, rng,
             count, row_factor=1):
    shape, strides, size = case.shape_and_strides(heads, channels)
    pool = Guarded(random_storage(rng, size, element_type))
    expected = Tensor(pool.inside.copy(), element_type, shape, strides)
    slots = make_slots(rng, count, BLOCKS * TOKENS, pad)
    row = heads * channels
    rows = []
    for _ in range(2):
        storage = aligned(max(1, count * row * row_factor),
                          pool.inside.dtype)
        storage[:] = random_storage(rng, storage.size, element_type)
        rows.append(Tensor(storage, element_type, [count, heads, channels],
                           [row * row_factor, channels, 1]))
    slot_storage = aligned(max(1, count), dict(i32=np.int32, i64=np.int64)[slot_type])
    slot_storage[:count] = slots
    index_copy(Cache.of(expected.view(), "SBNHD"),
               [r.view() for r in rows], slots, pad)
    library.check_call(
        case.name, Tensor(pool.inside, element_type, shape, strides),
        Tensor(slot_storage, slot_type, [count]), *rows)
    got = pool.inside.view(np.uint8)
    want = expected.storage.view(np.uint8)
    assert np.array_equal(got, want), (
        f"{case.name} {element_type} {heads}x{channels}: "
        f"{np.count_nonzero(got != want)} bytes differ")
    pool.check(case.name)


def main():
    rng = np.random.default_rng(20)
    # Head dims that are cut in wide accesses, in narrow ones, and with a rest.
    grid = [("bf16", 8, 128), ("f32", 8, 128), ("bf16", 4, 80), ("f16", 1, 64),
            ("bf16", 3, 46), ("f32", 2, 5)]
    for index, (element_type, heads, channels) in enumerate(grid):
        width = dict(bf16=2, f16=2, f32=4)[element_type]
        slot_type = ["i64", "i32"][index % 2]
        pad = ["skip_negative", "skip_out_of_range"][index % 2]
        strided = index % 2
        rows = (f"memref<?x{heads}x{channels}x{element_type}, "
                f"strided<[?, {channels}, 1], offset: ?>>" if strided else
                f"tensor<?x{heads}x{channels}x{element_type}>")
        listed = cases(heads, channels)
        text = "".join(
            program(c.name, cache_type(element_type, heads, channels,
                                       list(c.order), c.strides,
                                       # odd rows cannot promise 16 bytes
                                       align=width), rows, slot_type, pad)
            for c in listed)
        library = compile_library(text, f"insert{index}")
        for case, count in itertools.product(listed, (0, 1, 37)):
            run_case(library, case, element_type, heads, channels, slot_type,
                     pad, rng, count, row_factor=1 + 2 * strided)
        print(f"{element_type} {heads}x{channels}: {len(listed)} layouts")


main()
