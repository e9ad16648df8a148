// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// What the CPU target does not lower is listed, not left to a later failure.
//
// RUN: not kv-compile %s -o %t.so 2>&1 | FileCheck %s --implicit-check-not=error:

// CHECK-DAG: error: 'linalg.fill' cannot be compiled for a CPU: expected kvcache operations, or loops, loads, stores, contiguous copies and arithmetic
// CHECK-DAG: error: 'math.exp' cannot be compiled for a CPU
// CHECK-DAG: error: 'memref.copy' cannot be compiled for a CPU
func.func @f(%rest: memref<?xf32>, %x: f32,
             %gaps: memref<4x4xf32, strided<[8, 1]>>, %to: memref<4x4xf32>,
             %n: memref<4x4xf32>) {
  linalg.fill ins(%x : f32) outs(%rest : memref<?xf32>)
  %y = math.exp %x : f32
  %c0 = arith.constant 0 : index
  memref.store %y, %rest[%c0] : memref<?xf32>
  memref.copy %gaps, %to : memref<4x4xf32, strided<[8, 1]>> to memref<4x4xf32>
  memref.copy %n, %to : memref<4x4xf32> to memref<4x4xf32>
  return
}
