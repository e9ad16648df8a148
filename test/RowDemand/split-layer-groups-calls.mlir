// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-split-layer-groups | FileCheck %s

!kv = !kvcache.cache<2S x ?B x 16N x 2H x 8D x f32>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// Calls are taken apart first.
// CHECK-LABEL: func.func @call
//       CHECK: kvcache.select_rows %arg0
//       CHECK: kvcache.attention
func.func private @layer(%x: tensor<?x2x8xf32>, %cache: !kv, %batch: !batch, %e: tensor<?x2x8xf32>) -> tensor<?x2x8xf32> {
  %a = kvcache.attention %x over %cache in %batch into %e causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
  return %a : tensor<?x2x8xf32>
}
func.func @call(
    %x: tensor<?x2x8xf32>, %cache: !kv,
    %starts: tensor<?xi32>, %lengths: tensor<?xi32>, %blocks: tensor<?x?xi32>,
    %indices: tensor<?xi32>, %n: tensor<1xi32>, %e0: tensor<?x2x8xf32>,
    %e1: tensor<?xi32>, %e2: tensor<?xi32>, %e: tensor<?x2x8xf32>) -> tensor<?x2x8xf32> {
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !table
  %a = func.call @layer(%x, %cache, %batch, %e) : (tensor<?x2x8xf32>, !kv, !batch, tensor<?x2x8xf32>) -> tensor<?x2x8xf32>
  %s:3 = kvcache.select_rows %a of %batch at %indices, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}
