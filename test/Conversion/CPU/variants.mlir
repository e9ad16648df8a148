// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What facts change in the code: a variant with more of them multiplies less for
// each row, divides nothing, and moves more with one instruction.
//
// RUN: kv-opt %s --kvcache-specialize-page-stride=target=cpu --convert-kvcache-to-loops --canonicalize --cse | FileCheck %s
// RUN: kv-opt %s --kvcache-specialize-page-stride --convert-kvcache-to-gpu | FileCheck %s --check-prefix=GPU

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// The stride of blocks. Packed: one multiplication by a constant from the slot
// to its row. Otherwise the slot is divided, and there are two, of which one is
// by the stride.

// CHECK-LABEL: func.func @page_stride(
// CHECK: scf.if
// CHECK: scf.parallel
// CHECK-NOT: arith.divui %{{.*}}, %c16
// CHECK-NOT: arith.remui
// CHECK: %[[SLOT:.*]] = arith.index_cast %{{.*}} : i64 to index
// CHECK: arith.cmpi ult, %[[SLOT]]
// CHECK-NEXT: %[[AT:.*]] = arith.muli %[[SLOT]], %c1024
// CHECK-NOT: arith.divui %{{.*}}, %c16
// CHECK-NOT: arith.remui
// CHECK: scf.reduce
// CHECK: } else {
// CHECK: scf.parallel
// CHECK: %[[SLOT:.*]] = arith.index_cast %{{.*}} : i64 to index
// CHECK: arith.cmpi ult, %[[SLOT]]
// CHECK-NEXT: arith.muli %[[SLOT]], %c1024
// CHECK-NEXT: %[[GAP:.*]] = arith.addi %{{.*}}#0, %c-16384
// CHECK-NEXT: %[[BLOCK:.*]] = arith.divui %[[SLOT]], %c16
// CHECK-NEXT: arith.muli %[[BLOCK]], %[[GAP]]

// On a GPU it is the width of an access. 16 bytes take a stride that is a
// multiple of 8 elements.
// GPU: llvm.func @index_copy(
// GPU: st.global.v4.b32
// GPU: llvm.func @index_copy_1(
// GPU: st.global.v4.b32
// GPU: llvm.func @index_copy_2(
// GPU: st.global.b16
func.func @page_stride(%rows: memref<?x8x128xbf16>,
    %cache: !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>, %slots: !slots) {
  kvcache.index_copy %rows into %cache at %slots
    : memref<?x8x128xbf16> into !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]> at !slots
  return
}

// The stride of channels: vectors, or one element after the other.

// CHECK-LABEL: func.func @channel_stride(
// CHECK-COUNT-2: vector.store {{.*}} vector<32xbf16>
// CHECK-COUNT-2: vector.store {{.*}} vector<1xbf16>
// CHECK-NOT: vector.store
// CHECK: return
func.func @channel_stride(%rows: memref<?x8x128xbf16>,
    %cache: !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?, N = ?, H = ?, D = ?]>, %slots: !slots) {
  kvcache.index_copy %rows into %cache at %slots
    : memref<?x8x128xbf16> into !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?, N = ?, H = ?, D = ?]> at !slots
  return
}

// Scaled slots: no division by a block size on a pool of several layers.

// CHECK-LABEL: func.func @scaled(
// CHECK-NOT: arith.divui %{{.*}}, %c16 :
// CHECK: %[[SLOT:.*]] = arith.index_cast %{{.*}} : i64 to index
// CHECK: %[[BELOW:.*]] = arith.cmpi ult, %[[SLOT]]
// CHECK: %[[TOKEN:.*]] = arith.remui %[[SLOT]], %c1024
// CHECK: %[[INSIDE:.*]] = arith.cmpi ult, %[[TOKEN]], %c16
// CHECK: arith.andi %[[BELOW]], %[[INSIDE]]
// CHECK: arith.muli %[[SLOT]], %c1024
func.func @scaled(%rows: memref<?x8x128xbf16>,
    %cache: !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = 1048576]>,
    %slots: !kvcache.slots<?T x i64, rows_per_block = 1024, pad = skip_negative>) {
  kvcache.index_copy %rows into %cache at %slots
    : memref<?x8x128xbf16> into !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = 1048576]>
    at !kvcache.slots<?T x i64, rows_per_block = 1024, pad = skip_negative>
  return
}
