// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// A compact axis over a run-time extent is proven where the same axis is spanned
// by the cache that was seen as a memref, and only there. So is a multiple where
// the axis is one of that cache.
//
// RUN: split-file %s %t
// RUN: kv-compile %t/spans.mlir --emit=header --name=views | FileCheck %t/spans.mlir
// RUN: kv-compile %t/units.mlir --emit=header --name=views | FileCheck %t/units.mlir
// RUN: not kv-compile %t/split.mlir --emit=header --name=views 2>&1 | FileCheck %t/split.mlir
// RUN: not kv-compile %t/other.mlir --emit=header --name=views 2>&1 | FileCheck %t/other.mlir
// RUN: not kv-compile %t/joined.mlir --emit=header --name=views 2>&1 | FileCheck %t/joined.mlir
// RUN: not kv-compile %t/swapped.mlir --emit=header --name=views 2>&1 | FileCheck %t/swapped.mlir
// RUN: not kv-compile %t/apart.mlir --emit=header --name=views 2>&1 | FileCheck %t/apart.mlir

//--- spans.mlir
!pool = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!rows = !kvcache.cache<2S x ?B x 1N x 128H x 128D x bf16>
!seen = memref<2x?x16x8x128xbf16, strided<[?, 16384, 1024, 128, 1], offset: ?>>
!joined = memref<2x?x128x128xbf16, strided<[?, 16384, 128, 1], offset: ?>>
!split = memref<2x?x1x128x128xbf16, strided<[?, 16384, 16384, 128, 1], offset: ?>>
!slots = !kvcache.slots<?T x i64, rows_per_block = 1, pad = skip_negative>
// CHECK: kv1_f(
func.func @f(%pool: !pool, %slots: tensor<?xi64>, %rows: tensor<?x128x128xbf16>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = kvcache.storage %pool[S, B, N, H, D] : !pool to !seen
  %n = memref.dim %m, %c1 : !seen
  %j = memref.collapse_shape %m [[0], [1], [2, 3], [4]] : !seen into !joined
  %e = memref.expand_shape %j [[0], [1], [2, 3], [4]] output_shape [2, %n, 1, 128, 128] : !joined into !split
  %v = kvcache.view %e[S, B, N, H, D] : !split to !rows
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  kvcache.index_copy %rows, %rows into %v at %where
    : tensor<?x128x128xbf16>, tensor<?x128x128xbf16> into !rows at !slots
  return
}

//--- split.mlir
// Half of the blocks: sides are further apart than the type says.
// CHECK: error: 'kvcache.view' op the layout is expected to be checked by the
!pool = !kvcache.cache<2S x ?B x 16N x 128D x bf16>
!halves = !kvcache.cache<2L x 2S x ?B x 16N x 128D x bf16, strides = [L = ?]>
!half = !kvcache.cache<2S x ?B x 16N x 128D x bf16, align = 2>
!seen = memref<2x?x16x128xbf16, strided<[?, 2048, 128, 1], offset: ?>>
!split = memref<2x2x?x16x128xbf16, strided<[?, ?, 2048, 128, 1], offset: ?>>
func.func @f(%pool: !pool, %n: index, %layer: index, %pairs: memref<?x2xi64>) {
  %m = kvcache.storage %pool[S, B, N, D] : !pool to !seen
  %e = memref.expand_shape %m [[0], [1, 2], [3], [4]] output_shape [2, 2, %n, 16, 128] : !seen into !split
  %v = kvcache.view %e[S, L, B, N, D] : !split to !halves
  %l = kvcache.layer %v[%layer] : !halves
  kvcache.copy_blocks %l at %pairs : !half at memref<?x2xi64>
  return
}

//--- other.mlir
// The same axes, but one spans another one.
// CHECK: error: 'kvcache.view' op the layout is expected to be checked by the
!pool = !kvcache.cache<2S x ?B x 16N x 128D x bf16, strides = [B = ? mult 8]>
!rows = !kvcache.cache<2S x ?B x 16N x 128D x bf16, order = [B, S, N, D]>
!seen = memref<2x?x16x128xbf16, strided<[?, ?, 128, 1], offset: ?>>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
func.func @f(%pool: !pool, %slots: tensor<?xi64>, %rows: tensor<?x128xbf16>) {
  %m = kvcache.storage %pool[S, B, N, D] : !pool to !seen
  %v = kvcache.view %m[S, B, N, D] : !seen to !rows
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  kvcache.index_copy %rows, %rows into %v at %where
    : tensor<?x128xbf16>, tensor<?x128xbf16> into !rows at !slots
  return
}

//--- units.mlir
// An axis of extent 1 in between changes nothing: whole blocks of a cache with
// one head or one channel are written as rows, also where blocks span sides, or
// sides and heads blocks.
!slots = !kvcache.slots<?T x i32, rows_per_block = 4, pad = skip_negative>
!over_sides = !kvcache.cache<2S x ?B x 4N x 1H x 2D x f32, order = [B, H, S, N, D], strides = [S = ? mult 8], align = 4>
// CHECK: kv1_over_sides(
func.func @over_sides(%pool: !over_sides, %blocks: memref<?xi64>,
                      %rows: memref<?x1x2xf32>) {
  %c0 = arith.constant 0 : index
  %c4 = arith.constant 4 : index
  %n = memref.dim %blocks, %c0 : memref<?xi64>
  %t = arith.muli %n, %c4 : index
  %list = memref.alloc(%t) : memref<?xi32>
  kvcache.block_slots %blocks of 4 into %list : memref<?xi64> into memref<?xi32>
  %where = kvcache.make_slots %list : memref<?xi32> to !slots
  kvcache.index_copy %rows, %rows into %pool at %where
    : memref<?x1x2xf32>, memref<?x1x2xf32> into !over_sides at !slots
  return
}
!over_blocks = !kvcache.cache<2S x ?B x 4N x 1H x 2D x f32, order = [S, H, B, N, D]>
// CHECK: kv1_over_blocks(
func.func @over_blocks(%pool: !over_blocks, %blocks: memref<?xi64>,
                       %rows: memref<?x1x2xf32>) {
  %c0 = arith.constant 0 : index
  %c4 = arith.constant 4 : index
  %n = memref.dim %blocks, %c0 : memref<?xi64>
  %t = arith.muli %n, %c4 : index
  %list = memref.alloc(%t) : memref<?xi32>
  kvcache.block_slots %blocks of 4 into %list : memref<?xi64> into memref<?xi32>
  %where = kvcache.make_slots %list : memref<?xi32> to !slots
  kvcache.index_copy %rows, %rows into %pool at %where
    : memref<?x1x2xf32>, memref<?x1x2xf32> into !over_blocks at !slots
  return
}
// A reshape that adds an axis of extent 1, and one that takes it away, leave the
// others what they are.
!plain = !kvcache.cache<2S x ?B x 16N x 128D x bf16, strides = [S = ? mult 64, B = ? mult 8]>
!one_layer = !kvcache.cache<1L x 2S x ?B x 16N x 128D x bf16, strides = [S = ? mult 64, B = ? mult 8]>
!seen = memref<2x?x16x128xbf16, strided<[?, ?, 128, 1], offset: ?>>
!more = memref<1x2x?x16x128xbf16, strided<[?, ?, ?, 128, 1], offset: ?>>
// CHECK: kv1_more_axes(
func.func @more_axes(%pool: !plain, %n: index, %pairs: memref<?x2xi64>) {
  %m = kvcache.storage %pool : !plain to !seen
  %e = memref.expand_shape %m [[0, 1], [2], [3], [4]] output_shape [1, 2, %n, 16, 128] : !seen into !more
  %v = kvcache.view %e : !more to !one_layer
  kvcache.copy_blocks %v at %pairs : !one_layer at memref<?x2xi64>
  return
}
// CHECK: kv1_less_axes(
func.func @less_axes(%pool: !one_layer, %pairs: memref<?x2xi64>) {
  %m = kvcache.storage %pool : !one_layer to !more
  %j = memref.collapse_shape %m [[0, 1], [2], [3], [4]] : !more into !seen
  %v = kvcache.view %j : !seen to !plain
  kvcache.copy_blocks %v at %pairs : !plain at memref<?x2xi64>
  return
}

//--- joined.mlir
// Blocks and tokens that became one axis of blocks: its stride is that of tokens.
// CHECK: error: 'kvcache.view' op the layout is expected to be checked by the
!pool = !kvcache.cache<?B x 2N x 128D x bf16, strides = [B = ? mult 1024, N = ? mult 8]>
!rows = !kvcache.cache<?B x 1N x 128D x bf16, strides = [B = ? mult 1024]>
!seen = memref<?x2x128xbf16, strided<[?, ?, 1], offset: ?>>
!joined = memref<?x128xbf16, strided<[?, 1], offset: ?>>
!split = memref<?x1x128xbf16, strided<[?, ?, 1], offset: ?>>
func.func @f(%pool: !pool, %n: index, %pairs: memref<?x2xi64>) {
  %m = kvcache.storage %pool : !pool to !seen
  %j = memref.collapse_shape %m [[0, 1], [2]] : !seen into !joined
  %e = memref.expand_shape %j [[0, 1], [2]] output_shape [%n, 1, 128] : !joined into !split
  %v = kvcache.view %e : !split to !rows
  kvcache.copy_blocks %v at %pairs : !rows at memref<?x2xi64>
  return
}

//--- swapped.mlir
// Layers that are named sides have the strides of layers.
// CHECK: error: 'kvcache.view' op the layout is expected to be checked by the
!pool = !kvcache.cache<2L x 2S x ?B x 2N x 128D x bf16, strides = [L = ? mult 8, S = ? mult 1024]>
!swapped = !kvcache.cache<2L x 2S x ?B x 2N x 128D x bf16, order = [S, L, B, N, D], strides = [S = ? mult 1024, L = ? mult 8]>
!seen = memref<2x2x?x2x128xbf16, strided<[?, ?, 256, 128, 1], offset: ?>>
func.func @f(%pool: !pool, %pairs: memref<?x2xi64>) {
  %m = kvcache.storage %pool : !pool to !seen
  %v = kvcache.view %m[S, L, B, N, D] : !seen to !swapped
  kvcache.copy_blocks %v at %pairs : !swapped at memref<?x2xi64>
  return
}

//--- apart.mlir
// Sides that are so far apart are packed for one number of blocks.
// CHECK: error: 'kvcache.view' op the layout is expected to be checked by the
!pool = !kvcache.cache<2S x ?B x 2N x 128D x bf16, strides = [S = 4096]>
!packed = !kvcache.cache<1L x 2S x ?B x 2N x 128D x bf16>
!seen = memref<2x?x2x128xbf16, strided<[4096, 256, 128, 1], offset: ?>>
!more = memref<1x2x?x2x128xbf16, strided<[8192, 4096, 256, 128, 1], offset: ?>>
func.func @f(%pool: !pool, %n: index, %pairs: memref<?x2xi64>) {
  %m = kvcache.storage %pool : !pool to !seen
  %e = memref.expand_shape %m [[0, 1], [2], [3], [4]] output_shape [1, 2, %n, 2, 128] : !seen into !more
  %v = kvcache.view %e : !more to !packed
  kvcache.copy_blocks %v at %pairs : !packed at memref<?x2xi64>
  return
}
