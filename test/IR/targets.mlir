// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s | kv-opt | FileCheck %s
// RUN: kv-opt %s --mlir-print-op-generic | kv-opt | FileCheck %s

// Facts that a chip lacks are left out.
// CHECK: module attributes {kvcache.target = #kvcache.target<chip = "sm_89", isa = nvvm, lanes = 32, matrix = mma_sync, shared_bytes = 101376, ptx = 83>}
module attributes {kvcache.target = #kvcache.target<chip = "sm_89", isa = nvvm,
    lanes = 32, matrix = mma_sync, shared_bytes = 101376, tensor_maps = false,
    ptx = 83>} {
  // CHECK: module attributes {kvcache.target = #kvcache.target<chip = "vectors", isa = cpu, lanes = 16>}
  module attributes {kvcache.target = #kvcache.target<chip = "vectors",
      isa = cpu, lanes = 16, matrix = none>} {
  }
  // CHECK: func.func private @f() attributes {modes = [#kvcache.launch_mode<in_order>, #kvcache.launch_mode<cooperative>, #kvcache.launch_mode<overlapping>]}
  func.func private @f() attributes {modes = [#kvcache.launch_mode<in_order>,
      #kvcache.launch_mode<cooperative>, #kvcache.launch_mode<overlapping>]}
}
