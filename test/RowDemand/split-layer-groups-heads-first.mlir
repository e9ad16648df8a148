// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// An lse with heads first has its rows in the second dimension: rows of a merge
// are selected before both attentions.
//
// RUN: kv-opt %s --kvcache-split-layer-groups | FileCheck %s

!kv = !kvcache.cache<2S x ?B x 16N x 2H x 8D x f32>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// CHECK-LABEL: func.func @merged
//       CHECK: kvcache.select_rows %arg0 of
//   CHECK-NOT: kvcache.select_rows
//       CHECK: kvcache.attention {{.*}} heads_first causal : tensor<?x2x8xf32> {{.*}} into tensor<?x2x8xf32>, tensor<2x?xf32>
//       CHECK: kvcache.attention {{.*}} heads_first causal : tensor<?x2x8xf32> {{.*}} into tensor<?x2x8xf32>, tensor<2x?xf32>
//       CHECK: kvcache.merge_states {{.*}} heads_first
//   CHECK-NOT: kvcache.select_rows
//       CHECK: return
func.func @merged(%x: tensor<?x2x8xf32>, %a: !kv, %b: !kv,
                  %starts: tensor<?xi32>, %lengths: tensor<?xi32>,
                  %blocks: tensor<?x?xi32>, %indices: tensor<?xi32>,
                  %n: tensor<1xi32>, %e0: tensor<?x2x8xf32>,
                  %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x2x8xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x2x8xf32>
  %e = tensor.empty(%t) : tensor<?x2x8xf32>
  %l = tensor.empty(%t) : tensor<2x?xf32>
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !table
  %first:2 = kvcache.attention %x over %a in %batch into %e, %l heads_first causal
    : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>, tensor<2x?xf32>
  %second:2 = kvcache.attention %x over %b in %batch into %e, %l heads_first causal
    : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>, tensor<2x?xf32>
  %both = kvcache.merge_states %first#0, %first#1 with %second#0, %second#1 into %e heads_first
    : tensor<?x2x8xf32>, tensor<2x?xf32> with tensor<?x2x8xf32>, tensor<2x?xf32> into tensor<?x2x8xf32>
  %s:3 = kvcache.select_rows %both of %batch at %indices, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}
