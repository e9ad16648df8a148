# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""What engines pass to attention, from end to end: the query in a fused QKV, in
both orders and on tensors, page lists in CSR form, padded batches with requests
that have no rows, more rows to write than slots, and splits whose empty ones have
an lse of plus infinity.
"""

import cases
import numpy as np
import reference
from kvtest import SHAPE, STRIDE, Tensor, compile_library
from ref_cache import Cache

TOKENS, HEADS, GROUP, CHANNELS, BLOCKS = 4, 2, 2, 8, 12
QUERY = HEADS * GROUP
KV = f"!kvcache.cache<2S x ?B x {TOKENS}N x {HEADS}H x {CHANNELS}D x f32>"
TABLE = f"!kvcache.block_table<?R x ?M x i32, tokens = {TOKENS}>"
BATCH = f"!kvcache.batch<?R x ?M x i32, tokens = {TOKENS}>"
ROWS = f"memref<?x{QUERY}x{CHANNELS}xf32>"
APART = f"memref<?x{QUERY}x{CHANNELS}xf32, strided<[?, ?, 1]>>"
WRITTEN = f"memref<?x{HEADS}x{CHANNELS}xf32>"
SOME = (f"memref<?x{HEADS}x{CHANNELS}xf32, "
        f"strided<[{HEADS * CHANNELS}, {CHANNELS}, 1]>>")
PACKED = f"!kvcache.cache<?B x {TOKENS}N x {HEADS}H x {CHANNELS}D x f32>"
SLOTS = f"!kvcache.slots<?T x i64, rows_per_block = {TOKENS}, pad = skip_negative>"
LISTS = ("%starts: memref<?xi32>, %lengths: memref<?xi32>, "
         "%pages: memref<?x?xi32>")
MAKE = f"""
  %table = kvcache.make_block_table %pages : memref<?x?xi32> to {TABLE}
  %batch = kvcache.make_batch %starts, %lengths, %table
    : memref<?xi32>, memref<?xi32>, {TABLE}"""


def attend(q, kind, out="%out", form="memref"):
    rows = ROWS.replace("memref", form)
    result = "%result = " if form == "tensor" else ""
    return f"""
  {result}kvcache.attention {q} over %pool in %batch into {out} causal
    : {kind} over {KV} in {BATCH} into {rows}"""


def function(name, query, body, out=ROWS):
    result = f" -> {out}" if out != ROWS else ""
    last = f"return %result : {out}" if result else "return"
    return f"""
func.func @{name}(%qkv: {query}, %pool: {KV}, {LISTS}, %out: {out}){result} {{
  %c0 = arith.constant 0 : index{MAKE}{body}
  {last}
}}
"""


# One after the other: all heads of the query, of the keys, of the values.
SIDE_BY_SIDE = f"?x{QUERY + 2 * HEADS}x{CHANNELS}xf32"
# The three of each head together.
BY_HEADS = f"?x{QUERY}x3x{CHANNELS}xf32"
TENSOR = f"tensor<?x{QUERY}x{CHANNELS}xf32>"


def slice_of(op, word, source, start, sizes, kind):
    steps = ", ".join("1" for _ in sizes)
    return f"""
  %n = {word}.dim %qkv, %c0 : {source}
  %q = {op} %qkv[{start}] [%n, {', '.join(map(str, sizes[1:]))}] [{steps}]
    : {source} to {kind}"""


def slices(form, op):
    for name, source, start, sizes, strides in (
            ("rows", SIDE_BY_SIDE, "0, 0, 0", [0, QUERY, CHANNELS],
             [(QUERY + 2 * HEADS) * CHANNELS, CHANNELS, 1]),
            ("heads", BY_HEADS, "0, 0, 0, 0", [0, QUERY, 1, CHANNELS],
             [3 * QUERY * CHANNELS, 3 * CHANNELS, 1])):
        source = f"{form}<{source}>"
        kind = TENSOR
        if form == "memref":
            kind = (f"memref<?x{QUERY}x{CHANNELS}xf32, strided<"
                    f"[{', '.join(map(str, strides))}]>>")
        yield function(
            f"{form}_{name}", source,
            slice_of(op, form, source, start, sizes, kind)
            + attend("%q", kind, form=form),
            ROWS if form == "memref" else TENSOR)


PROGRAM = "".join([
    *slices("memref", "memref.subview"),
    *slices("tensor", "tensor.extract_slice"),
    function("apart", APART, attend("%qkv", APART)),
    function("as_tensor", APART, f"""
  %q = bufferization.to_tensor %qkv restrict : {APART} to {TENSOR}"""
             + attend("%q", TENSOR, form="tensor"), TENSOR),
    f"""
func.func @csr(%q: {ROWS}, %pool: {KV}, %starts: memref<?xi32>,
               %indptr: memref<?xi32>, %indices: memref<?xi32>,
               %last: memref<?xi32>, %pages: memref<?x?xi32>,
               %lengths: memref<?xi32>, %out: {ROWS}) {{
  kvcache.csr_table %indptr, %indices last(%last of {TOKENS})
    into %pages, %lengths : memref<?xi32>, memref<?xi32>, memref<?xi32>
    into memref<?x?xi32>, memref<?xi32>{MAKE}{attend("%q", ROWS)}
  return
}}
func.func @csr_of_own(%q: {ROWS}, %pool: {KV}, %starts: memref<?xi32>,
               %indptr: memref<?xi32>, %indices: memref<?xi32>,
               %lengths: memref<?xi32>, %most: index, %out: {ROWS}) {{
  %c0 = arith.constant 0 : index
  %n = memref.dim %lengths, %c0 : memref<?xi32>
  %pages = memref.alloc(%n, %most) : memref<?x?xi32>
  kvcache.csr_table %indptr, %indices into %pages
    : memref<?xi32>, memref<?xi32> into memref<?x?xi32>{MAKE}
  {attend("%q", ROWS)}
  return
}}
func.func @write(%rows: {WRITTEN}, %numbers: memref<?xi64>, %pool: {PACKED}) {{
  %c0 = arith.constant 0 : index
  %n = memref.dim %rows, %c0 : {WRITTEN}
  %slots = memref.dim %numbers, %c0 : memref<?xi64>
  %both = arith.minsi %n, %slots : index
  %some = memref.subview %rows[0, 0, 0] [%both, {HEADS}, {CHANNELS}] [1, 1, 1]
    : {WRITTEN} to {SOME}
  %where = kvcache.make_slots %numbers : memref<?xi64> to {SLOTS}
  kvcache.index_copy %some into %pool at %where : {SOME} into {PACKED} at {SLOTS}
  return
}}
func.func @merge_many(%x: memref<?x3x5xf32>, %l: memref<?x3xf32>,
                      %y: memref<?x3x5xf32>, %m: memref<?x3xf32>,
                      %out: memref<?x3x5xf32>) {{
  kvcache.merge_states {' with '.join(['%x, %l'] + ['%y, %m'] * 63)} into %out
    : {' with '.join(['memref<?x3x5xf32>, memref<?x3xf32>'] * 64)}
    into memref<?x3x5xf32>
  return
}}
"""])


class Case:
    """A padded batch: four places for requests of which two have rows, one has
    none but tokens, and one is not there; rows after the last one are padding."""

    def __init__(self, rng):
        self.cache = Cache.make(dict(S=2, B=BLOCKS, N=TOKENS, H=HEADS,
                                     D=CHANNELS))
        cases.fill(rng, self.cache)
        self.indptr = np.int32([0, 3, 4, 7, 7])
        self.indices = np.int32(rng.permutation(BLOCKS)[:7])
        self.last = np.int32([2, 4, 1, 1])
        self.starts = np.int32([0, 2, 2, 3, 3])
        table, lengths = reference.csr_table(self.indptr, self.indices, 4,
                                             self.last, TOKENS)
        self.table, self.lengths = np.int32(table), np.int32(lengths)
        assert lengths == [10, 4, 9, 0]
        self.rows = 6
        self.out = np.full((self.rows, QUERY, CHANNELS), np.nan, np.float32)
        batch = reference.Batch(self.starts, self.lengths, self.table, TOKENS)
        self.query = np.float32(rng.standard_normal(self.out.shape))
        self.want = reference.attention(np.float64(self.query), [self.cache],
                                        batch, causal=True)

    def check(self, what):
        reference.check_attention(self.want, self.out, None, "f32", what)
        assert not self.out[3:].any(), f"{what}: padding"


def tensor(array, element_type=None):
    size = array.itemsize
    base = array
    while base.base is not None:
        base = base.base
    return Tensor(base.reshape(-1), element_type or (
        "i32" if array.dtype == np.int32 else "f32"), array.shape,
        [s // size for s in array.strides],
        (array.ctypes.data - base.ctypes.data) // size)


def test_query(library, rng):
    for name in ("memref_rows", "memref_heads", "tensor_rows", "tensor_heads",
                 "apart", "as_tensor"):
        case = Case(rng)
        pool = tensor(case.cache.array)
        lists = [tensor(x) for x in (case.starts, case.lengths, case.table)]
        if name.endswith("heads"):
            qkv = np.full((case.rows, QUERY, 3, CHANNELS), np.nan, np.float32)
            query = qkv[:, :, 0]
        else:
            qkv = np.full((case.rows, QUERY + 2 * HEADS, CHANNELS), np.nan,
                          np.float32)
            query = qkv[:, :QUERY]
        query[...] = case.query
        given = query if name in ("apart", "as_tensor") else qkv
        library.run(name, tensor(given), pool, *lists, tensor(case.out))
        case.check(name)
    # Tensors of arguments are packed: the call says so.
    library.expect_error(STRIDE, "a stride of 8 elements in dimension 2, got 16",
                         "tensor_heads", Tensor(
                             np.zeros(4096, np.float32), "f32",
                             [case.rows, QUERY, 3, CHANNELS],
                             [192, 48, 16, 1]), pool, *lists, tensor(case.out))


def test_csr(library, rng):
    case = Case(rng)
    pages = np.full((4, 4), 77, np.int32)
    lengths = np.full(4, 77, np.int32)
    lists = [tensor(x) for x in (case.starts, case.indptr, case.indices)]
    pool, query = tensor(case.cache.array), tensor(case.query)
    library.run("csr", query, pool, *lists, tensor(case.last), tensor(pages),
                tensor(lengths), tensor(case.out))
    case.check("csr")
    assert (lengths == case.lengths).all() and (pages == case.table).all()
    case.out[...] = np.nan
    library.run("csr_of_own", query, pool, *lists, tensor(case.lengths), 4,
                tensor(case.out))
    case.check("csr_of_own")
    library.expect_error(
        SHAPE, "argument 'indptr': expected an extent of 6 in dimension 0", "csr",
        query, pool, *lists, tensor(np.int32([1] * 5)),
        tensor(np.zeros((5, 4), np.int32)), tensor(np.zeros(5, np.int32)),
        tensor(case.out))


def test_write(library, rng):
    """Rows after the last slot are padding, and so are slots after the last
    row."""
    for rows, count in ((7, 5), (3, 5), (0, 2), (4, 0)):
        given = np.float32(rng.standard_normal((rows, HEADS, CHANNELS)))
        pool = np.full((BLOCKS, TOKENS, HEADS, CHANNELS), np.nan, np.float32)
        slots = rng.permutation(BLOCKS * TOKENS)[:count].astype(np.int64)
        want = pool.copy().reshape(-1, HEADS, CHANNELS)
        both = min(rows, count)
        want[slots[:both]] = given[:both]
        library.run("write", tensor(given), tensor(slots, "i64"), tensor(pool))
        assert np.array_equal(pool.reshape(want.shape), want, equal_nan=True)


def test_merge(library, rng):
    x = np.float32(rng.standard_normal((4, 3, 5)))
    lse = np.float32(rng.standard_normal((4, 3)))
    nan = np.full_like(x, np.nan)
    for none in (np.inf, -np.inf):
        out = np.full_like(x, np.nan)
        library.run("merge_many", *map(tensor, (
            x, lse, nan, np.full_like(lse, none), out)))
        assert np.array_equal(out, x)
    y = np.float32(rng.standard_normal(x.shape))
    library.run("merge_many", *map(tensor, (x, lse, y, lse, out)))
    assert np.allclose(out, (x + 63 * y) / 64, 1e-5, 1e-5)


def main():
    rng = np.random.default_rng(21)
    library = compile_library(PROGRAM, "engine_forms")
    for test in (test_query, test_csr, test_write, test_merge):
        test(library, rng)


if __name__ == "__main__":
    main()
