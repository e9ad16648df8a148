// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-scatter-to-index-copy --canonicalize --cse --split-input-file | FileCheck %s
// RUN: kv-opt %s --kvcache-scatter-to-index-copy -o /dev/null --split-input-file --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s --check-prefix=REMARK --implicit-check-not=remark:

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
#id = affine_map<(t) -> (t)>

// Blocks and offsets that are divided out of slots are those slots.

// CHECK-LABEL: func.func @quotient_and_remainder(
// CHECK-NOT: memref.alloc
// CHECK-NOT: linalg.generic
// CHECK: %0 = kvcache.make_slots %arg2 : memref<?xi64> to !kv_slots
// CHECK-NEXT: kvcache.index_copy %arg0 into %arg1 at %0 : memref<?x8x128xbf16> into !kv_nhd at !kv_slots
// CHECK-NOT: kvcache.scatter
// REMARK: remark: [Passed] scatter-to-index-copy | Category:kvcache | Remark="blocks and offsets are computed by dividing slots; a slot is a row number"
func.func @quotient_and_remainder(%rows: memref<?x8x128xbf16>, %cache: !flat,
                                  %slots: memref<?xi64>) {
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
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : memref<?x8x128xbf16> into !flat at memref<?xi64>, memref<?xi64>
  return
}

// -----

// Shifts and masks, of slots of 32 bits, in two loops; rows that are not flat.
// Two writes use the same lists.

!layer = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = 1048576]>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @shift_and_mask(
// CHECK-NOT: memref.alloc
// CHECK: %[[SLOTS:.*]] = kvcache.make_slots %arg3 : memref<?xi32> to !kv_slots
// CHECK-NEXT: kvcache.index_copy %arg0 into %arg1 at %[[SLOTS]]
// CHECK-NEXT: kvcache.index_copy %arg0 into %arg2 at %[[SLOTS]]
// REMARK: remark: [Passed] scatter-to-index-copy | Category:kvcache | Remark="blocks and offsets are computed by dividing slots; the write divides, as a block has 1024 rows, and 16 tokens"
// REMARK: remark: [Passed]
func.func @shift_and_mask(%rows: memref<?x8x128xbf16>, %key: !layer, %value: !layer,
                          %slots: memref<?xi32>) {
  %c0 = arith.constant 0 : index
  %c4 = arith.constant 4 : i64
  %c15 = arith.constant 15 : i32
  %n = memref.dim %slots, %c0 : memref<?xi32>
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi32>
  linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi32>) outs(%blocks : memref<?xi64>) {
  ^bb0(%slot: i32, %b: i64):
    %wide = arith.extsi %slot : i32 to i64
    %block = arith.shrsi %wide, %c4 : i64
    linalg.yield %block : i64
  }
  linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi32>) outs(%offsets : memref<?xi32>) {
  ^bb0(%slot: i32, %o: i32):
    %offset = arith.andi %slot, %c15 : i32
    linalg.yield %offset : i32
  }
  kvcache.scatter %rows into %key at %blocks, %offsets pad = skip_negative
    : memref<?x8x128xbf16> into !layer at memref<?xi64>, memref<?xi32>
  kvcache.scatter %rows into %value at %blocks, %offsets pad = skip_negative
    : memref<?x8x128xbf16> into !layer at memref<?xi64>, memref<?xi32>
  return
}

// -----

// Lists of their own, rows of one number. What the scatter skips is -1: an
// offset of 16 would be the first row of the next block.

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @lists(
// CHECK-DAG: %[[NONE:.*]] = arith.constant -1 : index
// CHECK-DAG: %[[C16:.*]] = arith.constant 16 : index
// CHECK-DAG: %[[B:.*]] = kvcache.dim %arg1[B]
// The shorter list counts.
// CHECK-DAG: %[[N:.*]] = memref.dim %arg2, %c0
// CHECK-DAG: %[[M:.*]] = memref.dim %arg3, %c0
// CHECK-DAG: %[[COUNT:.*]] = arith.minui %[[N]], %[[M]]
// CHECK-DAG: %[[LIST:.*]] = memref.alloc(%[[COUNT]]) : memref<?xi64>
// CHECK: scf.for %[[I:.*]] =
// CHECK: %[[BLOCK:.*]] = arith.index_cast %{{.*}} : i32 to index
// CHECK: %[[OFFSET:.*]] = arith.index_cast %{{.*}} : i64 to index
// CHECK-DAG: %[[X:.*]] = arith.cmpi ult, %[[BLOCK]], %[[B]]
// CHECK-DAG: %[[Y:.*]] = arith.cmpi ult, %[[OFFSET]], %[[C16]]
// CHECK: %[[LIVE:.*]] = arith.andi %[[X]], %[[Y]]
// CHECK: %[[FIRST:.*]] = arith.muli %[[BLOCK]], %[[C16]]
// CHECK: %[[ROW:.*]] = arith.addi %[[FIRST]], %[[OFFSET]]
// CHECK: %[[CHOSEN:.*]] = arith.select %[[LIVE]], %[[ROW]], %[[NONE]]
// CHECK: %[[SLOT:.*]] = arith.index_cast %[[CHOSEN]] : index to i64
// CHECK: memref.store %[[SLOT]], %[[LIST]][%[[I]]]
// CHECK: %[[SLOTS:.*]] = kvcache.make_slots %[[LIST]] : memref<?xi64> to !kv_slots
// CHECK: kvcache.index_copy %arg0 into %arg1 at %[[SLOTS]]
// REMARK: remark: [Passed] scatter-to-index-copy | Category:kvcache | Remark="slots are computed from blocks and offsets; a slot is a row number"
func.func @lists(%rows: memref<?x8x128xbf16>, %cache: !flat,
                 %blocks: memref<?xi32>, %offsets: memref<?xi64>) {
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_out_of_range
    : memref<?x8x128xbf16> into !flat at memref<?xi32>, memref<?xi64>
  return
}

// -----

// Rows that lie apart: a layer of 32 side by side has 1024 rows in a block.

!layer = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = 1048576]>

// CHECK: !kv_slots = !kvcache.slots<4T x i64, rows_per_block = 1024, pad = skip_negative>
// CHECK-LABEL: func.func @scaled(
// CHECK-DAG: %[[SCALE:.*]] = arith.constant 1024 : index
// CHECK: memref.alloc() : memref<4xi64>
// CHECK: arith.muli %{{.*}}, %[[SCALE]]
// CHECK: kvcache.index_copy %arg0 into %arg1 at %{{.*}} : memref<4x8x128xbf16> into {{.*}} at !kv_slots
// REMARK: remark: [Passed] scatter-to-index-copy | Category:kvcache | Remark="slots are computed from blocks and offsets, scaled to the 1024 rows that a block spans"
func.func @scaled(%rows: memref<4x8x128xbf16>, %cache: !layer,
                  %blocks: memref<4xi64>, %offsets: memref<4xi64>) {
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : memref<4x8x128xbf16> into !layer at memref<4xi64>, memref<4xi64>
  return
}

// -----

// A stride that only the call knows: both forms, chosen by a test.

!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>

// CHECK-LABEL: func.func @run_time_stride(
// CHECK: %[[HOLDS:.*]] = kvcache.has_facts %arg1
// CHECK: memref.alloc
// CHECK: scf.if %[[HOLDS]] {
// CHECK: %[[FLAT:.*]] = kvcache.cast %arg1 : {{.*}} to !kv_nhd
// CHECK: kvcache.index_copy %arg0 into %[[FLAT]]
// CHECK: } else {
// CHECK: kvcache.scatter %arg0 into %arg1 at %arg2, %arg3 pad = skip_negative
// REMARK: remark: [Passed] scatter-to-index-copy | Category:kvcache | Remark="slots are computed from blocks and offsets where B is found to be packed over N in a call"
func.func @run_time_stride(%rows: memref<?x8x128xbf16>, %cache: !any,
                           %blocks: memref<?xi64>, %offsets: memref<?xi64>) {
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : memref<?x8x128xbf16> into !any at memref<?xi64>, memref<?xi64>
  return
}

// -----

// Whole blocks, as a prefill writes them: slots that are computed from blocks
// and divided again. They are all slots of these blocks, which are written as
// rows (whole-blocks.mlir).

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @whole_blocks(
// CHECK-NOT: linalg.generic
// CHECK: %[[SLOTS:.*]] = kvcache.make_slots %arg2 : memref<?xi64> to !kv_slots
// CHECK-NEXT: kvcache.index_copy %{{.*}} into %{{.*}} at %[[SLOTS]] : memref<?x128x128xbf16> into !kv_nhd1 at !kv_slots
// REMARK: remark: [Passed] {{.*}}blocks and offsets are computed by dividing slots; a slot is a row number
// REMARK: remark: [Passed] {{.*}}whole blocks are written: a block is a row
func.func @whole_blocks(%rows: memref<?x8x128xbf16>, %cache: !flat,
                        %list: memref<?xi64> {kvcache.noalias},
                        %slots: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : i64
  kvcache.block_slots %list of 16 into %slots : memref<?xi64> into memref<?xi64>
  %n = memref.dim %slots, %c0 : memref<?xi64>
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.divsi %slot, %c16 : i64
    %before = arith.muli %block, %c16 : i64
    %offset = arith.subi %slot, %before : i64
    linalg.yield %block, %offset : i64, i64
  }
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : memref<?x8x128xbf16> into !flat at memref<?xi64>, memref<?xi64>
  return
}

// -----

//===----------------------------------------------------------------------===//
// What is declined
//===----------------------------------------------------------------------===//

!odd = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = 16400]>

// CHECK-LABEL: func.func @no_multiple(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="the stride of B, 16400, is not a multiple of the stride of N, 1024 (and blocks are not computed element by element by one operation only)"
func.func @no_multiple(%rows: memref<?x8x128xbf16>, %cache: !odd,
                       %blocks: memref<?xi64>, %offsets: memref<?xi64>) {
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : memref<?x8x128xbf16> into !odd at memref<?xi64>, memref<?xi64>
  return
}

// -----

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @no_buffer_in_a_loop(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="a list of slots would be allocated in a loop (and blocks are not computed element by element by one operation only)"
func.func @no_buffer_in_a_loop(%rows: memref<?x8x128xbf16>, %cache: !flat,
                               %blocks: memref<?xi64>, %offsets: memref<?xi64>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %i = %c0 to %n step %c1 {
    kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
      : memref<?x8x128xbf16> into !flat at memref<?xi64>, memref<?xi64>
  }
  return
}

// -----

// Unsigned division of 32 bits: slot -1 is block 2^28 - 1, which a cache may
// have.

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @no_unsigned_slots_of_32_bits(
// CHECK: linalg.generic
// CHECK: arith.muli
// REMARK: remark: [Passed] scatter-to-index-copy | Category:kvcache | Remark="slots are computed from blocks and offsets; a slot is a row number"
func.func @no_unsigned_slots_of_32_bits(%rows: memref<?x8x128xbf16>, %cache: !flat,
                                        %slots: memref<?xi32>) {
  %c0 = arith.constant 0 : index
  %c4 = arith.constant 4 : i32
  %c15 = arith.constant 15 : i32
  %n = memref.dim %slots, %c0 : memref<?xi32>
  %blocks = memref.alloc(%n) : memref<?xi32>
  %offsets = memref.alloc(%n) : memref<?xi32>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi32>) outs(%blocks, %offsets : memref<?xi32>, memref<?xi32>) {
  ^bb0(%slot: i32, %b: i32, %o: i32):
    %block = arith.shrui %slot, %c4 : i32
    %offset = arith.andi %slot, %c15 : i32
    linalg.yield %block, %offset : i32, i32
  }
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : memref<?x8x128xbf16> into !flat at memref<?xi32>, memref<?xi32>
  return
}

// -----

// The list changes between the division and the write.

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @no_list_that_changes(
// CHECK: linalg.generic
// CHECK-NOT: make_slots %arg2
// REMARK: remark: [Passed] {{.*}}slots are computed
func.func @no_list_that_changes(%rows: memref<?x8x128xbf16>, %cache: !flat,
                                %slots: memref<?xi64>, %new: i64) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : i64
  %n = memref.dim %slots, %c0 : memref<?xi64>
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.divsi %slot, %c16 : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }
  memref.store %new, %slots[%c0] : memref<?xi64>
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : memref<?x8x128xbf16> into !flat at memref<?xi64>, memref<?xi64>
  return
}

// -----

// Divided by another number than the block size.

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @no_other_block_size(
// CHECK: linalg.generic
// CHECK-NOT: make_slots %arg2
// REMARK: remark: [Passed] {{.*}}slots are computed
func.func @no_other_block_size(%rows: memref<?x8x128xbf16>, %cache: !flat,
                               %slots: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : i64
  %n = memref.dim %slots, %c0 : memref<?xi64>
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.divsi %slot, %c8 : i64
    %offset = arith.remsi %slot, %c8 : i64
    linalg.yield %block, %offset : i64, i64
  }
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : memref<?x8x128xbf16> into !flat at memref<?xi64>, memref<?xi64>
  return
}

// -----

// No padding is declared: slot -1 means block 0, offset 15, and is written.

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @no_padding_declared(
// CHECK: linalg.generic
// CHECK-NOT: make_slots %arg2
// REMARK: remark: [Passed] {{.*}}slots are computed
func.func @no_padding_declared(%rows: memref<?x8x128xbf16>, %cache: !flat,
                               %slots: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %c15 = arith.constant 15 : i64
  %c16 = arith.constant 16 : i64
  %n = memref.dim %slots, %c0 : memref<?xi64>
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.divsi %slot, %c16 : i64
    %offset = arith.andi %slot, %c15 : i64
    linalg.yield %block, %offset : i64, i64
  }
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = none
    : memref<?x8x128xbf16> into !flat at memref<?xi64>, memref<?xi64>
  return
}

// -----

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @no_tensors(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="the lists are tensors; run after bufferization"
func.func @no_tensors(%rows: tensor<?x8x128xbf16>, %cache: !flat,
                      %blocks: tensor<?xi64>, %offsets: tensor<?xi64>) {
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : tensor<?x8x128xbf16> into !flat at tensor<?xi64>, tensor<?xi64>
  return
}

// -----

// A loop that does more than to divide stays.

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @loop_that_counts(
// CHECK: linalg.generic
// CHECK: memref.store
// CHECK: kvcache.index_copy
// CHECK-NOT: kvcache.scatter
// REMARK: remark: [Passed] {{.*}}blocks and offsets are computed by dividing slots; a slot is a row number
func.func @loop_that_counts(%rows: memref<?x8x128xbf16>, %cache: !flat, %slots: memref<?xi64>, %seen: memref<?xi64> {kvcache.noalias}) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : i64
  %n = memref.dim %slots, %c0 : memref<?xi64>
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %t = linalg.index 0 : index
    memref.store %slot, %seen[%t] : memref<?xi64>
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : memref<?x8x128xbf16> into !flat at memref<?xi64>, memref<?xi64>
  return
}

// -----

// The length of slots is known, that of rows and of what is divided is not.

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
#id = affine_map<(t) -> (t)>

// CHECK: !kv_slots = !kvcache.slots<5T x i64
// CHECK-LABEL: func.func @known_number_of_slots(
// CHECK: %[[S:.*]] = kvcache.make_slots %arg2 : memref<5xi64>
// CHECK: kvcache.index_copy %arg0 into %arg1 at %[[S]] : memref<?x8x128xbf16>
// REMARK: remark: [Passed] {{.*}}blocks and offsets are computed by dividing slots; a slot is a row number
func.func @known_number_of_slots(%rows: memref<?x8x128xbf16>, %cache: !flat, %slots: memref<5xi64>) {
  %n = arith.constant 5 : index
  %c16 = arith.constant 16 : i64
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<5xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : memref<?x8x128xbf16> into !flat at memref<?xi64>, memref<?xi64>
  return
}
