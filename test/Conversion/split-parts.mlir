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

// Slices are of both; heads that share a scale have it whole, and are read-only.
// Bits are moved part by part, converted ones at once.

!pool = !kvcache.cache<4L x 2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [L, S, B, N]>, order = [B, L, S, N, H, D]>
!layer = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N], strides = [B = 128]>, order = [B, S, N, H, D], strides = [B = 131072]>
!side = !kvcache.cache<?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [B, N], strides = [B = 128]>, strides = [B = 131072]>
!some = !kvcache.cache<?B x 16N x 4H x 128D x !kvcache.scaled<i8 x f32, per = [B, N], strides = [B = 128]>, strides = [B = 131072, N = 1024], access = read>
!whole = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!half = !kvcache.cache<?B x 16N x 4H x 128D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
// CHECK-LABEL: func.func @slices(
// CHECK-SAME: %[[VALUES:.*]]: !kv_cross_nhd {{.*}}, %[[SCALES:.*]]: !kv_cross_nhd1 {{.*}}, %[[LAYER:.*]]: index
func.func @slices(%pool: !pool, %l: index, %pairs: memref<?x2xi64>, %half: !half, %slots: !slots, %out: memref<?x4x128xbf16>, %whole: !whole) -> index {
  // CHECK: %[[V1:.*]] = kvcache.layer %[[VALUES]][%[[LAYER]]]
  // CHECK: %[[S1:.*]] = kvcache.layer %[[SCALES]][%[[LAYER]]]
  %layer = kvcache.layer %pool[%l] : !pool
  // CHECK: %[[V2:.*]] = kvcache.side %[[V1]][1]
  // CHECK: %[[S2:.*]] = kvcache.side %[[S1]][1]
  %side = kvcache.side %layer[1] : !layer
  // CHECK: %[[V3W:.*]] = kvcache.heads %[[V2]][2, 4]
  // CHECK: %[[V3:.*]] = kvcache.cast %[[V3W]] :
  // CHECK: %[[S3:.*]] = kvcache.cast %[[S2]] :
  // CHECK-NOT: kvcache.heads
  %some = kvcache.heads %side[2, 4] : !side
  // CHECK: kvcache.copy_blocks %[[VALUES]] at
  // CHECK: kvcache.copy_blocks %[[SCALES]] at
  kvcache.copy_blocks %pool at %pairs : !pool at memref<?x2xi64>
  // CHECK: kvcache.transfer %[[V2]] to %[[V2]] at
  // CHECK: kvcache.transfer %[[S2]] to %[[S2]] at
  kvcache.transfer %side to %side at %pairs : !side to !side at memref<?x2xi64>
  // CHECK: kvcache.relayout %[[V3]] source_scales(%[[S3]] : {{.*}}) into
  kvcache.relayout %some into %half : !some into !half
  // CHECK: kvcache.relayout %{{.*}} into %[[V2]] dest_scales(%[[S2]] : {{.*}})
  kvcache.relayout %whole into %side : !whole into !side
  // CHECK: kvcache.gather %[[V3]] scales(%[[S3]] : {{.*}}) at
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

// -----

// Given scales are read where rows are written, and stay where they are when
// blocks move. A layer that is not there has no blocks, and the scales of another
// one.

!pool = !kvcache.cache<4L x 2S x ?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [L, H]>>
!layer = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [H]>>
!side = !kvcache.cache<?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [H]>>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
// CHECK-LABEL: func.func @given(
// CHECK-SAME: %[[VALUES:.*]]: !kv_cross_nhd {{.*}}, %[[SCALES:.*]]: !kv_cross_nhd1 {kvcache.name = "arg0.scales"}, %[[LAYER:.*]]: index
func.func @given(%pool: !pool, %l: index, %pairs: memref<?x2xi64>, %blocks: memref<?xi32>, %slots: !slots, %rows: memref<?x8x128xbf16>, %to: !side) {
  // CHECK: %[[V:.*]] = kvcache.layer %[[VALUES]][%[[LAYER]]] :
  // CHECK: %[[S:.*]] = kvcache.layer %[[SCALES]][%[[LAYER]]] nearest :
  %layer = kvcache.layer %pool[%l] : !pool
  // CHECK: kvcache.index_copy %{{.*}} into %[[V]] scales(%[[S]] :
  kvcache.index_copy %rows, %rows into %layer at %slots : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !layer at !slots
  // CHECK-NEXT: kvcache.copy_blocks %[[V]] at
  // CHECK-NEXT: kvcache.clear_blocks %[[V]] at
  // CHECK-NEXT: kvcache.transfer %[[V]] to %[[V]] at
  kvcache.copy_blocks %layer at %pairs : !layer at memref<?x2xi64>
  kvcache.clear_blocks %layer at %blocks : !layer at memref<?xi32>
  kvcache.transfer %layer to %layer at %pairs : !layer to !layer at memref<?x2xi64>
  // CHECK-NEXT: %[[V1:.*]] = kvcache.side %[[V]][1]
  // CHECK-NEXT: %[[S1:.*]] = kvcache.side %[[S]][0]
  %values = kvcache.side %layer[1] : !layer
  // Also of one format, elements are converted: from one scale to another.
  // CHECK-NEXT: kvcache.relayout %[[V1]] source_scales(%[[S1]] : {{.*}}) into %{{.*}} dest_scales(%{{.*}})
  kvcache.relayout %values into %to : !side into !side
  return
}

// -----

// One for all: the first layer of scales is the only one, and a constant index
// needs nothing.

!pool = !kvcache.cache<?L x ?B x 16N x 64D x !kvcache.scaled<i8 x f32>>
!some = !kvcache.cache<2L x ?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [L]>>
// CHECK-LABEL: func.func @one
func.func @one(%pool: !pool, %some: !some, %l: index, %blocks: memref<?xi32>) {
  %one = arith.constant 1 : index
  // CHECK: %[[ZERO:.*]] = arith.constant 0 : index
  // CHECK: kvcache.layer %{{.*}}[%[[ZERO]]] :
  %a = kvcache.layer %pool[%l] : !pool
  // CHECK: kvcache.layer %{{.*}}[%{{.*}}] :
  // CHECK: kvcache.layer %{{.*}}[%{{.*}}] :
  %b = kvcache.layer %some[%one] : !some
  return
}

// -----

// Blocks of another size, of both parts; given scales have none.

!kv = !kvcache.cache<?B x 16N x 2H x 64D x !kvcache.scaled<i8 x f32, per = [B, N, H], strides = [H = 17]>, strides = [H = 68], align = 4>
!fine = !kvcache.cache<?B x 8N x 2H x 64D x !kvcache.scaled<i8 x f32, per = [B, N, H], strides = [H = 17]>, strides = [H = 68], align = 4>
!given = !kvcache.cache<?B x 16N x 2H x 64D x !kvcache.scaled<i8 x f32, per = [H]>>
!fine_given = !kvcache.cache<?B x 8N x 2H x 64D x !kvcache.scaled<i8 x f32, per = [H]>>
// CHECK-LABEL: func.func @reshape(
func.func @reshape(%a: !kv, %b: !given, %blocks: memref<?xi32>, %out: memref<?x2x64xf32>,
                   %slots: !kvcache.slots<?T x i64, rows_per_block = 8, pad = none>) {
  // CHECK: %[[A:.*]] = kvcache.reshape %{{.*}}arg0 : !kv_nhd
  // CHECK: %[[AS:.*]] = kvcache.reshape %{{.*}}arg1 : !kv_nhd
  %x = kvcache.reshape %a : !kv to !fine
  // CHECK: kvcache.clear_blocks %[[A]] at
  // CHECK: kvcache.clear_blocks %[[AS]] at
  kvcache.clear_blocks %x at %blocks : !fine at memref<?xi32>
  // CHECK: %[[B:.*]] = kvcache.reshape %{{.*}}arg2 : !kv_nhd
  // CHECK-NOT: kvcache.reshape
  %y = kvcache.reshape %b : !given to !fine_given
  // CHECK: kvcache.gather %[[B]] scales(%{{.*}}arg3 :
  kvcache.gather %y at %slots into %out : !fine_given at !kvcache.slots<?T x i64, rows_per_block = 8, pad = none> into memref<?x2x64xf32>
  return
}
