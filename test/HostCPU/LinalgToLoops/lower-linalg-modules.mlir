// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Functions are made in the module whose names an operation may use, with names
// that are free there. Equal operations of two modules are two functions.
//
// RUN: kv-opt %s --kvcache-lower-linalg | FileCheck %s

// CHECK-LABEL: func.func @outer(
// CHECK: call @kvcache.linalg(
func.func @outer(%x: memref<?xf32>, %v: f32) {
  linalg.fill ins(%v : f32) outs(%x : memref<?xf32>)
  // CHECK: builtin.module {
  // CHECK-NEXT: func.func @in_a_function(
  // CHECK-NOT: linalg.fill
  // CHECK: call @kvcache.linalg(
  // CHECK: func.func private @kvcache.linalg(
  // CHECK-NOT: linalg
  // CHECK: vector.store
  builtin.module {
    func.func @in_a_function(%y: memref<?xf32>, %w: f32) {
      linalg.fill ins(%w : f32) outs(%y : memref<?xf32>)
      return
    }
  }
  return
}

// CHECK-LABEL: module @inner {
// CHECK: func.func @product(
// CHECK: call @kvcache.linalg_1(
// CHECK: func.func private @[[ROW:kvcache.linalg_1.row_[0-9]+]](
// CHECK: func.func private @kvcache.linalg_1(
// CHECK: call @[[ROW]](
module @inner {
  func.func private @kvcache.linalg()
  func.func private @kvcache.linalg_0()
  func.func private @kvcache.linalg_1.row()
  func.func @product(%x: memref<1x64xf32>, %w: memref<64x32xf32>, %y: memref<1x32xf32>) {
    linalg.matmul ins(%x, %w : memref<1x64xf32>, memref<64x32xf32>) outs(%y : memref<1x32xf32>)
    return
  }
}

// What ends the functions of another dialect may be the last in a module, and
// has to stay that.

// CHECK-LABEL: module @ends {
// CHECK: func.func private @kvcache.linalg(
// CHECK: llvm.return
// CHECK-NEXT: }
module @ends {
  func.func @f(%x: memref<?xf32>, %v: f32) {
    linalg.fill ins(%v : f32) outs(%x : memref<?xf32>)
    return
  }
  llvm.return
}

// A kernel is not code for a CPU.

// CHECK-LABEL: gpu.module @kernels {
// CHECK: linalg.fill
// CHECK: memref.copy
gpu.module @kernels {
  gpu.func @kernel(%x: memref<?xf32>, %y: memref<?xf32, strided<[2]>>, %v: f32) kernel {
    linalg.fill ins(%v : f32) outs(%x : memref<?xf32>)
    memref.copy %x, %y : memref<?xf32> to memref<?xf32, strided<[2]>>
    gpu.return
  }
}

// CHECK: func.func private @kvcache.linalg(
