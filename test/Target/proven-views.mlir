// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// A compact axis over a run-time extent is proven where the same axis is spanned
// by the cache that was seen as a memref, and only there.
//
// RUN: split-file %s %t
// RUN: kv-compile %t/spans.mlir --emit=header --name=views | FileCheck %t/spans.mlir
// RUN: not kv-compile %t/split.mlir --emit=header --name=views 2>&1 | FileCheck %t/split.mlir
// RUN: not kv-compile %t/other.mlir --emit=header --name=views 2>&1 | FileCheck %t/other.mlir

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
