// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Variants for certain strides are there if they are asked for.
//
// RUN: kv-opt %s --kvcache-specialize-page-stride="block-strides=1048576 max-variants=4" | FileCheck %s

!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK: strides = [B = 1048576]
// CHECK: trace "index_copy in line {{.*}}: the stride of B is 1048576"
// CHECK: strides are compact
// CHECK: strides are multiples of 16
// CHECK: any strides
func.func @asked_for(%rows: memref<?x8x128xbf16>, %cache: !any, %slots: !slots) {
  kvcache.index_copy %rows into %cache at %slots : memref<?x8x128xbf16> into !any at !slots
  return
}
