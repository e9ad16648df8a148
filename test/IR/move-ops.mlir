// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every form of an operation survives printing, in custom and generic form, and
// bytecode.
//
// RUN: kv-opt %s | FileCheck %s
// RUN: kv-opt %s | kv-opt | FileCheck %s
// RUN: kv-opt %s --mlir-print-op-generic | kv-opt | FileCheck %s
// RUN: kv-opt %s --emit-bytecode | kv-opt | FileCheck %s

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!read = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, access = read>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f32, order = hnd>
!coarse = !kvcache.cache<2S x ?B x 64N x 8H x 128D x bf16, space = host>
!f8 = !kvcache.cache<?B x 16N x 8H x 128D x f8E4M3FN>
!cross = !kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-DAG: ![[T_KV:kv_nhd[0-9]*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>{{$}}
// CHECK-DAG: ![[T_K:kv_nhd[0-9]*]] = !kvcache.cache<?B x 16N x 8H x 128D x bf16>{{$}}
// CHECK-DAG: ![[T_READ:kv_nhd[0-9]*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, access = read>{{$}}
// CHECK-DAG: ![[T_HND:kv_hnd[0-9]*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f32, order = [S, B, H, N, D]>{{$}}
// CHECK-DAG: ![[T_COARSE:kv_nhd[0-9]*]] = !kvcache.cache<2S x ?B x 64N x 8H x 128D x bf16, space = host>{{$}}
// CHECK-DAG: ![[T_F8:kv_nhd[0-9]*]] = !kvcache.cache<?B x 16N x 8H x 128D x f8E4M3FN>{{$}}
// CHECK-DAG: ![[T_CROSS:kv_cross_nhd[0-9]*]] = !kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16>{{$}}
// CHECK-DAG: ![[T_SLOTS:kv_slots[0-9]*]] = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>{{$}}

// The updated pool is the result.

// CHECK-LABEL: func.func @index_copy_into_tensor(
// CHECK-SAME: %[[ROWS:[^ ]*]]: tensor<?x8x128xbf16>, %[[POOL:[^ ]*]]: tensor<?x2x16x8x128xbf16>, %[[KEYS:[^ ]*]]: tensor<?x16x8x128xbf16>, %[[S:[^ ]*]]: ![[T_SLOTS]])
func.func @index_copy_into_tensor(%rows: tensor<?x8x128xbf16>, %pool: tensor<?x2x16x8x128xbf16>, %keys: tensor<?x16x8x128xbf16>, %slots: !slots)
    -> (tensor<?x2x16x8x128xbf16>, tensor<?x16x8x128xbf16>) {
  // CHECK: %[[A:.*]] = kvcache.index_copy %[[ROWS]], %[[ROWS]] into %[[POOL]][B, S, N, H, D] at %[[S]] : tensor<?x8x128xbf16>, tensor<?x8x128xbf16> into tensor<?x2x16x8x128xbf16> at ![[T_SLOTS]]{{$}}
  %0 = kvcache.index_copy %rows, %rows into %pool[B, S, N, H, D] at %slots
    : tensor<?x8x128xbf16>, tensor<?x8x128xbf16> into tensor<?x2x16x8x128xbf16> at !slots
  // CHECK: %[[B:.*]] = kvcache.index_copy %[[ROWS]] into %[[KEYS]][B, N, H, D] at %[[S]] schedule <threads = 64, rows = 1, streaming = true> {tag} : tensor<?x8x128xbf16> into tensor<?x16x8x128xbf16> at ![[T_SLOTS]]{{$}}
  %1 = kvcache.index_copy %rows into %keys[B, N, H, D] at %slots schedule <threads = 64, rows = 1, streaming = true> {tag}
    : tensor<?x8x128xbf16> into tensor<?x16x8x128xbf16> at !slots
  // CHECK: return %[[A]], %[[B]]
  return %0, %1 : tensor<?x2x16x8x128xbf16>, tensor<?x16x8x128xbf16>
}

// CHECK-LABEL: func.func @scatter(
// CHECK-SAME: %[[ROWS:[^ ]*]]: memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>>, %[[KV:[^ ]*]]: ![[T_KV]], %[[K:[^ ]*]]: ![[T_K]], %[[B:[^ ]*]]: memref<?xi64>, %[[O:[^ ]*]]: memref<?xi32>)
func.func @scatter(%rows: memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>>, %kv: !kv, %k: !k, %blocks: memref<?xi64>, %offsets: memref<?xi32>) {
  // CHECK: {{^ *}}kvcache.scatter %[[ROWS]], %[[ROWS]] into %[[KV]] at %[[B]], %[[O]] pad = skip_negative : memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>>, memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>> into ![[T_KV]] at memref<?xi64>, memref<?xi32>{{$}}
  kvcache.scatter %rows, %rows into %kv at %blocks, %offsets pad = skip_negative
    : memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>>, memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>> into !kv at memref<?xi64>, memref<?xi32>
  // CHECK: {{^ *}}kvcache.scatter %[[ROWS]] into %[[K]] at %[[B]], %[[O]] pad = skip_out_of_range schedule <threads = 32, rows = 16, streaming = false> {tag} : memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>> into ![[T_K]] at
  kvcache.scatter %rows into %k at %blocks, %offsets pad = skip_out_of_range schedule <threads = 32, rows = 16, streaming = false> {tag}
    : memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>> into !k at memref<?xi64>, memref<?xi32>
  // CHECK: {{^ *}}kvcache.scatter %[[ROWS]] into %[[K]] at %[[B]], %[[O]] pad = none : memref
  kvcache.scatter %rows into %k at %blocks, %offsets pad = none
    : memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>> into !k at memref<?xi64>, memref<?xi32>
  return
}

// CHECK-LABEL: func.func @scatter_tensors(
// CHECK-SAME: %[[ROWS:[^ ]*]]: tensor<4x8x128xbf16>, %[[POOL:[^ ]*]]: tensor<?x8x16x128xbf16>, %[[K:[^ ]*]]: ![[T_K]], %[[N:[^ ]*]]: tensor<4xi32>)
func.func @scatter_tensors(%rows: tensor<4x8x128xbf16>, %pool: tensor<?x8x16x128xbf16>, %k: !k, %numbers: tensor<4xi32>) -> tensor<?x8x16x128xbf16> {
  // CHECK: %[[R:.*]] = kvcache.scatter %[[ROWS]] into %[[POOL]][B, H, N, D] at %[[N]], %[[N]] pad = none : tensor<4x8x128xbf16> into tensor<?x8x16x128xbf16> at tensor<4xi32>, tensor<4xi32>{{$}}
  %0 = kvcache.scatter %rows into %pool[B, H, N, D] at %numbers, %numbers pad = none
    : tensor<4x8x128xbf16> into tensor<?x8x16x128xbf16> at tensor<4xi32>, tensor<4xi32>
  // CHECK: {{^ *}}kvcache.scatter %[[ROWS]] into %[[K]] at %[[N]], %[[N]] pad = none : tensor<4x8x128xbf16> into ![[T_K]] at tensor<4xi32>, tensor<4xi32>{{$}}
  kvcache.scatter %rows into %k at %numbers, %numbers pad = none
    : tensor<4x8x128xbf16> into !k at tensor<4xi32>, tensor<4xi32>
  // CHECK: return %[[R]]
  return %0 : tensor<?x8x16x128xbf16>
}

// Rows may have another format than the cache.

// CHECK-LABEL: func.func @rows_of_another_format(
// CHECK-SAME: %[[C:[^ ]*]]: ![[T_F8]], %[[POOL:[^ ]*]]: tensor<?x16x8x128xf8E5M2>, %[[S:[^ ]*]]: ![[T_SLOTS]], %[[M:[^ ]*]]: memref<?x8x128xbf16>, %[[T:[^ ]*]]: tensor<?x8x128xf32>, %[[N:[^ ]*]]: memref<?xi64>)
func.func @rows_of_another_format(%cache: !f8, %pool: tensor<?x16x8x128xf8E5M2>, %slots: !slots, %m: memref<?x8x128xbf16>, %t: tensor<?x8x128xf32>, %n: memref<?xi64>)
    -> (tensor<?x16x8x128xf8E5M2>, tensor<?x8x128xf32>) {
  // CHECK: kvcache.index_copy %[[M]] into %[[C]] at %[[S]] : memref<?x8x128xbf16> into ![[T_F8]] at ![[T_SLOTS]]{{$}}
  kvcache.index_copy %m into %cache at %slots : memref<?x8x128xbf16> into !f8 at !slots
  // CHECK: kvcache.scatter %[[M]] into %[[C]] at %[[N]], %[[N]] pad = none : memref<?x8x128xbf16> into ![[T_F8]] at memref<?xi64>, memref<?xi64>{{$}}
  kvcache.scatter %m into %cache at %n, %n pad = none : memref<?x8x128xbf16> into !f8 at memref<?xi64>, memref<?xi64>
  // CHECK: kvcache.gather %[[C]] at %[[S]] into %[[M]] : ![[T_F8]] at ![[T_SLOTS]] into memref<?x8x128xbf16>{{$}}
  kvcache.gather %cache at %slots into %m : !f8 at !slots into memref<?x8x128xbf16>
  // CHECK: %[[A:.*]] = kvcache.index_copy %[[T]] into %[[POOL]][B, N, H, D] at %[[S]] : tensor<?x8x128xf32> into tensor<?x16x8x128xf8E5M2> at ![[T_SLOTS]]{{$}}
  %a = kvcache.index_copy %t into %pool[B, N, H, D] at %slots : tensor<?x8x128xf32> into tensor<?x16x8x128xf8E5M2> at !slots
  // CHECK: %[[B:.*]] = kvcache.gather %[[A]][B, N, H, D] at %[[S]] zero into %[[T]] : tensor<?x16x8x128xf8E5M2> at ![[T_SLOTS]] into tensor<?x8x128xf32>{{$}}
  %b = kvcache.gather %a[B, N, H, D] at %slots zero into %t : tensor<?x16x8x128xf8E5M2> at !slots into tensor<?x8x128xf32>
  // CHECK: return %[[A]], %[[B]]
  return %a, %b : tensor<?x16x8x128xf8E5M2>, tensor<?x8x128xf32>
}

// A cache that is only read may be read.

// CHECK-LABEL: func.func @gather(
// CHECK-SAME: %[[C:[^ ]*]]: ![[T_READ]], %[[POOL:[^ ]*]]: tensor<?x16x8x128xbf16>, %[[S:[^ ]*]]: ![[T_SLOTS]], %[[M:[^ ]*]]: memref<?x8x128xbf16>, %[[T:[^ ]*]]: tensor<?x8x128xbf16>)
func.func @gather(%cache: !read, %pool: tensor<?x16x8x128xbf16>, %slots: !slots, %m: memref<?x8x128xbf16>, %t: tensor<?x8x128xbf16>) {
  // CHECK: {{^ *}}kvcache.gather %[[C]] at %[[S]] into %[[M]], %[[M]] : ![[T_READ]] at ![[T_SLOTS]] into memref<?x8x128xbf16>, memref<?x8x128xbf16>{{$}}
  kvcache.gather %cache at %slots into %m, %m : !read at !slots into memref<?x8x128xbf16>, memref<?x8x128xbf16>
  // CHECK: %[[A:.*]]:2 = kvcache.gather %[[C]] at %[[S]] zero into %[[T]], %[[T]] : ![[T_READ]] at ![[T_SLOTS]] into tensor<?x8x128xbf16>, tensor<?x8x128xbf16>{{$}}
  %0:2 = kvcache.gather %cache at %slots zero into %t, %t : !read at !slots into tensor<?x8x128xbf16>, tensor<?x8x128xbf16>
  // CHECK: kvcache.gather %[[POOL]][B, N, H, D] at %[[S]] zero into %[[A]]#0 schedule <threads = 128, rows = 2, streaming = true> {tag} : tensor<?x16x8x128xbf16> at ![[T_SLOTS]] into tensor<?x8x128xbf16>{{$}}
  %1 = kvcache.gather %pool[B, N, H, D] at %slots zero into %0#0 schedule <threads = 128, rows = 2, streaming = true> {tag}
    : tensor<?x16x8x128xbf16> at !slots into tensor<?x8x128xbf16>
  return
}

// Orders and element types are free.

// CHECK-LABEL: func.func @relayout(
// CHECK-SAME: %[[A:[^ ]*]]: ![[T_READ]], %[[B:[^ ]*]]: ![[T_HND]], %[[S:[^ ]*]]: tensor<2x?x16x8x128xf32>, %[[D:[^ ]*]]: tensor<2x?x8x16x128xbf16>) -> tensor<2x?x8x16x128xbf16>
func.func @relayout(%a: !read, %b: !hnd, %s: tensor<2x?x16x8x128xf32>, %d: tensor<2x?x8x16x128xbf16>) -> tensor<2x?x8x16x128xbf16> {
  // CHECK: {{^ *}}kvcache.relayout %[[A]] into %[[B]] {tag} : ![[T_READ]] into ![[T_HND]]{{$}}
  kvcache.relayout %a into %b {tag} : !read into !hnd
  // CHECK: %[[R:.*]] = kvcache.relayout %[[S]][S, B, N, H, D] into %[[D]][S, B, H, N, D] : tensor<2x?x16x8x128xf32> into tensor<2x?x8x16x128xbf16>{{$}}
  %0 = kvcache.relayout %s[S, B, N, H, D] into %d[S, B, H, N, D] : tensor<2x?x16x8x128xf32> into tensor<2x?x8x16x128xbf16>
  // CHECK: return %[[R]]
  return %0 : tensor<2x?x8x16x128xbf16>
}

// CHECK-LABEL: func.func @copy_blocks(
// CHECK-SAME: %[[C:[^ ]*]]: ![[T_CROSS]], %[[M:[^ ]*]]: memref<?x2xi64>, %[[T:[^ ]*]]: tensor<4x2xi32>)
func.func @copy_blocks(%cache: !cross, %m: memref<?x2xi64>, %t: tensor<4x2xi32>) {
  // CHECK: kvcache.copy_blocks %[[C]] at %[[M]] : ![[T_CROSS]] at memref<?x2xi64>{{$}}
  kvcache.copy_blocks %cache at %m : !cross at memref<?x2xi64>
  // CHECK: kvcache.copy_blocks %[[C]] at %[[T]] {tag} : ![[T_CROSS]] at tensor<4x2xi32>{{$}}
  kvcache.copy_blocks %cache at %t {tag} : !cross at tensor<4x2xi32>
  return
}

// CHECK-LABEL: func.func @clear_blocks(
// CHECK-SAME: %[[C:[^ ]*]]: ![[T_CROSS]], %[[M:[^ ]*]]: memref<?xi64>, %[[T:[^ ]*]]: tensor<4xi32>)
func.func @clear_blocks(%cache: !cross, %m: memref<?xi64>, %t: tensor<4xi32>) {
  // CHECK: kvcache.clear_blocks %[[C]] at %[[M]] : ![[T_CROSS]] at memref<?xi64>{{$}}
  kvcache.clear_blocks %cache at %m : !cross at memref<?xi64>
  // CHECK: kvcache.clear_blocks %[[C]] at %[[T]] {tag} : ![[T_CROSS]] at tensor<4xi32>{{$}}
  kvcache.clear_blocks %cache at %t {tag} : !cross at tensor<4xi32>
  return
}

// CHECK-LABEL: func.func @transfer(
// CHECK-SAME: %[[A:[^ ]*]]: ![[T_READ]], %[[B:[^ ]*]]: ![[T_COARSE]], %[[M:[^ ]*]]: memref<?x4xi64>, %[[T:[^ ]*]]: tensor<?x2xi32>)
func.func @transfer(%from: !read, %to: !coarse, %m: memref<?x4xi64>, %t: tensor<?x2xi32>) {
  // CHECK: kvcache.transfer %[[A]] to %[[B]] at %[[M]] zero : ![[T_READ]] to ![[T_COARSE]] at memref<?x4xi64>{{$}}
  kvcache.transfer %from to %to at %m zero : !read to !coarse at memref<?x4xi64>
  // CHECK: kvcache.transfer %[[A]] to %[[B]] at %[[T]] {tag} : ![[T_READ]] to ![[T_COARSE]] at tensor<?x2xi32>{{$}}
  kvcache.transfer %from to %to at %t {tag} : !read to !coarse at tensor<?x2xi32>
  return
}
