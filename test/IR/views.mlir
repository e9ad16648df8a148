// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s | FileCheck %s
// RUN: kv-opt %s | kv-opt | FileCheck %s
// RUN: kv-opt %s --mlir-print-op-generic | kv-opt | FileCheck %s
// RUN: kv-opt %s --emit-bytecode | kv-opt | FileCheck %s

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!any = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = ?], align = 2>
!cross = !kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16, order = [B, L, S, N, H, D]>
!cross_hnd = !kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16, order = [B, H, L, S, N, D]>

// The block stride of the whole pool stays, as a fact of the type.
// CHECK-DAG: ![[CROSS:.*]] = !kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16, order = [B, L, S, N, H, D]>
// CHECK-DAG: ![[LAYER:.*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = 1048576]>
// CHECK-DAG: ![[KEY:.*]] = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = 1048576]>
// CHECK-DAG: ![[HND:.*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, H, S, N, D], strides = [H = 131072]>
// CHECK-DAG: ![[ANY:.*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = ?], align = 2>
// CHECK-DAG: !{{.*}} = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, access = read>
// CHECK-DAG: ![[KV:.*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @slices(
// CHECK-SAME: %[[C:.*]]: ![[CROSS]], %[[D:.*]]: !{{.*}}, %[[I:.*]]: index) -> (![[LAYER]], ![[KEY]], ![[HND]])
func.func @slices(%cache: !cross, %hnd: !cross_hnd, %i: index)
    -> (!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = 1048576]>,
        !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = 1048576]>,
        !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, H, S, N, D], strides = [H = 131072]>) {
  // CHECK: %[[L:.*]] = kvcache.layer %[[C]][%[[I]]] : ![[CROSS]]
  %layer = kvcache.layer %cache[%i] : !cross
  // CHECK: kvcache.side %[[L]][0] : ![[LAYER]]
  %key = kvcache.side %layer[0] : !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = 1048576]>
  // CHECK: kvcache.layer %[[D]][%[[I]]] :
  %other = kvcache.layer %hnd[%i] : !cross_hnd
  return %layer, %key, %other
    : !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = 1048576]>,
      !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = 1048576]>,
      !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, H, S, N, D], strides = [H = 131072]>
}

// CHECK-LABEL: func.func @storage(
func.func @storage(%cache: !kv) {
  // CHECK: kvcache.storage %{{.*}} : ![[KV]] to memref<2x?x16x8x128xbf16>
  %a = kvcache.storage %cache : !kv to memref<2x?x16x8x128xbf16>
  // CHECK: kvcache.storage %{{.*}}[B, S, N, H, D] : ![[KV]] to memref<?x2x16x8x128xbf16, strided<[16384, ?, 1024, 128, 1], offset: ?>>
  %b = kvcache.storage %cache[B, S, N, H, D]
    : !kv to memref<?x2x16x8x128xbf16, strided<[16384, ?, 1024, 128, 1], offset: ?>>
  return
}

// CHECK-LABEL: func.func @facts(
func.func @facts(%cache: !any) -> (i1, index, index) {
  // CHECK: kvcache.has_facts %{{.*}} : ![[ANY]] has ![[KV]]
  %ok = kvcache.has_facts %cache : !any has !kv
  // CHECK: kvcache.cast %{{.*}} : ![[ANY]] to ![[KV]]
  %kv = kvcache.cast %cache : !any to !kv
  // CHECK: kvcache.dim %{{.*}}[B] : ![[KV]]
  %n = kvcache.dim %kv[B] : !kv
  // CHECK: kvcache.stride %{{.*}}[B] : ![[ANY]]
  %s = kvcache.stride %cache[B] : !any
  return %ok, %n, %s : i1, index, index
}

// CHECK-LABEL: func.func @reader(
// CHECK-SAME: -> !{{.*}}
func.func @reader(%cache: !kv) -> !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, access = read> {
  // CHECK: kvcache.cast %{{.*}} : ![[KV]] to
  %r = kvcache.cast %cache : !kv to !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, access = read>
  return %r : !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, access = read>
}

// Where code is not reachable, a value may be its own source.
// CHECK: kvcache.view %{{.*}} : memref<2x?x16x8x128xbf16> to ![[KV]]
%m = memref.cast %m : memref<2x?x16x8x128xbf16> to memref<2x?x16x8x128xbf16>
%ring = kvcache.view %m : memref<2x?x16x8x128xbf16> to !kv
