// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention whose bits do not depend on the rest of the batch: each request
// belongs to one of two kernels, and both are launched if some request may have
// many rows.
//
// RUN: kv-compile %s --target=sm_90a --emit=llvm -o - | FileCheck %s --check-prefix=HOST
// RUN: kv-compile %s --target=sm_90a --emit=ptx -o %t.ptx && FileCheck %s --input-file=%t.ptx --check-prefix=PTX
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.ptx -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS --implicit-check-not=C75 %}
// RUN: kv-compile %s --target=sm_80 --emit=ptx -o - | FileCheck %s --check-prefix=ONE
//
// HOST: call void @kvrt_launch({{.*}}_image_attention,
// HOST: icmp sgt i64 %{{[0-9]+}}, 8
// HOST: call void @kvrt_launch({{.*}}_image_attention_rows,
//
// PTX-DAG: .entry attention_rows(
// PTX-DAG: .entry attention(
// Sums are folded by instructions that are written as they are.
// PTX: fma.rn.f32
// ONE: .entry attention(
// ONE-NOT: .entry attention_rows(
//
// PTXAS: Compiling entry function 'attention_rows'
// PTXAS: Compiling entry function 'attention'
// PTXAS: 0 bytes spill stores, 0 bytes spill loads

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!rows = memref<?x32x128xbf16>

func.func @invariant(%q: !rows {kvcache.align = 16}, %kv: !kv, %batch: !batch, %out: !rows {kvcache.align = 16}) {
  kvcache.attention %q over %kv in %batch into %out batch_invariant causal : !rows over !kv in !batch into !rows
  return
}
