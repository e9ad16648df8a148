// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-split-updates=distance=2 | FileCheck %s
// RUN: kv-opt %s --kvcache-split-updates=distance=2 --one-shot-bufferize="bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map" | FileCheck %s --check-prefix=BUFFERS

!pool  = tensor<?x16x2x16xf32>
!rows  = tensor<?x2x16xf32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// Between updates of one pool. Nothing of it is left in buffers.

// CHECK-LABEL: func.func @updates(
// CHECK: %[[P1:.*]] = kvcache.index_copy %{{.*}} into %arg0[
// CHECK-NEXT: %[[B:.*]] = bufferization.to_buffer %[[P1]] : {{.*}} to memref<?x16x2x16xf32>
// CHECK-NEXT: %[[S:.*]] = bufferization.to_tensor %[[B]] restrict writable
// CHECK-NEXT: %[[P2:.*]] = kvcache.index_copy %{{.*}} into %[[S]][
// CHECK-NEXT: %[[P3:.*]] = kvcache.index_copy %{{.*}} into %[[P2]][
// CHECK-NEXT: bufferization.to_buffer %[[P3]]
// BUFFERS-LABEL: func.func @updates(
// BUFFERS-NOT: memref.alloc
// BUFFERS-NOT: memref.copy
// BUFFERS-NOT: bufferization
// BUFFERS: return %arg0
func.func @updates(%p0: !pool, %rows: !rows, %numbers: tensor<?xi64>) -> !pool {
  %slots = kvcache.make_slots %numbers : tensor<?xi64> to !slots
  %p1 = kvcache.index_copy %rows into %p0[B, N, H, D] at %slots : !rows into !pool at !slots
  %p2 = kvcache.index_copy %rows into %p1[B, N, H, D] at %slots : !rows into !pool at !slots
  %p3 = kvcache.index_copy %rows into %p2[B, N, H, D] at %slots : !rows into !pool at !slots
  %p4 = kvcache.index_copy %rows into %p3[B, N, H, D] at %slots : !rows into !pool at !slots
  return %p4 : !pool
}

// An old pool is read after the third update: from before that update on it may
// not be split, or the copy that it needs would not be made.

// CHECK-LABEL: func.func @no_old_contents(
// CHECK-NOT: bufferization
// CHECK: return
// BUFFERS-LABEL: func.func @no_old_contents(
// BUFFERS: memref.copy
// BUFFERS: return
func.func @no_old_contents(%p0: !pool, %rows: !rows, %numbers: tensor<?xi64>,
                           %i: index) -> (!pool, f32) {
  %slots = kvcache.make_slots %numbers : tensor<?xi64> to !slots
  %p1 = kvcache.index_copy %rows into %p0[B, N, H, D] at %slots : !rows into !pool at !slots
  %p2 = kvcache.index_copy %rows into %p1[B, N, H, D] at %slots : !rows into !pool at !slots
  %p3 = kvcache.index_copy %rows into %p2[B, N, H, D] at %slots : !rows into !pool at !slots
  %old = tensor.extract %p0[%i, %i, %i, %i] : !pool
  return %p3, %old : !pool, f32
}

// The same through a view of it.

// CHECK-LABEL: func.func @no_old_view(
// CHECK-NOT: bufferization
// CHECK: return
// BUFFERS-LABEL: func.func @no_old_view(
// BUFFERS: memref.alloc
// BUFFERS: return
func.func @no_old_view(%s0: tensor<8x4xf32>, %x: tensor<8x4xf32>, %i: index)
    -> (tensor<8x4xf32>, f32) {
  %view = tensor.collapse_shape %s0 [[0, 1]] : tensor<8x4xf32> into tensor<32xf32>
  %s1 = linalg.exp ins(%x : tensor<8x4xf32>) outs(%s0 : tensor<8x4xf32>) -> tensor<8x4xf32>
  %s2 = linalg.exp ins(%s1 : tensor<8x4xf32>) outs(%s1 : tensor<8x4xf32>) -> tensor<8x4xf32>
  %s3 = linalg.exp ins(%s2 : tensor<8x4xf32>) outs(%s2 : tensor<8x4xf32>) -> tensor<8x4xf32>
  %old = tensor.extract %view[%i] : tensor<32xf32>
  return %s3, %old : tensor<8x4xf32>, f32
}

// The same through an index value, which is no tensor and reads one.

// CHECK-LABEL: func.func @no_old_list(
// CHECK-NOT: to tensor<?xi64>
// CHECK: return
// BUFFERS-LABEL: func.func @no_old_list(
// BUFFERS: memref.copy
// BUFFERS: return
func.func @no_old_list(%n0: tensor<?xi64>, %x: tensor<?xi64>, %pool: !pool,
                       %rows: !rows) -> (tensor<?xi64>, !pool) {
  %slots = kvcache.make_slots %n0 : tensor<?xi64> to !slots
  %n1 = linalg.copy ins(%x : tensor<?xi64>) outs(%n0 : tensor<?xi64>) -> tensor<?xi64>
  %n2 = linalg.copy ins(%x : tensor<?xi64>) outs(%n1 : tensor<?xi64>) -> tensor<?xi64>
  %n3 = linalg.copy ins(%x : tensor<?xi64>) outs(%n2 : tensor<?xi64>) -> tensor<?xi64>
  %next = kvcache.index_copy %rows into %pool[B, N, H, D] at %slots : !rows into !pool at !slots
  return %n3, %next : tensor<?xi64>, !pool
}

// The same in a region.

// CHECK-LABEL: func.func @no_old_in_region(
// CHECK-NOT: bufferization
// CHECK: return
// BUFFERS-LABEL: func.func @no_old_in_region(
// BUFFERS: memref.alloc
// BUFFERS: return
func.func @no_old_in_region(%s0: tensor<8xf32>, %x: tensor<8xf32>, %c: i1, %i: index)
    -> (tensor<8xf32>, f32) {
  %zero = arith.constant 0.0 : f32
  %s1 = linalg.exp ins(%x : tensor<8xf32>) outs(%s0 : tensor<8xf32>) -> tensor<8xf32>
  %s2 = linalg.exp ins(%s1 : tensor<8xf32>) outs(%s1 : tensor<8xf32>) -> tensor<8xf32>
  %old = scf.if %c -> f32 {
    %e = tensor.extract %s0[%i] : tensor<8xf32>
    scf.yield %e : f32
  } else {
    scf.yield %zero : f32
  }
  return %s2, %old : tensor<8xf32>, f32
}

// What an unknown operation gives may be the old contents as well.

// CHECK-LABEL: func.func @no_unknown(
// CHECK-NOT: bufferization
// CHECK: return
// BUFFERS-LABEL: func.func @no_unknown(
// BUFFERS: memref.alloc
// BUFFERS: return
func.func @no_unknown(%s0: tensor<8xf32>, %t: tensor<8xf32>, %x: tensor<8xf32>,
                      %c: i1, %i: index) -> (tensor<8xf32>, f32) {
  %either = arith.select %c, %s0, %t : tensor<8xf32>
  %s1 = linalg.exp ins(%x : tensor<8xf32>) outs(%s0 : tensor<8xf32>) -> tensor<8xf32>
  %s2 = linalg.exp ins(%s1 : tensor<8xf32>) outs(%s1 : tensor<8xf32>) -> tensor<8xf32>
  %old = tensor.extract %either[%i] : tensor<8xf32>
  return %s2, %old : tensor<8xf32>, f32
}

// Callers of a private function are told which result is which argument.

// CHECK-LABEL: func.func private @no_private(
// CHECK-NOT: bufferization
// CHECK: return
func.func private @no_private(%s0: tensor<8xf32>, %x: tensor<8xf32>) -> tensor<8xf32> {
  %s1 = linalg.exp ins(%x : tensor<8xf32>) outs(%s0 : tensor<8xf32>) -> tensor<8xf32>
  %s2 = linalg.exp ins(%s1 : tensor<8xf32>) outs(%s1 : tensor<8xf32>) -> tensor<8xf32>
  return %s2 : tensor<8xf32>
}

// A part of a buffer has strides.

// CHECK-LABEL: func.func @no_part(
// CHECK-NOT: bufferization
// CHECK: tensor.insert_slice
func.func @no_part(%s: tensor<8x4xf32>, %x: tensor<8xf32>) -> tensor<8x4xf32> {
  %p0 = tensor.extract_slice %s[0, 1] [8, 1] [1, 1] : tensor<8x4xf32> to tensor<8xf32>
  %p1 = linalg.exp ins(%x : tensor<8xf32>) outs(%p0 : tensor<8xf32>) -> tensor<8xf32>
  %p2 = linalg.exp ins(%p1 : tensor<8xf32>) outs(%p1 : tensor<8xf32>) -> tensor<8xf32>
  %r = tensor.insert_slice %p2 into %s[0, 1] [8, 1] [1, 1] : tensor<8xf32> into tensor<8x4xf32>
  return %r : tensor<8x4xf32>
}
