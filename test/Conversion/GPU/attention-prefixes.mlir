// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention of requests that begin with the same blocks.
//
// RUN: split-file %s %t
// RUN: kv-compile %t/shared.mlir --target=sm_90a --emit=ptx -o %t.ptx && FileCheck %s --input-file=%t.ptx --check-prefix=PTX
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.ptx -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS --implicit-check-not=C75 %}
//
// Without use for them, and on another chip, the kernels are those without.
// RUN: kv-compile %t/window.mlir --target=sm_90a --emit=ptx -o - | FileCheck %s --check-prefix=NONE
// RUN: kv-compile %t/shared.mlir --target=sm_80 --emit=ptx -o - | FileCheck %s --check-prefix=NONE
//
// The number of a window is changed together with the tag of the launch. The
// kernel for few rows has no prefixes.
// PTX: .entry attention_rows(
// PTX: atom.acq_rel.gpu.global.cas.b64
// PTX: .entry attention(
// PTX-NOT: .cas.
// NONE: .entry attention(
// NONE-NOT: .cas.
//
// PTXAS: Compiling entry function 'attention_rows'
// PTXAS: Used 128 registers

//--- shared.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!rows = memref<?x32x128xbf16>
func.func @shared(%q: !rows {kvcache.align = 16}, %kv: !kv, %batch: !batch, %groups: memref<?xi32>, %lengths: memref<?xi64>,
                  %out: !rows {kvcache.align = 16}) {
  kvcache.attention %q over %kv in %batch prefixes(%groups, %lengths : memref<?xi32>, memref<?xi64>) into %out causal
    : !rows over !kv in !batch into !rows
  return
}

//--- window.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!rows = memref<?x32x128xbf16>
func.func @window(%q: !rows {kvcache.align = 16}, %kv: !kv, %batch: !batch, %groups: memref<?xi32>, %lengths: memref<?xi64>,
                  %out: !rows {kvcache.align = 16}) {
  kvcache.attention %q over %kv in %batch prefixes(%groups, %lengths : memref<?xi32>, memref<?xi64>) into %out causal window 300
    : !rows over !kv in !batch into !rows
  return
}
