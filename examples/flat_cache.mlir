// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A flat cache: what an engine writes with a block and an offset per row, and
// what it writes by whole blocks, are one operation with one number per row.
//
//   kv-opt flat_cache.mlir --kvcache-optimize
//   kv-compile flat_cache.mlir -o libflat.so
//
// docs/flat-cache.md shows what comes out.

!kv    = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!rows  = tensor<?x8x128xbf16>
!list  = tensor<?xi64>
#id = affine_map<(t) -> (t)>

// Decode, as frameworks write it: cache[slot / 16, slot % 16] = row.
func.func @decode(%cache: !kv, %rows: !rows, %slots: !list) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : i64
  %count = tensor.dim %slots, %c0 : !list
  %empty = tensor.empty(%count) : !list
  %blocks, %offsets = linalg.generic
      {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : !list) outs(%empty, %empty : !list, !list) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  } -> (!list, !list)
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : !rows into !kv at !list, !list
  return
}

// Prefill: all rows of some blocks.
func.func @prefill(%cache: !kv, %rows: !rows, %blocks: !list) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %count = tensor.dim %blocks, %c0 : !list
  %tokens = arith.muli %count, %c16 : index
  %empty = tensor.empty(%tokens) : !list
  %slots = kvcache.block_slots %blocks of 16 into %empty : !list into !list
  %where = kvcache.make_slots %slots : !list to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}
