// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where code is not reachable a value may be made of itself. Passes that follow
// chains of values drop such code, as lowerings do. test/Mutation/passes.py has a
// ring of each operation.
//
// RUN: kv-opt %s --kvcache-raise | FileCheck %s
// RUN: kv-opt %s --kvcache-fold-permutes | FileCheck %s
// RUN: kv-opt %s --convert-kvcache-to-loops | FileCheck %s
// RUN: kv-opt %s --convert-kvcache-to-gpu | FileCheck %s

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @ring(
// CHECK-NEXT: return
// CHECK-NEXT: }
func.func @ring(%pairs: memref<?x2xi64>) {
  return
^unreachable:
  %m = memref.cast %m : memref<2x?x16x8x128xbf16> to memref<2x?x16x8x128xbf16>
  %v = kvcache.view %m : memref<2x?x16x8x128xbf16> to !kv
  kvcache.copy_blocks %v at %pairs : !kv at memref<?x2xi64>
  %a = kvcache.cast %b : !kv to !kv
  %b = kvcache.cast %a : !kv to !kv
  %d = kvcache.dim %a[B] : !kv
  return
}

// CHECK-LABEL: func.func @ring_through_a_branch(
// CHECK-NEXT: return
// CHECK-NEXT: }
func.func @ring_through_a_branch(%pairs: memref<?x2xi64>, %c: !kv, %some: i1) {
  return
^unreachable:
  %1 = kvcache.cast %2 : !kv to !kv
  %2 = scf.if %some -> !kv {
    %3 = kvcache.cast %1 : !kv to !kv
    scf.yield %3 : !kv
  } else {
    scf.yield %c : !kv
  }
  kvcache.copy_blocks %2 at %pairs : !kv at memref<?x2xi64>
  return
}
