// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What general passes may do with operations in destination style.
//
// RUN: kv-opt %s --cse --canonicalize --loop-invariant-code-motion | FileCheck %s

!kv = !kvcache.cache<2S x ?B x 16N x 4H x 64D x f32>
!k = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = tensor<?x4x64xf32>

// Attention with tensor destinations reads the cache: what is written between
// two of them counts.

// CHECK-LABEL: func.func @no_attention_is_merged_over_a_write(
// CHECK: %[[A:.*]] = kvcache.attention
// CHECK: kvcache.index_copy
// CHECK: %[[B:.*]] = kvcache.attention
// CHECK: return %[[A]], %[[B]]
func.func @no_attention_is_merged_over_a_write(%cache: !kv, %q: !q, %batch: !batch, %slots: !slots) -> (!q, !q) {
  %0 = kvcache.attention %q over %cache in %batch into %q : !q over !kv in !batch into !q
  kvcache.index_copy %q, %q into %cache at %slots : !q, !q into !kv at !slots
  %1 = kvcache.attention %q over %cache in %batch into %q : !q over !kv in !batch into !q
  return %0, %1 : !q, !q
}

// CHECK-LABEL: func.func @attentions_are_merged_without_a_write(
// CHECK: %[[A:.*]] = kvcache.attention
// CHECK-NEXT: return %[[A]], %[[A]]
func.func @attentions_are_merged_without_a_write(%cache: !kv, %q: !q, %batch: !batch) -> (!q, !q) {
  %0 = kvcache.attention %q over %cache in %batch into %q : !q over !kv in !batch into !q
  %1 = kvcache.attention %q over %cache in %batch into %q : !q over !kv in !batch into !q
  return %0, %1 : !q, !q
}

// CHECK-LABEL: func.func @no_attention_leaves_a_loop_that_writes(
// CHECK: scf.for
// CHECK: kvcache.index_copy
// CHECK: kvcache.attention
func.func @no_attention_leaves_a_loop_that_writes(%cache: !kv, %q: !q, %batch: !batch, %slots: !slots, %n: index) -> !q {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%last = %q) -> !q {
    kvcache.index_copy %q, %q into %cache at %slots : !q, !q into !kv at !slots
    %0 = kvcache.attention %q over %cache in %batch into %q : !q over !kv in !batch into !q
    scf.yield %0 : !q
  }
  return %r : !q
}

// CHECK-LABEL: func.func @unused_tensors_are_dropped(
// CHECK-NEXT: return
func.func @unused_tensors_are_dropped(%cache: !kv, %pool: tensor<?x16x64xf32>, %q: !q, %row: tensor<?x64xf32>, %batch: !batch, %slots: !slots,
                                      %list: tensor<?xi64>, %lse: tensor<?x4xf32>, %count: tensor<1xi64>, %starts: tensor<?xi32>, %pairs: tensor<?x?xi32>) {
  %0 = kvcache.attention %q over %cache in %batch into %q : !q over !kv in !batch into !q
  %1 = kvcache.index_copy %row into %pool[B, N, D] at %slots : tensor<?x64xf32> into tensor<?x16x64xf32> at !slots
  %2 = kvcache.scatter %row into %pool[B, N, D] at %list, %list pad = none : tensor<?x64xf32> into tensor<?x16x64xf32> at tensor<?xi64>, tensor<?xi64>
  %3 = kvcache.gather %pool[B, N, D] at %slots into %row : tensor<?x16x64xf32> at !slots into tensor<?x64xf32>
  %4 = kvcache.relayout %pool[B, N, D] into %pool[B, N, D] : tensor<?x16x64xf32> into tensor<?x16x64xf32>
  %5 = kvcache.slot_mapping %batch into %list : !batch into tensor<?xi64>
  %6 = kvcache.map_blocks %list by 2 into %list : tensor<?xi64> into tensor<?xi64>
  %7 = kvcache.block_slots %list of 2 into %list : tensor<?xi64> into tensor<?xi64>
  %8:3 = kvcache.select_rows %row of %batch at %list, %count into %row, %starts, %list : tensor<?x64xf32> of !batch at tensor<?xi64>, tensor<1xi64> into tensor<?x64xf32>, tensor<?xi32>, tensor<?xi64>
  %9 = kvcache.merge_states %q, %lse with %q, %lse into %q : !q, tensor<?x4xf32> with !q, tensor<?x4xf32> into !q
  %10 = kvcache.make_block_table %pairs : tensor<?x?xi32> to !kvcache.block_table<?R x ?M x i32, tokens = 16>
  %11 = kvcache.with_rows %batch, %starts, %list : !batch, tensor<?xi32>, tensor<?xi64>
  %12 = kvcache.normalize %row into %row epsilon 1.0 : tensor<?x64xf32> into tensor<?x64xf32>
  %13 = kvcache.rotate %row by %row at %list into %row : tensor<?x64xf32> by tensor<?x64xf32> at tensor<?xi64> into tensor<?x64xf32>
  return
}

// CHECK-LABEL: func.func @no_write_is_dropped(
// CHECK-NEXT: kvcache.index_copy
// CHECK-NEXT: kvcache.scatter
// CHECK-NEXT: kvcache.relayout
// CHECK-NEXT: kvcache.copy_blocks
// CHECK-NEXT: kvcache.clear_blocks
// CHECK-NEXT: kvcache.transfer
// CHECK-NEXT: kvcache.gather
// CHECK-NEXT: kvcache.slot_mapping
// CHECK-NEXT: kvcache.map_blocks
// CHECK-NEXT: kvcache.block_slots
// CHECK-NEXT: kvcache.normalize
// CHECK-NEXT: kvcache.rotate
// CHECK-NEXT: return
func.func @no_write_is_dropped(%a: !k, %b: !k, %rows: tensor<?x64xf32>, %slots: !slots, %list: tensor<?xi64>, %pairs: tensor<?x2xi64>,
                               %out: memref<?x64xf32>, %batch: !batch, %numbers: memref<?xi64>) {
  kvcache.index_copy %rows into %a at %slots : tensor<?x64xf32> into !k at !slots
  kvcache.scatter %rows into %a at %list, %list pad = none : tensor<?x64xf32> into !k at tensor<?xi64>, tensor<?xi64>
  kvcache.relayout %a into %b : !k into !k
  kvcache.copy_blocks %a at %pairs : !k at tensor<?x2xi64>
  kvcache.clear_blocks %a at %list : !k at tensor<?xi64>
  kvcache.transfer %a to %b at %pairs : !k to !k at tensor<?x2xi64>
  kvcache.gather %a at %slots into %out : !k at !slots into memref<?x64xf32>
  kvcache.slot_mapping %batch into %numbers : !batch into memref<?xi64>
  kvcache.map_blocks %numbers by 1 into %numbers : memref<?xi64> into memref<?xi64>
  kvcache.block_slots %numbers of 1 into %numbers : memref<?xi64> into memref<?xi64>
  kvcache.normalize %out into %out epsilon 1.0 : memref<?x64xf32> into memref<?x64xf32>
  kvcache.rotate %out by %out at %numbers into %out : memref<?x64xf32> by memref<?x64xf32> at memref<?xi64> into memref<?x64xf32>
  return
}

// A region of them is neither dropped nor moved over what reads its results.

// CHECK-LABEL: func.func @fused_writes_stay(
// CHECK: scf.for
// CHECK: kvcache.fuse {
// CHECK-NEXT: kvcache.rotate
// CHECK-NEXT: }
// CHECK-NEXT: %[[A:.*]] = memref.load
// CHECK-NEXT: kvcache.fuse {
// CHECK-NEXT: kvcache.normalize
// CHECK-NEXT: }
// CHECK-NEXT: %[[B:.*]] = memref.load
// CHECK-NEXT: arith.addf %{{.*}}, %[[A]]
// CHECK-NEXT: arith.addf %{{.*}}, %[[B]]
func.func @fused_writes_stay(%x: memref<?x64xf32>, %y: memref<?x64xf32>, %t: memref<?x64xf32>, %n: index) -> f32 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%last = %zero) -> f32 {
    kvcache.fuse {
      kvcache.rotate %x by %t into %y : memref<?x64xf32> by memref<?x64xf32> into memref<?x64xf32>
    }
    %a = memref.load %y[%i, %c0] : memref<?x64xf32>
    kvcache.fuse {
      kvcache.normalize %x into %y epsilon 1.0 : memref<?x64xf32> into memref<?x64xf32>
    }
    %b = memref.load %y[%i, %c0] : memref<?x64xf32>
    %s = arith.addf %last, %a : f32
    %u = arith.addf %s, %b : f32
    scf.yield %u : f32
  }
  return %r : f32
}

// Views that nothing checks leave a loop. A check makes the call fail, and must
// not happen where the loop does not run.

// CHECK-LABEL: func.func @views_leave_a_loop(
// CHECK: kvcache.view %{{.*}} : memref<4x?x16x64xf32>
// CHECK: kvcache.layer
// CHECK: scf.for
// CHECK: kvcache.view %{{.*}} extents
// CHECK: kvcache.layer
// CHECK: kvcache.subpool
func.func @views_leave_a_loop(%m: memref<4x?x16x64xf32>, %bytes: memref<?xi8>, %n: index, %slots: !slots, %rows: memref<?x64xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %i = %c0 to %n step %c1 {
    %all = kvcache.view %m : memref<4x?x16x64xf32> to !kvcache.cache<4L x ?B x 16N x 64D x f32>
    %one = kvcache.layer %all[%c1] : !kvcache.cache<4L x ?B x 16N x 64D x f32>
    kvcache.index_copy %rows into %one at %slots : memref<?x64xf32> into !k at !slots
    %raw = kvcache.view %bytes extents(B = %n) : memref<?xi8> to !k
    kvcache.index_copy %rows into %raw at %slots : memref<?x64xf32> into !k at !slots
    %any = kvcache.layer %all[%n] : !kvcache.cache<4L x ?B x 16N x 64D x f32>
    kvcache.index_copy %rows into %any at %slots : memref<?x64xf32> into !k at !slots
    %part = kvcache.subpool %one[%n, %n] : !k
    kvcache.index_copy %rows into %part at %slots : memref<?x64xf32> into !k at !slots
  }
  return
}
