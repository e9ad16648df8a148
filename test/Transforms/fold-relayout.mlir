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
// REMARK: remark: [Passed] fold-permutes | Category:kvcache | Remark="the copy is only read, and readers use the source"
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

// A layer that is there has as many blocks as all of them.

!pool = !kvcache.cache<4L x ?B x 16N x 8H x 128D x bf16>
!layer = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!hnd = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, N, D]>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @layer(
// CHECK-NOT: kvcache.relayout
// CHECK: %[[LAYER:.*]] = kvcache.layer %arg0
// CHECK: kvcache.gather %[[LAYER]] at %arg1 into %arg2
// REMARK: remark: [Passed] fold-permutes | Category:kvcache | Remark="the copy is only read, and readers use the source"
func.func @layer(%pool: !pool, %slots: !slots, %k: !rows {kvcache.noalias}) {
  %c2 = arith.constant 2 : index
  %n = kvcache.dim %pool[B] : !pool
  %layer = kvcache.layer %pool[%c2] : !pool
  %buffer = memref.alloc(%n) : memref<?x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, H, N, D] : memref<?x8x16x128xbf16> to !hnd
  kvcache.relayout %layer into %copy : !layer into !hnd
  kvcache.gather %copy at %slots into %k : !hnd at !slots into !rows
  return
}

// -----

// A layer that is chosen in the call has none if it is not there.

!pool = !kvcache.cache<4L x ?B x 16N x 8H x 128D x bf16>
!layer = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!hnd = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, N, D]>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_layer_that_may_not_be_there(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] fold-permutes | Category:kvcache | Remark="the copy may have another number of blocks"
func.func @no_layer_that_may_not_be_there(%pool: !pool, %i: index, %slots: !slots, %k: !rows {kvcache.noalias}) {
  %n = kvcache.dim %pool[B] : !pool
  %layer = kvcache.layer %pool[%i] : !pool
  %buffer = memref.alloc(%n) : memref<?x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, H, N, D] : memref<?x8x16x128xbf16> to !hnd
  kvcache.relayout %layer into %copy : !layer into !hnd
  kvcache.gather %copy at %slots into %k : !hnd at !slots into !rows
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

// -----

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D]>
!hnd = !kvcache.cache<2S x 8B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D]>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// A slot behind the blocks of the copy is skipped, and read in the source.

// CHECK-LABEL: func.func @no_source_with_more_blocks(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] fold-permutes | Category:kvcache | Remark="the copy may have another number of blocks"
func.func @no_source_with_more_blocks(%pool: !nhd, %slots: !slots, %k: !rows {kvcache.noalias}, %v: !rows {kvcache.noalias}) {
  %buffer = memref.alloc() : memref<8x2x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, S, H, N, D] : memref<8x2x8x16x128xbf16> to !hnd
  kvcache.relayout %pool into %copy : !nhd into !hnd
  kvcache.gather %copy at %slots into %k, %v : !hnd at !slots into !rows, !rows
  return
}

// -----

//===----------------------------------------------------------------------===//
// The reader writes what was copied
//===----------------------------------------------------------------------===//

!nhd = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!hnd = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, N, D]>
!rows = memref<?x8x128xbf16, strided<[1024, 128, 1], offset: ?>>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// CHECK-LABEL: func.func @no_rows_of_the_source(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] fold-permutes | Category:kvcache | Remark="the copy is read by kvcache.gather, which may write the source"
func.func @no_rows_of_the_source(%pool: !nhd, %slots: !slots) {
  %n = kvcache.dim %pool[B] : !nhd
  %buffer = memref.alloc(%n) : memref<?x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, H, N, D] : memref<?x8x16x128xbf16> to !hnd
  kvcache.relayout %pool into %copy : !nhd into !hnd
  %rows = kvcache.flatten %pool : !nhd
  kvcache.gather %copy at %slots into %rows : !hnd at !slots into !rows
  return
}

// CHECK-LABEL: func.func @no_rows_that_may_be_the_source(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] {{.*}}the copy is read by kvcache.gather, which may write the source
func.func @no_rows_that_may_be_the_source(%pool: !nhd, %slots: !slots, %rows: !rows) {
  %n = kvcache.dim %pool[B] : !nhd
  %buffer = memref.alloc(%n) : memref<?x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, H, N, D] : memref<?x8x16x128xbf16> to !hnd
  kvcache.relayout %pool into %copy : !nhd into !hnd
  kvcache.gather %copy at %slots into %rows : !hnd at !slots into !rows
  return
}

// CHECK-LABEL: func.func @no_transfer_to_the_source(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] {{.*}}the copy is read by kvcache.transfer, which may write the source
func.func @no_transfer_to_the_source(%pool: !nhd, %pairs: memref<?x2xi64>) {
  %n = kvcache.dim %pool[B] : !nhd
  %buffer = memref.alloc(%n) : memref<?x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, H, N, D] : memref<?x8x16x128xbf16> to !hnd
  kvcache.relayout %pool into %copy : !nhd into !hnd
  kvcache.transfer %copy to %pool at %pairs : !hnd to !nhd at memref<?x2xi64>
  return
}

// Another layout in the memory of the caller.

// CHECK-LABEL: func.func @no_relayout_in_place(
// CHECK: kvcache.relayout
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] {{.*}}the copy is read by kvcache.relayout, which may write the source
func.func @no_relayout_in_place(%pool: !nhd, %same: !hnd) {
  %n = kvcache.dim %pool[B] : !nhd
  %buffer = memref.alloc(%n) : memref<?x16x8x128xbf16>
  %copy = kvcache.view %buffer : memref<?x16x8x128xbf16> to !nhd
  kvcache.relayout %pool into %copy : !nhd into !nhd
  kvcache.relayout %copy into %same : !nhd into !hnd
  return
}

// CHECK-LABEL: func.func @no_attention_into_the_source(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] {{.*}}the copy is read by kvcache.attention, which may write the source
func.func @no_attention_into_the_source(%pool: !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>, %query: memref<?x8x128xbf16>, %batch: !batch, %out: memref<?x8x128xbf16>) {
  %n = kvcache.dim %pool[B] : !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
  %buffer = memref.alloc(%n) : memref<2x?x8x16x128xbf16>
  %copy = kvcache.view %buffer[S, B, H, N, D] : memref<2x?x8x16x128xbf16> to !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [S, B, H, N, D]>
  kvcache.relayout %pool into %copy : !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16> into !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [S, B, H, N, D]>
  kvcache.attention %query over %copy in %batch into %out causal : memref<?x8x128xbf16> over !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [S, B, H, N, D]> in !batch into memref<?x8x128xbf16>
  return
}

// -----

//===----------------------------------------------------------------------===//
// The source is written through a value that is not followed
//===----------------------------------------------------------------------===//

!k = !kvcache.cache<2B x 4N x 4D x f32>
!d = !kvcache.cache<2B x 4N x 4D x f32, order = [B, D, N]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>
!rows = memref<?x4xf32>

// CHECK-LABEL: func.func @no_source_that_a_loop_carries(
// CHECK: kvcache.relayout
// REMARK: remark: [Missed] fold-permutes | Category:kvcache | Remark="the source may be written by kvcache.index_copy before the copy is read"
func.func @no_source_that_a_loop_carries(%other: !k, %rows: !rows {kvcache.noalias}, %out: !rows {kvcache.noalias}, %where: !slots, %times: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %local = memref.alloc() : memref<2x4x4xf32>
  %cache = kvcache.view %local : memref<2x4x4xf32> to !k
  kvcache.index_copy %rows into %cache at %where : !rows into !k at !slots
  %buffer = memref.alloc() : memref<2x4x4xf32>
  %copy = kvcache.view %buffer[B, D, N] : memref<2x4x4xf32> to !d
  kvcache.relayout %cache into %copy : !k into !d
  %x:2 = scf.for %i = %c0 to %times step %c1 iter_args(%p = %cache, %q = %other) -> (!k, !k) {
    kvcache.index_copy %rows into %p at %where : !rows into !k at !slots
    scf.yield %q, %p : !k, !k
  }
  kvcache.gather %copy at %where into %out : !d at !slots into !rows
  return
}

// The same loop, which carries other caches.

// CHECK-LABEL: func.func @source_that_goes_nowhere(
// CHECK-NOT: kvcache.relayout
// REMARK: remark: [Passed] {{.*}}the copy is only read, and readers use the source
func.func @source_that_goes_nowhere(%one: !k, %other: !k, %rows: !rows {kvcache.noalias}, %out: !rows {kvcache.noalias}, %where: !slots, %times: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %local = memref.alloc() : memref<2x4x4xf32>
  %cache = kvcache.view %local : memref<2x4x4xf32> to !k
  kvcache.index_copy %rows into %cache at %where : !rows into !k at !slots
  %buffer = memref.alloc() : memref<2x4x4xf32>
  %copy = kvcache.view %buffer[B, D, N] : memref<2x4x4xf32> to !d
  kvcache.relayout %cache into %copy : !k into !d
  %x:2 = scf.for %i = %c0 to %times step %c1 iter_args(%p = %one, %q = %other) -> (!k, !k) {
    kvcache.index_copy %rows into %p at %where : !rows into !k at !slots
    scf.yield %q, %p : !k, !k
  }
  kvcache.gather %copy at %where into %out : !d at !slots into !rows
  return
}
