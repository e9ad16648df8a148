// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Functions in a module inside of the module, and of another dialect, are
// lowered as all others are: with the memory and the texts that they need.
//
// RUN: kv-opt %s --convert-kvcache-to-gpu=chip=sm_90a | FileCheck %s

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// CHECK-LABEL: module @inner
//  CHECK-SAME: gpu.container_module
module @inner {
  // CHECK-LABEL: func.func @attention(
  //   CHECK-NOT: kvcache.name
  //       CHECK: %[[PARTS:.*]] = memref.alloc() {attention_parts = {{[0-9]+}} : index}
  //       CHECK: memref.extract_aligned_pointer_as_index %[[PARTS]]
  //       CHECK: call @kvrt_tensor_map
  //       CHECK: gpu.launch_func @kv_kernels{{.*}}::@attention
  func.func @attention(%q: memref<?x32x128xbf16> {kvcache.name = "q"}, %c: !kv, %b: !batch, %out: memref<?x32x128xbf16>) {
    kvcache.attention %q over %c in %b into %out causal
      : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
    return
  }
}

// CHECK-LABEL: llvm.func @of_another_dialect(
//       CHECK: %[[PARTS:.*]] = memref.alloc() {attention_parts = {{[0-9]+}} : index}
//       CHECK: memref.extract_aligned_pointer_as_index %[[PARTS]]
//       CHECK: call @kvrt_tensor_map
//       CHECK: gpu.launch_func @kv_kernels{{.*}}::@attention
llvm.func @of_another_dialect(%given: !llvm.ptr) {
  %q, %m, %i, %t = builtin.unrealized_conversion_cast %given : !llvm.ptr
    to memref<?x32x128xbf16>, memref<2x?x16x8x128xbf16>, memref<?xi32>, memref<?x?xi32>
  %c = kvcache.view %m : memref<2x?x16x8x128xbf16> to !kv
  %table = kvcache.make_block_table %t : memref<?x?xi32> to !kvcache.block_table<?R x ?M x i32, tokens = 16>
  %b = kvcache.make_batch %i, %i, %table : memref<?xi32>, memref<?xi32>, !kvcache.block_table<?R x ?M x i32, tokens = 16>
  kvcache.attention %q over %c in %b into %q causal
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  llvm.return
}

// CHECK-LABEL: llvm.func @checks_of_another_dialect(
//       CHECK: gpu.launch_func @kv_kernels{{.*}}::@check_entries
llvm.func @checks_of_another_dialect(%given: !llvm.ptr) {
  %n = arith.constant 4 : index
  %list = builtin.unrealized_conversion_cast %given : !llvm.ptr to memref<?xi32>
  %0 = kvcache.check_entries "slot" in %list first %n below %n by "gather" of "l" : memref<?xi32>
  llvm.return
}

// What ends the functions of another dialect may be the last in a module, and
// has to stay that.
// CHECK-LABEL: module @ends
//       CHECK: gpu.module @kv_kernels
//       CHECK: llvm.return
//  CHECK-NEXT: }
module @ends {
  func.func @checks(%list: memref<?xi32>) {
    %n = arith.constant 4 : index
    %0 = kvcache.check_entries "slot" in %list first %n below %n by "gather" of "l" : memref<?xi32>
    return
  }
  llvm.return
}
