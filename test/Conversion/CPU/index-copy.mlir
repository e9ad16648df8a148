// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --convert-kvcache-to-loops --canonicalize --cse | FileCheck %s --implicit-check-not=kvcache

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// Tokens before heads: a row is one run per side, and slots are rows of one
// array. A bf16 vector of 64 bytes has 32 lanes. Tasks take parts of rows, in units of 256 bytes, and go through
// all tokens: the last row for a slot stays.

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @one_run_per_side(
// CHECK-SAME: %[[CACHE:[^ ]*]]: memref<2x?x16x8x128xbf16, strided<[?, 16384, 1024, 128, 1], offset: ?>>,
// CHECK-SAME: %[[K:[^ ]*]]: memref<?x8x128xbf16>, %[[V:[^ ]*]]: memref<?x8x128xbf16>, %[[SLOTS:[^ ]*]]: memref<?xi64>)
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK-DAG: %[[C8:.*]] = arith.constant 8 : index
// CHECK-DAG: %[[C16:.*]] = arith.constant 16 : index
// CHECK-DAG: %[[C32:.*]] = arith.constant 32 : index
// CHECK-DAG: %[[HEAD:.*]] = arith.constant 128 : index
// CHECK-DAG: %[[ROW:.*]] = arith.constant 1024 : index
// CHECK: %{{.*}}, %[[OFFSET:.*]], %[[SIZES:.*]]:5, %[[STRIDES:.*]]:5 = memref.extract_strided_metadata %[[CACHE]]

// The shortest operand decides about the number of tokens.
// CHECK-DAG: %[[NS:.*]] = memref.dim %[[SLOTS]], %[[C0]]
// CHECK-DAG: %[[NK:.*]] = memref.dim %[[K]], %[[C0]]
// CHECK-DAG: %[[NV:.*]] = memref.dim %[[V]], %[[C0]]
// CHECK-DAG: %[[MIN:.*]] = arith.minsi %[[NS]], %[[NK]]
// CHECK-DAG: %[[COUNT:.*]] = arith.minsi %[[MIN]], %[[NV]]
// CHECK-DAG: %[[LIMITED:.*]] = arith.minsi %[[SIZES]]#1, %{{.*}}
// CHECK-DAG: %[[CAPACITY:.*]] = arith.muli %[[LIMITED]], %[[C16]]
// CHECK: scf.parallel (%{{.*}}) = (%[[C0]])

// Much data is streamed past the caches.
// CHECK: arith.cmpi sgt, %{{.*}}, %c8388608 : index
// CHECK: vector.store {{.*}} {alignment = 16 : i64, nontemporal = true} : {{.*}}, vector<8xbf16>
// CHECK: llvm.fence seq_cst
// CHECK-NEXT: } else {

// Of the keys, whole rows.
// CHECK: %[[TOKENS:.*]] = arith.select %{{.*}}, %[[C0]], %[[COUNT]]
// CHECK: scf.if
// CHECK: scf.for %[[TOKEN:.*]] = %[[C0]] to %[[TOKENS]] step %[[C1]] {
// CHECK: %[[ENTRY:.*]] = memref.load %[[SLOTS]][%[[TOKEN]]]
// CHECK: %[[SLOT:.*]] = arith.index_cast %[[ENTRY]] : i64 to index
// CHECK: %[[LIVE:.*]] = arith.cmpi ult, %[[SLOT]], %[[CAPACITY]]
// CHECK-NOT: arith.divui
// CHECK-NOT: arith.remui
// CHECK: %[[AT:.*]] = arith.muli %[[SLOT]], %[[ROW]]
// CHECK: %[[TO:.*]] = arith.addi %[[OFFSET]], %[[AT]]
// CHECK: scf.if %[[LIVE]] {
// CHECK: %[[FROM:.*]] = arith.muli %[[TOKEN]], %[[ROW]]
// CHECK: scf.for %[[I:.*]] = %[[C0]] to %[[ROW]] step %[[C32]] {
// CHECK: %[[A:.*]] = arith.addi %[[FROM]], %[[I]]
// CHECK: %[[X:.*]] = vector.load %{{.*}}[%[[A]]] : {{.*}}, vector<32xbf16>
// CHECK: %[[B:.*]] = arith.addi %[[TO]], %[[I]]
// CHECK: vector.store %[[X]], %{{.*}}[%[[B]]] : {{.*}}, vector<32xbf16>

// Or parts of them.
// CHECK: } else {
// CHECK: scf.for %{{.*}} = %[[C0]] to %[[TOKENS]]
// CHECK: scf.for %[[PART:.*]] = %{{.*}} to %{{.*}} step %[[C1]] {
// CHECK: arith.muli %[[PART]], %[[HEAD]]
// CHECK: scf.for %{{.*}} = %[[C0]] to %[[HEAD]] step %[[C32]]
// CHECK: vector.store {{.*}}, vector<32xbf16>

// The values.
// CHECK: scf.for %{{.*}} = %[[C0]] to %{{.*}} step %[[C1]] {
// CHECK: arith.addi %{{.*}}, %[[STRIDES]]#0
// CHECK: scf.for %{{.*}} = %[[C0]] to %[[ROW]] step %[[C32]] {
// CHECK: vector.store {{.*}}, vector<32xbf16>
// CHECK: return
func.func @one_run_per_side(%cache: !nhd, %k: memref<?x8x128xbf16>, %v: memref<?x8x128xbf16>, %s: !slots) {
  kvcache.index_copy %k, %v into %cache at %s : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !nhd at !slots
  return
}

// Heads before tokens: a run is one head, and a slot is a block and an offset.

!hnd = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, N, D]>

// CHECK-LABEL: func.func @loop_over_heads(
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
// CHECK-DAG: %[[C8:.*]] = arith.constant 8 : index
// CHECK-DAG: %[[C16:.*]] = arith.constant 16 : index
// CHECK-DAG: %[[C32:.*]] = arith.constant 32 : index
// CHECK-DAG: %[[HEAD:.*]] = arith.constant 128 : index
// CHECK-DAG: %[[HEAD_STRIDE:.*]] = arith.constant 2048 : index
// A block spans 16384, of which its 16 tokens take 2048.
// CHECK-DAG: %[[GAP:.*]] = arith.constant 14336 : index
// CHECK: llvm.fence seq_cst
// CHECK: %[[SLOT:.*]] = arith.index_cast %{{.*}} : i64 to index
// CHECK: arith.muli %[[SLOT]], %[[HEAD]]
// CHECK: %[[BLOCK:.*]] = arith.divui %[[SLOT]], %[[C16]]
// CHECK: arith.muli %[[BLOCK]], %[[GAP]]
// CHECK: scf.for %[[H:.*]] = %[[C0]] to %[[C8]] step %[[C1]] {
// CHECK-DAG: arith.muli %[[H]], %[[HEAD_STRIDE]]
// CHECK-DAG: arith.muli %[[H]], %[[HEAD]]
// CHECK: scf.for %{{.*}} = %[[C0]] to %[[HEAD]] step %[[C32]] {
// CHECK: vector.load {{.*}}, vector<32xbf16>
// CHECK: vector.store {{.*}}, vector<32xbf16>
func.func @loop_over_heads(%cache: !hnd, %k: memref<?x8x128xbf16>, %s: !slots) {
  kvcache.index_copy %k into %cache at %s : memref<?x8x128xbf16> into !hnd at !slots
  return
}

// Blocks that are further apart than their tokens, and rows that are further
// apart than their elements.

!doubled = !kvcache.cache<?B x 16N x 16D x f32, strides = [B = 512]>

// CHECK-LABEL: func.func @doubled_block_stride(
// CHECK-SAME: %[[CACHE:[^ ]*]]: memref<?x16x16xf32, strided<[512, 16, 1], offset: ?>>, %[[ROWS:[^ ]*]]: memref
// CHECK-DAG: %[[C16:.*]] = arith.constant 16 : index
// CHECK-DAG: %[[GAP:.*]] = arith.constant 256 : index
// CHECK: %{{.*}}, %[[OFFSET:.*]], %{{.*}}:2, %[[STRIDES:.*]]:2 = memref.extract_strided_metadata %[[ROWS]]
// CHECK: llvm.fence seq_cst
// CHECK: scf.for %[[TOKEN:.*]] =
// CHECK: %[[SLOT:.*]] = arith.index_cast
// CHECK: arith.muli %[[SLOT]], %[[C16]]
// CHECK: %[[BLOCK:.*]] = arith.divui %[[SLOT]], %[[C16]]
// CHECK: arith.muli %[[BLOCK]], %[[GAP]]
// CHECK: %[[AT:.*]] = arith.muli %[[TOKEN]], %[[STRIDES]]#0
// CHECK: arith.addi %[[OFFSET]], %[[AT]]
// CHECK-NOT: scf.for
// CHECK: vector.load {{.*}}, vector<16xf32>
// CHECK: vector.store {{.*}}, vector<16xf32>
func.func @doubled_block_stride(%cache: !doubled, %rows: memref<?x16xf32, strided<[?, 1], offset: ?>>, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s : memref<?x16xf32, strided<[?, 1], offset: ?>> into !doubled at !slots
  return
}

// A block stride that is known only at run time: nothing proves where stores
// that stream would be aligned.

!dynamic = !kvcache.cache<?B x 16N x 16D x f32, strides = [B = ?]>

// CHECK-LABEL: func.func @run_time_block_stride(
// CHECK-SAME: %[[CACHE:[^ ]*]]: memref<?x16x16xf32, strided<[?, 16, 1], offset: ?>>
// CHECK-NOT: nontemporal
// CHECK: %{{.*}}, %{{.*}}, %{{.*}}:3, %[[STRIDES:.*]]:3 = memref.extract_strided_metadata %[[CACHE]]
// CHECK: %[[SLOT:.*]] = arith.index_cast
// CHECK: %[[GAP:.*]] = arith.addi %[[STRIDES]]#0, %c-256
// CHECK: %[[BLOCK:.*]] = arith.divui %[[SLOT]]
// CHECK: arith.muli %[[BLOCK]], %[[GAP]]
// CHECK-NOT: nontemporal
// CHECK: return
func.func @run_time_block_stride(%cache: !dynamic, %rows: memref<?x16xf32>, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s : memref<?x16xf32> into !dynamic at !slots
  return
}

// 37 channels are 32, 4 and 1.

!odd = !kvcache.cache<?B x 16N x 37D x f16, align = 2>

// CHECK-LABEL: func.func @odd_channels(
// CHECK-DAG: %[[C32:.*]] = arith.constant 32 : index
// CHECK-DAG: %[[C36:.*]] = arith.constant 36 : index
// CHECK: vector.load {{.*}}, vector<32xf16>
// CHECK: vector.store {{.*}}, vector<32xf16>
// CHECK: %[[A:.*]] = arith.addi %{{.*}}, %[[C32]]
// CHECK: vector.load %{{.*}}[%[[A]]] : {{.*}}, vector<4xf16>
// CHECK: vector.store {{.*}}, vector<4xf16>
// CHECK: %[[B:.*]] = arith.addi %{{.*}}, %[[C36]]
// CHECK: vector.load %{{.*}}[%[[B]]] : {{.*}}, vector<1xf16>
// CHECK: vector.store {{.*}}, vector<1xf16>
// CHECK-NOT: vector.store
// CHECK: return
func.func @odd_channels(%cache: !odd, %rows: memref<?x37xf16>, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s : memref<?x37xf16> into !odd at !slots
  return
}

// Channels that are split in the cache are gathered from one row: 16 groups of
// 8 channels, for each of 8 heads.

!split = !kvcache.cache<?B x 16N x 8H x 16D.o x 8D.i x f16, order = [B, H, D.o, N, D.i]>

// CHECK-LABEL: func.func @split_channels(
// CHECK-DAG: %[[C8:.*]] = arith.constant 8 : index
// CHECK-DAG: %[[C16:.*]] = arith.constant 16 : index
// CHECK-DAG: %[[C128:.*]] = arith.constant 128 : index
// CHECK-DAG: %[[C2048:.*]] = arith.constant 2048 : index
// CHECK: scf.for %[[H:.*]] = %{{.*}} to %[[C8]]
// CHECK-DAG: arith.muli %[[H]], %[[C2048]]
// CHECK-DAG: arith.muli %[[H]], %[[C128]]
// CHECK: scf.for %[[D:.*]] = %{{.*}} to %[[C16]]
// CHECK-DAG: arith.muli %[[D]], %[[C128]]
// CHECK-DAG: arith.muli %[[D]], %[[C8]]
// CHECK: vector.load {{.*}}, vector<8xf16>
// CHECK: vector.store {{.*}}, vector<8xf16>
func.func @split_channels(%cache: !split, %rows: memref<?x8x128xf16>, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s : memref<?x8x128xf16> into !split at !slots
  return
}

// Slots of 32 bits are signed, so that padding stays negative.

!slots32 = !kvcache.slots<?T x i32, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @narrow_slots(
// CHECK: %[[ENTRY:.*]] = memref.load %{{.*}} : memref<?xi32>
// CHECK: %[[SLOT:.*]] = arith.index_cast %[[ENTRY]] : i32 to index
// CHECK: arith.cmpi ult, %[[SLOT]]
func.func @narrow_slots(%cache: !odd, %rows: memref<?x37xf16>, %s: !slots32) {
  kvcache.index_copy %rows into %cache at %s : memref<?x37xf16> into !odd at !slots32
  return
}
