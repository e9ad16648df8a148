// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Kernels that a program brings along stay as they are.
//
// RUN: kv-opt %s --convert-kvcache-to-gpu | FileCheck %s

// CHECK: gpu.func @kernel() kernel {
// CHECK-NEXT: gpu.return
// CHECK: func.func @of_the_device(%{{.*}}: !kv_nhd, %{{.*}}: !kv_batch,
// CHECK-NEXT: kvcache.attention
// CHECK: gpu.launch_func @own::@kernel
// CHECK-NOT: kvcache.
module attributes {gpu.container_module} {
  gpu.module @own {
    gpu.func @kernel() kernel {
      gpu.return
    }
    func.func @of_the_device(%c: !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>, %b: !kvcache.batch<?R x ?M x i32, tokens = 16>, %x: memref<?x32x128xbf16>) {
      kvcache.attention %x over %c in %b into %x causal
        : memref<?x32x128xbf16> over !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
          in !kvcache.batch<?R x ?M x i32, tokens = 16> into memref<?x32x128xbf16>
      return
    }
  }
  func.func @f(%n: index) {
    gpu.launch_func @own::@kernel blocks in (%n, %n, %n) threads in (%n, %n, %n)
    return
  }
}
