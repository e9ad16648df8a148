// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s --canonicalize | FileCheck %s

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!any = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = ?], align = 2>

// CHECK-LABEL: func.func @known(
// CHECK-DAG: %[[D:.*]] = arith.constant 128 : index
// CHECK-DAG: %[[S:.*]] = arith.constant 16384 : index
// CHECK-DAG: %[[T:.*]] = arith.constant true
// CHECK: return %[[D]], %[[S]], %[[T]]
func.func @known(%cache: !kv) -> (index, index, i1) {
  %d = kvcache.dim %cache[D] : !kv
  %s = kvcache.stride %cache[B] : !kv
  %t = kvcache.has_facts %cache : !kv has !any
  return %d, %s, %t : index, index, i1
}

// CHECK-LABEL: func.func @no_unknown(
// CHECK: kvcache.dim
// CHECK: kvcache.stride
// CHECK: kvcache.has_facts
func.func @no_unknown(%cache: !any) -> (index, index, i1) {
  %d = kvcache.dim %cache[B] : !any
  %s = kvcache.stride %cache[S] : !any
  %t = kvcache.has_facts %cache : !any has !kv
  return %d, %s, %t : index, index, i1
}

// CHECK-LABEL: func.func @same_type(
// CHECK-SAME: %[[C:.*]]: !kv_nhd)
// CHECK: return %[[C]]
func.func @same_type(%cache: !kv) -> !kv {
  %c = kvcache.cast %cache : !kv to !kv
  return %c : !kv
}

// CHECK-LABEL: func.func @view_of_storage(
// CHECK-SAME: %[[C:.*]]: !kv_nhd)
// CHECK-NEXT: return %[[C]]
func.func @view_of_storage(%cache: !kv) -> !kv {
  %m = kvcache.storage %cache[B, S, N, H, D] : !kv to memref<?x2x16x8x128xbf16, strided<[16384, ?, 1024, 128, 1], offset: ?>>
  %v = kvcache.view %m[B, S, N, H, D] : memref<?x2x16x8x128xbf16, strided<[16384, ?, 1024, 128, 1], offset: ?>> to !kv
  return %v : !kv
}

// CHECK-LABEL: func.func @storage_of_view(
// CHECK-SAME: %[[M:.*]]: memref<2x?x16x8x128xbf16>)
// CHECK-NEXT: return %[[M]]
func.func @storage_of_view(%m: memref<2x?x16x8x128xbf16>) -> memref<2x?x16x8x128xbf16> {
  %v = kvcache.view %m : memref<2x?x16x8x128xbf16> to !kv
  %s = kvcache.storage %v : !kv to memref<2x?x16x8x128xbf16>
  return %s : memref<2x?x16x8x128xbf16>
}

// The dimensions of the second memref are others.

// CHECK-LABEL: func.func @no_other_dimensions(
// CHECK: kvcache.view
// CHECK: kvcache.storage
func.func @no_other_dimensions(%m: memref<4x4x64xf32>) -> memref<4x4x64xf32, strided<[64, 256, 1], offset: ?>> {
  %v = kvcache.view %m : memref<4x4x64xf32> to !kvcache.cache<4B x 4N x 64D x f32>
  %s = kvcache.storage %v[N, B, D] : !kvcache.cache<4B x 4N x 64D x f32> to memref<4x4x64xf32, strided<[64, 256, 1], offset: ?>>
  return %s : memref<4x4x64xf32, strided<[64, 256, 1], offset: ?>>
}

// CHECK-LABEL: func.func @no_other_cache(
// CHECK: kvcache.storage
// CHECK: kvcache.view
func.func @no_other_cache(%cache: !kv) -> !any {
  %m = kvcache.storage %cache : !kv to memref<2x?x16x8x128xbf16>
  %v = kvcache.view %m : memref<2x?x16x8x128xbf16> to !any
  return %v : !any
}

// CHECK-LABEL: func.func @there_and_back(
// CHECK-SAME: %[[C:.*]]: !kv_nhd)
// CHECK-NEXT: return %[[C]]
func.func @there_and_back(%cache: !kv) -> !kv {
  %0 = kvcache.cast %cache : !kv to !any
  %1 = kvcache.cast %0 : !any to !kv
  return %1 : !kv
}

// What is said on the way is not known at its ends.

// CHECK-LABEL: func.func @no_other_end(
// CHECK-COUNT-2: kvcache.cast
func.func @no_other_end(%cache: !any) -> !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, access = read> {
  %0 = kvcache.cast %cache : !any to !kv
  %1 = kvcache.cast %0 : !kv to !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, access = read>
  return %1 : !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, access = read>
}

// Slices keep strides, and extents of the axes that they do not cut.

// CHECK-LABEL: func.func @through_slices(
// CHECK-SAME: %[[C:[^ ]*]]: !kv_nhd_strided, %[[F:[^ ]*]]: index, %[[N:[^ ]*]]: index)
// CHECK-NEXT: %[[B:.*]] = kvcache.dim %[[C]][B]
// CHECK-NEXT: %[[S:.*]] = kvcache.stride %[[C]][B]
// CHECK-NEXT: return %[[B]], %[[S]]
func.func @through_slices(%cache: !any, %first: index, %count: index) -> (index, index) {
  %key = kvcache.side %cache[0] : !any
  %heads = kvcache.heads %key[0, 4] : !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?], align = 2>
  %b = kvcache.dim %heads[B] : !kvcache.cache<?B x 16N x 4H x 128D x bf16, strides = [B = ?, N = 1024], align = 2>
  %part = kvcache.subpool %heads[%first, %count] : !kvcache.cache<?B x 16N x 4H x 128D x bf16, strides = [B = ?, N = 1024], align = 2>
  %s = kvcache.stride %part[B] : !kvcache.cache<?B x 16N x 4H x 128D x bf16, strides = [B = ?, N = 1024], align = 2>
  return %b, %s : index, index
}

// Some blocks are not all blocks, and an index out of range leaves none.

// CHECK-LABEL: func.func @no_extent_of_parts(
// CHECK: %[[P:.*]] = kvcache.subpool
// CHECK: kvcache.dim %[[P]][B]
// CHECK: %[[L:.*]] = kvcache.layer
// CHECK: kvcache.dim %[[L]][B]
func.func @no_extent_of_parts(%cache: !any, %cross: !kvcache.cache<4L x ?B x 16N x 64D x f32>, %i: index) -> (index, index) {
  %part = kvcache.subpool %cache[%i, %i] : !any
  %a = kvcache.dim %part[B] : !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [S = ?, B = ?], align = 2>
  %layer = kvcache.layer %cross[%i] : !kvcache.cache<4L x ?B x 16N x 64D x f32>
  %b = kvcache.dim %layer[B] : !kvcache.cache<?B x 16N x 64D x f32>
  return %a, %b : index, index
}

// CHECK-LABEL: func.func @extent_of_a_constant_layer(
// CHECK-SAME: %[[C:.*]]: !kv_cross_nd)
// CHECK: kvcache.dim %[[C]][B] : !kv_cross_nd
func.func @extent_of_a_constant_layer(%cross: !kvcache.cache<4L x ?B x 16N x 64D x f32>) -> index {
  %i = arith.constant 3 : index
  %layer = kvcache.layer %cross[%i] : !kvcache.cache<4L x ?B x 16N x 64D x f32>
  %b = kvcache.dim %layer[B] : !kvcache.cache<?B x 16N x 64D x f32>
  return %b : index
}

// Where code is not reachable, casts may form a ring that has no end.

%a = kvcache.cast %b : !any to !any
%b = kvcache.cast %a : !any to !any
%ring_dim = kvcache.dim %a[B] : !any
%ring_stride = kvcache.stride %a[B] : !any
