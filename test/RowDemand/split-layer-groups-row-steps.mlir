// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows are normalized and rotated apart from each other: of a query, only those
// that are sampled. Positions are those of the rows, and so is a table without
// positions; a table with them, and a weight, stay whole.
//
// RUN: kv-opt %s --kvcache-split-layer-groups --canonicalize --cse \
// RUN:   | FileCheck %s

!kv = !kvcache.cache<2S x ?B x 16N x 2H x 8D x f32>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!rows = tensor<?x2x8xf32>

// CHECK-LABEL: func.func @turned(
//  CHECK-SAME: %[[X:[^ ]*]]: tensor<?x2x8xf32>, %[[A:[^ ]*]]: !kv_nhd, %[[W:[^ ]*]]: tensor<8xf32>, %[[T:[^ ]*]]: tensor<?x4xf32>, %[[P:[^ ]*]]: tensor<?xi32>, %[[U:[^ ]*]]: tensor<?x8xf32>,
//       CHECK: %[[S:.*]]:5 = kvcache.select_rows %[[X]], %[[P]], %[[U]] of
//       CHECK: %[[N:.*]] = kvcache.normalize %[[S]]#0 by %[[W]] into
//  CHECK-NEXT: %[[R:.*]] = kvcache.rotate %[[N]] by %[[T]] at %[[S]]#1 into
//  CHECK-NEXT: %[[Q:.*]] = kvcache.rotate %[[R]] by %[[S]]#2 into
//  CHECK-NEXT: kvcache.attention %[[Q]] over %[[A]] in
//   CHECK-NOT: kvcache
//       CHECK: return
func.func @turned(%x: !rows, %a: !kv, %w: tensor<8xf32>, %angles: tensor<?x4xf32>, %positions: tensor<?xi32>,
                  %own: tensor<?x8xf32>, %starts: tensor<?xi32>, %lengths: tensor<?xi32>,
                  %blocks: tensor<?x?xi32>, %indices: tensor<?xi32>,
                  %n: tensor<1xi32>, %e0: !rows,
                  %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> !rows {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : !rows
  %e = tensor.empty(%t) : !rows
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !table
  %norm = kvcache.normalize %x by %w into %e epsilon 1.0 : !rows by tensor<8xf32> into !rows
  %turned = kvcache.rotate %norm by %angles at %positions into %e
    : !rows by tensor<?x4xf32> at tensor<?xi32> into !rows
  %again = kvcache.rotate %turned by %own into %e : !rows by tensor<?x8xf32> into !rows
  %out = kvcache.attention %again over %a in %batch into %e causal : !rows over !kv in !batch into !rows
  %s:3 = kvcache.select_rows %out of %batch at %indices, %n into %e0, %e1, %e2
    : !rows of !batch at tensor<?xi32>, tensor<1xi32> into !rows, tensor<?xi32>, tensor<?xi32>
  return %s#0 : !rows
}
