# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Bytecode may say of a tensor or memref what no text can: an extent below 0, or
strides of more dimensions than there are."""

import subprocess

PROGRAM = """
func.func @blocks(%b: memref<4000xi64>, %s: memref<?xi64>) {
  kvcache.OP : memref<4000xi64> into memref<?xi64>
  return
}
"""


def varint(number):
    """Two bytes of bytecode, for a number of 8 to 14 bits."""
    return (number << 2 | 2).to_bytes(2, "little")


def zigzag(number):
    return number << 1 if number >= 0 else (-number << 1) - 1


def opt(program, *options):
    return subprocess.run(["kv-opt", "-", *options], input=program,
                          capture_output=True)


for op in ("map_blocks %b by 4 into %s", "block_slots %b of 4 into %s"):
    written = opt(PROGRAM.replace("OP", op).encode(), "--emit-bytecode")
    assert written.returncode == 0, written.stderr
    extent = varint(zigzag(4000))
    assert written.stdout.count(extent) == 1
    read = opt(written.stdout.replace(extent, varint(zigzag(-4000))))
    assert read.returncode == 1, read.returncode
    assert (b"extents_c1: extents of at most 2^40 and at most 2^54 elements are "
            b"expected, got 'memref<-4000xi64>'") in read.stderr, read.stderr

ROWS = """
!cache = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!rows = memref<?x8x128xbf16, strided<[?, 128, 1]>>
func.func @rows(%r: !rows, %l: memref<?x8xf32>, %o: memref<?x8x128xbf16>, %c: !cache, %s: !slots, %b: !batch) {
  kvcache.OP
  return
}
"""
for op in (
        "index_copy %r, %r into %c at %s : !rows, !rows into !cache at !slots",
        "gather %c at %s into %r, %r : !cache at !slots into !rows, !rows",
        "attention %r over %c in %b into %o : !rows over !cache in !batch into "
        "memref<?x8x128xbf16>",
        "merge_states %r, %l with %r, %l into %o : !rows, memref<?x8xf32> with "
        "!rows, memref<?x8xf32> into memref<?x8x128xbf16>",
        "normalize %r into %o epsilon 1.0 : !rows into memref<?x8x128xbf16>",
        "rotate %o by %l into %r : memref<?x8x128xbf16> by memref<?x8xf32> into "
        "!rows"):
    written = opt(ROWS.replace("OP", op).encode(), "--emit-bytecode")
    assert written.returncode == 0, written.stderr
    three, four = b"strided<[?, 128, 1]>", b"strided<[?, 1,8, 1]>"
    assert written.stdout.count(three) == 1
    read = opt(written.stdout.replace(three, four))
    assert read.returncode == 1, (op, read.returncode, read.stderr[-500:])
    assert b"error: 'kvcache." in read.stderr, read.stderr
