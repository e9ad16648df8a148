// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --convert-kvcache-to-gpu --verify-diagnostics --split-input-file

!kv = !kvcache.cache<2S x ?B x 16N x 2H x 1025D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// A lane has its share of all channels in registers, each with code of its own.
func.func @many_channels(%q: memref<?x4x1025xbf16>, %cache: !kv, %b: !batch, %out: memref<?x4x1025xbf16>) {
  // expected-error @+2 {{'kvcache.attention' op is not compiled for a GPU with 1025 channels of keys and 1025 of values: at most 1024 are expected}}
  // expected-error @+1 {{failed to legalize operation 'kvcache.attention' that was explicitly marked illegal}}
  kvcache.attention %q over %cache in %b into %out causal : memref<?x4x1025xbf16> over !kv in !batch into memref<?x4x1025xbf16>
  return
}
