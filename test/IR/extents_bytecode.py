# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Bytecode may say of a tensor or memref what no text can: an extent below 0."""

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
