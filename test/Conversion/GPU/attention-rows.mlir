// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernel for many rows, which sm_90a has: eight products for scores and eight
// for values, none of which waits for another one in ptxas. A call with more
// pairs of rows and heads than a tile of the other kernel has, for each request,
// launches it. A box has all channels of a page where heads lie side by side, or
// blocks of them do; otherwise half of them. Rows of the query come by boxes too,
// one for each half and warpgroup. Between both products a warp computes its scores
// once more if weights turn out too large, by products of its own.
//
// A warpgroup computes scores when it is its turn, and passes that on when it has
// them. Half of a tile is code of its own. Of two warpgroups (D256) sums are in
// turns too. Exponentials are in eight blocks of code: seven ends nobody gets to.
//
// RUN: split-file %s %t
// RUN: kv-compile %t/nhd.mlir --target=sm_90a --emit=ptx -o %t.nhd
// RUN: kv-compile %t/hnd.mlir --target=sm_90a --emit=ptx -o %t.hnd
// RUN: kv-compile %t/strided.mlir --target=sm_90a --max-variants=1 --emit=ptx -o %t.strided
// RUN: kv-compile %t/d80.mlir --target=sm_90a --emit=ptx -o %t.d80
// RUN: kv-compile %t/d256.mlir --target=sm_90a --emit=ptx -o %t.d256
// RUN: kv-compile %t/d192.mlir --target=sm_90a --emit=ptx -o %t.d192
// RUN: kv-compile %t/nhd.mlir --target=sm_100a --emit=ptx -o %t.100
// RUN: kv-compile %t/nhd.mlir --target=sm_80 --emit=ptx -o %t.80
// RUN: FileCheck %s --input-file=%t.nhd --check-prefixes=ROWS,WHOLE
// RUN: FileCheck %s --input-file=%t.hnd --check-prefixes=ROWS,WHOLE
// RUN: FileCheck %s --input-file=%t.nhd --check-prefix=TURNS
// RUN: FileCheck %s --input-file=%t.strided --check-prefixes=ROWS,HALVES
// RUN: FileCheck %s --input-file=%t.d80 --check-prefix=D80
// RUN: FileCheck %s --input-file=%t.d256 --check-prefix=D256
// RUN: FileCheck %s --input-file=%t.d192 --check-prefix=D192
// RUN: FileCheck %s --input-file=%t.100 --check-prefix=NONE
// RUN: FileCheck %s --input-file=%t.80 --check-prefix=NONE
// ROWS: .entry attention_rows(
// ROWS: .maxntid 512
// ROWS-NOT: call.uni
// ROWS: setmaxnreg.dec.sync.aligned.u32 32
// WHOLE-COUNT-2: cp.async.bulk.tensor.5d
// HALVES-COUNT-4: cp.async.bulk.tensor.5d
// ROWS-COUNT-6: cp.async.bulk.tensor.3d
// ROWS: setmaxnreg.inc.sync.aligned.u32 160
// ROWS-COUNT-8: wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
// ROWS: vote.sync.any
// ROWS-COUNT-8: wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
// ROWS-COUNT-16: mma.sync.aligned.m16n8k16
// ROWS-NOT: call.uni
// ROWS: .entry attention(
// TURNS: .entry attention_rows(
// TURNS: bar.arrive
// TURNS: bar.sync %r
// TURNS-COUNT-8: wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16
// TURNS: wgmma.wait_group
// TURNS: bar.arrive
// TURNS-COUNT-4: wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
// TURNS: bar.sync %r
// TURNS-COUNT-8: wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
// TURNS: bar.arrive
// TURNS-COUNT-8: wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
// TURNS-COUNT-7: exit;
// TURNS: .entry attention(
// NONE-NOT: wgmma
// NONE: .entry attention(
// NONE-NOT: wgmma
//
// Channels are boxes of 64, of which the last one may be partly zeros: five products
// for scores of 80 channels. With more than 128 channels of values there are two
// warpgroups, with more registers, and tiles of 64 keys.
//
// D80: .entry attention_rows(
// D80: .maxntid 512
// D80: setmaxnreg.dec.sync.aligned.u32 32
// D80-COUNT-4: cp.async.bulk.tensor.5d
// D80: setmaxnreg.inc.sync.aligned.u32 160
// D80-COUNT-5: wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
// D80: vote.sync.any
// D80-COUNT-8: wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16
//
// D256: .entry attention_rows(
// D256: .maxntid 384
// D256: setmaxnreg.dec.sync.aligned.u32 40
// D256-COUNT-2: cp.async.bulk.tensor.5d
// D256: setmaxnreg.inc.sync.aligned.u32 232
// D256-COUNT-16: wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16
// D256: bar.arrive
// D256: vote.sync.any
// D256: bar.sync %r
// D256-COUNT-4: wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16
// D256: bar.arrive
//
// D192: .entry attention_rows(
// D192: .maxntid 512
// D192-COUNT-12: wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
// D192: vote.sync.any
// D192-COUNT-8: wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
//
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.nhd -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS --implicit-check-not=C75 %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.d80 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS --implicit-check-not=C75 %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.d256 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS --implicit-check-not=C75 %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.d192 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS --implicit-check-not=C75 %}
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

//--- d80.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 80D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x32x80xbf16>
func.func @prompt(%q: !q, %kv: !kv, %batch: !batch, %out: !q) {
  kvcache.attention %q over %kv in %batch into %out causal : !q over !kv in !batch into !q
  return
}

//--- d256.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 4H x 256D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x8x256xbf16>
func.func @prompt(%q: !q, %kv: !kv, %batch: !batch, %out: !q) {
  kvcache.attention %q over %kv in %batch into %out causal : !q over !kv in !batch into !q
  return
}

//--- d192.mlir
!k = !kvcache.cache<?B x 16N x 16H x 192D x bf16, align = 16>
!v = !kvcache.cache<?B x 16N x 16H x 128D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x16x192xbf16>
!o = memref<?x16x128xbf16>
func.func @prompt(%q: !q, %k: !k, %v: !v, %batch: !batch, %out: !o) {
  kvcache.attention %q over %k, %v in %batch into %out causal : !q over !k, !v in !batch into !o
  return
}
