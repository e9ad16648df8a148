// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Batches that differ in their tables have the same rows if both have the same
// room.
//
// RUN: kv-opt %s --kvcache-split-layer-groups | FileCheck %s

// Tables with room for 2^64 and for 2^65 positions: as numbers of 64 bits both
// are 0, but what is below one may be beyond the other.
// CHECK-LABEL: func.func @no_same_room_beyond_64_bits
// CHECK-COUNT-2: kvcache.select_rows
//       CHECK: return
!far = !kvcache.cache<2S x ?B x 1099511627776N x 2H x 8D x f32>
!far_table = !kvcache.block_table<?R x 16777216M x i32, tokens = 1099511627776>
!far_batch = !kvcache.batch<?R x 16777216M x i32, tokens = 1099511627776>
!farther_table = !kvcache.block_table<?R x 33554432M x i32, tokens = 1099511627776>
!farther_batch = !kvcache.batch<?R x 33554432M x i32, tokens = 1099511627776>
func.func @no_same_room_beyond_64_bits(
    %x: tensor<?x2x8xf32>, %cache: !far,
    %starts: tensor<?xi32>, %lengths: tensor<?xi32>,
    %blocks: tensor<?x16777216xi32>, %others: tensor<?x33554432xi32>,
    %indices: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x2x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>)
    -> tensor<?x2x8xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x2x8xf32>
  %e = tensor.empty(%t) : tensor<?x2x8xf32>
  %table = kvcache.make_block_table %blocks : tensor<?x16777216xi32> to !far_table
  %batch = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !far_table
  %a = kvcache.attention %x over %cache in %batch into %e causal : tensor<?x2x8xf32> over !far in !far_batch into tensor<?x2x8xf32>
  %table2 = kvcache.make_block_table %others : tensor<?x33554432xi32> to !farther_table
  %batch2 = kvcache.make_batch %starts, %lengths, %table2 : tensor<?xi32>, tensor<?xi32>, !farther_table
  %b = kvcache.attention %a over %cache in %batch2 into %e causal : tensor<?x2x8xf32> over !far in !farther_batch into tensor<?x2x8xf32>
  %s:3 = kvcache.select_rows %b of %batch at %indices, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !far_batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}
