// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows that are computed in kernels: what goes through a local buffer stays in
// registers, and several results are one launch.
//
// RUN: kv-compile %s --target=sm_80 --emit=ptx -o %t.80.ptx
// RUN: kv-compile %s --target=sm_90a --emit=ptx -o %t.90.ptx
// RUN: FileCheck %s --input-file=%t.80.ptx
// RUN: FileCheck %s --input-file=%t.90.ptx
// RUN: %if ptxas %{ ptxas -v -arch=sm_80 %t.80.ptx -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.90.ptx -o %t.cubin 2>&1 | FileCheck %s --check-prefix=PTXAS %}
// PTXAS-COUNT-12: {{ 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads}}
// PTXAS-NOT: stack frame

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [S, B, N, H]>>
!rows = memref<?x8x128xbf16>
!query = memref<?x32x128xbf16>
!table = memref<?x128xf32>

// Two moves, each in a branch of its own. Of a head, both halves are loaded by
// one thread; sums go through three shuffles, and the root is one instruction.
// CHECK-LABEL: .entry fuse(
// CHECK: ctaid.x
// CHECK: ld.global.v4.b32
// CHECK: ld.global.v4.b32
// CHECK-COUNT-3: shfl.sync.bfly
// CHECK: rsqrt.approx.f32
// CHECK-NOT: div.rn
// CHECK-COUNT-2: st.global.v4.b32
// CHECK-COUNT-3: shfl.sync.bfly
// CHECK: rsqrt.approx.f32
// CHECK-COUNT-3: shfl.sync.bfly
// CHECK: div.rn.f32
// CHECK: ret;
// Much is read and written past the caches.
// CHECK-LABEL: .entry fuse_large(
// CHECK: ld.global.cs.v4.b32
// CHECK: st.global.cs.v4.b32
// CHECK: ret;
// A weight at any address is loaded one by one.
// CHECK-LABEL: .entry fuse_any(
// CHECK-COUNT-16: ld.global.b16
// CHECK: ret;
// CHECK-NOT: .entry index_copy
func.func @fused(%q: !query, %k: !rows, %v: !rows, %w: memref<128xbf16>,
                 %table: !table, %p: memref<?xi32>,
                 %cache: !kv {kvcache.noalias}, %slots: !slots,
                 %out: !query {kvcache.noalias}) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %q, %c0 : !query
  %a = memref.alloc(%t) : !query
  %b = memref.alloc(%t) : !rows
  %c = memref.alloc(%t) : !rows
  kvcache.normalize %q by %w into %a epsilon 1.0e-06
    : !query by memref<128xbf16> into !query
  kvcache.rotate %a by %table at %p into %out
    : !query by !table at memref<?xi32> into !query
  kvcache.normalize %k by %w into %b epsilon 1.0e-06
    : !rows by memref<128xbf16> into !rows
  kvcache.rotate %b by %table at %p into %c
    : !rows by !table at memref<?xi32> into !rows
  kvcache.index_copy %c, %v into %cache at %slots
    : !rows, !rows into !kv at !slots
  return
}

// A position that the table does not have loads nothing.
// CHECK-LABEL: .entry rotate(
// CHECK: setp.{{lt|ge|gt|le}}.u64
// CHECK: @%p{{[0-9]+}} ld.global.v4.b32
// CHECK-NOT: shfl
// CHECK: ret;
func.func @neighbours(%q: !query {kvcache.align = 16},
                      %table: !table {kvcache.align = 16},
                      %p: memref<?xi64>) {
  kvcache.rotate %q by %table at %p into %q interleaved
    : !query by !table at memref<?xi64> into !query
  return
}

// Some channels alone, rows without heads, and what has more elements than a
// warp has registers for.
// CHECK: .entry rotate
func.func @part(%x: memref<?x3x80xf16>, %table: memref<?x20xbf16>,
                %out: memref<?x3x80xf32>) {
  kvcache.rotate %x by %table into %out
    : memref<?x3x80xf16> by memref<?x20xbf16> into memref<?x3x80xf32>
  return
}
// CHECK: .entry normalize
func.func @few(%x: memref<?x5xbf16>, %out: memref<?x5xf8E4M3FN>) {
  kvcache.normalize %x into %out epsilon 1.0e-06
    : memref<?x5xbf16> into memref<?x5xf8E4M3FN>
  return
}
// CHECK-LABEL: .entry fuse_
// CHECK: bra
// CHECK: shfl.sync.bfly
// CHECK: bra
// CHECK: ret;
func.func @many(%x: memref<?x2x4096xbf16> {kvcache.noalias},
                %w: memref<4096xf32>, %table: memref<?x4096xf32>,
                %out: memref<?x2x4096xbf16> {kvcache.noalias}) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %x, %c0 : memref<?x2x4096xbf16>
  %a = memref.alloc(%t) : memref<?x2x4096xf32>
  kvcache.normalize %x by %w into %a epsilon 1.0e-05 plus_one
    : memref<?x2x4096xbf16> by memref<4096xf32> into memref<?x2x4096xf32>
  kvcache.rotate %a by %table into %out
    : memref<?x2x4096xf32> by memref<?x4096xf32> into memref<?x2x4096xbf16>
  return
}
