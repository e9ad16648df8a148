// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The addresses of keys. Of the table one entry is loaded per block, and behind
// it there is no division: not for the keys of the block, nor for channels.
//
// RUN: kv-opt %s --convert-kvcache-to-loops --canonicalize --cse | FileCheck %s --implicit-check-not=kvcache
// RUN: kv-opt %s --convert-kvcache-to-loops --canonicalize --cse | FileCheck %s --check-prefix=WEIGHTS

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// A weight below 2^-126 is 0, before any product: those with subnormal numbers are
// slow.

// WEIGHTS: %[[LEAST:.*]] = arith.constant dense<-1.260000e+02> : vector<8xf32>
// WEIGHTS: %[[LOW:.*]] = arith.cmpf olt, %[[X:.*]], %[[LEAST]] : vector<8xf32>
// WEIGHTS-NEXT: %[[INSIDE:.*]] = arith.select %[[LOW]], %[[LEAST]], %[[X]]
// WEIGHTS-NEXT: %[[POWER:.*]] = math.exp2 %[[INSIDE]]
// WEIGHTS-NEXT: arith.select %[[LOW]], %{{.*}}, %[[POWER]]

// CHECK-LABEL: func.func @entry_per_block(
// CHECK-SAME: %[[TABLE:[^ ]*]]: memref<?x?xi32, strided<[?, 1], offset: ?>>
// CHECK: scf.parallel
// CHECK: scf.while
// CHECK: memref.load %[[TABLE]][
// CHECK: arith.cmpi ult
// CHECK-NOT: arith.divui
// CHECK-NOT: arith.remui
// CHECK: scf.for
// CHECK-NOT: arith.divui
// CHECK-NOT: arith.remui
// CHECK-NOT: memref.load %[[TABLE]]
// CHECK: memref.store
func.func @entry_per_block(%q: memref<?x32x128xbf16>, %cache: !kv, %batch: !batch, %out: memref<?x32x128xbf16>) {
  kvcache.attention %q over %cache in %batch into %out causal
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}
