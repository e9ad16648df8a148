// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvcache-fold-permutes: a copy to another layout that is only read.
//
// RUN: kv-opt %s --kvcache-fold-permutes --split-input-file | FileCheck %s
// RUN: kv-opt %s --kvcache-fold-permutes -o /dev/null --split-input-file --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s --check-prefix=REMARK --implicit-check-not=remark:

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D]>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D]>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @only_read(
// CHECK-NOT: kvcache.relayout
// CHECK: kvcache.gather %arg0 at %arg1 into %arg2, %arg3
// CHECK: %[[SIDE:.*]] = kvcache.side %arg0[1]
// CHECK: kvcache.gather %[[SIDE]] at %arg1 into %arg3
// REMARK: remark: [Passed] fold-permutes | Category:kvcache | Remark="the copy is only read, and readers take the source"
func.func @only_read(%pool: !nhd, %slots: !slots, %k: !rows {kvcache.noalias}, %v: !rows {kvcache.noalias}) {
  %n = kvcache.dim %pool[B] : !nhd
  %buffer = memref.alloc(%n) : memref<?x2x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, S, H, N, D] : memref<?x2x8x16x128xbf16> to !hnd
  kvcache.relayout %pool into %copy : !nhd into !hnd
  kvcache.gather %copy at %slots into %k, %v : !hnd at !slots into !rows, !rows
  %side = kvcache.side %copy[1] : !hnd
  kvcache.gather %side at %slots into %v : !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, N, D], strides = [B = 32768]> at !slots into !rows
  return
}

// -----

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D]>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D]>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_copy_that_is_written(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] fold-permutes | Category:kvcache | Remark="the copy is used by kvcache.index_copy"
func.func @no_copy_that_is_written(%pool: !nhd, %slots: !slots, %k: !rows, %v: !rows) {
  %n = kvcache.dim %pool[B] : !nhd
  %buffer = memref.alloc(%n) : memref<?x2x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, S, H, N, D] : memref<?x2x8x16x128xbf16> to !hnd
  kvcache.relayout %pool into %copy : !nhd into !hnd
  kvcache.index_copy %k, %v into %copy at %slots : !rows, !rows into !hnd at !slots
  kvcache.gather %copy at %slots into %k, %v : !hnd at !slots into !rows, !rows
  return
}

// -----

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D]>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D]>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_source_that_changes(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] fold-permutes | Category:kvcache | Remark="the source may be written by kvcache.index_copy before the copy is read"
func.func @no_source_that_changes(%pool: !nhd, %slots: !slots, %k: !rows, %v: !rows) {
  %n = kvcache.dim %pool[B] : !nhd
  %buffer = memref.alloc(%n) : memref<?x2x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, S, H, N, D] : memref<?x2x8x16x128xbf16> to !hnd
  kvcache.relayout %pool into %copy : !nhd into !hnd
  kvcache.index_copy %k, %v into %pool at %slots : !rows, !rows into !nhd at !slots
  kvcache.gather %copy at %slots into %k, %v : !hnd at !slots into !rows, !rows
  return
}

// -----

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f32, order = [B, S, N, H, D]>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D]>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_other_element_type(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] fold-permutes | Category:kvcache | Remark="a copy to another element type is needed"
func.func @no_other_element_type(%pool: !nhd, %slots: !slots, %k: !rows, %v: !rows) {
  %n = kvcache.dim %pool[B] : !nhd
  %buffer = memref.alloc(%n) : memref<?x2x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, S, H, N, D] : memref<?x2x8x16x128xbf16> to !hnd
  kvcache.relayout %pool into %copy : !nhd into !hnd
  kvcache.gather %copy at %slots into %k, %v : !hnd at !slots into !rows, !rows
  return
}

// -----

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D]>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D]>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_other_number_of_blocks(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] fold-permutes | Category:kvcache | Remark="the copy may have another number of blocks"
func.func @no_other_number_of_blocks(%pool: !nhd, %slots: !slots, %k: !rows, %v: !rows, %n: index) {
  %buffer = memref.alloc(%n) : memref<?x2x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, S, H, N, D] : memref<?x2x8x16x128xbf16> to !hnd
  kvcache.relayout %pool into %copy : !nhd into !hnd
  kvcache.gather %copy at %slots into %k, %v : !hnd at !slots into !rows, !rows
  return
}
