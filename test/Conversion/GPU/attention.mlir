// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What facts make of attention, in PTX: how keys and values are fetched. With
// multiples of 16 bytes a tensor map has all strides on sm_90a, and a unit of a
// side is one copy; on sm_80 a chunk of 16 bytes is a copy, and strides are
// constants or parameters. Where nothing is known, there are copies of 16 and 4
// bytes and loads of one element, chosen by what a call brings. The products are
// the same in all: 8 for scores, and 8 for values with a mask and without one; the
// kernel for many rows has 16 more in each of two loops, for scores that are computed
// once more.
//
// RUN: split-file %s %t
// RUN: kv-compile %t/packed.mlir --target=sm_90a --emit=ptx -o %t.packed.90
// RUN: kv-compile %t/multiple.mlir --target=sm_90a --max-variants=1 --emit=ptx -o %t.multiple.90
// RUN: kv-compile %t/generic.mlir --target=sm_90a --max-variants=1 --emit=ptx -o %t.generic.90
// RUN: kv-compile %t/packed.mlir --target=sm_80 --emit=ptx -o %t.packed.80
// RUN: kv-compile %t/multiple.mlir --target=sm_80 --max-variants=1 --emit=ptx -o %t.multiple.80
// RUN: kv-compile %t/generic.mlir --target=sm_80 --max-variants=1 --emit=ptx -o %t.generic.80
// RUN: kv-compile %t/packed.mlir --target=sm_100a --emit=ptx -o %t.packed.100
// RUN: FileCheck %s --check-prefix=BOXES --input-file=%t.packed.90 --implicit-check-not=div.u64 --implicit-check-not=div.s64 --implicit-check-not=cp.async.ca --implicit-check-not=.local
// RUN: FileCheck %s --check-prefix=BOXES --input-file=%t.multiple.90 --implicit-check-not=div.u64 --implicit-check-not=div.s64 --implicit-check-not=cp.async.ca --implicit-check-not=.local
// RUN: FileCheck %s --check-prefix=BOXES --input-file=%t.packed.100 --implicit-check-not=cp.async.ca --implicit-check-not=.local
// RUN: FileCheck %s --check-prefix=ROWS --input-file=%t.packed.80 --implicit-check-not=cp.async.bulk --implicit-check-not=cp.async.ca --implicit-check-not=.local
// RUN: FileCheck %s --check-prefix=ROWS --input-file=%t.multiple.80 --implicit-check-not=cp.async.bulk --implicit-check-not=cp.async.ca --implicit-check-not=.local
// RUN: FileCheck %s --check-prefix=ROWS --input-file=%t.generic.90 --implicit-check-not=cp.async.bulk --implicit-check-not=.local
// RUN: FileCheck %s --check-prefix=ROWS --input-file=%t.generic.80 --implicit-check-not=cp.async.bulk --implicit-check-not=.local
// BOXES: .entry attention(
// ROWS: .entry attention(
//
// Copies: four of the query; of keys and values a box each, or a chunk for each
// of 16 channels in 32 tokens; where nothing is known, also 4 words of a chunk,
// and 8 elements. Twice as many where LLVM peels the first tile off a loop. The
// kernel for many rows (attention-rows.mlir) has one box for keys and values each,
// or two; that by warps (attention-warps.mlir) 64 chunks, in two units of each
// side, and one of the query, and 384 products.
// RUN: grep -c cp.async.cg.shared.global %t.packed.90 | FileCheck %s --check-prefix=FOUR
// RUN: grep -c cp.async.bulk.tensor.5d %t.packed.90 | FileCheck %s --check-prefix=TWO
// RUN: grep -c cp.async.bulk.tensor.5d %t.multiple.90 | FileCheck %s --check-prefix=FOURBOXES
// RUN: grep -c cp.async.cg.shared.global %t.packed.80 | FileCheck %s --check-prefix=ALL
// RUN: grep -c cp.async.cg.shared.global %t.multiple.80 | FileCheck %s --check-prefix=ALL
// RUN: grep -c cp.async.cg.shared.global %t.generic.90 | FileCheck %s --check-prefix=ALL
// RUN: grep -c cp.async.ca.shared.global %t.generic.90 | FileCheck %s --check-prefix=WORDS
// RUN: grep -c mma.sync.aligned.m16n8k16 %t.packed.90 | FileCheck %s --check-prefix=MORE
// RUN: grep -c mma.sync.aligned.m16n8k16 %t.packed.80 | FileCheck %s --check-prefix=PRODUCTS
// RUN: grep -c mma.sync.aligned.m16n8k16 %t.generic.80 | FileCheck %s --check-prefix=PRODUCTS
// FOUR: {{^(4|8)$}}
// TWO: {{^(4|6)$}}
// FOURBOXES: {{^(6|8)$}}
// ALL: {{^}}101{{$}}
// WORDS: {{^(24|48)$}}
// PRODUCTS: {{^}}408{{$}}
// MORE: {{^}}56{{$}}
//
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.packed.90 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.generic.90 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_80 %t.packed.80 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_80 %t.generic.80 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_100a %t.packed.100 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// PTXAS: 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads

//--- packed.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x32x128xbf16>
func.func @decode(%q: !q, %kv: !kv, %batch: !batch, %out: !q) {
  kvcache.attention %q over %kv in %batch into %out causal : !q over !kv in !batch into !q
  return
}

//--- multiple.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [S = ? mult 8, B = ? mult 8, N = ? mult 8, H = ? mult 8], align = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x32x128xbf16>
func.func @decode(%q: !q, %kv: !kv, %batch: !batch, %out: !q) {
  kvcache.attention %q over %kv in %batch into %out causal : !q over !kv in !batch into !q
  return
}

//--- generic.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [S = ?, B = ?, N = ?, H = ?], align = 2>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x32x128xbf16>
func.func @decode(%q: !q, %kv: !kv, %batch: !batch, %out: !q) {
  kvcache.attention %q over %kv in %batch into %out causal : !q over !kv in !batch into !q
  return
}
