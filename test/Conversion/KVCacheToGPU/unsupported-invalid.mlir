// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What has no kernel yet is refused before anything is lowered, each operation
// with a message.
//
// RUN: kv-opt %s --convert-kvcache-to-gpu --verify-diagnostics
// RUN: not kv-compile %s --target=sm_90a -o %t.so 2>&1 | FileCheck %s
// CHECK-COUNT-2: error: 'kvcache.attention' op cannot be compiled for a GPU yet
// CHECK-NOT: error:

!kv = !kvcache.cache<2S x ?B x 16N x 2H x 64D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x4x64xbf16>

func.func @two(%q: !q, %kv: !kv, %batch: !batch, %out: !q) {
  // expected-error@+1 {{'kvcache.attention' op cannot be compiled for a GPU yet; compile it for a CPU, or beside this program}}
  kvcache.attention %q over %kv in %batch into %out causal : !q over !kv in !batch into !q
  // expected-error@+1 {{'kvcache.attention' op cannot be compiled for a GPU yet}}
  kvcache.attention %q over %kv in %batch into %out : !q over !kv in !batch into !q
  return
}
