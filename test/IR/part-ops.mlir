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
!read = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, access = read>
!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!k_64 = !kvcache.cache<?B x 64N x 8H x 128D x bf16>
!split = !kvcache.cache<?B x 16N x 8H x 16D.o x 8D.i x bf16>
!mla = !kvcache.cache<4B x 64N x 576D x f16>

// CHECK-DAG: ![[T_KV:kv_nhd[0-9]*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>{{$}}
// CHECK-DAG: ![[T_READ:kv_nhd[0-9]*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, access = read>{{$}}
// CHECK-DAG: ![[T_K:kv_nhd[0-9]*]] = !kvcache.cache<?B x 16N x 8H x 128D x bf16>{{$}}
// CHECK-DAG: ![[T_K64:kv_nhd[0-9]*]] = !kvcache.cache<?B x 64N x 8H x 128D x bf16>{{$}}
// CHECK-DAG: ![[T_SPLIT:kv_nhdd[0-9]*]] = !kvcache.cache<?B x 16N x 8H x 16D.o x 8D.i x bf16>{{$}}
// CHECK-DAG: ![[T_MLA:kv_nd[0-9]*]] = !kvcache.cache<4B x 64N x 576D x f16>{{$}}

// The sides are as far apart as those of the whole pool are.

// CHECK-LABEL: func.func @blocks(
// CHECK-SAME: %[[C:[^ ]*]]: ![[T_KV]], %[[R:[^ ]*]]: ![[T_READ]], %[[I:[^ ]*]]: index, %[[N:[^ ]*]]: index)
func.func @blocks(%cache: !kv, %read: !read, %first: index, %count: index)
    -> (!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [S = ? mult 16384]>,
        !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [S = ? mult 16384], access = read>) {
  // CHECK: kvcache.subpool %[[C]][%[[I]], %[[N]]] : ![[T_KV]]{{$}}
  %0 = kvcache.subpool %cache[%first, %count] : !kv
  // CHECK: kvcache.subpool %[[R]][%[[I]], %[[N]]] {tag} : ![[T_READ]]{{$}}
  %1 = kvcache.subpool %read[%first, %count] {tag} : !read
  return %0, %1 : !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [S = ? mult 16384]>, !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [S = ? mult 16384], access = read>
}

// The number of blocks of a part is known only at run time, also where that of
// the whole is a constant.

// CHECK-LABEL: func.func @blocks_of_constant(
// CHECK-SAME: %[[C:[^ ]*]]: ![[T_MLA]]
func.func @blocks_of_constant(%cache: !mla, %first: index, %count: index) -> !kvcache.cache<?B x 64N x 576D x f16> {
  // CHECK: kvcache.subpool %[[C]][%{{.*}}, %{{.*}}] : ![[T_MLA]]{{$}}
  %0 = kvcache.subpool %cache[%first, %count] : !mla
  return %0 : !kvcache.cache<?B x 64N x 576D x f16>
}

// CHECK-LABEL: func.func @heads(
// CHECK-SAME: %[[C:[^ ]*]]: ![[T_KV]]
func.func @heads(%cache: !kv) -> (!kvcache.cache<2S x ?B x 16N x 4H x 128D x bf16, strides = [N = 1024]>, !kvcache.cache<2S x ?B x 16N x 1H x 128D x bf16, strides = [N = 1024]>, !kv) {
  // CHECK: kvcache.heads %[[C]][4, 4] : ![[T_KV]]{{$}}
  %0 = kvcache.heads %cache[4, 4] : !kv
  // CHECK: kvcache.heads %[[C]][7, 1] {tag} : ![[T_KV]]{{$}}
  %1 = kvcache.heads %cache[7, 1] {tag} : !kv
  // CHECK: kvcache.heads %[[C]][0, 8] : ![[T_KV]]{{$}}
  %2 = kvcache.heads %cache[0, 8] : !kv
  return %0, %1, %2 : !kvcache.cache<2S x ?B x 16N x 4H x 128D x bf16, strides = [N = 1024]>, !kvcache.cache<2S x ?B x 16N x 1H x 128D x bf16, strides = [N = 1024]>, !kv
}

// The base of a part is as aligned as its offset is: 4 elements of 2 bytes.

// CHECK-LABEL: func.func @alignment_of_heads(
func.func @alignment_of_heads(%cache: !kvcache.cache<?B x 16N x 2H x 4D x bf16>) -> !kvcache.cache<?B x 16N x 1H x 4D x bf16, strides = [N = 8], align = 8> {
  // CHECK: kvcache.heads %{{.*}}[1, 1] :
  %0 = kvcache.heads %cache[1, 1] : !kvcache.cache<?B x 16N x 2H x 4D x bf16>
  return %0 : !kvcache.cache<?B x 16N x 1H x 4D x bf16, strides = [N = 8], align = 8>
}

// CHECK-LABEL: func.func @reshape_to_memref(
// CHECK-SAME: %[[K:[^ ]*]]: ![[T_K]], %[[KV:[^ ]*]]: ![[T_KV]], %[[S:[^ ]*]]: ![[T_SPLIT]])
func.func @reshape_to_memref(%k: !k, %kv: !kv, %split: !split) {
  // CHECK: kvcache.reshape %[[K]] : ![[T_K]] to memref<?x1024xbf16, strided<[1024, 1], offset: ?>>
  %0 = kvcache.reshape %k : !k to memref<?x1024xbf16, strided<[1024, 1], offset: ?>>
  // Less may be said than is known.
  // CHECK: kvcache.reshape %[[K]][B, N, H, D] {tag} : ![[T_K]] to memref<?x1024xbf16, strided<[?, 1], offset: ?>>
  %1 = kvcache.reshape %k[B, N, H, D] {tag} : !k to memref<?x1024xbf16, strided<[?, 1], offset: ?>>
  // CHECK: kvcache.reshape %[[KV]][B, S, N, H, D] : ![[T_KV]] to memref<?x2x16384xbf16, strided<[16384, ?, 1], offset: ?>>
  %2 = kvcache.reshape %kv[B, S, N, H, D] : !kv to memref<?x2x16384xbf16, strided<[16384, ?, 1], offset: ?>>
  // CHECK: kvcache.reshape %[[S]][B, N, H, D.o, D.i] : ![[T_SPLIT]] to memref<?x8x128xbf16, strided<[1024, 128, 1], offset: ?>>
  %3 = kvcache.reshape %split[B, N, H, D.o, D.i] : !split to memref<?x8x128xbf16, strided<[1024, 128, 1], offset: ?>>
  return
}

// CHECK-LABEL: func.func @reshape_to_cache(
// CHECK-SAME: %[[K64:[^ ]*]]: ![[T_K64]], %[[S:[^ ]*]]: ![[T_SPLIT]])
func.func @reshape_to_cache(%coarse: !k_64, %split: !split) {
  // CHECK: %[[FINE:.*]] = kvcache.reshape %[[K64]] : ![[T_K64]] to ![[T_K]]{{$}}
  %0 = kvcache.reshape %coarse : !k_64 to !k
  // CHECK: kvcache.reshape %[[S]] {tag} : ![[T_SPLIT]] to ![[T_K]]{{$}}
  %1 = kvcache.reshape %split {tag} : !split to !k
  // CHECK: kvcache.reshape %[[FINE]] : ![[T_K]] to ![[T_SPLIT]]{{$}}
  %2 = kvcache.reshape %0 : !k to !split
  return
}

// CHECK-LABEL: func.func @flatten(
// CHECK-SAME: %[[K:[^ ]*]]: ![[T_K]], %[[MLA:[^ ]*]]: ![[T_MLA]])
func.func @flatten(%k: !k, %mla: !mla)
    -> (memref<?x8x128xbf16, strided<[1024, 128, 1], offset: ?>>, memref<256x576xf16, strided<[576, 1], offset: ?>>) {
  // CHECK: kvcache.flatten %[[K]] : ![[T_K]]{{$}}
  %0 = kvcache.flatten %k : !k
  // CHECK: kvcache.flatten %[[MLA]] {tag} : ![[T_MLA]]{{$}}
  %1 = kvcache.flatten %mla {tag} : !mla
  return %0, %1 : memref<?x8x128xbf16, strided<[1024, 128, 1], offset: ?>>, memref<256x576xf16, strided<[576, 1], offset: ?>>
}
