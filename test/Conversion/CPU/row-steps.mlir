// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Channels are computed in vectors, one after the other. Nothing contracts a
// product and a sum.
//
// RUN: kv-opt %s --convert-kvcache-to-loops --split-input-file | FileCheck %s --implicit-check-not=fastmath

// A sum of whole vectors, and one of what remains.

// CHECK-LABEL: func.func @normalize(
// CHECK: scf.parallel
// CHECK: scf.for %{{.*}} = %{{.*}} to %c4
// CHECK: %[[SUM:.*]] = scf.for %{{.*}} to %c32{{[_0-9]*}} step %c16{{[_0-9]*}} iter_args
// CHECK: vector.load {{.*}}, vector<16xbf16>
// CHECK: vector.reduction <add>, %[[SUM]] : vector<16xf32> into f32
// CHECK: vector.load {{.*}}, vector<8xbf16>
// CHECK: vector.reduction <add>, %{{.*}} : vector<8xf32> into f32
// CHECK: math.sqrt
// CHECK: arith.divf
// CHECK: scf.for %{{.*}} to %c32{{[_0-9]*}} step %c16{{[_0-9]*}} {
// CHECK: vector.store {{.*}}, vector<16xf16>
// CHECK: vector.store {{.*}}, vector<8xf16>
// CHECK-NOT: vector.store
// CHECK: return
func.func @normalize(%x: memref<?x4x40xbf16>, %w: memref<40xf32>, %out: memref<?x4x40xf16>) {
  kvcache.normalize %x by %w into %out epsilon 1.0e-06 plus_one
    : memref<?x4x40xbf16> by memref<40xf32> into memref<?x4x40xf16>
  return
}

// -----

// Both channels of a pair are read before either is written. What is not turned
// is copied, as is a row without a position.

// CHECK-LABEL: func.func @halves(
// CHECK: scf.parallel
// CHECK: scf.for %{{.*}} = %{{.*}} to %c4
// CHECK: memref.load {{.*}} : memref<?xi32>
// CHECK: arith.cmpi ult
// CHECK: scf.if
// CHECK-COUNT-4: vector.load {{.*}}, vector<12xf32>
// CHECK-COUNT-2: vector.store {{.*}}, vector<12xf32>
// CHECK: vector.store {{.*}}, vector<16xf32>
// CHECK: } else {
// CHECK-NOT: arith.mulf
// CHECK: vector.store {{.*}}, vector<16xf32>
// CHECK: vector.store {{.*}}, vector<8xf32>
// CHECK-NOT: vector.store
// CHECK: return
func.func @halves(%x: memref<?x4x40xf32>, %t: memref<?x24xf32>, %p: memref<?xi32>) {
  kvcache.rotate %x by %t at %p into %x
    : memref<?x4x40xf32> by memref<?x24xf32> at memref<?xi32> into memref<?x4x40xf32>
  return
}

// -----

// CHECK-LABEL: func.func @neighbours(
// CHECK: vector.load {{.*}}, vector<24xf32>
// CHECK: vector.deinterleave
// CHECK: vector.interleave
// CHECK: vector.store {{.*}}, vector<24xf32>
// CHECK: return
func.func @neighbours(%x: memref<?x24xf32>, %t: memref<?x24xf32>) {
  kvcache.rotate %x by %t into %x interleaved
    : memref<?x24xf32> by memref<?x24xf32> into memref<?x24xf32>
  return
}

// -----

// One loop after the other.

// CHECK-LABEL: func.func @fused(
// CHECK-NOT: kvcache
// CHECK: %[[A:.*]] = memref.alloc
// CHECK: scf.parallel
// CHECK: memref.extract_strided_metadata
// CHECK: scf.parallel
// CHECK: return
func.func @fused(%x: memref<?x24xf32>, %t: memref<?x24xf32>, %n: index) {
  kvcache.fuse {
    %a = memref.alloc(%n) : memref<?x24xf32>
    kvcache.normalize %x into %a epsilon 1.0 : memref<?x24xf32> into memref<?x24xf32>
    kvcache.rotate %a by %t into %x : memref<?x24xf32> by memref<?x24xf32> into memref<?x24xf32>
  }
  return
}
