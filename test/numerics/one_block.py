# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""A pool of one block, whose stride nobody looks at: what is compact over blocks
has a stride that one of the type could have, in arguments, in views of bytes and
in facts, whatever passes find out about them."""

import numpy as np
from kvtest import STRIDE, Tensor, compile_library

# Two tokens of three channels: sides of one block are 6 apart and more.
BODY = "2S x ?B x 2N x 3D x f32, order = [S, B, N, D]"
TYPES = {
    "packed": f"!kvcache.cache<{BODY}, align = 4>",
    "by8": f"!kvcache.cache<{BODY}, strides = [B = ? mult 8], align = 4>",
    "by16": f"!kvcache.cache<{BODY}, strides = [B = ? mult 16], align = 4>",
    "is24": f"!kvcache.cache<{BODY}, strides = [B = 24], align = 4>",
    "free": f"!kvcache.cache<{BODY}, strides = [S = ?, B = ?], align = 4>",
}
# Which distances of sides each type has, with one block.
SIDES = (6, 7, 8, 12, 16, 24, 48)
ALLOWED = {"packed": (6,), "by8": (8, 16, 24, 48), "by16": (16, 48),
           "is24": (24,), "free": SIDES}

PROGRAM = ""
for one, kind in TYPES.items():
    # Passes see through the cast: what they know is decided by them, and the rest
    # in the call.
    PROGRAM += f"""
func.func @facts_{one}(%c: {kind}, %out: memref<{len(TYPES)}xi64>) {{
  %a = kvcache.cast %c : {kind} to {TYPES['free']}
"""
    for i, facts in enumerate(TYPES.values()):
        PROGRAM += f"""
  %f{i} = kvcache.has_facts %a : {TYPES['free']} has {facts}
  %w{i} = arith.extui %f{i} : i1 to i64
  %i{i} = arith.constant {i} : index
  memref.store %w{i}, %out[%i{i}] : memref<{len(TYPES)}xi64>
"""
    PROGRAM += "  return\n}\n"
# One layer, too: it is a multiple of 8 that has room for 12, the least of blocks.
LAYERS = ("!kvcache.cache<?L x 2S x ?B x 2N x 3D x f32, order = [S, L, B, N, D], "
          "strides = [L = ? mult 8, B = ? mult 12], align = 4>")
LAYERS_SIDES = (16, 24, 48)
PROGRAM += f"""
func.func @layers(%c: {LAYERS}, %pairs: memref<?x2xi64>) {{
  kvcache.copy_blocks %c at %pairs : {LAYERS} at memref<?x2xi64>
  return
}}
"""
WRITE = """
  %s = kvcache.make_slots %slots : memref<?xi64>
    to !kvcache.slots<?T x i64, rows_per_block = 2, pad = none>
  kvcache.index_copy %key, %value into %c at %s
    : memref<?x3xf32>, memref<?x3xf32> into TYPE
    at !kvcache.slots<?T x i64, rows_per_block = 2, pad = none>
  return
}
"""
OPERANDS = ("%slots: memref<?xi64>, %key: memref<?x3xf32>, "
            "%value: memref<?x3xf32>")
for one in "by8", "by16":
    write = WRITE.replace("TYPE", TYPES[one])
    PROGRAM += f"""
func.func @argument_{one}(%c: {TYPES[one]}, {OPERANDS}) {{{write}
func.func @bytes_{one}(%bytes: memref<?xi8>, %n: index, %b: index, {OPERANDS}) {{
  %c = kvcache.view %bytes extents(B = %n) strides(B = %b)
    : memref<?xi8> to {TYPES[one]}{write}
func.func @constant_{one}(%bytes: memref<?xi8>, %n: index, {OPERANDS}) {{
  %b = arith.constant 48 : index
  %c = kvcache.view %bytes extents(B = %n) strides(B = %b)
    : memref<?xi8> to {TYPES[one]}{write}
func.func @product_{one}(%bytes: memref<?xi8>, %n: index, %x: index,
                         {OPERANDS}) {{
  %48 = arith.constant 48 : index
  %b = arith.muli %x, %48 : index
  %c = kvcache.view %bytes extents(B = %n) strides(B = %b)
    : memref<?xi8> to {TYPES[one]}{write}
"""


def given(side):
    storage = np.zeros(96, np.float32)
    return storage, Tensor(storage, "f32", [2, 1, 2, 3], [side, 1, 3, 1])


def test_arguments(library):
    """Refused where the type has no such block."""
    for one, allowed in ALLOWED.items():
        for side in SIDES:
            _, pool = given(side)
            out = np.full(len(TYPES), -1, np.int64)
            args = pool, Tensor(out, "i64", [len(TYPES)])
            if side not in allowed:
                library.expect_error(STRIDE, "expected a stride", f"facts_{one}",
                                     *args)
                continue
            library.check_call(f"facts_{one}", *args)
            want = [side in sides for sides in ALLOWED.values()]
            assert out.tolist() == want, (one, side, out)


def test_layers(library):
    pairs = Tensor(np.zeros((1, 2), np.int64), "i64", [1, 2])
    for side in SIDES:
        pool = Tensor(np.zeros(96, np.float32), "f32", [1, 2, 1, 2, 3],
                      [-1, side, 0, 3, 1])
        if side in LAYERS_SIDES:
            library.check_call("layers", pool, pairs)
        else:
            library.expect_error(STRIDE, "expected a stride", "layers", pool,
                                 pairs)


def test_writes(library):
    rows = [np.arange(1, 4, dtype=np.float32), np.arange(4, 7, dtype=np.float32)]
    args = [Tensor(np.array([1]), "i64", [1]),
            *(Tensor(row, "f32", [1, 3]) for row in rows)]

    def expect(storage, side, what):
        want = np.zeros(96, np.float32)
        want[3:6], want[side + 3 : side + 6] = rows
        assert np.array_equal(storage, want), (what, storage)

    for one, least in ("by8", 8), ("by16", 16):
        for side in (least, 48):
            storage, pool = given(side)
            library.check_call(f"argument_{one}", pool, *args)
            expect(storage, side, one)
        # The operand counts for two blocks, and the type for one.
        for name, numbers in (("bytes", [0]), ("bytes", [7]), ("bytes", [-1]),
                              ("bytes", [48]), ("constant", []),
                              ("product", [1])):
            storage = np.zeros(96, np.float32)
            raw = Tensor(storage.view(np.int8), "i8", [96 * 4])
            library.check_call(f"{name}_{one}", raw, 1, *numbers, *args)
            expect(storage, least, (name, one, numbers))


library = compile_library(PROGRAM, "one_block")
test_arguments(library)
test_layers(library)
test_writes(library)
