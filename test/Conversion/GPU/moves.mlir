// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernels of all operations that move elements or compute indices, on all
// targets: what ptxas makes of them has no spills and no stack, nothing is
// divided, and at most 64 registers are used, so that 1024 threads fit.
//
// RUN: kv-compile %s --target=sm_80 --max-variants=1 --emit=ptx -o %t.80.ptx
// RUN: kv-compile %s --target=sm_90a --max-variants=1 --emit=ptx -o %t.90.ptx
// RUN: kv-compile %s --target=sm_100a --max-variants=1 --emit=ptx -o %t.100.ptx
// RUN: FileCheck %s --input-file=%t.80.ptx --check-prefix=PTX --implicit-check-not=div.u --implicit-check-not=div.s --implicit-check-not=rem. --implicit-check-not=.local --implicit-check-not=call
// RUN: FileCheck %s --input-file=%t.90.ptx --check-prefix=PTX --implicit-check-not=div.u --implicit-check-not=div.s --implicit-check-not=rem. --implicit-check-not=.local --implicit-check-not=call
// PTX-COUNT-13: .entry

// RUN: %if ptxas %{ ptxas -v -arch=sm_80 %t.80.ptx -o %t.cubin 2>&1 | FileCheck %s %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_90a %t.90.ptx -o %t.cubin 2>&1 | FileCheck %s %}
// RUN: %if ptxas %{ ptxas -v -arch=sm_100a %t.100.ptx -o %t.cubin 2>&1 | FileCheck %s %}
// CHECK-COUNT-13: {{ 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads[[:space:]].*Used ([1-9]|[1-5][0-9]|6[0-4]) registers}}
// CHECK-NOT: stack frame

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D], strides = [B = ? mult 8]>
!hdn = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [S, B, H, D, N]>
!odd = !kvcache.cache<?B x 6N x 3H x 46D x f16, strides = [B = ?, N = ?], align = 2>
!odd2 = !kvcache.cache<?B x 6N x 3H x 46D x f32, order = [B, D, H, N]>
!host = !kvcache.cache<2S x ?B x 64N x 8H x 128D x bf16, space = host>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16, positions = i64>
!rows = memref<?x8x128xbf16>

func.func @rows(%nhd: !nhd, %hnd: !hnd, %key: !rows, %value: !rows, %slots: !slots, %b: memref<?xi64>, %o: memref<?xi64>) {
  kvcache.index_copy %key, %value into %nhd at %slots : !rows, !rows into !nhd at !slots
  kvcache.scatter %key, %value into %hnd at %b, %o pad = skip_negative : !rows, !rows into !hnd at memref<?xi64>, memref<?xi64>
  kvcache.gather %hnd at %slots zero into %key, %value : !hnd at !slots into !rows, !rows
  return
}

func.func @blocks(%nhd: !nhd, %hnd: !hnd, %hdn: !hdn, %odd: !odd, %odd2: !odd2, %host: !host, %pairs: memref<?x2xi64>, %parts: memref<?x4xi64>, %list: memref<?xi64>) {
  kvcache.relayout %nhd into %hnd : !nhd into !hnd
  kvcache.relayout %nhd into %hdn : !nhd into !hdn
  kvcache.relayout %odd into %odd2 : !odd into !odd2
  kvcache.copy_blocks %hnd at %pairs : !hnd at memref<?x2xi64>
  kvcache.clear_blocks %hnd at %list : !hnd at memref<?xi64>
  kvcache.transfer %hnd to %host at %parts zero : !hnd to !host at memref<?x4xi64>
  return
}

func.func @indices(%batch: !batch, %out: memref<?xi64>, %x: memref<?x64xf32>, %i: memref<?xi32>, %n: memref<1xi32>,
                   %y: memref<?x64xf32>, %starts: memref<?xi32>, %positions: memref<?xi64>) {
  kvcache.slot_mapping %batch into %out : !batch into memref<?xi64>
  kvcache.block_slots %i of 16 into %out : memref<?xi32> into memref<?xi64>
  kvcache.select_rows %x of %batch at %i, %n into %y, %starts, %positions
    : memref<?x64xf32> of !batch at memref<?xi32>, memref<1xi32> into memref<?x64xf32>, memref<?xi32>, memref<?xi64>
  return
}

func.func @merge(%a: !rows, %la: memref<?x8xf32>, %b: !rows, %lb: memref<?x8xf32>, %o: !rows, %lo: memref<?x8xf32>) {
  kvcache.merge_states %a, %la with %b, %lb into %o, %lo : !rows, memref<?x8xf32> with !rows, memref<?x8xf32> into !rows, memref<?x8xf32>
  return
}
