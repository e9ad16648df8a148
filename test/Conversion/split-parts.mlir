// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-split-parts --split-input-file | FileCheck %s
// RUN: kv-opt %s --split-input-file --pass-pipeline='builtin.module(kvcache-optimize,kvcache-to-cpu)' -o /dev/null

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [S, B, N, H]>>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// Both parts are arguments, and the rest keeps its names.
// CHECK-LABEL: func.func @insert(
// CHECK-SAME: %[[POOL:.*]]: !kv_nhd {kvcache.name = "pool", kvcache.noalias}, %[[SCALES:.*]]: !kv_nhd1 {kvcache.name = "pool.scales", kvcache.noalias}, %[[SLOTS:.*]]: !kv_slots {kvcache.name = "arg1"}, %[[ROWS:.*]]: memref<?x8x128xbf16> {kvcache.name = "rows"})
func.func @insert(%pool: !kv {kvcache.name = "pool", kvcache.noalias}, %slots: !slots, %rows: memref<?x8x128xbf16> {kvcache.name = "rows"}) {
  // CHECK: kvcache.index_copy %[[ROWS]], %[[ROWS]] into %[[POOL]] scales(%[[SCALES]] : !kv_nhd1) at %[[SLOTS]]
  kvcache.index_copy %rows, %rows into %pool at %slots : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !kv at !slots
  return
}

// -----

// Slices are of both; heads that share a scale have it whole. Bits are moved part
// by part, converted ones at once.

!pool = !kvcache.cache<4L x 2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [L, S, B, N]>, order = [B, L, S, N, H, D]>
!layer = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N], strides = [B = 128]>, order = [B, S, N, H, D], strides = [B = 131072]>
!side = !kvcache.cache<?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [B, N], strides = [B = 128]>, strides = [B = 131072]>
!some = !kvcache.cache<?B x 16N x 4H x 128D x !kvcache.scaled<i8 x f32, per = [B, N], strides = [B = 128]>, strides = [B = 131072, N = 1024]>
!half = !kvcache.cache<?B x 16N x 4H x 128D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
// CHECK-LABEL: func.func @slices(
// CHECK-SAME: %[[VALUES:.*]]: !kv_cross_nhd {{.*}}, %[[SCALES:.*]]: !kv_cross_nhd1 {{.*}}, %[[LAYER:.*]]: index
func.func @slices(%pool: !pool, %l: index, %pairs: memref<?x2xi64>, %half: !half, %slots: !slots, %out: memref<?x4x128xbf16>) -> index {
  // CHECK: %[[V1:.*]] = kvcache.layer %[[VALUES]][%[[LAYER]]]
  // CHECK: %[[S1:.*]] = kvcache.layer %[[SCALES]][%[[LAYER]]]
  %layer = kvcache.layer %pool[%l] : !pool
  // CHECK: %[[V2:.*]] = kvcache.side %[[V1]][1]
  // CHECK: %[[S2:.*]] = kvcache.side %[[S1]][1]
  %side = kvcache.side %layer[1] : !layer
  // CHECK: %[[V3:.*]] = kvcache.heads %[[V2]][2, 4]
  // CHECK-NOT: kvcache.heads
  %some = kvcache.heads %side[2, 4] : !side
  // CHECK: kvcache.copy_blocks %[[VALUES]] at
  // CHECK: kvcache.copy_blocks %[[SCALES]] at
  kvcache.copy_blocks %pool at %pairs : !pool at memref<?x2xi64>
  // CHECK: kvcache.transfer %[[V2]] to %[[V2]] at
  // CHECK: kvcache.transfer %[[S2]] to %[[S2]] at
  kvcache.transfer %side to %side at %pairs : !side to !side at memref<?x2xi64>
  // CHECK: kvcache.relayout %[[V3]] source_scales(%[[S2]] : {{.*}}) into
  kvcache.relayout %some into %half : !some into !half
  // CHECK: kvcache.relayout %{{.*}} into %[[V3]] dest_scales(%[[S2]] : {{.*}})
  kvcache.relayout %half into %some : !half into !some
  // CHECK: kvcache.gather %[[V3]] scales(%[[S2]] : {{.*}}) at
  kvcache.gather %some at %slots into %out : !some at !slots into memref<?x4x128xbf16>
  // CHECK: kvcache.dim %[[VALUES]][B]
  %blocks = kvcache.dim %pool[B] : !pool
  return %blocks : index
}

// -----

// Caches are carried through branches, loops, calls and results.

!kv = !kvcache.cache<?B x 16N x 64D x !kvcache.scaled<f8E5M2 x f32, per = [B, N]>>
// CHECK-LABEL: func.func private @swap(
// CHECK-SAME: -> (!kv_nd, !kv_nd1)
func.func private @swap(%a: !kv, %b: !kv, %c: i1) -> !kv {
  // CHECK: scf.if %{{.*}} -> (!kv_nd, !kv_nd1)
  %r = scf.if %c -> !kv {
    scf.yield %a : !kv
  } else {
    scf.yield %b : !kv
  }
  // CHECK: arith.select %{{.*}} : !kv_nd
  // CHECK: arith.select %{{.*}} : !kv_nd1
  %s = arith.select %c, %r, %b : !kv
  return %s : !kv
}
// CHECK-LABEL: func.func @main
func.func @main(%a: !kv, %b: !kv, %c: i1, %blocks: memref<?xi64>) {
  // CHECK: %[[R:.*]]:2 = call @swap
  %r = call @swap(%a, %b, %c) : (!kv, !kv, i1) -> !kv
  // CHECK: clear_blocks %[[R]]#0
  // CHECK: clear_blocks %[[R]]#1
  kvcache.clear_blocks %r at %blocks : !kv at memref<?xi64>
  return
}

// -----

// Facts of both.

!any = !kvcache.cache<?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>, strides = [B = ?]>
!packed = !kvcache.cache<?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>>
// CHECK-LABEL: func.func @facts
func.func @facts(%c: !any) -> i1 {
  // CHECK: %[[A:.*]] = kvcache.has_facts %{{.*}} has !kv_nd{{.*}}
  // CHECK: %[[B:.*]] = kvcache.has_facts %{{.*}} has !kv_nd{{.*}}
  // CHECK: arith.andi %[[A]], %[[B]]
  %ok = kvcache.has_facts %c : !any has !packed
  // CHECK: kvcache.cast
  %p = kvcache.cast %c : !any to !packed
  return %ok : i1
}
