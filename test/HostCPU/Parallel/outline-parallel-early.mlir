// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s --kvcache-outline-parallel=early | FileCheck %s
// RUN: kv-opt %s --kvcache-outline-parallel=early --kvcache-lower-linalg \
// RUN:     --kvcache-outline-parallel \
// RUN:   | FileCheck %s --check-prefix=TWICE --implicit-check-not=scf.parallel

// Linalg operations stay as they are, in loops and around them, and the loops
// that they become are outlined by the next run.
// CHECK-LABEL: func.func @product_of_memrefs(
// CHECK:         linalg.matmul
// CHECK:         call @product_of_memrefs_parallel_0.all(
// CHECK:       func.func private @product_of_memrefs_parallel_0(
// CHECK:         linalg.fill
// TWICE-LABEL: func.func @product_of_memrefs(
// TWICE:         call @[[PRODUCT:kvcache.linalg[0-9_]*]](
// TWICE:         call @product_of_memrefs_parallel_0.all(
// TWICE:       func.func private @product_of_memrefs_parallel_0(
// TWICE:         call @kvcache.linalg{{.*}}(
// TWICE:       func.func private @[[PRODUCT]](
// TWICE:         call @[[PRODUCT]]_parallel_0.all(
func.func @product_of_memrefs(%x: memref<?x64xf32>, %w: memref<64x64xf32>,
                              %y: memref<?x64xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  linalg.matmul ins(%x, %w : memref<?x64xf32>, memref<64x64xf32>)
    outs(%y : memref<?x64xf32>)
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %row = memref.subview %y[%i, 0] [1, 64] [1, 1]
      : memref<?x64xf32> to memref<1x64xf32, strided<[64, 1], offset: ?>>
    linalg.fill ins(%zero : f32)
      outs(%row : memref<1x64xf32, strided<[64, 1], offset: ?>>)
  }
  return
}
