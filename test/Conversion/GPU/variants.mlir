// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What facts make of one program, in PTX. A packed cache and one whose block
// stride is only known to be a multiple of 16 bytes have the same accesses, one
// load of the slot and no division; they differ in a multiplication. A cache of
// which nothing is known has two kernels, that one and one for addresses that
// are not aligned, with accesses of one element, eight for one.
//
// RUN: split-file %s %t
// RUN: kv-compile %t/packed.mlir --target=sm_90a --max-variants=1 --emit=ptx | FileCheck %s --check-prefixes=CHECK,WIDE --implicit-check-not=div. --implicit-check-not=rem. --implicit-check-not=.local
// RUN: kv-compile %t/multiple.mlir --target=sm_90a --max-variants=1 --emit=ptx | FileCheck %s --check-prefixes=CHECK,WIDE --implicit-check-not=div. --implicit-check-not=rem. --implicit-check-not=.local
// RUN: kv-compile %t/generic.mlir --target=sm_90a --max-variants=1 --emit=ptx | FileCheck %s --check-prefixes=CHECK,NARROW --implicit-check-not=div. --implicit-check-not=rem. --implicit-check-not=.local
// RUN: kv-compile %t/packed.mlir --target=sm_80 --max-variants=1 --emit=ptx | FileCheck %s --check-prefixes=CHECK,WIDE --implicit-check-not=div. --implicit-check-not=rem. --implicit-check-not=.local
// RUN: kv-compile %t/generic.mlir --target=sm_100a --max-variants=1 --emit=ptx | FileCheck %s --check-prefixes=CHECK,NARROW --implicit-check-not=div. --implicit-check-not=rem. --implicit-check-not=.local

// CHECK: .visible .entry index_copy(
// CHECK-NOT: .entry
// CHECK: ld.global.b64
// CHECK-COUNT-2: st.global.v4.b32
// CHECK-NOT: st.global
// CHECK: ret;
// WIDE-NOT: .entry
// NARROW: .visible .entry index_copy_any(
// NARROW-COUNT-16: ld.global.b16
// NARROW-COUNT-16: st.global.b16
// NARROW-NOT: st.global
// NARROW: ret;

//--- packed.mlir
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @insert(%cache: !kv, %key: memref<?x8x128xbf16>, %value: memref<?x8x128xbf16>, %slots: !slots) {
  kvcache.index_copy %key, %value into %cache at %slots : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !kv at !slots
  return
}

//--- multiple.mlir
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = ? mult 8]>
func.func @insert(%cache: !kv, %key: memref<?x8x128xbf16>, %value: memref<?x8x128xbf16>, %slots: !slots) {
  kvcache.index_copy %key, %value into %cache at %slots : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !kv at !slots
  return
}

//--- generic.mlir
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = ?], align = 2>
func.func @insert(%cache: !kv, %key: memref<?x8x128xbf16>, %value: memref<?x8x128xbf16>, %slots: !slots) {
  kvcache.index_copy %key, %value into %cache at %slots : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !kv at !slots
  return
}
