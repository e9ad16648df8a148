// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Bits of a mask in kernels. Two words that hold 32 bits become one by a funnel
// shift. In the kernel for many rows these are loaded while the first product
// runs, by code for tiles with own rows only: as many products as without a mask,
// and not one of them waits for another. A lane gets the words of the others of
// its four by shuffles, two for each 32 keys.
//
// RUN: split-file %s %t
// RUN: kv-compile %t/tree.mlir --target=sm_90a --emit=ptx -o %t.tree
// RUN: kv-compile %t/tree.mlir --target=sm_80 --emit=ptx -o %t.80
// RUN: kv-compile %t/wide.mlir --target=sm_90a --emit=ptx -o %t.wide
// RUN: kv-compile %t/spans.mlir --target=sm_90a --emit=ptx -o %t.spans
// RUN: kv-compile %t/f32.mlir --target=sm_90a --emit=ptx -o %t.f32
// RUN: FileCheck %s --input-file=%t.tree --check-prefixes=ROWS,FEW
// RUN: FileCheck %s --input-file=%t.spans --check-prefixes=ROWS,FEW
// RUN: FileCheck %s --input-file=%t.wide --check-prefix=WIDE
// RUN: FileCheck %s --input-file=%t.80 --check-prefix=FEW
// RUN: FileCheck %s --input-file=%t.f32 --check-prefix=EACH
// ROWS: .entry attention_rows(
// ROWS: setmaxnreg.inc.sync.aligned.u32 160
// ROWS-COUNT-8: wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
// ROWS: wgmma.commit_group
// ROWS: ld.global.b32
// ROWS: shf.r.wrap.b32
// ROWS: wgmma.wait_group
// ROWS-COUNT-8: shfl.sync.idx
// WIDE: .entry attention_rows(
// WIDE: setmaxnreg.inc.sync.aligned.u32 232
// WIDE: wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16
// WIDE: shf.r.wrap.b32
// FEW: .entry attention(
// FEW: shf.r.wrap.b32
// FEW: vote.sync.ballot
// EACH: .entry attention_rows(
// EACH: ld.global.b32
// EACH-NOT: .entry attention(
//
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.tree -o %t.cubin 2>&1 | FileCheck %s --check-prefix=ONE --implicit-check-not=C75 %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.spans -o %t.cubin 2>&1 | FileCheck %s --check-prefix=ONE --implicit-check-not=C75 %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.wide -o %t.cubin 2>&1 | FileCheck %s --check-prefix=ONE --implicit-check-not=C75 %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_80 %t.80 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=ONE %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.f32 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=EACHONE %}
// ONE: Function properties for attention{{$}}
// ONE-NEXT: 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
// EACHONE: 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads

//--- tree.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x32x128xbf16>
func.func @tree(%q: !q, %kv: !kv, %batch: !batch, %m: memref<?x?xi32>, %out: !q) {
  kvcache.attention %q over %kv in %batch mask(%m : memref<?x?xi32>) into %out causal : !q over !kv in !batch into !q
  return
}

//--- spans.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16, positions = i64>
!q = memref<?x32x128xbf16>
func.func @spans(%q: !q, %kv: !kv, %batch: !batch, %m: memref<?x8xi32, strided<[?, 1]>>, %alibi: memref<32xf32>, %out: !q) {
  kvcache.attention %q over %kv in %batch alibi(%alibi : memref<32xf32>) mask(%m : memref<?x8xi32, strided<[?, 1]>>) into %out softcap 3.0e+01
    : !q over !kv in !batch into !q
  return
}

//--- wide.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 256D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x16x256xbf16>
func.func @tree(%q: !q, %kv: !kv, %batch: !batch, %m: memref<?x?xi32>, %out: !q) {
  kvcache.attention %q over %kv in %batch mask(%m : memref<?x?xi32>) into %out causal window 300 : !q over !kv in !batch into !q
  return
}

//--- f32.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f32, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x32x128xf32>
func.func @each(%q: !q, %kv: !kv, %batch: !batch, %m: memref<?x?xi32>, %out: !q) {
  kvcache.attention %q over %kv in %batch mask(%m : memref<?x?xi32>) into %out : !q over !kv in !batch into !q
  return
}
