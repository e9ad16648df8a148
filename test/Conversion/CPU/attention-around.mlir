// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What users expect around attention: heads of a query that are apart, an lse of
// either order, a scale of values, a window with a right side.
//
// RUN: kv-opt %s --split-input-file --convert-kvcache-to-loops --canonicalize --cse | FileCheck %s --implicit-check-not='kvcache.'

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// The stride of heads is that of the call.

// CHECK-LABEL: func.func @heads_apart(
// CHECK: %{{.*}}, %{{.*}}, %{{.*}}, %[[STRIDES:.*]]:3 = memref.extract_strided_metadata %arg0 :
// CHECK: scf.parallel
// CHECK-DAG: arith.muli %{{.*}}, %[[STRIDES]]#0 : index
// CHECK-DAG: arith.muli %{{.*}}, %[[STRIDES]]#1 : index
func.func @heads_apart(%q: memref<?x32x128xbf16, strided<[?, ?, 1]>>, %cache: !kv, %batch: !batch, %out: memref<?x32x128xbf16>) {
  kvcache.attention %q over %cache in %batch into %out
    : memref<?x32x128xbf16, strided<[?, ?, 1]>> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// Rows of an lse with heads first lie side by side: its number of rows is its
// second extent, and its rows have no product of their own.

// CHECK-LABEL: func.func @heads_first(
// CHECK-SAME: %[[LSE:[^ ]*]]: memref<32x?xf32>, %[[SCALE:[^ ]*]]: f32)
// CHECK: memref.dim %[[LSE]], %c1 : memref<32x?xf32>
// CHECK: arith.mulf %{{.*}}, %[[SCALE]] : f32
func.func @heads_first(%q: memref<?x32x128xbf16>, %cache: !kv, %batch: !batch, %out: memref<?x32x128xbf16>, %lse: memref<32x?xf32>, %scale: f32) {
  kvcache.attention %q over %cache in %batch value_scale(%scale) into %out, %lse heads_first causal
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>, memref<32x?xf32>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// The range of keys ends 5 after the position of the last row, at the end of the
// request at most, and begins 3 before the first.

// CHECK-LABEL: func.func @two_sides(
// CHECK-DAG: %[[C6:.*]] = arith.constant 6 : index
// CHECK-DAG: %[[CM3:.*]] = arith.constant -3 : index
// CHECK: scf.parallel
// CHECK: arith.addi %{{.*}}, %[[CM3]] : index
// CHECK: %[[END:.*]] = arith.addi %{{.*}}, %[[C6]] : index
// CHECK: arith.maxsi %[[END]],
func.func @two_sides(%q: memref<?x32x128xbf16>, %cache: !kv, %batch: !batch, %out: memref<?x32x128xbf16>) {
  kvcache.attention %q over %cache in %batch into %out window 4 window_right 5
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

// Three splits; an lse of plus infinity counts as minus infinity.

// CHECK-LABEL: func.func @merge_three(
// CHECK-DAG: %[[NONE:.*]] = arith.constant 0xFF800000 : f32
// CHECK-DAG: %[[PLUS:.*]] = arith.constant 0x7F800000 : f32
// CHECK: scf.parallel
// CHECK-COUNT-3: arith.cmpf oeq, %{{.*}}, %[[PLUS]] : f32
// CHECK-COUNT-3: math.exp2
// CHECK-COUNT-3: arith.divf
// CHECK: vector.store
func.func @merge_three(%a: memref<?x4x16xf32>, %l: memref<4x?xf32>, %m: memref<4x?xf32>, %n: memref<4x?xf32>) {
  kvcache.merge_states %a, %l with %a, %m with %a, %n into %a heads_first
    : memref<?x4x16xf32>, memref<4x?xf32> with memref<?x4x16xf32>, memref<4x?xf32> with memref<?x4x16xf32>, memref<4x?xf32>
    into memref<?x4x16xf32>
  return
}

// -----

// A row of the table has the blocks of its list, and then -1.

// CHECK-LABEL: func.func @csr_table(
// CHECK-DAG: %[[NONE:.*]] = arith.constant -1 : i32
// CHECK: scf.parallel (%[[R:.*]]) =
// CHECK: memref.load %arg0[%[[R]]]
// CHECK: scf.for
// CHECK: %[[BLOCK:.*]] = memref.load %arg1[
// CHECK: memref.store %[[BLOCK]], %arg2[%[[R]],
// CHECK: scf.for
// CHECK: memref.store %[[NONE]], %arg2[%[[R]],
// CHECK: memref.load %arg3[%[[R]]]
// CHECK: memref.store %{{.*}}, %arg4[%[[R]]]
func.func @csr_table(%indptr: memref<?xi32>, %indices: memref<?xi32>, %table: memref<?x?xi32>, %last: memref<?xi32>, %lengths: memref<?xi32>) {
  kvcache.csr_table %indptr, %indices last(%last of 16) into %table, %lengths
    : memref<?xi32>, memref<?xi32>, memref<?xi32> into memref<?x?xi32>, memref<?xi32>
  return
}
