// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lists that are divided out of slots: of a scatter that is one launch with
// others, no list of slots is made, which would be inside.
//
// RUN: kv-opt %s --kvcache-optimize | FileCheck %s
// RUN: kv-compile %s --target=cpu --emit=llvm -o %t.ll

// CHECK-LABEL: func.func @f(
// CHECK: kvcache.fuse {
// CHECK: kvcache.scatter
// CHECK-NEXT: }
!rows = memref<?x8x128xbf16>
!table = memref<?x128xf32>
!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
#id = affine_map<(t) -> (t)>
func.func @f(%k: !rows, %table: !table, %p: memref<?xi32>, %cache: !kv {kvcache.noalias}, %slots: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : i64
  %n = memref.dim %slots, %c0 : memref<?xi64>
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }
  %t = memref.dim %k, %c0 : !rows
  kvcache.fuse {
    %a = memref.alloc(%t) : !rows
    kvcache.rotate %k by %table at %p into %a
      : !rows by !table at memref<?xi32> into !rows
    kvcache.scatter %a into %cache at %blocks, %offsets pad = skip_negative
      : !rows into !kv at memref<?xi64>, memref<?xi64>
  }
  return
}
