// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvcache-split-layer-groups where a batch is made of memrefs, which are read
// where the batch is used: nothing changes them in between.
//
// RUN: kv-opt %s --kvcache-split-layer-groups | FileCheck %s
// RUN: kv-opt %s --kvcache-split-layer-groups=outline=true -o /dev/null

!kv = !kvcache.cache<2S x ?B x 16N x 2H x 8D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// Starts have as many entries as those of the whole batch. The write before all
// of it, and those to the cache and to the list of slots, change nothing.

// CHECK-LABEL: func.func @batch_of_memrefs(
// CHECK: memref.store
// CHECK: %[[R:.*]] = memref.dim %arg3, %{{.*}} : memref<?xi32>
// CHECK: %[[STARTS:.*]] = tensor.empty(%[[R]]) : tensor<?xi32>
// CHECK: kvcache.select_rows %arg0, %arg2 of %[[BATCH:.*]] at {{.*}} into %{{[^:]*}}, %[[STARTS]], %{{.*}} :
// CHECK: kvcache.with_rows %[[BATCH]]
// CHECK: arith.addf
// CHECK: kvcache.index_copy
// CHECK: kvcache.attention
func.func @batch_of_memrefs(%x: tensor<?x2x8xf32>, %c: !kv, %e: tensor<?x2x8xf32>, %starts: memref<?xi32>, %lengths: memref<?xi32>, %blocks: memref<?x?xi32>,
    %i: tensor<?xi32>, %n: tensor<1xi32>, %e0: tensor<?x2x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>, %slots: !slots, %scores: memref<?xf32>) -> tensor<?x2x8xf32> {
  %c0 = arith.constant 0 : index
  %c7 = arith.constant 7 : i32
  %f = arith.constant 7.0 : f32
  memref.store %c7, %lengths[%c0] : memref<?xi32>
  %table = kvcache.make_block_table %blocks : memref<?x?xi32> to !table
  %b = kvcache.make_batch %starts, %lengths, %table : memref<?xi32>, memref<?xi32>, !table
  %w = arith.addf %x, %x : tensor<?x2x8xf32>
  kvcache.index_copy %x, %x into %c at %slots : tensor<?x2x8xf32>, tensor<?x2x8xf32> into !kv at !slots
  memref.store %f, %scores[%c0] : memref<?xf32>
  %y = kvcache.attention %w over %c in %b into %e causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}
