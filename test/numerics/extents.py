# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Extents that follow from those of other arguments: slots that are made of
blocks, parts and reshapes of what the caller gives. A call whose extents do not
fit is refused and writes nothing, and where no rule can be told at the entry,
nothing past the shorter list is touched."""

import numpy as np
from kvtest import (SHAPE, Guarded, Tensor, aligned, compile_library,
                    compact_strides, random_storage)

BLOCKS, TOKENS, HEADS, CHANNELS = 8, 16, 2, 8
ROW = HEADS * CHANNELS
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>"
ROWS = "tensor<?x2x8xf32>"
AXES = "SBNHD"


def cache(facts=""):
    return f"!kvcache.cache<2S x ?B x 16N x 2H x 8D x f32{facts}>"


def function(name, facts, size, blocks="tensor<?xi64>", rows=ROWS, more="",
             extra="", count="?"):
    """Blocks become slots, in a list of `size`."""
    pool = cache(facts)
    slots = SLOTS.replace("?T", f"{count}T")
    part = f"tensor<{count}xi64>"
    return f"""
func.func @{name}(%pool: {pool}, %blocks: {blocks}, %key: {rows},
                  %value: {rows}{extra}) {{
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %n = tensor.dim %blocks, %c0 : {blocks}
  {size}
  %list = tensor.empty(%t) : tensor<?xi64>
  %slots = kvcache.block_slots %blocks of 16 into %list
    : {blocks} into tensor<?xi64>
  {more or f"%part = tensor.cast %slots : tensor<?xi64> to {part}"}
  %where = kvcache.make_slots %part : {part} to {slots}
  kvcache.index_copy %key, %value into %pool at %where
    : {rows}, {rows} into {pool} at {slots}
  return
}}
"""


def named(text, facts, slots=SLOTS):
    """A function whose text has names for types, and for the write."""
    write = """%where = kvcache.make_slots %slots : tensor<?xi64> to SLOTS
  kvcache.index_copy %key, %value into %pool at %where
    : ROWS, ROWS into POOL at SLOTS
  return"""
    for name, meaning in (("WRITE", write), ("POOL", cache(facts)),
                          ("ROWS", ROWS), ("SLOTS", slots)):
        text = text.replace(name, meaning)
    return text


PRODUCT = "%t = arith.muli %n, %c16 : index"
LISTED = ", order = [B, H, S, N, D]"  # no block is a row
PROGRAM = "".join([
    # A block is a row of a cache with blocks of one row, also if compact.
    function("whole", ", order = [B, S, N, H, D]", PRODUCT),
    function("compact", "", PRODUCT),
    function("by_token", LISTED, PRODUCT),
    function("known_blocks", LISTED, PRODUCT, "tensor<3xi64>"),
    function("known_rows", LISTED, PRODUCT, rows="tensor<48x2x8xf32>",
             count=48),
    function("less_two", LISTED, PRODUCT, more="""
  %c2 = arith.constant 2 : index
  %less = arith.subi %t, %c2 : index
  %part = tensor.extract_slice %slots[0] [%less] [1]
    : tensor<?xi64> to tensor<?xi64>"""),
    # The caller's number: there is no rule, and the shorter list counts.
    function("number", LISTED, PRODUCT, extra=", %limit: index", more="""
  %least = arith.minsi %limit, %t : index
  %part = tensor.extract_slice %slots[0] [%least] [1]
    : tensor<?xi64> to tensor<?xi64>"""),
    # The same by whole blocks: where a block has no rows, it stays.
    named("""
func.func @whole_of_unknown(%pool: POOL, %blocks: tensor<?xi64>, %key: ROWS,
                            %value: ROWS, %limit: index) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %all = tensor.dim %blocks, %c0 : tensor<?xi64>
  %zero = arith.constant 0 : index
  %low = arith.maxsi %limit, %zero : index
  %n = arith.minsi %low, %all : index
  %some = tensor.extract_slice %blocks[0] [%n] [1]
    : tensor<?xi64> to tensor<?xi64>
  %t = arith.muli %n, %c16 : index
  %list = tensor.empty(%t) : tensor<?xi64>
  %slots = kvcache.block_slots %some of 16 into %list
    : tensor<?xi64> into tensor<?xi64>
  WRITE
}
""", ", order = [B, S, N, H, D]"),
    # Two arguments whose product the rows are: no rule.
    named("""
func.func @matrix(%pool: POOL, %table: tensor<?x?xi64>, %key: ROWS,
                  %value: ROWS) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c16 = arith.constant 16 : index
  %a = tensor.dim %table, %c0 : tensor<?x?xi64>
  %b = tensor.dim %table, %c1 : tensor<?x?xi64>
  %flat = tensor.collapse_shape %table [[0, 1]]
    : tensor<?x?xi64> into tensor<?xi64>
  %n = arith.muli %a, %b : index
  %t = arith.muli %n, %c16 : index
  %list = tensor.empty(%t) : tensor<?xi64>
  %slots = kvcache.block_slots %flat of 16 into %list
    : tensor<?xi64> into tensor<?xi64>
  WRITE
}
""", LISTED),
    # What casts promise is checked.
    named("""
func.func @casts(%pool: POOL, %blocks: tensor<?xi64>, %key: ROWS,
                 %value: ROWS) {
  %list = tensor.cast %blocks : tensor<?xi64> to tensor<20xi64>
  %k = tensor.cast %key : ROWS to tensor<20x2x8xf32>
  %v = tensor.cast %value : ROWS to tensor<20x2x8xf32>
  %where = kvcache.make_slots %list : tensor<20xi64> to SLOTS
  kvcache.index_copy %k, %v into %pool at %where
    : tensor<20x2x8xf32>, tensor<20x2x8xf32> into POOL at SLOTS
  return
}
""", LISTED, SLOTS.replace("?T", "20T")),
    # Rows that the caller gives by block, and a list of slots of its own.
    named("""
func.func @by_block(%pool: POOL, %slots: tensor<?xi64>,
                    %key: tensor<?x16x2x8xf32>,
                    %value: tensor<?x16x2x8xf32>) {
  %k = tensor.collapse_shape %key [[0, 1], [2], [3]]
    : tensor<?x16x2x8xf32> into ROWS
  %v = tensor.collapse_shape %value [[0, 1], [2], [3]]
    : tensor<?x16x2x8xf32> into ROWS
  %where = kvcache.make_slots %slots : tensor<?xi64> to SLOTS
  kvcache.index_copy %k, %v into %pool at %where
    : ROWS, ROWS into POOL at SLOTS
  return
}
""", LISTED),
])

ORDERS = {"whole": "BSNHD", "whole_of_unknown": "BSNHD", "compact": AXES}
library = compile_library(PROGRAM, "extents")
rng = np.random.default_rng(11)


class Call:
    """Buffers of just the size that is said, between canaries; rows are not
    those canaries, so that one that is read too far shows in the pool."""

    def __init__(self, name, numbers, rows):
        order = [AXES.index(axis) for axis in ORDERS.get(name, "BHSND")]
        shape = [2, BLOCKS, TOKENS, HEADS, CHANNELS]
        self.name = name
        self.pool = Guarded(random_storage(rng, int(np.prod(shape)), "f32"))
        self.numbers = Guarded(np.array(numbers, np.int64).ravel())
        self.rows = [Guarded(random_storage(rng, n * ROW, "f32"))
                     for n in rows]
        self.tensor = Tensor(self.pool.inside, "f32", shape,
                             compact_strides(shape, order))
        self.number_shape = list(np.shape(numbers))
        self.row_shapes = [[n, HEADS, CHANNELS] for n in rows]
        self.before = [b.whole.copy() for b in self.all()]

    def all(self):
        return [self.pool, self.numbers, *self.rows]

    def args(self, extra):
        rows = [Tensor(row.inside, "f32", shape)
                for row, shape in zip(self.rows, self.row_shapes)]
        return [self.tensor, Tensor(self.numbers.inside, "i64",
                                    self.number_shape), *rows, *extra]

    def refused(self, text, extra=()):
        args = self.args(extra)
        workspace = aligned(1 << 16, np.uint8)
        workspace[:] = 0x5A
        assert library.workspace_size(self.name, *args) < 0
        library.expect_error(SHAPE, f"{self.name}: {text}", self.name, *args,
                             workspace=workspace)
        assert (workspace == 0x5A).all(), "the workspace was written"
        for buffer, before in zip(self.all(), self.before):
            assert np.array_equal(buffer.whole, before), f"{text}: written"

    def passes(self, slots, extra=()):
        """Row t is at slots[t] afterwards, and all else is as it was."""
        expected = self.tensor.view().copy()
        for t, slot in enumerate(slots):
            for side in range(2):
                expected[side, slot // TOKENS, slot % TOKENS] = (
                    self.rows[side].inside[t * ROW : (t + 1) * ROW]
                    .reshape(HEADS, CHANNELS))
        library.run(self.name, *self.args(extra))
        assert np.array_equal(self.tensor.view(), expected), self.name
        for buffer in self.all():
            buffer.check(self.name)


def slots_of(blocks):
    return [b * TOKENS + n for b in blocks for n in range(TOKENS)]


def wrong(argument, expected, rule, got):
    return (f"argument '{argument}': expected an extent of {expected} in "
            f"dimension 0, {rule}, got {got}")


THREE = "16 times the 3 in dimension 0 of argument 'blocks'"


def test_products():
    for name in ("whole", "compact", "by_token"):
        Call(name, [1, 6, 3], [48, 48]).passes(slots_of([1, 6, 3]))
        Call(name, [], [0, 0]).passes([])
        for rows in (47, 40, 32, 3, 0, 49, 64):
            Call(name, [1, 6, 3], [rows, rows]).refused(
                wrong("key", 48, THREE, rows))
        Call(name, [], [1, 1]).refused(
            wrong("key", 0, "16 times the 0 in dimension 0 of argument "
                  "'blocks'", 1))
        Call(name, [1, 6, 3], [48, 40]).refused(
            "argument 'value': expected an extent of 48 in dimension 0, as in "
            "argument 'key', got 40")


def test_constants():
    Call("known_blocks", [1, 6, 3], [48, 48]).passes(slots_of([1, 6, 3]))
    for rows in (40, 49):
        Call("known_blocks", [1, 6, 3], [rows, rows]).refused(
            "argument 'key': expected an extent of 48 in dimension 0, got "
            f"{rows}")
    Call("known_rows", [1, 6, 3], [48, 48]).passes(slots_of([1, 6, 3]))
    for blocks in ([1, 6], [1, 6, 3, 2]):
        Call("known_rows", blocks, [48, 48]).refused(
            "argument 'blocks': expected an extent of 3 in dimension 0, got "
            f"{len(blocks)}")


def test_casts():
    slots = rng.permutation(BLOCKS * TOKENS)
    Call("casts", slots[:20], [20, 20]).passes(slots[:20])
    for count in (19, 21, 0):
        Call("casts", slots[:count], [count, count]).refused(
            "argument 'blocks': expected an extent of 20 in dimension 0, got "
            f"{count}")
    Call("casts", slots[:20], [19, 19]).refused(
        "argument 'key': expected an extent of 20 in dimension 0, got 19")


def test_sums():
    Call("less_two", [1, 6], [30, 30]).passes(slots_of([1, 6])[:30])
    for rows in (32, 29):
        Call("less_two", [1, 6], [rows, rows]).refused(
            wrong("key", 30, "16 times the 2 in dimension 0 of argument "
                  "'blocks' less 2", rows))


def test_reshapes():
    def by_block(slots, blocks):
        call = Call("by_block", slots, [16 * blocks] * 2)
        call.row_shapes = [[blocks, TOKENS, HEADS, CHANNELS]] * 2
        return call

    slots = rng.permutation(BLOCKS * TOKENS)[:32]
    by_block(slots, 2).passes(slots)
    for blocks in (1, 3):
        by_block(slots, blocks).refused(
            f"argument 'slots': expected an extent of {16 * blocks} in "
            f"dimension 0, 16 times the {blocks} in dimension 0 of argument "
            "'key', got 32")


def test_no_rule():
    """The shorter list counts, whichever it is."""
    slots = slots_of([1, 6, 3])
    for rows in (48, 40, 0, 60):
        for limit in (48, 17, 0):
            count = min(rows, limit)
            Call("number", [1, 6, 3], [rows, rows]).passes(
                slots[:count], (limit,))
        Call("matrix", [[1, 6, 3]], [rows, rows]).passes(slots[:rows])
        for limit in (3, 2, 0):
            # A block whose rows are not all there is not written.
            count = min(rows // TOKENS, limit) * TOKENS
            Call("whole_of_unknown", [1, 6, 3], [rows, rows]).passes(
                slots[:count], (limit,))


tests = [value for name, value in list(globals().items())
         if name.startswith("test_")]
for test in tests:
    test()
print(f"{len(tests)} groups of checks")
