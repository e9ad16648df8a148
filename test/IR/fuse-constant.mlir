// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A buffer inside of a launch gets a constant size, and a cast, when its size
// becomes known.
//
// RUN: kv-opt %s --canonicalize | FileCheck %s
// RUN: kv-compile %s --target=cpu --emit=llvm -o %t.ll
// RUN: kv-compile %s --target=sm_90a --emit=ptx -o - | FileCheck %s --check-prefix=PTX

!rows = memref<?x8x128xbf16>
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!slots = !kvcache.slots<?T x i32, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @write(
// CHECK: kvcache.fuse {
// CHECK-NEXT: %[[A:.*]] = memref.alloc() : memref<4x8x128xbf16>
// CHECK-NEXT: %[[B:.*]] = memref.cast %[[A]]
// CHECK-NEXT: kvcache.rotate %{{.*}} into %[[B]]
// CHECK-NEXT: kvcache.index_copy %[[B]],
// PTX: .entry fuse
func.func @write(%k: !rows, %v: !rows, %table: memref<?x128xf32>,
                 %cache: !kv {kvcache.noalias}, %slots: !slots) {
  %t = arith.constant 4 : index
  kvcache.fuse {
    %a = memref.alloc(%t) : !rows
    kvcache.rotate %k by %table into %a : !rows by memref<?x128xf32> into !rows
    kvcache.index_copy %a, %v into %cache at %slots
      : !rows, !rows into !kv at !slots
  }
  return
}
