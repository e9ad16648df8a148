# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Layers, sides, casts, facts and storage of a cache, run on the CPU."""

import numpy as np
from kvtest import BOUNDS, Guarded, Tensor, compile_library, random_storage
from reference import Cache, index_copy

LAYERS, BLOCKS, TOKENS, HEADS, CHANNELS, COUNT = 5, 6, 16, 3, 40, 33
BODY = f"{TOKENS}N x {HEADS}H x {CHANNELS}D x f32"
ROWS = f"tensor<?x{HEADS}x{CHANNELS}xf32>"
SLOTS = (f"!kvcache.slots<?T x i64, rows_per_block = {TOKENS}, "
         "pad = skip_negative>")
ORDERS = {"cross_layer_nhd": "BLSNHD", "cross_layer_hnd": "BHLSND",
          "layers_first": "LSBNHD"}


def layer_program(name, order):
    """Keys by themselves, then both sides, of one layer."""
    cache = (f"!kvcache.cache<{LAYERS}L x 2S x ?B x {BODY}, "
             f"order = [{', '.join(order)}]>")
    layer_order = order.replace("L", "")
    block = TOKENS * HEADS * CHANNELS
    strides = {
        "cross_layer_nhd": f", strides = [B = {2 * LAYERS * block}]",
        "cross_layer_hnd":
            f", strides = [H = {2 * LAYERS * TOKENS * CHANNELS}]",
        "layers_first": "",
    }[name]
    layer = (f"!kvcache.cache<2S x ?B x {BODY}, "
             f"order = [{', '.join(layer_order)}]{strides}>")
    return f"""
func.func @{name}(%cache: {cache}, %i: index, %slots: tensor<?xi64>,
                  %key: {ROWS}, %value: {ROWS}) {{
  %layer = kvcache.layer %cache[%i] : {cache}
  %where = kvcache.make_slots %slots : tensor<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %layer at %where
    : {ROWS}, {ROWS} into {layer} at {SLOTS}
  return
}}
"""


def test_layers():
    rng = np.random.default_rng(4)
    library = compile_library(
        "".join(layer_program(*item) for item in ORDERS.items()), "layers")
    sizes = dict(L=LAYERS, S=2, B=BLOCKS, N=TOKENS, H=HEADS, D=CHANNELS)
    shape = [sizes[a] for a in "LSBNHD"]
    for name, order in ORDERS.items():
        step, strides = 1, {}
        for axis in reversed(order):
            strides[axis] = step
            step *= sizes[axis]
        strides = [strides[a] for a in "LSBNHD"]
        for layer in (0, LAYERS - 1):
            pool = Guarded(random_storage(rng, step, "f32"))
            expected = Tensor(pool.inside.copy(), "f32", shape, strides)
            slots = rng.permutation(BLOCKS * TOKENS)[:COUNT]
            slots[::7] = -1
            rows = [Tensor(random_storage(rng, COUNT * HEADS * CHANNELS, "f32"),
                           "f32", [COUNT, HEADS, CHANNELS]) for _ in range(2)]
            index_copy(Cache.of(expected.view()[layer], "SBNHD"),
                       [r.view() for r in rows], slots, "skip_negative")
            args = [Tensor(slots, "i64", [COUNT]), *rows]
            cache = Tensor(pool.inside, "f32", shape, strides)
            library.check_call(name, cache, layer, *args)
            assert np.array_equal(pool.inside, expected.storage), (name, layer)
            pool.check(name)
            for wrong in (LAYERS, -1):
                library.expect_error(
                    BOUNDS, f"expected a layer below {LAYERS}, got layer "
                    f"{wrong}", name, cache, wrong, *args)
            assert np.array_equal(pool.inside, expected.storage), "wrote"


FACTS = f"""
!any = !kvcache.cache<2S x ?B x {BODY}, strides = [B = ?], align = 4>
!packed = !kvcache.cache<2S x ?B x {BODY}, align = 4>
!multiple = !kvcache.cache<2S x ?B x {BODY}, strides = [B = ? mult 64], align = 4>
!aligned = !kvcache.cache<2S x ?B x {BODY}, strides = [B = ?], align = 64>
func.func @facts(%cache: !any, %out: memref<6xi64>) {{
  %a = kvcache.has_facts %cache : !any has !packed
  %b = kvcache.has_facts %cache : !any has !multiple
  %c = kvcache.has_facts %cache : !any has !aligned
  %n = kvcache.dim %cache[B] : !any
  %s = kvcache.stride %cache[B] : !any
  %t = kvcache.stride %cache[S] : !any
  %i0 = arith.constant 0 : index
  %i1 = arith.constant 1 : index
  %i2 = arith.constant 2 : index
  %i3 = arith.constant 3 : index
  %i4 = arith.constant 4 : index
  %i5 = arith.constant 5 : index
  %x0 = arith.extui %a : i1 to i64
  %x1 = arith.extui %b : i1 to i64
  %x2 = arith.extui %c : i1 to i64
  %x3 = arith.index_cast %n : index to i64
  %x4 = arith.index_cast %s : index to i64
  %x5 = arith.index_cast %t : index to i64
  memref.store %x0, %out[%i0] : memref<6xi64>
  memref.store %x1, %out[%i1] : memref<6xi64>
  memref.store %x2, %out[%i2] : memref<6xi64>
  memref.store %x3, %out[%i3] : memref<6xi64>
  memref.store %x4, %out[%i4] : memref<6xi64>
  memref.store %x5, %out[%i5] : memref<6xi64>
  return
}}
"""


def test_facts():
    library = compile_library(FACTS, "facts")
    block = TOKENS * HEADS * CHANNELS
    shape = [2, BLOCKS, TOKENS, HEADS, CHANNELS]
    inner = [HEADS * CHANNELS, CHANNELS, 1]
    storage = Guarded(np.zeros(4 * BLOCKS * block, np.float32)).inside
    # block stride, blocks, offset -> packed, multiple of 64, aligned to 64
    cases = [
        (block, BLOCKS, 0, (1, 1, 1)),
        (block + 64, BLOCKS, 0, (0, 1, 1)),
        (block + 1, BLOCKS, 0, (0, 0, 1)),
        (block, BLOCKS, 1, (1, 1, 0)),
        # One block: its stride is never used.
        (block + 1, 1, 16, (1, 1, 1)),
    ]
    assert block % 64 == 0
    for stride, blocks, offset, want in cases:
        side = blocks * stride if blocks > 1 else stride
        # Sides follow the blocks, whatever the strides of those are.
        packed_side = side if blocks > 1 else block
        cache = Tensor(storage, "f32", [2, blocks, *shape[2:]],
                       [packed_side, stride, *inner], offset=offset)
        out = np.full(6, -1, np.int64)
        library.check_call("facts", cache, Tensor(out, "i64", [6]))
        assert tuple(out[:3]) == want, (stride, blocks, offset, out)
        assert out[3] == blocks
        if blocks > 1:
            assert out[4] == stride and out[5] == side


STORAGE = f"""
!kv = !kvcache.cache<2S x ?B x {BODY}, order = [S, B, H, N, D]>
func.func @first_of_each(%cache: !kv, %b: index, %out: memref<2xf32>) {{
  %m = kvcache.storage %cache[B, S, N, H, D]
    : !kv to memref<?x2x{TOKENS}x{HEADS}x{CHANNELS}xf32,
                    strided<[?, ?, ?, ?, ?], offset: ?>>
  %v = kvcache.side %cache[1] : !kv
  %n = kvcache.storage %v
    : !kvcache.cache<?B x {BODY}, order = [B, H, N, D]>
    to memref<?x{TOKENS}x{HEADS}x{CHANNELS}xf32,
              strided<[?, {CHANNELS}, {TOKENS * CHANNELS}, 1], offset: ?>>
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %x = memref.load %m[%b, %c1, %c2, %c1, %c0]
    : memref<?x2x{TOKENS}x{HEADS}x{CHANNELS}xf32,
             strided<[?, ?, ?, ?, ?], offset: ?>>
  %y = memref.load %n[%b, %c2, %c1, %c0]
    : memref<?x{TOKENS}x{HEADS}x{CHANNELS}xf32,
             strided<[?, {CHANNELS}, {TOKENS * CHANNELS}, 1], offset: ?>>
  memref.store %x, %out[%c0] : memref<2xf32>
  memref.store %y, %out[%c1] : memref<2xf32>
  return
}}
"""


def test_storage():
    library = compile_library(STORAGE, "storage")
    rng = np.random.default_rng(6)
    pool = random_storage(rng, 2 * BLOCKS * HEADS * TOKENS * CHANNELS, "f32")
    pool = Guarded(pool).inside
    physical = pool.reshape(2, BLOCKS, HEADS, TOKENS, CHANNELS)
    strides = [s // 4 for s in physical.transpose(0, 1, 3, 2, 4).strides]
    cache = Tensor(pool, "f32", [2, BLOCKS, TOKENS, HEADS, CHANNELS], strides)
    for block in range(BLOCKS):
        out = np.zeros(2, np.float32)
        library.check_call("first_of_each", cache, block,
                           Tensor(out, "f32", [2]))
        want = physical[1, block, 1, 2, 0]
        assert out[0] == want and out[1] == want


test_layers()
test_facts()
test_storage()
