// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --convert-kvcache-to-loops --canonicalize --cse | FileCheck %s --implicit-check-not=kvcache

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// Tasks are parts of the tokens. Slots are rows of one array: no division. What
// is not in the cache is cleared.

// CHECK-LABEL: func.func @read_rows(
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C32:.*]] = arith.constant 32 : index
// CHECK-DAG: %[[ROW:.*]] = arith.constant 1024 : index
// CHECK-DAG: %[[ZERO:.*]] = arith.constant dense<0.0{{.*}}> : vector<32xbf16>
// CHECK: scf.parallel
// CHECK-NOT: arith.divui
// CHECK-NOT: arith.remui
// CHECK: scf.for %[[T:.*]] = %{{.*}} to %{{.*}} step
// CHECK: memref.load %{{.*}}[%[[T]]] : memref<?xi64>
// CHECK: scf.if
// CHECK-COUNT-2: vector.load {{.*}}, vector<32xbf16>
// CHECK: } else {
// CHECK-COUNT-2: vector.store %[[ZERO]]
// CHECK-NOT: vector.store
// CHECK: return
func.func @read_rows(%cache: !nhd, %k: memref<?x8x128xbf16>, %v: memref<?x8x128xbf16>, %s: !slots) {
  kvcache.gather %cache at %s zero into %k, %v
    : !nhd at !slots into memref<?x8x128xbf16>, memref<?x8x128xbf16>
  return
}

// Without `zero` such rows stay what they are.

// CHECK-LABEL: func.func @leave_rows(
// CHECK: scf.if
// CHECK-NOT: else
// CHECK: return
func.func @leave_rows(%cache: !nhd, %k: memref<?x8x128xbf16>, %v: memref<?x8x128xbf16>, %s: !slots) {
  kvcache.gather %cache at %s into %k, %v
    : !nhd at !slots into memref<?x8x128xbf16>, memref<?x8x128xbf16>
  return
}
