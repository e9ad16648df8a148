// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-bufferize --split-input-file | FileCheck %s
// RUN: kv-opt %s --kvcache-bufferize -o /dev/null --split-input-file --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s --check-prefix=REMARK --implicit-check-not=remark: --implicit-check-not=error

// A donated pool is updated in place; a list is copied, as it changes.

!pool = tensor<?x16x8x128xbf16>
!rows = tensor<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_copy_in_place(
// CHECK-NOT: memref.copy
func.func @no_copy_in_place(%pool: !pool, %rows: !rows, %slots: tensor<?xi64>) -> !pool {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %next = kvcache.index_copy %rows into %pool[B, N, H, D] at %where
    : !rows into !pool at !slots
  return %next : !pool
}

// CHECK-LABEL: func.func @small_copies(
// REMARK: remark: [Analysis] check-copies | Category:kvcache | Remark="a buffer of 8 bytes for each index of dimension 0"
// REMARK: remark: [Analysis] check-copies | Category:kvcache | Remark="a copy of 8 bytes for each index of dimension 0"
func.func @small_copies(%pool: !pool, %rows: !rows, %slots: tensor<?xi64>, %i: index, %new: i64) -> !pool {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %changed = tensor.insert %new into %slots[%i] : tensor<?xi64>
  %now = kvcache.make_slots %changed : tensor<?xi64> to !slots
  %a = kvcache.index_copy %rows into %pool[B, N, H, D] at %now : !rows into !pool at !slots
  %b = kvcache.index_copy %rows into %a[B, N, H, D] at %where : !rows into !pool at !slots
  return %b : !pool
}

// -----

// A copy that the program asks for, of a pool, with a write that is read back.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_error_where_it_is_asked_for(
// CHECK: memref.copy
// CHECK-NOT: kvcache.asked
// REMARK: remark: [Analysis] check-copies | Category:kvcache | Remark="a buffer of 32768 bytes for each index of dimension 0"
// REMARK: remark: [Analysis] check-copies | Category:kvcache | Remark="a copy of 32768 bytes for each index of dimension 0, which the program asks for"
func.func @no_error_where_it_is_asked_for(%pool: memref<?x16x8x128xbf16>, %rows: memref<?x8x128xbf16>,
                                          %slots: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %n = memref.dim %pool, %c0 : memref<?x16x8x128xbf16>
  %buffer = memref.alloc(%n) : memref<?x16x8x128xbf16>
  memref.copy %pool, %buffer : memref<?x16x8x128xbf16> to memref<?x16x8x128xbf16>
  %cache = kvcache.view %buffer : memref<?x16x8x128xbf16> to !kv
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : memref<?x8x128xbf16> into !kv at !slots
  kvcache.gather %cache at %where into %rows : !kv at !slots into memref<?x8x128xbf16>
  return
}

// -----

// Reading comes around again in a loop.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_error_in_a_loop(
// REMARK: remark: [Analysis]
func.func @no_error_in_a_loop(%pool: memref<?x16x8x128xbf16>, %rows: memref<?x8x128xbf16>,
                              %slots: memref<?xi64>, %turns: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = memref.dim %pool, %c0 : memref<?x16x8x128xbf16>
  %buffer = memref.alloc(%n) : memref<?x16x8x128xbf16>
  %from = kvcache.view %pool : memref<?x16x8x128xbf16> to !kv
  %cache = kvcache.view %buffer : memref<?x16x8x128xbf16> to !kv
  kvcache.relayout %from into %cache : !kv into !kv
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  scf.for %i = %c0 to %turns step %c1 {
    kvcache.gather %cache at %where into %rows : !kv at !slots into memref<?x8x128xbf16>
    kvcache.index_copy %rows into %cache at %where : memref<?x8x128xbf16> into !kv at !slots
  }
  return
}
