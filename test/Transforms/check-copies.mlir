// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-bufferize --split-input-file | FileCheck %s
// RUN: kv-opt %s --kvcache-bufferize -o /dev/null --split-input-file --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s --check-prefix=REMARK --implicit-check-not=remark: --implicit-check-not=error

// RUN: kv-opt %s --kvcache-bufferize --split-input-file --mlir-print-debuginfo | FileCheck %s --check-prefix=LOC

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

// Blocks may be a loop as well.

// CHECK-LABEL: func.func @no_error_in_a_loop_of_blocks(
// REMARK: remark: [Analysis]
func.func @no_error_in_a_loop_of_blocks(%pool: memref<?x16x8x128xbf16>, %rows: memref<?x8x128xbf16>,
                                        %slots: memref<?xi64>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %buffer = memref.alloc(%n) : memref<?x16x8x128xbf16>
  %from = kvcache.view %pool : memref<?x16x8x128xbf16> to !kv
  %cache = kvcache.view %buffer : memref<?x16x8x128xbf16> to !kv
  kvcache.relayout %from into %cache : !kv into !kv
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  cf.br ^bb1(%c0 : index)
^bb1(%i: index):
  kvcache.gather %cache at %where into %rows : !kv at !slots into memref<?x8x128xbf16>
  kvcache.index_copy %rows into %cache at %where : memref<?x8x128xbf16> into !kv at !slots
  %next = arith.addi %i, %c1 : index
  %again = arith.cmpi slt, %next, %c3 : index
  cf.cond_br %again, ^bb1(%next : index), ^bb2
^bb2:
  return
}

// Nor is every reader a reader of a view.

// CHECK-LABEL: func.func @no_error_for_one_of_two_caches(
// REMARK: remark: [Analysis]
func.func @no_error_for_one_of_two_caches(%pool: memref<?x16x8x128xbf16>, %rows: memref<?x8x128xbf16>,
                                          %slots: memref<?xi64>, %n: index, %flag: i1) {
  %buffer = memref.alloc(%n) : memref<?x16x8x128xbf16>
  %from = kvcache.view %pool : memref<?x16x8x128xbf16> to !kv
  %cache = kvcache.view %buffer : memref<?x16x8x128xbf16> to !kv
  kvcache.relayout %from into %cache : !kv into !kv
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : memref<?x8x128xbf16> into !kv at !slots
  %one = arith.select %flag, %cache, %from : !kv
  kvcache.gather %one at %where into %rows : !kv at !slots into memref<?x8x128xbf16>
  return
}

// -----

// Pools that the program allocates: as tensor.empty, as a tensor made of one
// number, and as a copy that it writes down.

!pool = tensor<?x16x8x128xbf16>
!rows = tensor<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_error_for_an_empty_pool(
// CHECK: memref.alloc
// REMARK: remark: [Analysis] check-copies | Category:kvcache | Remark="a buffer of 32768 bytes for each index of dimension 0"
func.func @no_error_for_an_empty_pool(%rows: !rows, %slots: tensor<?xi64>, %out: !rows, %blocks: index) -> !rows {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %zero = arith.constant 0.0 : bf16
  %empty = tensor.empty(%blocks) : !pool
  %cleared = linalg.fill ins(%zero : bf16) outs(%empty : !pool) -> !pool
  %next = kvcache.index_copy %rows into %cleared[B, N, H, D] at %where : !rows into !pool at !slots
  %read = kvcache.gather %next[B, N, H, D] at %where into %out : !pool at !slots into !rows
  return %read : !rows
}

// CHECK-LABEL: func.func @no_error_for_a_splat(
// CHECK: memref.alloc
// REMARK: remark: [Analysis] check-copies | Category:kvcache | Remark="a buffer of 32768 bytes for each index of dimension 0"
func.func @no_error_for_a_splat(%rows: !rows, %slots: tensor<?xi64>, %out: !rows, %blocks: index) -> !rows {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %zero = arith.constant 0.0 : bf16
  %cleared = tensor.splat %zero[%blocks] : !pool
  %next = kvcache.index_copy %rows into %cleared[B, N, H, D] at %where : !rows into !pool at !slots
  %read = kvcache.gather %next[B, N, H, D] at %where into %out : !pool at !slots into !rows
  return %read : !rows
}

// CHECK-LABEL: func.func @no_error_for_a_copied_tensor(
// CHECK: memref.copy
// REMARK: remark: [Analysis] check-copies | Category:kvcache | Remark="a buffer of 32768 bytes for each index of dimension 0"
// REMARK: remark: [Analysis] check-copies | Category:kvcache | Remark="a copy of 32768 bytes for each index of dimension 0, which the program asks for"
func.func @no_error_for_a_copied_tensor(%pool: !pool, %rows: !rows, %slots: tensor<?xi64>, %a: !rows, %b: !rows) -> (!rows, !rows) {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %copy = bufferization.alloc_tensor() copy(%pool) : !pool
  %next = kvcache.index_copy %rows into %copy[B, N, H, D] at %where : !rows into !pool at !slots
  %new = kvcache.gather %next[B, N, H, D] at %where into %a : !pool at !slots into !rows
  %old = kvcache.gather %pool[B, N, H, D] at %where into %b : !pool at !slots into !rows
  return %new, %old : !rows, !rows
}

// A result that is returned is written to memory of the caller, and cleared in
// place where nobody reads the old contents.

// CHECK-LABEL: func.func @no_error_for_memory_of_the_caller(
// CHECK-NOT: memref.alloc
func.func @no_error_for_memory_of_the_caller(%pool: !pool, %other: !pool, %rows: !rows, %slots: tensor<?xi64>) -> (!pool, !pool) {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %zero = arith.constant 0.0 : bf16
  %cleared = linalg.fill ins(%zero : bf16) outs(%pool : !pool) -> !pool
  %next = kvcache.index_copy %rows into %cleared[B, N, H, D] at %where : !rows into !pool at !slots
  %again = linalg.fill ins(%zero : bf16) outs(%other : !pool) -> !pool
  return %next, %again : !pool, !pool
}

// What is computed and no cache is none of a pool, however large.

// CHECK-LABEL: func.func @no_error_for_activations(
// CHECK: memref.alloc
// REMARK: remark: [Analysis] check-copies | Category:kvcache | Remark="a buffer of 2048 bytes for each index of dimension 0"
func.func @no_error_for_activations(%pool: !pool, %rows: !rows {bufferization.writable = false},
                                    %more: !rows {bufferization.writable = false}, %slots: tensor<?xi64>) -> !pool {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %sum = arith.addf %rows, %more : !rows
  %next = kvcache.index_copy %sum into %pool[B, N, H, D] at %where : !rows into !pool at !slots
  return %next : !pool
}

// The marks that one run leaves for the other are gone.

// LOC-NOT: kvcache.asked
// LOC-NOT: kvcache.result_of
// LOC: #loc
