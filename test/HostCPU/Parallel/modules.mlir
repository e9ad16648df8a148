// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A loop becomes a function of the module that it is in, and calls the run time
// from there; a function in a module in a function is no code of the latter.
//
// RUN: kv-opt %s --kvcache-outline-parallel | FileCheck %s --check-prefix=OUTLINED
// RUN: kv-opt %s --kvcache-outline-parallel --convert-scf-to-cf --finalize-memref-to-llvm --convert-to-llvm --kvcache-parallel-to-runtime | FileCheck %s --check-prefix=RUNTIME

// OUTLINED-LABEL: func.func @outer(
// OUTLINED: scf.for
// OUTLINED: builtin.module {
// OUTLINED: func.func @in_a_function(
// OUTLINED: arith.maxsi
// OUTLINED-NEXT: call @in_a_function_parallel_0.all(
// OUTLINED-NEXT: memref.alloca() : memref<4xf32>
// OUTLINED: func.func private @in_a_function_parallel_0(
// OUTLINED: func.func private @in_a_function_parallel_0.all(
func.func @outer(%x: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %sum = scf.parallel (%i) = (%c0) to (%n) step (%c1) init (%zero) -> f32 {
    %v = memref.load %x[%i] : memref<?xf32>
    builtin.module {
      func.func @in_a_function(%y: memref<?xf32>, %m: index) {
        %c0_0 = arith.constant 0 : index
        %c1_0 = arith.constant 1 : index
        scf.parallel (%j) = (%c0_0) to (%m) step (%c1_0) {
          %zero_0 = arith.constant 0.0 : f32
          memref.store %zero_0, %y[%j] : memref<?xf32>
        }
        %own = memref.alloca() : memref<4xf32>
        return
      }
    }
    scf.reduce(%v : f32) {
    ^bb0(%a: f32, %b: f32):
      %s = arith.addf %a, %b : f32
      scf.reduce.return %s : f32
    }
  }
  memref.store %sum, %x[%c0] : memref<?xf32>
  return
}

// OUTLINED-LABEL: module @inner {
// OUTLINED: func.func @f(
// OUTLINED: call @f_parallel_0.all(
// OUTLINED: func.func private @f_parallel_0(
// OUTLINED: func.func private @f_parallel_0.all(
// RUNTIME-LABEL: module @inner
// RUNTIME: llvm.func @kvrt_parallel_for(
// RUNTIME: llvm.func internal @f_parallel_0.thunk(
// RUNTIME: llvm.func internal @f_parallel_0.all(
// RUNTIME: llvm.call @kvrt_parallel_for(
// RUNTIME-NOT: kvcache.parallel_body
module @inner {
  func.func @f(%x: memref<?xf32>, %n: index) {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %zero = arith.constant 0.0 : f32
    scf.parallel (%i) = (%c0) to (%n) step (%c1) {
      memref.store %zero, %x[%i] : memref<?xf32>
    }
    return
  }
}
