// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels know the lines of the program, so that a profiler shows them; code is
// as optimized as without.
//
// RUN: kv-compile %s --target=sm_90a --emit=ptx | FileCheck %s --implicit-check-not='sm_90a, debug'
// RUN: %if ptxas %{ kv-compile %s --target=sm_90a --gpu-image=cubin --emit=cubin -o %t.cubin %}
// RUN: %if ptxas %{ llvm-readelf -S %t.cubin | FileCheck %s --check-prefix=CUBIN %}
// CUBIN: .debug_line
//
// Also where a function was inlined on the host:
// RUN: kv-compile %S/../../../examples/functional_host.mlir --target=sm_90a --emit=ptx | FileCheck %s --check-prefix=INLINED
// INLINED: .entry index_copy(
// INLINED: .loc

!kv = !kvcache.cache<?B x 16N x 64D x bf16>

func.func @f(%kv: !kv, %pairs: memref<?x2xi64>) {
  // CHECK: .entry copy_blocks(
  // CHECK: .loc [[FILE:[0-9]+]] [[@LINE+2]] 3
  // CHECK: .file [[FILE]] "{{.*}}lines.mlir"
  kvcache.copy_blocks %kv at %pairs : !kv at memref<?x2xi64>
  return
}
