// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Views, and values of our types that cross functions and regions.
//
// RUN: kv-opt %s --convert-kvcache-to-loops --canonicalize --cse | FileCheck %s --implicit-check-not=kvcache

!kv = !kvcache.cache<2S x ?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// The dimensions change places, and no element does.

// CHECK-LABEL: func.func @named_axes(
// CHECK-SAME: %[[POOL:[^ ]*]]: memref<?x2x16x64xf32, strided<[1024, ?, 64, 1], offset: ?>>)
// CHECK: %{{.*}}, %[[OFFSET:.*]], %[[SIZES:.*]]:4, %[[STRIDES:.*]]:4 = memref.extract_strided_metadata %[[POOL]]
// CHECK: %[[VIEW:.*]] = memref.reinterpret_cast %[[POOL]] to offset: [%[[OFFSET]]], sizes: [2, %[[SIZES]]#0, 16, 64], strides: [%[[STRIDES]]#1, 1024, 64, 1]
// CHECK: return %[[VIEW]] : memref<2x?x16x64xf32, strided<[?, 1024, 64, 1], offset: ?>>
func.func @named_axes(%pool: memref<?x2x16x64xf32, strided<[1024, ?, 64, 1], offset: ?>>) -> !kv {
  %0 = kvcache.view %pool[B, S, N, D] : memref<?x2x16x64xf32, strided<[1024, ?, 64, 1], offset: ?>> to !kv
  return %0 : !kv
}

// A view of bytes checks what it is told: the offset and its alignment, the end,
// and the number of blocks. One that fails is reported and has no blocks.

// CHECK-LABEL: func.func @bytes(
// CHECK-SAME: %[[BYTES:[^ ]*]]: memref<?xi8>, %[[OFFSET:[^ ]*]]: index, %[[N:[^ ]*]]: index) -> memref<?x16x64xf32, strided<[1024, 64, 1], offset: ?>>
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C32:.*]] = arith.constant 32 : index
// CHECK-DAG: %[[MOST:.*]] = arith.constant 1099511627776 : index
// CHECK-DAG: arith.cmpi ule, %[[N]], %[[MOST]]
// CHECK-DAG: %[[LENGTH:.*]] = memref.dim %[[BYTES]], %[[C0]]
// CHECK-DAG: %[[START:.*]] = arith.maxsi %[[OFFSET]], %[[C0]]
// CHECK-DAG: %[[LIMITED:.*]] = arith.minsi %[[START]], %
// CHECK-DAG: %[[END:.*]] = arith.addi %[[LIMITED]], %
// CHECK-DAG: arith.cmpi sge, %[[OFFSET]], %[[C0]]
// CHECK-DAG: arith.cmpi sge, %[[LENGTH]], %[[END]]
// CHECK-DAG: %[[REST:.*]] = arith.remui %[[OFFSET]], %[[C32]]
// CHECK-DAG: arith.cmpi eq, %[[REST]], %[[C0]]
// CHECK: %[[FAILS:.*]] = arith.xori %[[FITS:.*]], %{{.*}} : i1
// CHECK: scf.if %[[FAILS]] {
// CHECK: func.call @kvrt_report_view(%[[C0]], %[[OFFSET]], %[[END]], %[[LENGTH]])
// CHECK: %[[SAFE:.*]] = arith.select %[[FITS]], %[[OFFSET]], %[[C0]]
// CHECK: %[[TYPED:.*]] = memref.view %[[BYTES]][%[[SAFE]]][%{{.*}}] : memref<?xi8> to memref<?xf32>
// CHECK: %[[BLOCKS:.*]] = arith.select %[[FITS]], %{{.*}}, %[[C0]]
// CHECK: memref.reinterpret_cast %[[TYPED]] to offset: [0], sizes: [%[[BLOCKS]], 16, 64], strides: [1024, 64, 1]
func.func @bytes(%bytes: memref<?xi8>, %offset: index, %n: index) -> !kvcache.cache<?B x 16N x 64D x f32, align = 32> {
  %0 = kvcache.view %bytes offset(%offset) extents(B = %n) : memref<?xi8> to !kvcache.cache<?B x 16N x 64D x f32, align = 32>
  return %0 : !kvcache.cache<?B x 16N x 64D x f32, align = 32>
}

// A stride that is known at run time is checked against what the type promises.

// CHECK-LABEL: func.func @bytes_with_stride(
// CHECK-SAME: %[[BYTES:[^ ]*]]: memref<?xi8>, %[[N:[^ ]*]]: index, %[[STRIDE:[^ ]*]]: index)
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C8:.*]] = arith.constant 8 : index
// CHECK-DAG: %[[C1024:.*]] = arith.constant 1024 : index
// CHECK-DAG: %[[GIVEN:.*]] = arith.minui %[[STRIDE]], %
// CHECK-DAG: %[[REST:.*]] = arith.remui %[[GIVEN]], %[[C8]]
// CHECK-DAG: arith.cmpi eq, %[[REST]], %[[C0]]
// The stride of one block alone is not looked at.
// CHECK-DAG: %[[OWN:.*]] = arith.select %{{.*}}, %[[C1024]], %[[GIVEN]]
// CHECK-DAG: arith.cmpi sge, %[[OWN]], %[[C1024]]
// CHECK: scf.if
// CHECK: memref.reinterpret_cast %{{.*}} to offset: [0], sizes: [%{{.*}}, 16, 64], strides: [%[[OWN]], 64, 1]
func.func @bytes_with_stride(%bytes: memref<?xi8>, %n: index, %stride: index) -> !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ? mult 8]> {
  %0 = kvcache.view %bytes extents(B = %n) strides(B = %stride) : memref<?xi8> to !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ? mult 8]>
  return %0 : !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ? mult 8]>
}

// CHECK-LABEL: func.func @slots(
// CHECK-SAME: %[[T:[^ ]*]]: memref<?xi64>) -> memref<?xi64>
// CHECK-NEXT: return %[[T]] : memref<?xi64>
func.func @slots(%t: memref<?xi64>) -> !slots {
  %0 = kvcache.make_slots %t : memref<?xi64> to !slots
  return %0 : !slots
}

// CHECK-LABEL: func.func @through_calls_and_regions(
// CHECK-SAME: %[[A:[^ ]*]]: memref<2x?x16x64xf32, strided<[?, 1024, 64, 1], offset: ?>>, %[[B:[^ ]*]]: memref<2x?x16x64xf32, strided<[?, 1024, 64, 1], offset: ?>>, %[[C:[^ ]*]]: i1)
// CHECK: %[[CHOSEN:.*]] = scf.if %[[C]] -> (memref<2x?x16x64xf32, strided<[?, 1024, 64, 1], offset: ?>>) {
// CHECK: %[[RESULT:.*]] = func.call @callee(%[[A]]) : (memref<2x?x16x64xf32, strided<[?, 1024, 64, 1], offset: ?>>) -> memref<2x?x16x64xf32, strided<[?, 1024, 64, 1], offset: ?>>
// CHECK: scf.yield %[[RESULT]]
// CHECK: scf.yield %[[B]]
// CHECK: return %[[CHOSEN]]
func.func @through_calls_and_regions(%a: !kv, %b: !kv, %condition: i1) -> !kv {
  %0 = scf.if %condition -> !kv {
    %1 = func.call @callee(%a) : (!kv) -> !kv
    scf.yield %1 : !kv
  } else {
    scf.yield %b : !kv
  }
  return %0 : !kv
}
// CHECK: func.func private @callee(memref<2x?x16x64xf32, strided<[?, 1024, 64, 1], offset: ?>>) -> memref<2x?x16x64xf32, strided<[?, 1024, 64, 1], offset: ?>>
func.func private @callee(!kv) -> !kv

// A layer and a side keep the strides of their own axes where the number of
// blocks is known in the call only.

// CHECK-LABEL: func.func @other_block_size(
// CHECK-DAG: %[[C2:.*]] = arith.constant 2 : index
// CHECK-DAG: %[[C16:.*]] = arith.constant 16 : index
// CHECK-DAG: %[[C32:.*]] = arith.constant 32 : index
// CHECK-DAG: %{{.*}}, %{{.*}}, %[[SIZES:.*]]:6, %{{.*}}:6 = memref.extract_strided_metadata
// CHECK-DAG: %[[BLOCKS:.*]] = arith.muli %[[SIZES]]#2, %[[C2]]
// CHECK-DAG: %[[SIDE:.*]] = arith.muli %[[SIZES]]#2, %[[C16]]
// CHECK-DAG: %[[LAYER:.*]] = arith.muli %[[SIZES]]#2, %[[C32]]
// CHECK: memref.reinterpret_cast %{{.*}} sizes: [3, 2, %[[BLOCKS]], 2, 1, 4], strides: [%[[LAYER]], %[[SIDE]], 8, 4, 4, 1]
!pool = !kvcache.cache<3L x 2S x ?B x 4N x 1H x 4D x f32, align = 4>
!fine = !kvcache.cache<3L x 2S x ?B x 2N x 1H x 4D x f32, align = 4>
func.func @other_block_size(%pool: !pool) -> !fine {
  %0 = kvcache.reshape %pool : !pool to !fine
  return %0 : !fine
}

// The stride of the one head is that of its type, not that of its neighbour.

// CHECK-LABEL: func.func @one_head(
// CHECK: memref.reinterpret_cast %{{.*}} sizes: [%{{.*}}, 2, 1, 8], strides: [16, 8, 16, 1]
!heads_first = !kvcache.cache<?B x 4N x 1H x 8D x f16, order = [B, H, N, D]>
!halves = !kvcache.cache<?B x 2N x 1H x 8D x f16, order = [B, H, N, D]>
func.func @one_head(%pool: !heads_first) -> !halves {
  %0 = kvcache.reshape %pool : !heads_first to !halves
  return %0 : !halves
}

// The stride of an axis of extent 1 is never used, so types may differ in it.

!gaps = !kvcache.cache<?B x 16N x 64D x f32, strides = [B = 2048]>
!one = !kvcache.cache<1B x 16N x 64D x f32>

// CHECK-LABEL: func.func @one_of_many(
// CHECK-SAME: %[[POOL:[^ ]*]]: memref<?x16x64xf32, strided<[2048, 64, 1], offset: ?>>)
// CHECK: memref.reinterpret_cast %[[POOL]] to offset: [%{{.*}}], sizes: [1, 16, 64], strides: [1024, 64, 1]
// CHECK-SAME: to memref<1x16x64xf32, strided<[1024, 64, 1], offset: ?>>
func.func @one_of_many(%c: !gaps) -> !one {
  %0 = kvcache.cast %c : !gaps to !one
  return %0 : !one
}

// CHECK-LABEL: func.func @one_as_many(
// CHECK: memref.reinterpret_cast {{.*}}strides: [2048, 64, 1]
// CHECK: return %{{.*}} : memref<?x16x64xf32, strided<[2048, 64, 1], offset: ?>>
func.func @one_as_many(%c: !one) -> !gaps {
  %0 = kvcache.cast %c : !one to !gaps
  return %0 : !gaps
}

// CHECK-LABEL: func.func @storage_of_one(
// CHECK: memref.reinterpret_cast {{.*}}sizes: [1, 16, 64], strides: [2048, 64, 1]
// CHECK: return %{{.*}} : memref<1x16x64xf32, strided<[2048, 64, 1], offset: 1>>
func.func @storage_of_one(%c: !one) -> memref<1x16x64xf32, strided<[2048, 64, 1], offset: 1>> {
  %0 = kvcache.storage %c : !one to memref<1x16x64xf32, strided<[2048, 64, 1], offset: 1>>
  return %0 : memref<1x16x64xf32, strided<[2048, 64, 1], offset: 1>>
}

// The stride of an axis of one index is the compact one, also where that is
// known in the call only: nobody looks at the one of the memref.

// CHECK-LABEL: func.func @stride_of_one_index(
// CHECK: %[[BYTES:.*]], %[[O:.*]], %[[N:.*]]:6, %[[S:.*]]:6 = memref.extract_strided_metadata
// CHECK-NEXT: %[[STRIDE:.*]] = arith.muli %[[N]]#0, %c2048
// CHECK-NEXT: return %[[STRIDE]]
!outer_side = !kvcache.cache<?L x 1S x ?B x 16N x 2H x 64D x f32, order = [B, S, L, N, H, D]>
func.func @stride_of_one_index(%c: !outer_side) -> index {
  %s = kvcache.stride %c[S] : !outer_side
  return %s : index
}
