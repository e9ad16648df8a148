// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Functions of the run time and the module of kernels have fixed names.
//
// RUN: kv-opt %s --convert-kvcache-to-gpu --verify-diagnostics --split-input-file

// expected-error @+1 {{the name 'kv_kernels' is expected to be unused, since it is needed for the kernels of 'kvcache.slot_mapping'}}
func.func @kv_kernels(%batch: !kvcache.batch<?R x ?M x i32, tokens = 16>, %out: memref<?xi64>) {
  kvcache.slot_mapping %batch into %out : !kvcache.batch<?R x ?M x i32, tokens = 16> into memref<?xi64>
  return
}

// -----

module {
  // expected-error @+1 {{the name 'kv_kernels' is expected to be unused, since it is needed for the kernels of 'kvcache.slot_mapping'}}
  gpu.module @kv_kernels {
  }
  func.func @f(%batch: !kvcache.batch<?R x ?M x i32, tokens = 16>, %out: memref<?xi64>) {
    kvcache.slot_mapping %batch into %out : !kvcache.batch<?R x ?M x i32, tokens = 16> into memref<?xi64>
    return
  }
}

// -----

func.func @kvrt_trace() {
  // expected-error @+1 {{expected 'kvrt_trace' of the runtime to be a function of type '(i64) -> ()', got '() -> ()'}}
  kvcache.trace "text"
  return
}
