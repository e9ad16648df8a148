// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// What the CPU target does not lower is listed, not left to a later failure.
//
// RUN: not kv-compile %s -o %t.so 2>&1 | FileCheck %s --implicit-check-not=error:

// CHECK-DAG: error: 'math.powf' cannot be compiled for a CPU: expected kvcache or linalg operations, or loops, loads, stores, copies, arithmetic and elementary functions of f32
// CHECK-DAG: error: 'math.exp' cannot be compiled for a CPU
// CHECK-DAG: error: 'linalg.softmax' cannot be compiled for a CPU
func.func @f(%rest: memref<?xf32>, %x: f32, %y: f64,
             %gaps: memref<4x4xf32, strided<[8, 1]>>, %to: memref<4x4xf32>,
             %result: memref<4x4xf32>, %wide: memref<?xf64>) {
  linalg.fill ins(%x : f32) outs(%rest : memref<?xf32>)
  %a = math.exp %x : f32
  %p = math.powf %a, %x : f32
  %e = math.exp %y : f64
  %c0 = arith.constant 0 : index
  memref.store %e, %wide[%c0] : memref<?xf64>
  memref.store %p, %rest[%c0] : memref<?xf32>
  memref.copy %gaps, %to : memref<4x4xf32, strided<[8, 1]>> to memref<4x4xf32>
  linalg.generic {indexing_maps = [affine_map<(i) -> (i)>],
                  iterator_types = ["parallel"]}
      outs(%rest : memref<?xf32>) {
    ^bb0(%o: f32):
      %r = math.sin %o : f32
      linalg.yield %r : f32
  }
  linalg.softmax dimension(1) ins(%to : memref<4x4xf32>)
                              outs(%result : memref<4x4xf32>)
  return
}
