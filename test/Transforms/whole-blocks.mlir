// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes of whole blocks by kvcache-scatter-to-index-copy: a row is a block where
// the tokens of a block lie as rows do, whatever the distance between blocks.
//
// RUN: kv-opt %s --kvcache-scatter-to-index-copy --split-input-file | FileCheck %s
// RUN: kv-opt %s --kvcache-scatter-to-index-copy -o /dev/null --split-input-file --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s --check-prefix=REMARK --implicit-check-not=remark:

!any = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = ? mult 16], align = 16>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK: !kv_nhd_strided = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = ? mult 16]>
// CHECK: ![[TYPE:.*]] = !kvcache.cache<2S x ?B x 1N x 128H x 128D x bf16, order = [B, S, N, H, D], strides = [B = ? mult 16]>
// CHECK: !kv_slots = !kvcache.slots<?T x i32, rows_per_block = 1, pad = skip_negative>
// CHECK-LABEL: func.func @whole_blocks(
// CHECK-SAME: %[[KEY:[^ ]*]]: memref<?x8x128xbf16>, %[[VALUE:[^ ]*]]: memref<?x8x128xbf16>, %[[CACHE:[^ ]*]]: !kv{{.*}}, %[[BLOCKS:[^ ]*]]: memref<?xi32>)
// CHECK-NOT: block_slots
// CHECK: %[[M:.*]] = kvcache.storage %[[CACHE]][S, B, N, H, D] : {{.*}} to memref<2x?x16x8x128xbf16, strided<[16384, ?, 1024, 128, 1], offset: ?>>
// CHECK: %[[C:.*]] = memref.collapse_shape %[[M]] {{\[\[}}0], [1], [2, 3], [4]]
// CHECK: %[[E:.*]] = memref.expand_shape %[[C]] {{\[\[}}0], [1], [2, 3], [4]]
// CHECK: %[[ONE:.*]] = kvcache.view %[[E]][S, B, N, H, D] : memref<2x?x1x128x128xbf16, strided<[16384, ?, 16384, 128, 1], offset: ?>> to ![[TYPE]]{{$}}
// As many blocks as there are rows for, not as there are numbers.
// CHECK: %[[KEYS:.*]] = memref.dim %[[KEY]], %{{.*}}
// CHECK: %[[KEY_BLOCKS:.*]] = arith.divui %[[KEYS]], %{{.*}} : index
// CHECK: %[[K:.*]] = memref.expand_shape %{{.*}} {{\[\[}}0, 1], [2]] output_shape [%[[KEY_BLOCKS]], 128, 128] {{.*}} into memref<?x128x128xbf16>
// CHECK: %[[VALUES:.*]] = memref.dim %[[VALUE]], %{{.*}}
// CHECK: %[[VALUE_BLOCKS:.*]] = arith.divui %[[VALUES]], %{{.*}} : index
// CHECK: %[[V:.*]] = memref.expand_shape %{{.*}} {{\[\[}}0, 1], [2]] output_shape [%[[VALUE_BLOCKS]], 128, 128] {{.*}} into memref<?x128x128xbf16>
// CHECK: %[[S:.*]] = kvcache.make_slots %[[BLOCKS]]
// CHECK: kvcache.index_copy %[[K]], %[[V]] into %[[ONE]] at %[[S]]
// REMARK: remark: [Passed] scatter-to-index-copy | Category:kvcache | Remark="whole blocks are written: a block is a row"
func.func @whole_blocks(%key: !rows, %value: !rows, %cache: !any, %blocks: memref<?xi32>) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %count = memref.dim %blocks, %c0 : memref<?xi32>
  %tokens = arith.muli %count, %c16 : index
  %list = memref.alloc(%tokens) : memref<?xi64>
  kvcache.block_slots %blocks of 16 into %list : memref<?xi32> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %key, %value into %cache at %where : !rows, !rows into !any at !slots
  return
}

// -----

// Without heads, and with numbers that are known.

!latent = !kvcache.cache<?B x 4N x 576D x bf16>
!slots = !kvcache.slots<12T x i64, rows_per_block = 4, pad = skip_out_of_range>

// CHECK: !kv_slots = !kvcache.slots<3T x i64, rows_per_block = 1, pad = skip_out_of_range>
// CHECK-LABEL: func.func @latents_of_three_blocks(
// CHECK: kvcache.block_slots
// CHECK: memref.expand_shape %arg0 {{\[\[}}0, 1], [2]] output_shape [3, 4, 576]
// CHECK: kvcache.index_copy
// REMARK: remark: [Passed] {{.*}}a block is a row
func.func @latents_of_three_blocks(%rows: memref<12x576xbf16>, %cache: !latent, %blocks: memref<3xi64> {kvcache.noalias}, %list: memref<12xi64>) {
  kvcache.block_slots %blocks of 4 into %list : memref<3xi64> into memref<12xi64>
  %where = kvcache.make_slots %list : memref<12xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : memref<12x576xbf16> into !latent at !slots
  return
}

// -----

//===----------------------------------------------------------------------===//
// What is declined
//===----------------------------------------------------------------------===//

!hnd = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, N, D]>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_run_of_a_block(
// CHECK: kvcache.index_copy %arg0 into %arg1
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="whole blocks are written by token: the 16384 elements of a block are expected to be contiguous, as in rows, got runs of 128"
func.func @no_run_of_a_block(%rows: !rows, %cache: !hnd, %blocks: memref<?xi64> {kvcache.noalias}, %list: memref<?xi64>) {
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !hnd at !slots
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16, strided<[2048, 128, 1]>>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_rows_that_are_apart(
// CHECK: kvcache.index_copy %arg0 into %arg1
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="whole blocks are written by token: rows are expected to be packed"
func.func @no_rows_that_are_apart(%rows: !rows, %cache: !kv, %blocks: memref<?xi64> {kvcache.noalias}, %list: memref<?xi64>) {
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = sink(0)>

// CHECK-LABEL: func.func @no_sink(
// CHECK: kvcache.index_copy %arg0 into %arg1
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="whole blocks are written by token: rows of padding go to a block of their own"
func.func @no_sink(%rows: !rows, %cache: !kv, %blocks: memref<?xi64> {kvcache.noalias}, %list: memref<?xi64>) {
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<32x8x128xbf16>
!slots = !kvcache.slots<32T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_unknown_number_of_blocks(
// CHECK: kvcache.index_copy %arg0 into %arg1
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="whole blocks are written by token: the number of blocks is known but that of rows is not, or vice versa"
func.func @no_unknown_number_of_blocks(%rows: !rows, %cache: !kv, %blocks: memref<?xi64> {kvcache.noalias}, %list: memref<32xi64>) {
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<32xi64>
  %where = kvcache.make_slots %list : memref<32xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// CHECK-LABEL: func.func @no_part_of_a_block(
// CHECK: kvcache.index_copy %arg0 into %arg1
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="whole blocks are written by token: there are 31 rows for 2 blocks"
func.func @no_part_of_a_block(%rows: memref<31x8x128xbf16>, %cache: !kv, %blocks: memref<2xi64> {kvcache.noalias}, %list: memref<?xi64>) {
  kvcache.block_slots %blocks of 16 into %list : memref<2xi64> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
  kvcache.index_copy %rows into %cache at %where
    : memref<31x8x128xbf16> into !kv at !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
  return
}

// -----

// A list that may be shorter than the slots of all blocks: then so many rows are
// written, and no others.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_list_of_another_length(
// CHECK: kvcache.index_copy %arg0 into %arg1
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="whole blocks are written by token: the list of slots is not known to have 16 entries for each block"
func.func @no_list_of_another_length(%rows: !rows, %cache: !kv, %blocks: memref<?xi64>, %n: index) {
  %list = memref.alloc(%n) : memref<?xi64>
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// CHECK-LABEL: func.func @no_list_of_other_blocks(
// CHECK: kvcache.index_copy %arg0 into %arg1
// REMARK: remark: [Missed] {{.*}}the list of slots is not known to have 16 entries for each block
func.func @no_list_of_other_blocks(%rows: !rows, %cache: !kv, %blocks: memref<?xi64>, %others: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %count = memref.dim %others, %c0 : memref<?xi64>
  %tokens = arith.muli %count, %c16 : index
  %list = memref.alloc(%tokens) : memref<?xi64>
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// CHECK-LABEL: func.func @no_list_with_a_factor_less(
// CHECK: kvcache.index_copy %arg0 into %arg1
// REMARK: remark: [Missed] {{.*}}the list of slots is not known to have 16 entries for each block
func.func @no_list_with_a_factor_less(%rows: !rows, %cache: !kv, %blocks: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %count = memref.dim %blocks, %c0 : memref<?xi64>
  %tokens = arith.muli %count, %c8 : index
  %list = memref.alloc(%tokens) : memref<?xi64>
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// Nobody but a caller of the library has compared the lists of a private
// function.

// CHECK-LABEL: func.func private @no_lists_of_a_private_function(
// CHECK: kvcache.index_copy %arg0 into %arg1
// REMARK: remark: [Missed] {{.*}}the list of slots is not known to have 16 entries for each block
func.func private @no_lists_of_a_private_function(%rows: !rows, %cache: !kv, %blocks: memref<?xi64> {kvcache.noalias}, %list: memref<?xi64>) {
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// -----

// Blocks and slots in buffers that are made here, of one number.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @blocks_that_are_made_here(
// CHECK: kvcache.index_copy {{.*}} : memref<?x128x128xbf16>
// REMARK: remark: [Passed] {{.*}}a block is a row
func.func @blocks_that_are_made_here(%rows: !rows, %cache: !kv, %from: memref<?xi64>, %n: index) {
  %c16 = arith.constant 16 : index
  %blocks = memref.alloc(%n) : memref<?xi64>
  kvcache.map_blocks %from by 2 into %blocks : memref<?xi64> into memref<?xi64>
  %tokens = arith.muli %c16, %n : index
  %list = memref.alloc(%tokens) : memref<?xi64>
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// The first of the blocks, as many as a call says.

// CHECK-LABEL: func.func @part_of_the_blocks(
// CHECK: kvcache.index_copy {{.*}} : memref<?x128x128xbf16>
// REMARK: remark: [Passed] {{.*}}a block is a row
func.func @part_of_the_blocks(%rows: !rows, %cache: !kv, %all: memref<?xi64>, %limit: index) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %count = memref.dim %all, %c0 : memref<?xi64>
  %n = arith.minui %limit, %count : index
  %part = memref.subview %all[0] [%n] [1] : memref<?xi64> to memref<?xi64, strided<[1]>>
  %blocks = memref.cast %part : memref<?xi64, strided<[1]>> to memref<?xi64>
  %tokens = arith.muli %n, %c16 : index
  %list = memref.alloc(%tokens) : memref<?xi64>
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// -----

// No whole blocks at all, and so no remark: other blocks, or other slots.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_blocks_of_another_size(
// CHECK: kvcache.index_copy %arg0 into %arg1
func.func @no_blocks_of_another_size(%rows: !rows, %cache: !kv, %blocks: memref<?xi64>, %list: memref<?xi64>) {
  kvcache.block_slots %blocks of 8 into %list : memref<?xi64> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// CHECK-LABEL: func.func @no_list_that_changes(
// CHECK: kvcache.index_copy %arg0 into %arg1
func.func @no_list_that_changes(%rows: !rows, %cache: !kv, %blocks: memref<?xi64> {kvcache.noalias}, %list: memref<?xi64>, %i: index, %slot: i64) {
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  memref.store %slot, %list[%i] : memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// CHECK-LABEL: func.func @no_blocks_that_change(
// CHECK: kvcache.index_copy %arg0 into %arg1
func.func @no_blocks_that_change(%rows: !rows, %cache: !kv, %blocks: memref<?xi64>, %list: memref<?xi64> {kvcache.noalias}, %i: index, %block: i64) {
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  memref.store %block, %blocks[%i] : memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// The list of slots may be that of the blocks.

// CHECK-LABEL: func.func @no_blocks_that_are_overwritten(
// CHECK: kvcache.index_copy %arg0 into %arg1
func.func @no_blocks_that_are_overwritten(%rows: !rows, %cache: !kv, %blocks: memref<?xi64>, %list: memref<?xi64>) {
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// CHECK-LABEL: func.func @no_list_of_the_caller(
// CHECK: kvcache.index_copy %arg0 into %arg1
func.func @no_list_of_the_caller(%rows: !rows, %cache: !kv, %list: memref<?xi64>) {
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  return
}

// Rows of a tensor are no memory yet that could be seen as blocks.

// CHECK-LABEL: func.func @no_rows_of_a_tensor(
// CHECK: kvcache.index_copy %arg0 into %arg1
func.func @no_rows_of_a_tensor(%rows: tensor<?x8x128xbf16>, %cache: !kv, %blocks: memref<?xi64> {kvcache.noalias}, %list: memref<?xi64>) {
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %where : tensor<?x8x128xbf16> into !kv at !slots
  return
}
