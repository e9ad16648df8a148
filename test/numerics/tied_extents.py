# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Lists that belong together: for each operation, each list that is one entry
too short or too long is refused, and nothing is written."""

import numpy as np
from kvtest import SHAPE, TYPES, Guarded, Tensor, aligned, compile_library

CACHE = "!kvcache.cache<2S x ?B x 4N x 2H x 8D x f32>"
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>"
TABLE = "!kvcache.block_table<?R x ?M x i32, tokens = 4>"
BATCH = "!kvcache.batch<?R x ?M x i32, tokens = 4>"
PLACED = "!kvcache.batch<?R x ?M x i32, tokens = 4, positions = i64>"
ROWS = "memref<?x2x8xf32>"
LSE = "memref<?x2xf32>"

# name -> (arguments, body): an argument is (name, type in MLIR, element type,
# shape), where T, R, ... are extents that belong together.
CASES = {}
R, M, T, S, K, P = 3, 2, 5, 4, 2, 9


def case(name, arguments, body):
    CASES[name] = (arguments, body)


POOL = ("pool", CACHE, "f32", [2, 6, 4, 2, 8])


def rows(*names):
    return [(n, ROWS, "f32", [T, 2, 8]) for n in names]


def numbers(name, count, element_type="i64"):
    return (name, f"memref<?x{element_type}>", element_type, [count])


def members(*more):
    return [numbers("starts", R + 1, "i32"), numbers("lengths", R, "i32"),
            ("entries", "memref<?x?xi32>", "i32", [R, M]), *more]


MAKE_TABLE = f"""
  %table = kvcache.make_block_table %entries : memref<?x?xi32> to {TABLE}"""
MAKE = MAKE_TABLE + f"""
  %batch = kvcache.make_batch %starts, %lengths, %table
    : memref<?xi32>, memref<?xi32>, {TABLE}"""
MAKE_PLACED = MAKE_TABLE + f"""
  %batch = kvcache.make_batch %starts, %lengths, %table
    positions(%positions : memref<?xi64>)
    : memref<?xi32>, memref<?xi32>, {TABLE}"""


def attend(batch, values="%batch"):
    return f"""
  kvcache.attention %query over %pool in {values} into %out causal
    : {ROWS} over {CACHE} in {batch} into {ROWS}"""


case("index_copy", [POOL, ("slots", SLOTS, "i64", [T]), *rows("key", "value")],
     f"""
  kvcache.index_copy %key, %value into %pool at %slots
    : {ROWS}, {ROWS} into {CACHE} at {SLOTS}""")
case("scatter", [POOL, numbers("blocks", T), numbers("offsets", T),
                 *rows("key", "value")], f"""
  kvcache.scatter %key, %value into %pool at %blocks, %offsets
    pad = skip_negative
    : {ROWS}, {ROWS} into {CACHE} at memref<?xi64>, memref<?xi64>""")
case("gather", [POOL, ("slots", SLOTS, "i64", [T]), *rows("key", "value")], f"""
  kvcache.gather %pool at %slots into %key, %value
    : {CACHE} at {SLOTS} into {ROWS}, {ROWS}""")
case("attention", [POOL, *members(), *rows("query", "out")],
     MAKE + attend(BATCH))
case("attention_placed", [POOL, *members(numbers("positions", T)),
                          *rows("query", "out")],
     MAKE_PLACED + attend(PLACED))
case("lse", [POOL, *members(), *rows("query", "out"),
             ("lse", LSE, "f32", [T, 2])], MAKE + f"""
  kvcache.attention %query over %pool in %batch into %out, %lse causal
    : {ROWS} over {CACHE} in {BATCH} into {ROWS}, {LSE}""")
case("mask", [POOL, *members(), ("mask", "memref<?x?xi32>", "i32", [T, 1]),
              *rows("query", "out")], MAKE + f"""
  kvcache.attention %query over %pool in %batch mask(%mask : memref<?x?xi32>)
    into %out causal : {ROWS} over {CACHE} in {BATCH} into {ROWS}""")
case("slot_mapping", members(numbers("out", T)), MAKE + f"""
  kvcache.slot_mapping %batch into %out : {BATCH} into memref<?xi64>""")
case("slot_mapping_placed", members(numbers("positions", T), numbers("out", T)),
     MAKE_PLACED + f"""
  kvcache.slot_mapping %batch into %out : {PLACED} into memref<?xi64>""")
case("with_rows", [POOL, *members(), numbers("others", R + 1, "i32"),
                   numbers("positions", T), *rows("query", "out")], MAKE + f"""
  %some = kvcache.with_rows %batch, %others, %positions
    : {BATCH}, memref<?xi32>, memref<?xi64>""" + attend(PLACED, "%some"))
case("merge_states", [*rows("a", "b", "out"), ("a_lse", LSE, "f32", [T, 2]),
                      ("b_lse", LSE, "f32", [T, 2]),
                      ("out_lse", LSE, "f32", [T, 2])], f"""
  kvcache.merge_states %a, %a_lse with %b, %b_lse into %out, %out_lse
    : {ROWS}, {LSE} with {ROWS}, {LSE} into {ROWS}, {LSE}""")
case("heads_first", [POOL, *members(), *rows("query", "out"),
                     ("lse", "memref<2x?xf32>", "f32", [2, T])], MAKE + f"""
  kvcache.attention %query over %pool in %batch into %out, %lse heads_first
    : {ROWS} over {CACHE} in {BATCH} into {ROWS}, memref<2x?xf32>""")
case("three_states", [
    *rows("a", "b", "c", "out"),
    *((f"{name}_lse", "memref<2x?xf32>", "f32", [2, T])
      for name in ("a", "b", "c"))], f"""
  kvcache.merge_states %a, %a_lse with %b, %b_lse with %c, %c_lse into %out
    heads_first : {ROWS}, memref<2x?xf32> with {ROWS}, memref<2x?xf32>
    with {ROWS}, memref<2x?xf32> into {ROWS}""")
case("normalize", rows("x", "out"), f"""
  kvcache.normalize %x into %out epsilon 1.0 : {ROWS} into {ROWS}""")
case("rotate", [*rows("x", "out"), ("table", "memref<?x4xf32>", "f32", [T, 4])],
     f"""
  kvcache.rotate %x by %table into %out
    : {ROWS} by memref<?x4xf32> into {ROWS}""")
case("rotate_placed", [*rows("x", "out"), numbers("positions", T),
                       ("angles", "memref<?x4xf32>", "f32", [P, 4])], f"""
  kvcache.rotate %x by %angles at %positions into %out
    : {ROWS} by memref<?x4xf32> at memref<?xi64> into {ROWS}""")
case("fused", [POOL, ("slots", SLOTS, "i64", [T]), *rows("key", "value"),
               ("table", "memref<?x4xf32>", "f32", [T, 4])], f"""
  %zero = arith.constant 0 : index
  %count = memref.dim %key, %zero : {ROWS}
  kvcache.fuse {{
    %turned = memref.alloc(%count) : {ROWS}
    kvcache.rotate %key by %table into %turned
      : {ROWS} by memref<?x4xf32> into {ROWS}
    kvcache.index_copy %turned, %value into %pool at %slots
      : {ROWS}, {ROWS} into {CACHE} at {SLOTS}
  }}""")
case("csr_table", [
    numbers("indptr", R + 1, "i32"), numbers("indices", K, "i32"),
    numbers("last", R, "i32"), ("pages", "memref<?x?xi32>", "i32", [R, M]),
    numbers("lengths", R, "i32")], """
  kvcache.csr_table %indptr, %indices last(%last of 4) into %pages, %lengths
    : memref<?xi32>, memref<?xi32>, memref<?xi32>
    into memref<?x?xi32>, memref<?xi32>""")
case("select_rows", [
    *members(), ("x", "memref<?x8xf32>", "f32", [T, 8]),
    ("y", "memref<?x8xf32>", "f32", [T, 8]), numbers("indices", S, "i32"),
    ("valid", "memref<1xi32>", "i32", [1]),
    ("x_out", "memref<?x8xf32>", "f32", [S, 8]),
    ("y_out", "memref<?x8xf32>", "f32", [S, 8]),
    numbers("starts_out", R + 1, "i32"), numbers("positions_out", S)],
     MAKE + f"""
  kvcache.select_rows %x, %y of %batch at %indices, %valid
    into %x_out, %y_out, %starts_out, %positions_out
    : memref<?x8xf32>, memref<?x8xf32> of {BATCH} at memref<?xi32>, memref<1xi32>
    into memref<?x8xf32>, memref<?x8xf32>, memref<?xi32>, memref<?xi64>""")
case("map_list", [numbers("blocks", K, "i32"), numbers("out", 3 * K, "i32")], """
  kvcache.map_blocks %blocks by 3 into %out
    : memref<?xi32> into memref<?xi32>""")
case("map_matrix", [("blocks", "memref<?x?xi32>", "i32", [R, K]),
                    ("out", "memref<?x?xi32>", "i32", [R, 3 * K])], """
  kvcache.map_blocks %blocks by 3 into %out
    : memref<?x?xi32> into memref<?x?xi32>""")
case("block_slots", [numbers("blocks", K), numbers("out", 4 * K)], """
  kvcache.block_slots %blocks of 4 into %out
    : memref<?xi64> into memref<?xi64>""")
case("copy", [("from", "memref<?x?xf32>", "f32", [3, 5]),
              ("to", "memref<?x?xf32>", "f32", [3, 5])], """
  memref.copy %from, %to : memref<?x?xf32> to memref<?x?xf32>""")
case("matmul", [("a", "memref<?x?xf32>", "f32", [3, 4]),
                ("b", "memref<?x?xf32>", "f32", [4, 5]),
                ("c", "memref<?x?xf32>", "f32", [3, 5])], """
  linalg.matmul ins(%a, %b : memref<?x?xf32>, memref<?x?xf32>)
    outs(%c : memref<?x?xf32>)""")
case("sum", [("a", "memref<?xf32>", "f32", [4]),
             ("b", "memref<?xf32>", "f32", [4]),
             ("c", "memref<?xf32>", "f32", [4])], """
  linalg.add ins(%a, %b : memref<?xf32>, memref<?xf32>)
    outs(%c : memref<?xf32>)""")
case("in_a_loop", [("a", "memref<?xf32>", "f32", [4]),
                   ("b", "memref<?xf32>", "f32", [4])], """
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  scf.for %i = %c0 to %c2 step %c1 {
    memref.copy %a, %b : memref<?xf32> to memref<?xf32>
  }""")

# A batch that the caller gives as one value.
BATCH_OF_CALLER = [POOL, ("b.starts", None, "i32", [R + 1]),
                   ("b.lengths", None, "i32", [R]),
                   ("b.table", None, "i32", [R, M])]


def function(name, arguments, body):
    listed = ", ".join(f"%{n}: {t}" for n, t, _, _ in arguments if t)
    return f"func.func @{name}({listed}) {{{body}\n  return\n}}\n"


PROGRAM = "".join(function(name, *entry) for name, entry in CASES.items())
for name, batch, more in [
        ("batch", BATCH, []),
        ("batch_placed", PLACED, [("b.positions", None, "i64", [T])])]:
    PROGRAM += f"""
func.func @{name}(%pool: {CACHE}, %b: {batch}, %query: {ROWS}, %out: {ROWS}) {{
{attend(batch, "%b")}
  return
}}
"""
    CASES[name] = (BATCH_OF_CALLER + more + rows("query", "out"), "")

library = compile_library(PROGRAM, "tied_extents")


class Call:
    """All arguments are zeros, which no operation takes amiss, but for those
    that are written, so that a write of zeros shows."""

    def __init__(self, name, changed=None):
        self.buffers, self.tensors = [], []
        for i, (_, _, element_type, shape) in enumerate(CASES[name][0]):
            shape = list(shape)
            if changed and changed[0] == i:
                shape[changed[1]] += changed[2]
            dtype = TYPES[element_type][2]
            values = np.zeros(int(np.prod(shape)), dtype)
            if dtype == np.float32:
                values[:] = 7 + i
            buffer = Guarded(values)
            self.buffers.append(buffer)
            self.tensors.append(Tensor(buffer.inside, element_type, shape))
        self.before = [b.whole.copy() for b in self.buffers]


count = 0
for name, (arguments, _) in CASES.items():
    plain = Call(name)
    library.run(name, *plain.tensors)
    for buffer in plain.buffers:
        buffer.check(name)
    for i, (argument, mlir_type, _, shape) in enumerate(arguments):
        for d in range(len(shape)):
            is_free = argument == "pool" and d == 1
            # The columns of a table and the words of a mask are as many as the
            # caller likes, and how many rows there are is said by starts, which
            # is data.
            is_free |= (argument in ("entries", "b.table", "pages", "mask")
                        and d == 1)
            # So are the pages of all requests.
            is_free |= argument == "indices" and name == "csr_table"
            is_free |= (name, argument) == ("slot_mapping", "out")
            # And the positions that a table has rows for.
            is_free |= argument == "angles" and d == 0
            for change in (-1, 1):
                call = Call(name, (i, d, change))
                what = f"{name}: {argument}, dimension {d}, {change:+d}"
                if is_free:
                    library.run(name, *call.tensors)
                    continue
                size = library.workspace_size(name, *call.tensors)
                assert size < 0, f"{what}: accepted"
                workspace = aligned(1 << 16, np.uint8)
                got = library.call(name, *call.tensors, workspace=workspace)
                assert got == SHAPE, f"{what}: {got}: {library.last_error()}"
                assert "expected an extent of" in library.last_error()
                for buffer, before in zip(call.buffers, call.before):
                    assert np.array_equal(buffer.whole, before), what
                count += 1
print(f"{len(CASES)} functions, {count} calls are refused")
