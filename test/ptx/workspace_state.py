# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Buffers of functions without attention lie after the state that attention
keeps at the start of the workspace: machine.Library.run looks at it."""

import kvtest
import machine
import numpy as np

POOL = "!kvcache.cache<?B x 16N x 2H x 8D x f16>"
BATCH = "!kvcache.batch<?R x ?M x i32, tokens = 16>"
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>"
ROWS = "memref<?x2x8xf16>"
PROGRAM = f"""
func.func @write(%pool: {POOL}, %batch: {BATCH}, %rows: {ROWS}) {{
  %c0 = arith.constant 0 : index
  %n = memref.dim %rows, %c0 : {ROWS}
  %list = memref.alloc(%n) : memref<?xi64>
  kvcache.slot_mapping %batch into %list : {BATCH} into memref<?xi64>
  %slots = kvcache.make_slots %list : memref<?xi64> to {SLOTS}
  kvcache.index_copy %rows into %pool at %slots
    : {ROWS} into {POOL} at {SLOTS}
  return
}}
func.func @copy(%pool: {POOL}, %slots: {SLOTS}, %rows: {ROWS}) {{
  kvcache.index_copy %rows into %pool at %slots
    : {ROWS} into {POOL} at {SLOTS}
  return
}}
"""


def main():
    library = machine.compile_library(PROGRAM)
    rng = np.random.default_rng(5)
    pool = kvtest.random_storage(rng, 4 * 16 * 16, "f16")
    rows = kvtest.random_storage(rng, 3 * 16, "f16")
    expected = pool.copy()
    # Request 0 has 20 tokens, of which the last two are written; request 1 one.
    starts = np.array([0, 2, 3], np.int32)
    lengths = np.array([20, 1], np.int32)
    table = np.array([3, 1, 0, 2], np.int32)
    for row, slot in enumerate([16 + 2, 16 + 3, 0]):
        expected[slot * 16 : slot * 16 + 16] = rows[row * 16 : row * 16 + 16]
    tensor = machine.Tensor
    size = library.run(
        "write", tensor(pool, "f16", [4, 16, 2, 8]), tensor(starts, "i32", [3]),
        tensor(lengths, "i32", [2]), tensor(table, "i32", [2, 2]),
        tensor(rows, "f16", [3, 2, 8]))
    assert np.array_equal(pool.view(np.uint16), expected.view(np.uint16))
    assert size == machine.STATE_BYTES + 256, size
    # A function that needs no buffer needs no workspace.
    size = library.run(
        "copy", tensor(pool, "f16", [4, 16, 2, 8]),
        tensor(np.array([5], np.int64), "i64", [1]),
        tensor(rows, "f16", [1, 2, 8]))
    assert size == 0, size
    print("the state is left alone")


if __name__ == "__main__":
    main()
