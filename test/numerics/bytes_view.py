# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""One layer of a buffer for all layers, seen through a view of its bytes.

The layer is written as a packed pool would be, and the other layers keep every
bit.
"""

import numpy as np
from kvtest import Guarded, Tensor, aligned, compile_library, random_storage
from reference import Cache, index_copy

LAYERS, BLOCKS, TOKENS, HEADS, CHANNELS = 3, 7, 4, 2, 8
SIZES = dict(L=LAYERS, S=2, B=BLOCKS, N=TOKENS, H=HEADS, D=CHANNELS)
# Physical orders of the whole buffer; the block is the slowest axis of both.
ORDERS = dict(nhd="BLSNHD", hnd="BHLSND")
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>"


def strides_of(order):
    step, strides = 1, {}
    for axis in reversed(order):
        strides[axis] = step
        step *= SIZES[axis]
    return strides


def insert(element_type, cache):
    rows = f"tensor<?x{HEADS}x{CHANNELS}x{element_type}>"
    return f"""
  %where = kvcache.make_slots %slots : tensor<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %cache at %where
    : {rows}, {rows} into {cache} at {SLOTS}
  return
}}
"""


def arguments(element_type):
    rows = f"tensor<?x{HEADS}x{CHANNELS}x{element_type}>"
    return f"%slots: tensor<?xi64>, %key: {rows}, %value: {rows}"


def layer_type(element_type, order, block_stride):
    """One layer: the order without L, and every stride that skips layers."""
    physical = ORDERS[order]
    strides = strides_of(physical)
    left = [axis for axis in physical if axis != "L"]
    facts = [f"B = {block_stride(strides['B'])}"]
    if order == "hnd":  # a head of one layer is followed by the other layers
        facts.append(f"H = {strides['H']}")
    return (f"!kvcache.cache<2S x ?B x {TOKENS}N x {HEADS}H x {CHANNELS}D x "
            f"{element_type}, order = [{', '.join(left)}], "
            f"strides = [{', '.join(facts)}]>")


def program(element_type):
    text = ""
    for order in ORDERS:
        fixed = layer_type(element_type, order, str)
        free = layer_type(element_type, order, lambda _: "? mult 8")
        text += f"""
func.func @{order}_constant(%bytes: memref<?xi8>, %o: index, %n: index,
                            {arguments(element_type)}) {{
  %cache = kvcache.view %bytes offset(%o) extents(B = %n)
    : memref<?xi8> to {fixed}
{insert(element_type, fixed)}
func.func @{order}_run_time(%bytes: memref<?xi8>, %o: index, %n: index,
                            %s: index, {arguments(element_type)}) {{
  %cache = kvcache.view %bytes offset(%o) extents(B = %n) strides(B = %s)
    : memref<?xi8> to {free}
{insert(element_type, free)}
"""
    packed = (f"!kvcache.cache<2S x ?B x {TOKENS}N x {HEADS}H x {CHANNELS}D x "
              f"{element_type}>")
    pair = packed[:-1] + ", order = [B, S, N, H, D]>"
    memref = f"memref<?x2x{TOKENS}x{HEADS}x{CHANNELS}x{element_type}>"
    return text + f"""
func.func @packed(%cache: {packed}, {arguments(element_type)}) {{
{insert(element_type, packed)}
func.func @bracketed(%pool: {memref}, {arguments(element_type)}) {{
  %cache = kvcache.view %pool[B, S, N, H, D] : {memref} to {pair}
{insert(element_type, pair)}
"""


def logical(storage, order):
    """The whole buffer as an array over L S B N H D."""
    strides = strides_of(ORDERS[order])
    return np.lib.stride_tricks.as_strided(
        storage, [SIZES[a] for a in "LSBNHD"],
        [strides[a] * storage.itemsize for a in "LSBNHD"])


def main(element_type):
    rng = np.random.default_rng(5)
    library = compile_library(program(element_type), f"bytes_{element_type}")
    count = 13
    slot_values = rng.permutation(BLOCKS * TOKENS)[:count]
    slot_values[[2, 7]] = [-1, -9]
    storage = aligned(count, np.int64)
    storage[:] = slot_values
    slots = Tensor(storage, "i64", [count])
    rows = []
    for _ in range(2):
        values = random_storage(rng, count * HEADS * CHANNELS, element_type)
        row = aligned(len(values), values.dtype)
        row[:] = values
        rows.append(Tensor(row, element_type, [count, HEADS, CHANNELS]))
    size = int(np.prod(list(SIZES.values())))
    before = random_storage(rng, size, element_type)
    width = before.itemsize

    for order, run_time in [(o, r) for o in ORDERS for r in (False, True)]:
        for layer in range(LAYERS):
            what = f"{element_type} {order} layer {layer} run_time={run_time}"
            strides = strides_of(ORDERS[order])
            pool = Guarded(before)
            library.check_call(
                f"{order}_run_time" if run_time else f"{order}_constant",
                Tensor(pool.inside.view(np.int8), "i8", [size * width]),
                layer * strides["L"] * width, BLOCKS,
                *([strides["B"]] if run_time else []), slots, *rows)
            pool.check(what)

            # The same insert into a packed copy of the layer, by the library
            # and by the reference.
            shape = [SIZES[a] for a in "SBNHD"]
            start = logical(before, order)[layer].ravel()
            packed = Guarded(start)
            library.check_call("packed",
                               Tensor(packed.inside, element_type, shape),
                               slots, *rows)
            expected = start.copy().reshape(shape)
            index_copy(Cache.of(expected, "SBNHD"), [r.view() for r in rows],
                       slot_values, "skip_negative")
            got = logical(pool.inside, order)
            assert np.array_equal(packed.inside, expected.ravel()), what
            assert np.array_equal(got[layer], expected), what
            others = [i for i in range(LAYERS) if i != layer]
            assert np.array_equal(got[others], logical(before, order)[others]), (
                f"{what}: another layer was written")

    shape = [SIZES[a] for a in "BSNHD"]
    values = before[: int(np.prod(shape))]
    pool = Guarded(values)
    expected = values.copy().reshape(shape)
    index_copy(Cache.of(expected, "BSNHD"), [r.view() for r in rows],
               slot_values, "skip_negative")
    library.check_call("bracketed", Tensor(pool.inside, element_type, shape),
                       slots, *rows)
    assert np.array_equal(pool.inside, expected.ravel()), "bracketed"
    pool.check("bracketed")


for element_type in ("f32", "bf16"):
    main(element_type)
print("one layer is written, the others are not")
