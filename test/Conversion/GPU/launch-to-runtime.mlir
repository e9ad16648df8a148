// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Binaries become data, and launches calls, in the module that has them both;
// names that are taken stay what they are, and sizes have the types of the run
// time.
//
// RUN: kv-opt %s --kvcache-launch-to-runtime | FileCheck %s

// CHECK: module {
// CHECK-DAG: llvm.func @kvrt_launch(!llvm.ptr, i64, i64, i64, i32, i32, i32, i32, i32, !llvm.ptr)
// CHECK-DAG: llvm.mlir.global internal constant @own_code{{(_[0-9]+)?}}("PTX\00")
// CHECK-DAG: llvm.mlir.global internal @own_image(
module attributes {gpu.container_module} {
  gpu.binary @own [#gpu.object<#nvvm.target, assembly = "PTX">]
  // CHECK: func.func private @own_code()
  func.func private @own_code()

  // CHECK-LABEL: func.func @f(
  // CHECK-SAME: %[[N:.*]]: index, %[[I:.*]]: i32, %[[L:.*]]: i64, %[[X:.*]]: f32)
  func.func @f(%n: index, %i: i32, %l: i64, %x: f32) {
    // CHECK: %[[RECORD:.*]] = llvm.mlir.addressof @own_image_kernel : !llvm.ptr
    // CHECK: llvm.store %[[X]], %[[SLOT:.*]] : f32, !llvm.ptr
    // CHECK: llvm.store %[[SLOT]], %{{.*}} : !llvm.ptr, !llvm.ptr
    // CHECK: %[[GRID:.*]] = arith.index_cast %[[N]] : index to i64
    // CHECK: %[[BLOCK:.*]] = arith.index_cast %[[N]] : index to i32
    // CHECK: llvm.call @kvrt_launch(%[[RECORD]], %[[GRID]],
    gpu.launch_func @own::@kernel blocks in (%n, %n, %n) threads in (%n, %n, %n) args(%x : f32)
    // CHECK: %[[WIDE:.*]] = llvm.zext %[[I]] : i32 to i64
    // CHECK: llvm.call @kvrt_launch(%{{.*}}, %[[WIDE]], %{{.*}}, %{{.*}}, %[[I]],
    gpu.launch_func @own::@kernel blocks in (%i, %i, %i) threads in (%i, %i, %i) : i32 args(%x : f32)
    // CHECK: %[[NARROW:.*]] = llvm.trunc %[[L]] : i64 to i32
    // CHECK: llvm.call @kvrt_launch(%{{.*}}, %[[L]], %{{.*}}, %{{.*}}, %[[NARROW]],
    gpu.launch_func @own::@kernel blocks in (%l, %l, %l) threads in (%l, %l, %l) : i64 args(%x : f32)
    return
  }

  // CHECK-LABEL: module @inner {
  // CHECK: llvm.func @kvrt_launch(
  // CHECK: llvm.mlir.global internal constant @own_code("inner\00")
  // CHECK: llvm.mlir.addressof @own_image_kernel
  // CHECK: llvm.call @kvrt_launch(
  module @inner attributes {gpu.container_module} {
    gpu.binary @own [#gpu.object<#nvvm.target, assembly = "inner">]
    func.func @f(%n: index) {
      gpu.launch_func @own::@kernel blocks in (%n, %n, %n) threads in (%n, %n, %n)
      return
    }
  }
}
