// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Formats of one byte in kernels. Chips that convert pairs do so in one
// instruction for both; others compute in integers. What has one format on both
// sides is copied, in accesses of 16 bytes.
//
// RUN: kv-compile %s --target=sm_80 --max-variants=1 --emit=ptx -o %t.80.ptx
// RUN: kv-compile %s --target=sm_90a --max-variants=1 --emit=ptx -o %t.90.ptx
// RUN: FileCheck %s --input-file=%t.80.ptx --implicit-check-not=e4m3x2 --implicit-check-not=e5m2x2 --check-prefix=BOTH
// RUN: FileCheck %s --input-file=%t.90.ptx --check-prefixes=BOTH,NEW
// RUN: %if ptxas %{ ptxas -v -arch=sm_80 %t.80.ptx -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.90.ptx -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// PTXAS-COUNT-8: {{ 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads}}
// PTXAS-NOT: stack frame

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!f8 = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f8E4M3FN>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f8E4M3FN, order = hnd>
!wide = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f8E5M2, order = hnd>
!half = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!host = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f8E4M3FN, space = host>
!rows = memref<?x8x128xbf16>

// Eight elements: 16 bytes of a row, 8 of the cache.
// BOTH-LABEL: .entry index_copy
// BOTH: ld.global{{.*}}.v4.b32
// NEW-COUNT-4: cvt.rn.satfinite.e4m3x2.f32
// BOTH: st.global.v2.b32
func.func @write(%cache: !f8, %key: !rows, %value: !rows, %slots: !slots) {
  kvcache.index_copy %key, %value into %cache at %slots : !rows, !rows into !f8 at !slots
  return
}

// BOTH-LABEL: .entry gather
// BOTH: ld.global.v2.b32
// NEW-COUNT-4: cvt.rn.f16x2.e4m3x2
// BOTH: st.global.v4.b32
func.func @read(%cache: !f8, %key: !rows, %value: !rows, %slots: !slots) {
  kvcache.gather %cache at %slots zero into %key, %value : !f8 at !slots into !rows, !rows
  return
}

// BOTH-LABEL: .entry index_copy
// BOTH: ld.global{{.*}}.v4.b32
// NEW-NOT: cvt.
// BOTH: st.global.v4.b32
func.func @write_bytes(%cache: !f8, %rows: memref<?x8x128xf8E4M3FN>, %slots: !slots) {
  kvcache.index_copy %rows, %rows into %cache at %slots : memref<?x8x128xf8E4M3FN>, memref<?x8x128xf8E4M3FN> into !f8 at !slots
  return
}

// BOTH-LABEL: .entry relayout
// BOTH: ld.global{{.*}}.v4.b32
// NEW-NOT: cvt.rn
// BOTH: st.global.v4.b32
// BOTH-LABEL: .entry relayout
// NEW: cvt.rn.f16x2.e4m3x2
// NEW: cvt.rn.satfinite.e5m2x2.f32
// BOTH-LABEL: .entry relayout
// NEW: cvt.rn.satfinite.e4m3x2.f32
// BOTH-LABEL: .entry copy_blocks
// BOTH: ld.global{{.*}}.v4.b32
// BOTH-LABEL: .entry transfer
// BOTH: ld.global{{.*}}.v4.b32
func.func @blocks(%cache: !f8, %hnd: !hnd, %wide: !wide, %half: !half, %host: !host, %pairs: memref<?x2xi64>, %parts: memref<?x4xi64>) {
  kvcache.relayout %cache into %hnd : !f8 into !hnd
  kvcache.relayout %cache into %wide : !f8 into !wide
  kvcache.relayout %half into %cache : !half into !f8
  kvcache.copy_blocks %cache at %pairs : !f8 at memref<?x2xi64>
  kvcache.transfer %cache to %host at %parts zero : !f8 to !host at memref<?x4xi64>
  return
}
