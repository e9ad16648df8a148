// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What general passes may do with our operations.
//
// RUN: kv-opt %s --cse --canonicalize | FileCheck %s

!kv = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// Of two equal writes, the second one may be of other rows.

// CHECK-LABEL: func.func @no_write_is_dropped(
// CHECK-COUNT-2: kvcache.index_copy
// CHECK-NEXT: return
func.func @no_write_is_dropped(%cache: !kv, %rows: memref<?x64xf32>, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s : memref<?x64xf32> into !kv at !slots
  kvcache.index_copy %rows into %cache at %s : memref<?x64xf32> into !kv at !slots
  return
}

// CHECK-LABEL: func.func @unused_references_are_dropped(
// CHECK-NEXT: return
func.func @unused_references_are_dropped(%pool: memref<?x16x64xf32>, %bytes: memref<?xi8>, %t: memref<?xi64>, %n: index) {
  %0 = kvcache.view %pool : memref<?x16x64xf32> to !kv
  %1 = kvcache.view %bytes extents(B = %n) : memref<?xi8> to !kv
  %2 = kvcache.make_slots %t : memref<?xi64> to !slots
  return
}

// CHECK-LABEL: func.func @equal_references_are_merged(
// CHECK: %[[CACHE:.*]] = kvcache.view
// CHECK-NEXT: %[[S:.*]] = kvcache.make_slots
// CHECK-NEXT: kvcache.index_copy %{{.*}} into %[[CACHE]] at %[[S]]
// CHECK-NEXT: kvcache.index_copy %{{.*}} into %[[CACHE]] at %[[S]]
func.func @equal_references_are_merged(%pool: memref<?x16x64xf32>, %rows: memref<?x64xf32>, %t: memref<?xi64>) {
  %c0 = kvcache.view %pool : memref<?x16x64xf32> to !kv
  %s0 = kvcache.make_slots %t : memref<?xi64> to !slots
  kvcache.index_copy %rows into %c0 at %s0 : memref<?x64xf32> into !kv at !slots
  %c1 = kvcache.view %pool : memref<?x16x64xf32> to !kv
  %s1 = kvcache.make_slots %t : memref<?xi64> to !slots
  kvcache.index_copy %rows into %c1 at %s1 : memref<?x64xf32> into !kv at !slots
  return
}

// CHECK-LABEL: func.func @no_load_is_merged_over_a_write(
// CHECK: %[[A:.*]] = memref.load
// CHECK: kvcache.index_copy
// CHECK: %[[B:.*]] = memref.load
// CHECK: return %[[A]], %[[B]]
func.func @no_load_is_merged_over_a_write(%pool: memref<?x16x64xf32>, %rows: memref<?x64xf32>, %s: !slots, %i: index) -> (f32, f32) {
  %cache = kvcache.view %pool : memref<?x16x64xf32> to !kv
  %0 = memref.load %pool[%i, %i, %i] : memref<?x16x64xf32>
  kvcache.index_copy %rows into %cache at %s : memref<?x64xf32> into !kv at !slots
  %1 = memref.load %pool[%i, %i, %i] : memref<?x16x64xf32>
  return %0, %1 : f32, f32
}

// The counterpart, which shows that the write is the reason.

// CHECK-LABEL: func.func @loads_are_merged_without_a_write(
// CHECK: %[[A:.*]] = memref.load
// CHECK-NOT: memref.load
// CHECK: return %[[A]], %[[A]]
func.func @loads_are_merged_without_a_write(%pool: memref<?x16x64xf32>, %i: index) -> (f32, f32) {
  %0 = memref.load %pool[%i, %i, %i] : memref<?x16x64xf32>
  %1 = memref.load %pool[%i, %i, %i] : memref<?x16x64xf32>
  return %0, %1 : f32, f32
}
