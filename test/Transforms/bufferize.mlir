// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-bufferize | FileCheck %s

!kv = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// Nothing is copied where nothing is updated.

// CHECK-LABEL: func.func @no_copy(
// CHECK-SAME: %[[CACHE:[^ ]*]]: !kv_nd, %[[ROWS:[^ ]*]]: memref<?x64xf32>, %[[T:[^ ]*]]: memref<?xi64>)
// CHECK-NOT: memref.alloc
// CHECK-NOT: memref.copy
// CHECK: %[[S:.*]] = kvcache.make_slots %[[T]] : memref<?xi64>
// CHECK-NEXT: kvcache.index_copy %[[ROWS]] into %[[CACHE]] at %[[S]] : memref<?x64xf32> into
// CHECK-NEXT: return
func.func @no_copy(%cache: !kv, %rows: tensor<?x64xf32>, %t: tensor<?xi64>) {
  %s = kvcache.make_slots %t : tensor<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %s : tensor<?x64xf32> into !kv at !slots
  return
}

// The slots are those at the point where they were made: the update that comes
// before their use goes to another buffer.

// CHECK-LABEL: func.func @slots_before_update(
// CHECK-SAME: %[[CACHE:[^ ]*]]: !kv_nd, %[[ROWS:[^ ]*]]: memref<?x64xf32>, %[[T:[^ ]*]]: memref<?xi64>, %[[I:[^ ]*]]: index, %[[X:[^ ]*]]: i64)
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK: %[[N:.*]] = memref.dim %[[T]], %[[C0]]
// CHECK: %[[COPY:.*]] = memref.alloc(%[[N]]) {{.*}}: memref<?xi64>
// CHECK: memref.copy %[[T]], %[[COPY]] : memref<?xi64> to memref<?xi64>
// CHECK: %[[OLD:.*]] = kvcache.make_slots %[[COPY]] : memref<?xi64>
// CHECK: memref.store %[[X]], %[[T]][%[[I]]]
// CHECK: kvcache.index_copy %[[ROWS]] into %[[CACHE]] at %[[OLD]]
func.func @slots_before_update(%cache: !kv, %rows: tensor<?x64xf32>, %t: tensor<?xi64>, %i: index, %x: i64) -> tensor<?xi64> {
  %s = kvcache.make_slots %t : tensor<?xi64> to !slots
  %u = tensor.insert %x into %t[%i] : tensor<?xi64>
  kvcache.index_copy %rows into %cache at %s : tensor<?x64xf32> into !kv at !slots
  return %u : tensor<?xi64>
}

// An update before the slots are made is seen by them, and is done in place.

// CHECK-LABEL: func.func @no_copy_of_updated_tensor(
// CHECK-SAME: %[[T:[^ ]*]]: memref<?xi64>, %[[I:[^ ]*]]: index, %[[X:[^ ]*]]: i64)
// CHECK-NOT: memref.alloc
// CHECK: memref.store %[[X]], %[[T]][%[[I]]]
// CHECK: %[[S:.*]] = kvcache.make_slots %[[T]]
// CHECK: kvcache.index_copy {{.*}} at %[[S]]
func.func @no_copy_of_updated_tensor(%cache: !kv, %rows: tensor<?x64xf32>, %t: tensor<?xi64>, %i: index, %x: i64) {
  %u = tensor.insert %x into %t[%i] : tensor<?xi64>
  %s = kvcache.make_slots %u : tensor<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %s : tensor<?x64xf32> into !kv at !slots
  return
}

// Two slots of one tensor are one.

// CHECK-LABEL: func.func @no_copy_of_slots_made_twice(
// CHECK-NOT: memref.alloc
// CHECK-COUNT-1: kvcache.make_slots
// CHECK-NOT: kvcache.make_slots
// CHECK-COUNT-2: kvcache.index_copy
func.func @no_copy_of_slots_made_twice(%a: !kv, %b: !kv, %rows: tensor<?x64xf32>, %t: tensor<?xi64>) {
  %0 = kvcache.make_slots %t : tensor<?xi64> to !slots
  kvcache.index_copy %rows into %a at %0 : tensor<?x64xf32> into !kv at !slots
  %1 = kvcache.make_slots %t : tensor<?xi64> to !slots
  kvcache.index_copy %rows into %b at %1 : tensor<?x64xf32> into !kv at !slots
  return
}

// Rows that are updated after they were written to the cache are written as
// they were, and the update needs no copy.

// CHECK-LABEL: func.func @no_copy_of_rows(
// CHECK-SAME: %[[ROWS:[^ ]*]]: memref<?x64xf32>, %[[S:[^ ]*]]: !kv_slots, %[[I:[^ ]*]]: index, %[[X:[^ ]*]]: f32
// CHECK-NOT: memref.alloc
// CHECK: kvcache.index_copy %[[ROWS]] into
// CHECK: memref.store %[[X]], %[[ROWS]][%[[I]], %[[I]]]
func.func @no_copy_of_rows(%cache: !kv, %rows: tensor<?x64xf32>, %s: !slots, %i: index, %x: f32) -> tensor<?x64xf32> {
  kvcache.index_copy %rows into %cache at %s : tensor<?x64xf32> into !kv at !slots
  %u = tensor.insert %x into %rows[%i, %i] : tensor<?x64xf32>
  return %u : tensor<?x64xf32>
}

// A tensor that is made here is written to an argument instead of returned.

// CHECK-LABEL: func.func @result_is_an_argument(
// CHECK-SAME: %[[X:[^ ]*]]: i64, %[[OUT:[^ ]*]]: memref<4xi64> {bufferize.result}) {
// CHECK-NOT: memref.alloc
// CHECK: memref.store %[[X]], %[[OUT]]
// CHECK: return{{$}}
func.func @result_is_an_argument(%x: i64) -> tensor<4xi64> {
  %0 = tensor.from_elements %x, %x, %x, %x : tensor<4xi64>
  return %0 : tensor<4xi64>
}

// A call of a function that holds our operations is inlined.

// CHECK-LABEL: func.func @inlined(
// CHECK-NOT: call
// CHECK: kvcache.view
// CHECK: kvcache.make_slots
// CHECK: kvcache.index_copy
// CHECK-NOT: @write_rows
func.func @inlined(%pool: memref<?x16x64xf32>, %rows: tensor<?x64xf32>, %t: tensor<?xi64>) {
  call @write_rows(%pool, %rows, %t) : (memref<?x16x64xf32>, tensor<?x64xf32>, tensor<?xi64>) -> ()
  return
}
func.func private @write_rows(%pool: memref<?x16x64xf32>, %rows: tensor<?x64xf32>, %t: tensor<?xi64>) {
  %cache = kvcache.view %pool : memref<?x16x64xf32> to !kv
  %s = kvcache.make_slots %t : tensor<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %s : tensor<?x64xf32> into !kv at !slots
  return
}

// A slice of length 0 gets a type that says so. It is a pool without blocks,
// which any pool may be in a call.

// CHECK-LABEL: func.func @no_blocks(
// CHECK-SAME: %[[POOL:[^ ]*]]: memref<0x16x64xf32>
// CHECK: %[[VIEW:.*]] = kvcache.view %[[POOL]][B, N, D] : memref<0x16x64xf32> to !kv
// CHECK: kvcache.index_copy %{{.*}} into %[[VIEW]] at
func.func @no_blocks(%pool: tensor<0x16x64xf32> {bufferization.writable = true}, %rows: tensor<?x64xf32>, %t: tensor<?xi64>) -> tensor<0x16x64xf32> {
  %s = kvcache.make_slots %t : tensor<?xi64> to !slots
  %0 = kvcache.index_copy %rows into %pool[B, N, D] at %s : tensor<?x64xf32> into tensor<0x16x64xf32> at !slots
  return %0 : tensor<0x16x64xf32>
}

// CHECK-LABEL: func.func @no_layers(
// CHECK: kvcache.view %{{.*}}[L, B, N, D] : memref<0x?x16x64xf32> to !kv_cross_nd
func.func @no_layers(%a: tensor<0x?x16x64xf32>, %b: tensor<0x?x16x64xf32> {bufferization.writable = true}) -> tensor<0x?x16x64xf32> {
  %0 = kvcache.relayout %a[L, B, N, D] into %b[L, B, N, D] : tensor<0x?x16x64xf32> into tensor<0x?x16x64xf32>
  return %0 : tensor<0x?x16x64xf32>
}
