// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernel for many rows, which sm_90a has: eight products for scores and eight
// for values, none of which waits for another one in ptxas. A call with more
// pairs of rows and heads than a tile of the other kernel has, for each request,
// launches it. A box has all channels of a page where heads lie side by side, or
// blocks of them do; otherwise half of them. Rows of the query come by boxes too,
// one for each half. Between both products a warp computes its scores once more if
// weights turn out too large, by products of its own.
//
// RUN: split-file %s %t
// RUN: kv-compile %t/nhd.mlir --target=sm_90a --emit=ptx -o %t.nhd
// RUN: kv-compile %t/hnd.mlir --target=sm_90a --emit=ptx -o %t.hnd
// RUN: kv-compile %t/strided.mlir --target=sm_90a --max-variants=1 --emit=ptx -o %t.strided
// RUN: kv-compile %t/nhd.mlir --target=sm_100a --emit=ptx -o %t.100
// RUN: kv-compile %t/nhd.mlir --target=sm_80 --emit=ptx -o %t.80
// RUN: FileCheck %s --input-file=%t.nhd --check-prefixes=ROWS,WHOLE
// RUN: FileCheck %s --input-file=%t.hnd --check-prefixes=ROWS,WHOLE
// RUN: FileCheck %s --input-file=%t.strided --check-prefixes=ROWS,HALVES
// RUN: FileCheck %s --input-file=%t.100 --check-prefix=NONE
// RUN: FileCheck %s --input-file=%t.80 --check-prefix=NONE
// ROWS: .entry attention_rows(
// ROWS: .maxntid 512
// ROWS-NOT: call.uni
// ROWS: setmaxnreg.dec.sync.aligned.u32 32
// WHOLE-COUNT-2: cp.async.bulk.tensor.5d
// HALVES-COUNT-4: cp.async.bulk.tensor.5d
// ROWS-COUNT-2: cp.async.bulk.tensor.3d
// ROWS: setmaxnreg.inc.sync.aligned.u32 160
// ROWS-COUNT-8: wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
// ROWS: vote.sync.any
// ROWS-COUNT-8: wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
// ROWS-COUNT-16: mma.sync.aligned.m16n8k16
// ROWS-NOT: call.uni
// ROWS: .entry attention(
// NONE-NOT: wgmma
// NONE: .entry attention(
// NONE-NOT: wgmma
//
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.nhd -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS --implicit-check-not=C75 %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.strided -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS --implicit-check-not=C75 %}
// PTXAS: Compiling entry function 'attention_rows'

//--- nhd.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x32x128xbf16>
func.func @prompt(%q: !q, %kv: !kv, %batch: !batch, %out: !q) {
  kvcache.attention %q over %kv in %batch into %out causal : !q over !kv in !batch into !q
  return
}

//--- hnd.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D], align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x32x128xbf16>
func.func @prompt(%q: !q, %kv: !kv, %batch: !batch, %out: !q) {
  kvcache.attention %q over %kv in %batch into %out causal : !q over !kv in !batch into !q
  return
}

//--- strided.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [S = ? mult 8, B = ? mult 8, N = ? mult 8, H = ? mult 8], align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x32x128xbf16>
func.func @prompt(%q: !q, %kv: !kv, %batch: !batch, %out: !q) {
  kvcache.attention %q over %kv in %batch into %out causal : !q over !kv in !batch into !q
  return
}
