// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What users expect around attention: heads of a query that are apart, an lse of
// either order, a scale of values, a window with a right side.
//
// RUN: split-file %s %t
// RUN: kv-compile %t/aligned.mlir --target=sm_90a --emit=ptx -o %t.aligned
// RUN: kv-compile %t/apart.mlir --target=sm_90a --emit=ptx -o %t.apart
// RUN: kv-compile %t/aligned.mlir --target=sm_80 --emit=ptx -o %t.80
// RUN: kv-compile %t/f32.mlir --target=sm_90a --emit=ptx -o %t.f32
// RUN: FileCheck %s --input-file=%t.aligned --check-prefixes=PROMPT,WIDE
// RUN: FileCheck %s --input-file=%t.apart --check-prefix=NARROW
// RUN: FileCheck %s --input-file=%t.80 --check-prefix=WIDE
// RUN: FileCheck %s --input-file=%t.f32 --check-prefix=EACH
//
// Where heads are aligned, they come by boxes, or in copies of 16 bytes.
// PROMPT: .entry attention_rows(
// PROMPT: cp.async.bulk.tensor.3d
// WIDE: .entry attention(
// WIDE: cp.async.cg.shared.global
//
// If nobody says so, the query comes by elements, and its kernel is the one that
// needs nothing else.
// NARROW-NOT: .entry attention_rows(
// NARROW: .entry attention(
// NARROW: ld.global.b16
// NARROW-NOT: cp.async.cg.shared.global
//
// Without products too.
// EACH: .entry attention_rows(
// EACH-NOT: .entry attention(
//
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.aligned -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS --implicit-check-not=C75 %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.apart -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_80 %t.80 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.f32 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=EACH-PTXAS %}
// EACH-PTXAS: Compiling entry function 'attention_rows'
// EACH-PTXAS: 0 bytes spill stores, 0 bytes spill loads
// PTXAS: Function properties for attention{{$}}
// PTXAS-NEXT: 0 bytes spill stores, 0 bytes spill loads

//--- aligned.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x32x128xbf16, strided<[?, ?, 1]>>
!o = memref<?x32x128xbf16>
!l = memref<32x?xf32>
func.func @around(%q: !q {kvcache.align = 16}, %kv: !kv, %batch: !batch, %scale: f32, %out: !o, %lse: !l) {
  kvcache.attention %q over %kv in %batch value_scale(%scale) into %out, %lse heads_first window 128 window_right 16
    : !q over !kv in !batch into !o, !l
  return
}

//--- apart.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x32x128xbf16, strided<[?, ?, 1]>>
!o = memref<?x32x128xbf16>
func.func @around(%q: !q, %kv: !kv, %batch: !batch, %out: !o) {
  kvcache.attention %q over %kv in %batch into %out window_right 16
    : !q over !kv in !batch into !o
  return
}

//--- f32.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f32, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16, positions = i64>
!q = memref<?x32x128xf32, strided<[?, ?, 1]>>
!o = memref<?x32x128xf32>
!l = memref<32x?xf32>
func.func @around(%q: !q, %kv: !kv, %batch: !batch, %scale: f32, %out: !o, %lse: !l) {
  kvcache.attention %q over %kv in %batch value_scale(%scale) into %out, %lse heads_first window 128 window_right 16
    : !q over !kv in !batch into !o, !l
  return
}
