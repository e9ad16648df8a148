// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Views of transposed, sliced and collapsed memrefs are views of the buffer.
//
// RUN: kv-opt %s --kvcache-raise | FileCheck %s
// RUN: kv-opt %s --kvcache-raise --remark-format=emitRemark --remarks-filter=kvcache -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK --implicit-check-not=remark:

!kv = !kvcache.cache<?B x 16N x 8H x 128D x f32, order = [B, H, N, D], strides = [B = 524288], align = 4>
!kvh = !kvcache.cache<?B x 16N x 4H x 128D x f32, strides = [B = 16384, N = 1024], align = 4>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>

// CHECK-LABEL: func.func @views(
// CHECK-SAME: %[[A:.*]]: memref<?x32x8x16x128xf32>, %[[B:.*]]: memref<?x16x8x128xf32>, %[[L:.*]]: index,
// CHECK-NEXT: %[[ALL:.*]] = kvcache.view %[[A]][B, L, H, N, D]
// CHECK-NEXT: %[[ONE:.*]] = kvcache.layer %[[ALL]][%[[L]]]
// CHECK-NEXT: %[[C:.*]] = kvcache.cast %[[ONE]]
// CHECK-NEXT: kvcache.index_copy %{{.*}} into %[[C]]
// CHECK-NEXT: %[[V:.*]] = kvcache.view %[[B]][B, N, H, D]
// CHECK-NEXT: %[[H:.*]] = kvcache.heads %[[V]][4, 4]
// CHECK-NEXT: %[[CH:.*]] = kvcache.cast %[[H]]
// CHECK-NEXT: kvcache.index_copy %{{.*}} into %[[CH]]
// CHECK-NEXT: return
// REMARK: remark: [Passed] raise | Category:kvcache | Remark="kvcache.view folded memref.transpose, memref.subview"
// REMARK: remark: [Passed] raise | Category:kvcache | Remark="kvcache.view folded memref.subview"
func.func @views(%pool: memref<?x32x8x16x128xf32>, %p2: memref<?x16x8x128xf32>, %l: index, %s: !slots, %r: memref<?x8x128xf32>, %r4: memref<?x4x128xf32>) {
  %c0 = arith.constant 0 : index
  %B = memref.dim %pool, %c0 : memref<?x32x8x16x128xf32>
  %layer = memref.subview %pool[0, %l, 0, 0, 0] [%B, 1, 8, 16, 128] [1, 1, 1, 1, 1] : memref<?x32x8x16x128xf32> to memref<?x8x16x128xf32, strided<[524288, 2048, 128, 1], offset: ?>>
  %t = memref.transpose %layer (b, h, n, d) -> (b, n, h, d) : memref<?x8x16x128xf32, strided<[524288, 2048, 128, 1], offset: ?>> to memref<?x16x8x128xf32, strided<[524288, 128, 2048, 1], offset: ?>>
  %c = kvcache.view %t : memref<?x16x8x128xf32, strided<[524288, 128, 2048, 1], offset: ?>> to !kv
  kvcache.index_copy %r into %c at %s : memref<?x8x128xf32> into !kv at !slots
  %B2 = memref.dim %p2, %c0 : memref<?x16x8x128xf32>
  %half = memref.subview %p2[0, 0, 4, 0] [%B2, 16, 4, 128] [1, 1, 1, 1] : memref<?x16x8x128xf32> to memref<?x16x4x128xf32, strided<[16384, 1024, 128, 1], offset: 512>>
  %ch = kvcache.view %half : memref<?x16x4x128xf32, strided<[16384, 1024, 128, 1], offset: 512>> to !kvh
  kvcache.index_copy %r4 into %ch at %s : memref<?x4x128xf32> into !kvh at !slots
  return
}

// Of a byte buffer, or of a buffer that is no view, nothing is said.

// CHECK-LABEL: func.func @no_chain(
// CHECK-NEXT: kvcache.view %{{.*}}[B, H, N, D]
// CHECK-NEXT: kvcache.view %{{.*}} offset
func.func @no_chain(%a: memref<?x8x16x128xf32>, %bytes: memref<?xi8>, %o: index) -> (!kvcache.cache<?B x 16N x 8H x 128D x f32, order = [B, H, N, D]>, !kvcache.cache<?B x 16N x 8H x 128D x f32>) {
  %x = kvcache.view %a[B, H, N, D] : memref<?x8x16x128xf32> to !kvcache.cache<?B x 16N x 8H x 128D x f32, order = [B, H, N, D]>
  %y = kvcache.view %bytes offset(%o) extents(B = %o) : memref<?xi8> to !kvcache.cache<?B x 16N x 8H x 128D x f32>
  return %x, %y : !kvcache.cache<?B x 16N x 8H x 128D x f32, order = [B, H, N, D]>, !kvcache.cache<?B x 16N x 8H x 128D x f32>
}

// Only every second token: no view of this dialect skips some.

// CHECK-LABEL: func.func @no_slice_of_tokens(
// CHECK: memref.subview
// CHECK: kvcache.view
func.func @no_slice_of_tokens(%a: memref<?x16x8x128xf32>, %B: index) -> !kvcache.cache<?B x 8N x 8H x 128D x f32, strides = [B = 16384, N = 2048], align = 4> {
  %s = memref.subview %a[0, 0, 0, 0] [%B, 8, 8, 128] [1, 2, 1, 1] : memref<?x16x8x128xf32> to memref<?x8x8x128xf32, strided<[16384, 2048, 128, 1]>>
  %x = kvcache.view %s : memref<?x8x8x128xf32, strided<[16384, 2048, 128, 1]>> to !kvcache.cache<?B x 8N x 8H x 128D x f32, strides = [B = 16384, N = 2048], align = 4>
  return %x : !kvcache.cache<?B x 8N x 8H x 128D x f32, strides = [B = 16384, N = 2048], align = 4>
}

// A layer that is known at run time only is checked there, and a call that fails
// has no blocks: their number would have to be `?`.

// CHECK-LABEL: func.func @no_layer_of_some_blocks(
// CHECK: memref.subview
// REMARK: remark: [Missed] raise | Category:kvcache | Remark="kvcache.view left alone: the layer is known at run time only, and the number of blocks is a constant"
func.func @no_layer_of_some_blocks(%a: memref<4x32x16x128xf32>, %l: index) -> !kvcache.cache<4B x 16N x 128D x f32, strides = [B = 65536], align = 4> {
  %s = memref.subview %a[0, %l, 0, 0] [4, 1, 16, 128] [1, 1, 1, 1] : memref<4x32x16x128xf32> to memref<4x16x128xf32, strided<[65536, 128, 1], offset: ?>>
  %x = kvcache.view %s : memref<4x16x128xf32, strided<[65536, 128, 1], offset: ?>> to !kvcache.cache<4B x 16N x 128D x f32, strides = [B = 65536], align = 4>
  return %x : !kvcache.cache<4B x 16N x 128D x f32, strides = [B = 65536], align = 4>
}
