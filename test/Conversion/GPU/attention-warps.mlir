// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernel for many rows by products of warps: where a chip has none of
// warpgroups, and on sm_90a for strides of which nothing is known. Seven warps have
// two tiles of 16 rows each, with up to 128 channels, and one copies keys and
// values. A tile of 64 keys has 128 products of a warp for scores, and 128 for
// values, which are there twice: with masks of keys that nobody sees, and without.
// With more channels a warp has one tile of rows, and 32 keys.
//
// RUN: split-file %s %t
// RUN: kv-compile %t/d128.mlir --target=sm_80 --emit=ptx -o %t.d128
// RUN: kv-compile %t/d128.mlir --target=sm_100a --emit=ptx -o %t.100
// RUN: kv-compile %t/d256.mlir --target=sm_80 --emit=ptx -o %t.d256
// RUN: kv-compile %t/generic.mlir --target=sm_90a --max-variants=1 --emit=ptx -o %t.generic
// RUN: kv-compile %t/d128.mlir --target=sm_90a --emit=ptx -o %t.90
// RUN: FileCheck %s --input-file=%t.d128 --check-prefixes=WARPS,D128 --implicit-check-not=wgmma
// RUN: FileCheck %s --input-file=%t.100 --check-prefixes=WARPS,D128 --implicit-check-not=wgmma
// RUN: FileCheck %s --input-file=%t.generic --check-prefixes=WARPS,D128 --implicit-check-not=wgmma
// RUN: FileCheck %s --input-file=%t.d256 --check-prefixes=WARPS,D256
// RUN: FileCheck %s --input-file=%t.90 --check-prefix=NONE --implicit-check-not=attention_warps
// WARPS: .entry attention_warps(
// WARPS: .maxntid 256
// WARPS: .minnctapersm 1
// WARPS-NOT: .local
// D128-COUNT-128: mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
// D128: ex2.approx
// D128-COUNT-256: mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
// D256-COUNT-64: mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
// D256: ex2.approx
// D256-COUNT-128: mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
// WARPS: atom.global.add.u32
// WARPS: .entry attention(
// NONE: .entry attention_rows(
//
// A thread has 255 registers, as two warps share a quarter of a multiprocessor.
// With 128 channels ptxas is within a few of them, and may spill those.
// RUN: %if ptxas %{ ptxas -v -arch=sm_80 %t.d128 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=FEW %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_80 %t.d256 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// FEW: Compiling entry function 'attention_warps'
// FEW: {{[0-9]+}} bytes stack frame, {{[0-9]|[1-3][0-9]}} bytes spill stores
// FEW: Used {{2[0-9][0-9]}} registers
// PTXAS: Compiling entry function 'attention_warps'
// PTXAS: {{^ *}}0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
// PTXAS: Used {{2[0-9][0-9]}} registers

//--- d128.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x32x128xbf16>
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

//--- generic.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [S = ?, B = ?, N = ?, H = ?]>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x32x128xbf16>
func.func @prompt(%q: !q, %kv: !kv, %batch: !batch, %out: !q) {
  kvcache.attention %q over %kv in %batch into %out causal : !q over !kv in !batch into !q
  return
}
