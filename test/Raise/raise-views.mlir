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

// A layer that is known only at run time is checked there, and a call that fails
// has no blocks: their number would have to be `?`.

// CHECK-LABEL: func.func @no_layer_of_some_blocks(
// CHECK: memref.subview
// REMARK: remark: [Missed] raise | Category:kvcache | Remark="kvcache.view left alone: the layer is known only at run time, and the number of blocks is a constant"
func.func @no_layer_of_some_blocks(%a: memref<4x32x16x128xf32>, %l: index) -> !kvcache.cache<4B x 16N x 128D x f32, strides = [B = 65536], align = 4> {
  %s = memref.subview %a[0, %l, 0, 0] [4, 1, 16, 128] [1, 1, 1, 1] : memref<4x32x16x128xf32> to memref<4x16x128xf32, strided<[65536, 128, 1], offset: ?>>
  %x = kvcache.view %s : memref<4x16x128xf32, strided<[65536, 128, 1], offset: ?>> to !kvcache.cache<4B x 16N x 128D x f32, strides = [B = 65536], align = 4>
  return %x : !kvcache.cache<4B x 16N x 128D x f32, strides = [B = 65536], align = 4>
}

// An axis of extent 1 may stand anywhere in the order of a type. The folded view
// has it where the view had it.

// CHECK-LABEL: func.func @unit_axis(
// CHECK: %[[V:.*]] = kvcache.view %{{.*}}[D, S, N, H, B]
// CHECK-NEXT: %[[C:.*]] = kvcache.cast %[[V]]
// CHECK-NEXT: return %[[C]]
// REMARK: remark: [Passed] raise | Category:kvcache | Remark="kvcache.view folded memref.transpose"
func.func @unit_axis(%p: memref<8x1x4x2x?xf32, strided<[4, 32, 1, 32, ?], offset: ?>>) -> !kvcache.cache<1S x ?B x 4N x 2H x 8D x f32, order = [B, H, S, D, N], strides = [B = ? mult 4], align = 4> {
  %t = memref.transpose %p (d0, d1, d2, d3, d4) -> (d1, d2, d4, d3, d0) : memref<8x1x4x2x?xf32, strided<[4, 32, 1, 32, ?], offset: ?>> to memref<1x4x?x2x8xf32, strided<[32, 1, ?, 32, 4], offset: ?>>
  %v = kvcache.view %t[S, N, B, H, D] : memref<1x4x?x2x8xf32, strided<[32, 1, ?, 32, 4], offset: ?>> to !kvcache.cache<1S x ?B x 4N x 2H x 8D x f32, order = [B, H, S, D, N], strides = [B = ? mult 4], align = 4>
  return %v : !kvcache.cache<1S x ?B x 4N x 2H x 8D x f32, order = [B, H, S, D, N], strides = [B = ? mult 4], align = 4>
}

// One that is of extent 1 only because it was sliced stays where it was.

// CHECK-LABEL: func.func @no_unit_axis_of_a_slice(
// CHECK: memref.subview
// CHECK: kvcache.view %{{.*}}[B, N, H, D]
// REMARK: remark: [Missed] raise | Category:kvcache | Remark="kvcache.view left alone: the folded view would be of another layout"
func.func @no_unit_axis_of_a_slice(%p: memref<?x16x8x128xf32>) -> !kvcache.cache<?B x 16N x 1H x 128D x f32, order = [B, H, N, D], strides = [B = 16384, N = 1024], align = 4> {
  %c0 = arith.constant 0 : index
  %n = memref.dim %p, %c0 : memref<?x16x8x128xf32>
  %s = memref.subview %p[0, 0, 0, 0] [%n, 16, 1, 128] [1, 1, 1, 1] : memref<?x16x8x128xf32> to memref<?x16x1x128xf32, strided<[16384, 1024, 128, 1]>>
  %v = kvcache.view %s[B, N, H, D] : memref<?x16x1x128xf32, strided<[16384, 1024, 128, 1]>> to !kvcache.cache<?B x 16N x 1H x 128D x f32, order = [B, H, N, D], strides = [B = 16384, N = 1024], align = 4>
  return %v : !kvcache.cache<?B x 16N x 1H x 128D x f32, order = [B, H, N, D], strides = [B = 16384, N = 1024], align = 4>
}
