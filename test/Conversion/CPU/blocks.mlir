// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --convert-kvcache-to-loops --canonicalize --cse | FileCheck %s --implicit-check-not=kvcache

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f32, order = [S, B, H, N, D]>

// Loops are as in the memory of the destination, and the channels are a run
// that is converted in vectors.

// CHECK-LABEL: func.func @loops_as_in_destination(
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C2:.*]] = arith.constant 2 : index
// CHECK-DAG: %[[C8:.*]] = arith.constant 8 : index
// CHECK-DAG: %[[C16:.*]] = arith.constant 16 : index
// CHECK-DAG: %[[C128:.*]] = arith.constant 128 : index
// CHECK: scf.parallel
// CHECK-NOT: arith.divui
// CHECK-NOT: arith.remui
// CHECK: scf.for %{{.*}} = %[[C0]] to %[[C2]]
// CHECK: scf.for %{{.*}} = %[[C0]] to %[[C8]]
// CHECK: scf.for %{{.*}} = %[[C0]] to %[[C16]]
// CHECK: scf.for %{{.*}} = %[[C0]] to %[[C128]] step %[[C16]]
// CHECK: vector.load {{.*}}, vector<16xbf16>
// CHECK: arith.extf {{.*}} : vector<16xbf16> to vector<16xf32>
// CHECK-COUNT-4: vector.store {{.*}} {alignment = 16 : i64, nontemporal = true} : {{.*}}, vector<4xf32>
// CHECK: llvm.fence seq_cst
// CHECK-NEXT: } else {
// CHECK: arith.extf {{.*}} : vector<16xbf16> to vector<16xf32>
// CHECK: vector.store {{.*}}, vector<16xf32>
// CHECK-NOT: vector.store
// CHECK: return
func.func @loops_as_in_destination(%a: !nhd, %b: !hnd) {
  kvcache.relayout %a into %b : !nhd into !hnd
  return
}

// Where tokens are contiguous on one side and channels on the other, squares of
// four are transposed in registers.

!channels_first = !kvcache.cache<?B x 16N x 8H x 128D x f32, order = [B, H, D, N]>
!tokens_first = !kvcache.cache<?B x 16N x 8H x 128D x f32, order = [B, H, N, D]>

// CHECK-LABEL: func.func @squares(
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C4:.*]] = arith.constant 4 : index
// CHECK-DAG: %[[N:.*]] = arith.constant 16 : index
// CHECK-DAG: %[[D:.*]] = arith.constant 128 : index
// CHECK: scf.for %{{.*}} = %[[C0]] to %[[D]] step %[[C4]]
// CHECK: scf.for %{{.*}} = %[[C0]] to %[[N]] step %[[C4]]
// CHECK-COUNT-4: vector.load {{.*}}, vector<4xf32>
// CHECK-COUNT-8: vector.shuffle {{.*}} : vector<4xi32>
// CHECK-COUNT-4: vector.store {{.*}}, vector<4xf32>
// CHECK-NOT: vector.store
// CHECK: return
func.func @squares(%a: !tokens_first, %b: !channels_first) {
  kvcache.relayout %a into %b : !tokens_first into !channels_first
  return
}

// Six tokens make no whole squares: elements go one by one.

!odd = !kvcache.cache<?B x 6N x 8H x 128D x f32, order = [B, H, N, D]>
!odd_channels_first = !kvcache.cache<?B x 6N x 8H x 128D x f32, order = [B, H, D, N]>

// CHECK-LABEL: func.func @no_squares(
// CHECK-NOT: vector.shuffle
// CHECK: return
func.func @no_squares(%a: !odd, %b: !odd_channels_first) {
  kvcache.relayout %a into %b : !odd into !odd_channels_first
  return
}

// A block is one run per side. Threads share the sides, and go through the
// pairs one after the other.

// CHECK-LABEL: func.func @runs_of_blocks(
// CHECK-DAG: %[[C32:.*]] = arith.constant 32 : index
// CHECK-DAG: %[[BLOCK:.*]] = arith.constant 16384 : index
// CHECK: scf.parallel
// CHECK: scf.for %[[P:.*]] = %{{.*}} to %{{.*}} step
// CHECK-DAG: memref.load %{{.*}}[%[[P]], %{{.*}}] : memref<?x2xi64>
// CHECK-DAG: memref.load %{{.*}}[%[[P]], %{{.*}}] : memref<?x2xi64>
// CHECK-COUNT-2: arith.cmpi ult
// CHECK: scf.if
// CHECK: scf.for %{{.*}} = %{{.*}} to %{{.*}} step
// CHECK: scf.for %{{.*}} = %{{.*}} to %[[BLOCK]] step %[[C32]]
// CHECK: vector.load {{.*}}, vector<32xbf16>
// CHECK: vector.store {{.*}}, vector<32xbf16>
func.func @runs_of_blocks(%a: !nhd, %p: memref<?x2xi64>) {
  kvcache.copy_blocks %a at %p : !nhd at memref<?x2xi64>
  return
}

// Zeros go out in the same runs. Each thread reads all of the list and clears
// the blocks that are its own.

// CHECK-LABEL: func.func @cleared_blocks(
// CHECK-SAME: %[[POOL:[^:]*]]: {{.*}}, %[[LIST:[^:]*]]: memref<?xi32>
// CHECK-DAG: %[[C32:.*]] = arith.constant 32 : index
// CHECK-DAG: %[[BLOCK:.*]] = arith.constant 16384 : index
// CHECK-DAG: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : vector<32xbf16>
// CHECK: scf.parallel (%[[TASK:.*]]) =
// CHECK: scf.for %[[K:.*]] = %{{.*}} to %[[COUNT:.*]] step
// CHECK: %[[ENTRY:.*]] = memref.load %[[LIST]][%[[K]]]
// CHECK: %[[NUMBER:.*]] = arith.index_cast %[[ENTRY]] : i32 to index
// CHECK: %[[REST:.*]] = arith.remui %[[NUMBER]], %[[TASKS:.*]] : index
// CHECK: %[[OWN:.*]] = arith.cmpi eq, %[[REST]], %[[TASK]]
// CHECK: %[[THERE:.*]] = arith.cmpi ult, %[[NUMBER]],
// CHECK: %[[LIVE:.*]] = arith.andi %[[THERE]], %[[OWN]]
// CHECK: scf.if %[[LIVE]]
// CHECK: scf.for %{{.*}} = %{{.*}} to %[[BLOCK]] step %[[C32]]
// CHECK-NOT: vector.load
// CHECK: vector.store %[[ZERO]], {{.*}}, vector<32xbf16>
// CHECK-NOT: vector.store
// CHECK: return
func.func @cleared_blocks(%a: !nhd, %l: memref<?xi32>) {
  kvcache.clear_blocks %a at %l : !nhd at memref<?xi32>
  return
}

// Chunks that are whole blocks are runs too; threads share the pairs.

!fine = !kvcache.cache<2S x ?B x 4N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @runs_of_chunks(
// CHECK-DAG: %[[C4:.*]] = arith.constant 4 : index
// CHECK-DAG: %[[C32:.*]] = arith.constant 32 : index
// CHECK-DAG: %[[CHUNK:.*]] = arith.constant 4096 : index
// CHECK: scf.parallel
// CHECK: %[[C:.*]] = arith.index_cast
// CHECK-DAG: arith.divui %[[C]], %[[C4]]
// CHECK-DAG: arith.remui %[[C]], %[[C4]]
// CHECK: scf.for %{{.*}} = %{{.*}} to %[[CHUNK]] step %[[C32]]
// CHECK: vector.store {{.*}}, vector<32xbf16>
// CHECK-NOT: vector.store
// CHECK: return
func.func @runs_of_chunks(%a: !nhd, %b: !fine, %p: memref<?x2xi64>) {
  kvcache.transfer %a to %b at %p : !nhd to !fine at memref<?x2xi64>
  return
}

// Sides that are further apart than a type could say of a stride.

!far = !kvcache.cache<2S x 2147483648B x 4N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @far_sides(
// CHECK: arith.constant 8796093022208 : index
// CHECK: vector.store {{.*}}, vector<32xbf16>
func.func @far_sides(%a: !nhd, %b: !far, %p: memref<?x2xi64>) {
  kvcache.transfer %a to %b at %p : !nhd to !far at memref<?x2xi64>
  return
}
