// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvcache-fold-permutes: views that are not what they were, and functions that
// others may call.
//
// RUN: kv-opt %s --kvcache-fold-permutes --split-input-file | FileCheck %s
// RUN: kv-opt %s --kvcache-fold-permutes -o /dev/null --split-input-file --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s --check-prefix=REMARK --implicit-check-not=remark:

// Flattened rows that are cut in larger blocks.

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!larger = !kvcache.cache<?B x 32N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @no_other_blocks(
// CHECK: kvcache.flatten
// CHECK: memref.expand_shape
// CHECK: kvcache.view
// REMARK: remark: [Missed] fold-permutes | Category:kvcache | Remark="flattened rows are seen with other axes"
func.func @no_other_blocks(%cache: !k, %n: index) -> index {
  %rows = kvcache.flatten %cache : !k
  %cut = memref.expand_shape %rows [[0, 1], [2], [3]] output_shape [%n, 32, 8, 128]
    : memref<?x8x128xbf16, strided<[1024, 128, 1], offset: ?>> into memref<?x32x8x128xbf16, strided<[32768, 1024, 128, 1], offset: ?>>
  %again = kvcache.view %cut : memref<?x32x8x128xbf16, strided<[32768, 1024, 128, 1], offset: ?>> to !larger
  %blocks = kvcache.dim %again[B] : !larger
  return %blocks : index
}

// -----

// Rows of a memref: there was no cache before.

// CHECK-LABEL: func.func @no_rows_that_were_not_flattened(
// CHECK: memref.expand_shape
// CHECK: kvcache.view
func.func @no_rows_that_were_not_flattened(%rows: memref<?x8x128xbf16>, %n: index) -> index {
  %cut = memref.expand_shape %rows [[0, 1], [2], [3]] output_shape [%n, 16, 8, 128]
    : memref<?x8x128xbf16> into memref<?x16x8x128xbf16>
  %again = kvcache.view %cut : memref<?x16x8x128xbf16> to !kvcache.cache<?B x 16N x 8H x 128D x bf16>
  %blocks = kvcache.dim %again[B] : !kvcache.cache<?B x 16N x 8H x 128D x bf16>
  return %blocks : index
}

// -----

// A cast that forgets the number of blocks: the view would have another type.

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @no_cast_of_extents(
// CHECK: %[[M:.*]] = memref.cast
// CHECK: kvcache.view %[[M]]
func.func @no_cast_of_extents(%m: memref<7x16x8x128xbf16>) -> index {
  %any = memref.cast %m : memref<7x16x8x128xbf16> to memref<?x16x8x128xbf16>
  %cache = kvcache.view %any : memref<?x16x8x128xbf16> to !k
  %blocks = kvcache.dim %cache[B] : !k
  return %blocks : index
}

// -----

// A private function that is not only called: others may pass what they like.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>

// CHECK: !kv_nhd_strided = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>
// CHECK-LABEL: func.func private @no_unknown_callers(
// CHECK-SAME: !kv_nhd_strided)
func.func private @no_unknown_callers(%cache: !any) -> index {
  %stride = kvcache.stride %cache[B] : !any
  return %stride : index
}
// CHECK-LABEL: func.func @takes_its_address(
// CHECK: %[[C:.*]] = kvcache.cast %arg0 : !kv_nhd to !kv_nhd_strided
// CHECK: call @no_unknown_callers(%[[C]])
func.func @takes_its_address(%cache: !kv) -> (index, (!any) -> index) {
  %vague = kvcache.cast %cache : !kv to !any
  %stride = call @no_unknown_callers(%vague) : (!any) -> index
  %f = constant @no_unknown_callers : (!any) -> index
  return %stride, %f : index, (!any) -> index
}

// -----

// A copy that is read where it may not have been made.

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D]>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D]>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_copy_that_may_be_missing(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] fold-permutes | Category:kvcache | Remark="the copy is read elsewhere"
func.func @no_copy_that_may_be_missing(%pool: !nhd, %slots: !slots, %k: !rows, %v: !rows, %now: i1) {
  %n = kvcache.dim %pool[B] : !nhd
  %buffer = memref.alloc(%n) : memref<?x2x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, S, H, N, D] : memref<?x2x8x16x128xbf16> to !hnd
  scf.if %now {
    kvcache.relayout %pool into %copy : !nhd into !hnd
  }
  kvcache.gather %copy at %slots into %k, %v : !hnd at !slots into !rows, !rows
  return
}

// -----

// The buffer is used by its memref, too.

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D]>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D]>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_copy_that_others_see(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] fold-permutes | Category:kvcache | Remark="the copy is used by memref.store"
func.func @no_copy_that_others_see(%pool: !nhd, %slots: !slots, %k: !rows, %v: !rows, %x: bf16) {
  %c0 = arith.constant 0 : index
  %n = kvcache.dim %pool[B] : !nhd
  %buffer = memref.alloc(%n) : memref<?x2x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, S, H, N, D] : memref<?x2x8x16x128xbf16> to !hnd
  kvcache.relayout %pool into %copy : !nhd into !hnd
  memref.store %x, %buffer[%c0, %c0, %c0, %c0, %c0] : memref<?x2x8x16x128xbf16>
  kvcache.gather %copy at %slots into %k, %v : !hnd at !slots into !rows, !rows
  return
}

// -----

// The caller gives the memory that is copied to, and may read it.

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D]>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D]>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_copy_for_the_caller(
// CHECK: kvcache.relayout
func.func @no_copy_for_the_caller(%pool: !nhd, %copy: !hnd, %slots: !slots, %k: !rows, %v: !rows) {
  kvcache.relayout %pool into %copy : !nhd into !hnd
  kvcache.gather %copy at %slots into %k, %v : !hnd at !slots into !rows, !rows
  return
}

// -----

// A copy to the memory of the host is not the pool in that of a device.

!nhd = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!hnd = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, N, D], space = host>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_other_memory(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] fold-permutes | Category:kvcache | Remark="a copy to another memory space is needed"
func.func @no_other_memory(%pool: !nhd, %slots: !slots, %k: !rows) {
  %n = kvcache.dim %pool[B] : !nhd
  %buffer = memref.alloc(%n) : memref<?x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, H, N, D] : memref<?x8x16x128xbf16> to !hnd
  kvcache.relayout %pool into %copy : !nhd into !hnd
  kvcache.gather %copy at %slots into %k : !hnd at !slots into !rows
  return
}
