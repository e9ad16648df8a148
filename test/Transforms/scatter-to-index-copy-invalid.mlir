// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-scatter-to-index-copy --split-input-file --verify-diagnostics

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
#id = affine_map<(t) -> (t)>

// Slot -1 is padding, and its row would overwrite token 15 of block 0.
func.func @padding_in_a_live_slot(%rows: memref<?x8x128xbf16>, %cache: !flat,
                                  %slots: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %c15 = arith.constant 15 : i64
  %c16 = arith.constant 16 : i64
  %n = memref.dim %slots, %c0 : memref<?xi64>
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.divsi %slot, %c16 : i64
    %offset = arith.andi %slot, %c15 : i64
    linalg.yield %block, %offset : i64, i64
  }
  // expected-error@+1 {{'kvcache.scatter' op slots below 0 are expected to be skipped, but slot -1 is divided into block 0 and offset 15, which may be live: round the quotient down (floordivsi, shrsi) or give the remainder the sign of the slot (remsi)}}
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : memref<?x8x128xbf16> into !flat at memref<?xi64>, memref<?xi64>
  return
}
