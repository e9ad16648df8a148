// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention over caches of bytes. From sm_89 on, products are of f16. In the kernel
// for few rows, keys and values become f16 on their way from shared memory, and in
// the one for many, two warps write them to shared memory again. Without the
// instructions, a block of threads has one row.
//
// RUN: kv-compile %s --target=sm_90a --max-variants=1 --emit=ptx -o %t.90
// RUN: kv-compile %s --target=sm_80 --max-variants=1 --emit=ptx -o %t.80
// RUN: FileCheck %s --input-file=%t.90 --implicit-check-not=.local --implicit-check-not='m16n8k16.row.col.f32.bf16' --implicit-check-not='.f32.bf16.bf16'
// RUN: FileCheck %s --input-file=%t.80 --check-prefix=ROWS --implicit-check-not=mma.sync --implicit-check-not=e4m3x2
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.90 -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS --implicit-check-not=C75 %}
// RUN: kv-opt %s --convert-kvcache-to-gpu=chip=sm_90a --remark-format=emitRemark --remarks-filter=.* 2>&1 >/dev/null | FileCheck %s --check-prefix=REMARK
// PTXAS-COUNT-4: {{ 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads}}

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f8E4M3FN>
!wide = !kvcache.cache<2S x ?B x 16N x 8H x 64D x f8E5M2>
!odd = !kvcache.cache<2S x ?B x 12N x 8H x 80D x f8E4M3FN, order = hnd, strides = [B = ?]>
!big = !kvcache.cache<2S x ?B x 16N x 2H x 256D x f8E4M3FN>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!batch12 = !kvcache.batch<?R x ?M x i32, tokens = 12>

// ROWS-COUNT-4: .entry attention_rows

// Four registers of a fragment are those of two products. The bytes of values
// are sorted by channel before.
// REMARK: matrix products of 8 columns, 8 warps, 6 slots; keys and values come in boxes of a tensor map; of many rows, products of 192 rows, 4 slots"
// CHECK-LABEL: .entry attention(
// CHECK: ldmatrix.sync.aligned.m8n8.x4.shared.b16
// CHECK-COUNT-4: cvt.rn.f16x2.e4m3x2
// CHECK: mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
// CHECK: ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16
// CHECK: prmt.b32 {{.*}}, 0x3120U
// CHECK: cvt.rn.f16x2.e4m3x2
// CHECK: mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
// CHECK-LABEL: .entry attention_rows(
// A query of bf16 becomes f16, by a power of two for each row.
// CHECK-DAG: cvt.rn.f16x2.f32
// CHECK-DAG: cvt.rn.f16x2.e4m3x2
// CHECK-DAG: wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16
func.func @bf16(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch, %o: memref<?x32x128xbf16>) {
  kvcache.attention %q over %c in %b into %o causal
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// REMARK: matrix products of 8 columns, 8 warps, 6 slots; keys and values come in boxes of a tensor map; of many rows, products of 192 rows, 8 slots"
// CHECK-LABEL: .entry attention_1(
// CHECK: cvt.rn.f16x2.e5m2x2
func.func @f16(%q: memref<?x8x64xf16>, %c: !wide, %b: !batch, %o: memref<?x8x64xf32>) {
  kvcache.attention %q over %c in %b into %o causal
    : memref<?x8x64xf16> over !wide in !batch into memref<?x8x64xf32>
  return
}

// Channels are rounded up to 96: rows, whose last chunks are zeros.
// REMARK: matrix products of 8 columns, 8 warps, 6 slots; keys and values come in rows"
// CHECK-LABEL: .entry attention_2(
// CHECK: cp.async.cg.shared.global
func.func @rows(%q: memref<?x32x80xbf16>, %c: !odd, %b: !batch12, %o: memref<?x32x80xbf16>) {
  kvcache.attention %q over %c in %b into %o causal
    : memref<?x32x80xbf16> over !odd in !batch12 into memref<?x32x80xbf16>
  return
}

// REMARK: matrix products of 8 columns, 4 warps, 6 slots; keys and values come in boxes of a tensor map; of many rows, products of 128 rows, 3 slots"
// CHECK-LABEL: .entry attention_3(
// CHECK: cvt.rn.f16x2.e4m3x2
func.func @big(%q: memref<?x32x256xbf16>, %c: !big, %b: !batch, %o: memref<?x32x256xbf16>) {
  kvcache.attention %q over %c in %b into %o causal window 100
    : memref<?x32x256xbf16> over !big in !batch into memref<?x32x256xbf16>
  return
}
