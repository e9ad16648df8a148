// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Formats of one byte: memrefs keep their element type, and values become f32
// by way of f16, and bytes in integers. What has one format on both sides is
// copied, 64 bytes at a time.
//
// RUN: kv-opt %s --convert-kvcache-to-loops | FileCheck %s

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!f8 = !kvcache.cache<?B x 16N x 8H x 128D x f8E4M3FN>
!wide = !kvcache.cache<?B x 16N x 8H x 128D x f8E5M2>

// CHECK-LABEL: func.func @write(
// CHECK-SAME: memref<?x16x8x128xf8E4M3FN, strided<[16384, 1024, 128, 1], offset: ?>>
// CHECK: %[[ROW:.*]] = vector.load {{.*}} : memref<?xbf16>, vector<32xbf16>
// CHECK: %[[X:.*]] = arith.extf %[[ROW]] : vector<32xbf16> to vector<32xf32>
// CHECK: %[[BITS:.*]] = arith.bitcast %[[X]] : vector<32xf32> to vector<32xi32>
// CHECK: arith.addf {{.*}} : vector<32xf32>
// CHECK: %[[BYTES:.*]] = arith.trunci {{.*}} : vector<32xi32> to vector<32xi8>
// CHECK: %[[F8:.*]] = arith.bitcast %[[BYTES]] : vector<32xi8> to vector<32xf8E4M3FN>
// CHECK: vector.store %[[F8]]
func.func @write(%cache: !f8, %rows: memref<?x8x128xbf16>, %slots: !slots) {
  kvcache.index_copy %rows into %cache at %slots : memref<?x8x128xbf16> into !f8 at !slots
  return
}

// CHECK-LABEL: func.func @read(
// CHECK: %[[F8:.*]] = vector.load {{.*}} : memref<?xf8E5M2>, vector<16xf8E5M2>
// CHECK: %[[BYTES:.*]] = arith.bitcast %[[F8]] : vector<16xf8E5M2> to vector<16xi8>
// CHECK: %[[WIDE:.*]] = arith.extui %[[BYTES]] : vector<16xi8> to vector<16xi16>
// CHECK: %[[UP:.*]] = arith.shli %[[WIDE]], {{.*}} : vector<16xi16>
// CHECK: %[[HALF:.*]] = arith.bitcast %[[UP]] : vector<16xi16> to vector<16xf16>
// CHECK: %[[X:.*]] = arith.extf %[[HALF]] : vector<16xf16> to vector<16xf32>
// CHECK: vector.store %[[X]]
func.func @read(%cache: !wide, %rows: memref<?x8x128xf32>, %slots: !slots) {
  kvcache.gather %cache at %slots into %rows : !wide at !slots into memref<?x8x128xf32>
  return
}

// CHECK-LABEL: func.func @copy(
// CHECK-NOT: arith.ext
// CHECK: vector.load {{.*}} : memref<?xf8E4M3FN>, vector<64xf8E4M3FN>
// CHECK-NOT: arith.ext
// CHECK: vector.store {{.*}} : memref<?xf8E4M3FN>, vector<64xf8E4M3FN>
func.func @copy(%cache: !f8, %rows: memref<?x8x128xf8E4M3FN>, %slots: !slots) {
  kvcache.index_copy %rows into %cache at %slots : memref<?x8x128xf8E4M3FN> into !f8 at !slots
  return
}

// Both ways at once.

// CHECK-LABEL: func.func @between(
// CHECK: arith.extsi {{.*}} : vector<64xi8> to vector<64xi16>
// CHECK: arith.trunci {{.*}} : vector<64xi32> to vector<64xi8>
func.func @between(%from: !f8, %to: !wide) {
  kvcache.relayout %from into %to : !f8 into !wide
  return
}
