// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Contents with scales in kernels. The lanes that have the elements of a scale
// find the largest one by shuffles, and divide twice for each scale.
//
// RUN: kv-compile %s --target=sm_80 --max-variants=1 --emit=ptx -o %t.80.ptx
// RUN: kv-compile %s --target=sm_90a --max-variants=1 --emit=ptx -o %t.90.ptx
// RUN: FileCheck %s --input-file=%t.80.ptx
// RUN: FileCheck %s --input-file=%t.90.ptx --check-prefixes=CHECK,NEW
// RUN: %if ptxas %{ ptxas -v -arch=sm_80 %t.80.ptx -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.90.ptx -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// PTXAS-COUNT-19: {{ 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads}}
// PTXAS-NOT: stack frame

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!f8 = !kvcache.scaled<f8E4M3FN x f32, per = [S, B, N, H]>
!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !f8>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !f8, order = hnd>
!given = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [S, H]>>
!half = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>

// Two accesses of 16 bytes of each side are under way before the first shuffle.
// CHECK-LABEL: .entry index_copy
// CHECK-COUNT-4: ld.global.v4.b32
// CHECK-COUNT-3: shfl.sync.bfly
// CHECK: div.rn.f32
// CHECK: st.global.b32
// CHECK: div.rn.f32
// NEW-COUNT-4: cvt.rn.satfinite.e4m3x2.f32
// CHECK: st.global.v2.b32
// CHECK: st.global.v2.b32
// CHECK-COUNT-3: shfl.sync.bfly
// CHECK: div.rn.f32
// CHECK: st.global.b32
// CHECK: div.rn.f32
// CHECK: st.global.v2.b32
// CHECK: st.global.v2.b32
// CHECK: ret;
func.func @write(%cache: !nhd, %key: !rows, %value: !rows, %slots: !slots) {
  kvcache.index_copy %key, %value into %cache at %slots : !rows, !rows into !nhd at !slots
  return
}

// The scale is read beside the elements.
// CHECK-LABEL: .entry gather
// CHECK: ld.global.b32
// CHECK: ld.global.b32
// CHECK-COUNT-4: ld.global.v2.b32
// CHECK-NOT: shfl
// CHECK-NOT: div.rn
// CHECK-COUNT-4: st.global.v4.b32
// CHECK: ret;
func.func @read(%cache: !nhd, %key: !rows, %value: !rows, %slots: !slots) {
  kvcache.gather %cache at %slots zero into %key, %value : !nhd at !slots into !rows, !rows
  return
}

// CHECK-LABEL: .entry scatter
// CHECK-COUNT-6: shfl.sync.bfly
// CHECK: ret;
func.func @heads_first(%cache: !hnd, %key: !rows, %value: !rows, %b: memref<?xi32>, %n: memref<?xi32>) {
  kvcache.scatter %key, %value into %cache at %b, %n pad = skip_negative
    : !rows, !rows into !hnd at memref<?xi32>, memref<?xi32>
  return
}

// Of a record, accesses of 4 bytes are aligned.
// CHECK-LABEL: .entry index_copy_1
// CHECK-COUNT-2: ld.global.v4.b32
// CHECK-COUNT-4: shfl.sync.bfly
// CHECK: div.rn.f32
// CHECK: st.global.b32
// CHECK-COUNT-2: st.global.b32
// CHECK: ret;
!record = !kvcache.cache<?B x 16N x 8H x 128D
  x !kvcache.scaled<i8 x f32, per = [B, N, H], strides = [H = 33]>, strides = [H = 132], align = 4>
func.func @record(%cache: !record, %rows: memref<?x8x128xf32>, %slots: !slots) {
  kvcache.index_copy %rows into %cache at %slots : memref<?x8x128xf32> into !record at !slots
  return
}

// All heads of a token are one warp, and more elements than it has registers
// for: they are loaded twice.
// CHECK-LABEL: .entry index_copy_2
// CHECK: [[MAX:\$L__BB.*]]:
// CHECK: ld.global.v4.b32
// CHECK: bra [[MAX]]
// CHECK-COUNT-5: shfl.sync.bfly
// CHECK: st.global.b32
// CHECK: [[STORE:\$L__BB.*]]:
// CHECK: ld.global.v4.b32
// CHECK: st.global.v2.b32
// CHECK: bra [[STORE]]
!shared = !kvcache.cache<?B x 16N x 32H x 128D x !kvcache.scaled<f8E5M2 x f32, per = [B, N]>>
func.func @shared(%cache: !shared, %rows: memref<?x32x128xf16>, %slots: !slots) {
  kvcache.index_copy %rows into %cache at %slots : memref<?x32x128xf16> into !shared at !slots
  return
}

// Groups of channels, of which each is in one part of a split axis or in two.
// CHECK-LABEL: .entry index_copy_3
// CHECK: ld.global.v4.b32
// CHECK: st.global.v2.b32
// CHECK: ret;
!split = !kvcache.cache<?B x 16N x 8H x 8D.o x 16D.i x !kvcache.scaled<i8 x f32, per = [B, N, H, D / 32]>,
  order = [B, D.o, N, H, D.i]>
func.func @split(%cache: !split, %rows: !rows, %slots: !slots) {
  kvcache.index_copy %rows into %cache at %slots : !rows into !split at !slots
  return
}

// Where the facts prove nothing, numbers of the call decide.
// CHECK-LABEL: .entry index_copy_4
// CHECK: ld.global.v4.b32
// CHECK: st.global.v2.b32
// CHECK-LABEL: .entry index_copy_any
// CHECK: ld.global.b16
// CHECK: st.global.b8
!unknown = !kvcache.cache<?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [B, N, H]>, strides = [B = ?]>
func.func @unknown(%cache: !unknown, %rows: !rows, %slots: !slots) {
  kvcache.index_copy %rows into %cache at %slots : !rows into !unknown at !slots
  return
}

// One layer of all, and slots that count the rows of the others.
// CHECK-LABEL: .entry index_copy_5
// CHECK: mul.hi.u64
// CHECK: st.global.v2.b32
!layer = !kvcache.cache<?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [B, N, H]>, strides = [B = 49152]>
!all_slots = !kvcache.slots<?T x i64, rows_per_block = 48, pad = skip_negative>
func.func @gaps(%cache: !layer, %rows: !rows, %slots: !all_slots) {
  kvcache.index_copy %rows into %cache at %slots : !rows into !layer at !all_slots
  return
}

// CHECK-LABEL: .entry relayout
// CHECK-COUNT-3: shfl.sync.bfly
// CHECK: ret;
func.func @quantise(%from: !half, %to: !hnd) {
  kvcache.relayout %from into %to : !half into !hnd
  return
}

// CHECK-LABEL: .entry relayout_1
// CHECK-NOT: shfl
// CHECK: ret;
func.func @dequantise(%from: !hnd, %to: !half) {
  kvcache.relayout %from into %to : !hnd into !half
  return
}

// Layers are another dimension of the grid.
// CHECK-LABEL: .entry relayout_2
// CHECK: %ctaid.z
// CHECK: shfl.sync.bfly
// CHECK: ret;
!from = !kvcache.cache<?L x 2S x ?B x 16N x 8H x 128D
  x !kvcache.scaled<f8E4M3FN x f32, per = [L, S, B, N, H]>, order = [B, L, S, N, H, D]>
!to = !kvcache.cache<?L x 2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [L, S, B, N, H, D / 64]>>
func.func @other_scales(%from: !from, %to: !to) {
  kvcache.relayout %from into %to : !from into !to
  return
}

// Bits of one format are copied, and so are scales.
// CHECK-LABEL: .entry relayout_3
// CHECK-NOT: cvt.rn
// CHECK-LABEL: .entry relayout_4
// CHECK-NOT: div.rn
// CHECK-LABEL: .entry copy_blocks
// CHECK: ld.global.v4.b32
// CHECK-LABEL: .entry copy_blocks_1
// CHECK-LABEL: .entry clear_blocks
// CHECK: st.global.v4.b32
// CHECK-LABEL: .entry clear_blocks_1
func.func @bits(%from: !nhd, %to: !hnd, %pairs: memref<?x2xi64>, %blocks: memref<?xi64>) {
  kvcache.relayout %from into %to : !nhd into !hnd
  kvcache.copy_blocks %to at %pairs : !hnd at memref<?x2xi64>
  kvcache.clear_blocks %from at %blocks : !nhd at memref<?xi64>
  return
}

// A given scale is read, and its inverse is what elements are multiplied by; no
// lane asks another one.
// CHECK-LABEL: .entry index_copy
// CHECK-NOT: {{shfl|div.rn|st.global.b32}}
// CHECK-COUNT-4: ld.global.v4.b32
// CHECK-NOT: {{shfl|div.rn|st.global.b32}}
// CHECK: rcp.rn.f32
// CHECK-COUNT-2: st.global.v2.b32
// CHECK-NOT: {{shfl|div.rn|st.global.b32}}
// CHECK: rcp.rn.f32
// CHECK-COUNT-2: st.global.v2.b32
// CHECK: ret;
func.func @given(%cache: !given, %key: !rows, %value: !rows, %slots: !slots) {
  kvcache.index_copy %key, %value into %cache at %slots : !rows, !rows into !given at !slots
  return
}
