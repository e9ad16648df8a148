// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Kernels that a program brings along stay as they are.
//
// RUN: kv-opt %s --convert-kvcache-to-gpu | FileCheck %s

// CHECK: gpu.func @kernel() kernel {
// CHECK-NEXT: gpu.return
// CHECK: gpu.launch_func @own::@kernel
// CHECK-NOT: kvcache
module attributes {gpu.container_module} {
  gpu.module @own {
    gpu.func @kernel() kernel {
      gpu.return
    }
  }
  func.func @f(%n: index) {
    gpu.launch_func @own::@kernel blocks in (%n, %n, %n) threads in (%n, %n, %n)
    return
  }
}
