// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every form of an operation survives printing, in custom and generic form, and
// bytecode.
//
// RUN: kv-opt %s | FileCheck %s
// RUN: kv-opt %s | kv-opt | FileCheck %s
// RUN: kv-opt %s --mlir-print-op-generic | kv-opt | FileCheck %s
// RUN: kv-opt %s --emit-bytecode | kv-opt | FileCheck %s

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!strided = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = ? mult 8]>
!mla = !kvcache.cache<?B x 64N x 576D x f16>
!layers = !kvcache.cache<?L x 2S x ?B x 16N x 8H x 128D x bf16, strides = [L = ?, B = ? mult 8]>
!split = !kvcache.cache<?B x 16N x 8H x 16D.o x 8D.i x f16, order = [B, H, D.o, N, D.i]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!slots_mla = !kvcache.slots<4T x i32, rows_per_block = 64, pad = none>

// CHECK-LABEL: func.func @view_elements(
// CHECK-SAME: %[[POOL:.*]]: memref
func.func @view_elements(%pool: memref<2x?x16x8x128xbf16>) {
  // CHECK: kvcache.view %[[POOL]] : memref<2x?x16x8x128xbf16> to !kv_nhd{{$}}
  %0 = kvcache.view %pool : memref<2x?x16x8x128xbf16> to !nhd
  return
}

// CHECK-LABEL: func.func @view_named_axes(
// CHECK-SAME: %[[POOL:[^ ]*]]: memref{{.*}}, %[[SPLIT:[^ ]*]]: memref
func.func @view_named_axes(%pool: memref<?x2x16x8x128xbf16, strided<[?, 16384, 1024, 128, 1]>>, %split: memref<?x8x16x16x8xf16>) {
  // CHECK: kvcache.view %[[POOL]][B, S, N, H, D] : memref<?x2x16x8x128xbf16, strided<[?, 16384, 1024, 128, 1]>> to !kv_nhd_strided
  %0 = kvcache.view %pool[B, S, N, H, D] : memref<?x2x16x8x128xbf16, strided<[?, 16384, 1024, 128, 1]>> to !strided
  // CHECK: kvcache.view %[[SPLIT]][B, H, D.o, N, D.i] : memref<?x8x16x16x8xf16> to !kv_hdnd
  %1 = kvcache.view %split[B, H, D.o, N, D.i] : memref<?x8x16x16x8xf16> to !split
  return
}

// CHECK-LABEL: func.func @view_bytes(
// CHECK-SAME: %[[BYTES:[^ ]*]]: memref<?xi8>, %[[OFFSET:[^ ]*]]: index, %[[N:[^ ]*]]: index, %[[M:[^ ]*]]: index
func.func @view_bytes(%bytes: memref<?xi8>, %offset: index, %n: index, %m: index) {
  // CHECK: kvcache.view %[[BYTES]] extents(B = %[[N]]) : memref<?xi8> to !kv_nhd{{$}}
  %0 = kvcache.view %bytes extents(B = %n) : memref<?xi8> to !nhd
  // CHECK: kvcache.view %[[BYTES]] offset(%[[OFFSET]]) extents(B = %[[N]]) : memref<?xi8> to !kv_nhd{{$}}
  %1 = kvcache.view %bytes offset(%offset) extents(B = %n) : memref<?xi8> to !nhd
  // CHECK: kvcache.view %[[BYTES]] extents(B = %[[N]]) strides(B = %[[M]]) : memref<?xi8> to !kv_nhd_strided
  %2 = kvcache.view %bytes extents(B = %n) strides(B = %m) : memref<?xi8> to !strided
  // CHECK: kvcache.view %[[BYTES]] offset(%[[OFFSET]]) extents(L = %[[M]], B = %[[N]]) strides(L = %[[N]], B = %[[M]]) {tag = 1 : i64} : memref<?xi8> to !kv_cross_nhd_strided
  %3 = kvcache.view %bytes offset(%offset) extents(L = %m, B = %n) strides(L = %n, B = %m) {tag = 1} : memref<?xi8> to !layers
  return
}

// CHECK-LABEL: func.func @make_slots(
// CHECK-SAME: %[[TENSOR:[^ ]*]]: tensor<?xi64>, %[[MEMREF:[^ ]*]]: memref<4xi32>
func.func @make_slots(%tensor: tensor<?xi64>, %memref: memref<4xi32>) {
  // CHECK: kvcache.make_slots %[[TENSOR]] : tensor<?xi64> to !kv_slots{{$}}
  %0 = kvcache.make_slots %tensor : tensor<?xi64> to !slots
  // CHECK: kvcache.make_slots %[[MEMREF]] {tag} : memref<4xi32> to !kv_slots1{{$}}
  %1 = kvcache.make_slots %memref {tag} : memref<4xi32> to !slots_mla
  return
}

// CHECK-LABEL: func.func @index_copy_memrefs(
// CHECK-SAME: %[[K:[^ ]*]]: memref<?x8x128xbf16>, %[[V:[^ ]*]]: memref<{{.*}}>>, %[[CACHE:[^ ]*]]: !kv_nhd, %[[SLOTS:[^ ]*]]: !kv_slots)
func.func @index_copy_memrefs(%k: memref<?x8x128xbf16>, %v: memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>>, %cache: !nhd, %slots: !slots) {
  // CHECK: kvcache.index_copy %[[K]], %[[V]] into %[[CACHE]] at %[[SLOTS]] : memref<?x8x128xbf16>, memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>> into !kv_nhd at !kv_slots
  kvcache.index_copy %k, %v into %cache at %slots : memref<?x8x128xbf16>, memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>> into !nhd at !slots
  return
}

// CHECK-LABEL: func.func @index_copy_tensor(
// CHECK-SAME: %[[ROWS:[^ ]*]]: tensor<4x576xf16>, %[[CACHE:[^ ]*]]: !kv_nd, %[[SLOTS:[^ ]*]]: !kv_slots1)
func.func @index_copy_tensor(%rows: tensor<4x576xf16>, %cache: !mla, %slots: !slots_mla) {
  // CHECK: kvcache.index_copy %[[ROWS]] into %[[CACHE]] at %[[SLOTS]] : tensor<4x576xf16> into !kv_nd at !kv_slots1
  kvcache.index_copy %rows into %cache at %slots : tensor<4x576xf16> into !mla at !slots_mla
  return
}

// CHECK-LABEL: func.func @index_copy_schedule(
func.func @index_copy_schedule(%rows: tensor<4x576xf16>, %cache: !mla, %slots: !slots_mla) {
  // CHECK: kvcache.index_copy %{{.*}} into %{{.*}} at %{{.*}} schedule <threads = 256, rows = 4, streaming = false> {tag} : tensor<4x576xf16> into
  kvcache.index_copy %rows into %cache at %slots schedule <threads = 256, rows = 4, streaming = false> {tag} : tensor<4x576xf16> into !mla at !slots_mla
  return
}

// Rows do not show how the cache splits its axes.
// CHECK-LABEL: func.func @index_copy_split(
func.func @index_copy_split(%rows: memref<?x8x128xf16>, %cache: !split, %slots: !slots) {
  // CHECK: kvcache.index_copy %{{.*}} : memref<?x8x128xf16> into !kv_hdnd at !kv_slots
  kvcache.index_copy %rows into %cache at %slots : memref<?x8x128xf16> into !split at !slots
  return
}

// CHECK-LABEL: func.func @argument_attributes(
// CHECK-SAME: memref<?xi64> {kvcache.align = 8 : i64, kvcache.name = "slot_mapping"}, %{{.*}}: index {kvcache.name = "n"})
func.func @argument_attributes(%slots: memref<?xi64> {kvcache.align = 8, kvcache.name = "slot_mapping"}, %n: index {kvcache.name = "n"}) {
  return
}
