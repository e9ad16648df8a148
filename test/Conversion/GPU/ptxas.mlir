// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What ptxas makes of the kernels: nothing is spilled, and all warps that an SM
// holds have registers, which is so up to 32.
//
// REQUIRES: ptxas
// RUN: kv-compile %s --target=sm_90a --emit=ptx -o %t.ptx
// RUN: ptxas -v -arch=sm_90a %t.ptx -o %t.cubin 2>&1 | FileCheck %s

// CHECK-COUNT-2: 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
// CHECK-NOT: {{[1-9][0-9]*}} bytes spill

// RUN: ptxas -v -arch=sm_90a %t.ptx -o %t.cubin 2>&1 | FileCheck %s --check-prefix=REGISTERS
// REGISTERS-COUNT-2: Used {{([1-9]|[12][0-9]|3[0-2])}} registers
// REGISTERS-NOT: Used {{.*}} registers

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D], strides = [B = ? mult 8]>

func.func @insert(%nhd: !nhd, %hnd: !hnd, %key: memref<?x8x128xbf16>, %value: memref<?x8x128xbf16>, %slots: !slots) {
  kvcache.index_copy %key, %value into %nhd at %slots : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !nhd at !slots
  kvcache.index_copy %key, %value into %hnd at %slots : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !hnd at !slots
  return
}
