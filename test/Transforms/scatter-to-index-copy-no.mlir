// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Blocks and offsets that are not divided out of one list of slots, each with
// the fact that is missing. Without compute-slots, the scatter stays.
//
// RUN: kv-opt %s --kvcache-scatter-to-index-copy=compute-slots=false --split-input-file | FileCheck %s --implicit-check-not=index_copy
// RUN: kv-opt %s --kvcache-scatter-to-index-copy=compute-slots=false -o /dev/null --split-input-file --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s --check-prefix=REMARK --implicit-check-not=remark:

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>

// CHECK-LABEL: func.func @no_lists_of_their_own(
// CHECK-NOT: memref.alloc
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="blocks are not computed element by element by one operation only"
func.func @no_lists_of_their_own(%rows: !rows, %cache: !flat, %blocks: memref<?xi64>,
                                 %offsets: memref<?xi64>) {
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : !rows into !flat at memref<?xi64>, memref<?xi64>
  return
}

// -----

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @no_two_lists(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="blocks and offsets are computed from two lists"
func.func @no_two_lists(%rows: !rows, %cache: !flat, %slots: memref<?xi64>, %others: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : i64
  %n = memref.dim %slots, %c0 : memref<?xi64>
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots, %others : memref<?xi64>, memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %other: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.remsi %other, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : !rows into !flat at memref<?xi64>, memref<?xi64>
  return
}

// -----

// Each second entry of a list: index_copy takes packed ones.

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>
!apart = memref<?xi64, strided<[2]>>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @no_strided_list(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="slots are expected as a packed list of i32 or i64"
func.func @no_strided_list(%rows: !rows, %cache: !flat, %slots: !apart, %n: index) {
  %c16 = arith.constant 16 : i64
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : !apart) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : !rows into !flat at memref<?xi64>, memref<?xi64>
  return
}

// -----

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @no_quotient(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="blocks are not the quotient of a list by a constant"
func.func @no_quotient(%rows: !rows, %cache: !flat, %slots: memref<?xi64>, %by: i64, %n: index) {
  %c16 = arith.constant 16 : i64
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %by : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : !rows into !flat at memref<?xi64>, memref<?xi64>
  return
}

// -----

// A mask of bits that are not the lowest ones.

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @no_remainder(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="offsets are not the remainder of a list by a constant"
func.func @no_remainder(%rows: !rows, %cache: !flat, %slots: memref<?xi64>, %n: index) {
  %c14 = arith.constant 14 : i64
  %c16 = arith.constant 16 : i64
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.andi %slot, %c14 : i64
    linalg.yield %block, %offset : i64, i64
  }
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : !rows into !flat at memref<?xi64>, memref<?xi64>
  return
}

// -----

// The quotient of a sum is not that of a slot in a list.

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @no_sum(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="blocks are computed from more than a list of slots"
func.func @no_sum(%rows: !rows, %cache: !flat, %slots: memref<?xi64>, %first: i64, %n: index) {
  %c16 = arith.constant 16 : i64
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %sum = arith.addi %slot, %first : i64
    %block = arith.floordivsi %sum, %c16 : i64
    %offset = arith.remsi %sum, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : !rows into !flat at memref<?xi64>, memref<?xi64>
  return
}

// -----

// A block that is changed by hand after the division.

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @no_second_writer(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="blocks are not computed element by element by one operation only"
func.func @no_second_writer(%rows: !rows, %cache: !flat, %slots: memref<?xi64>, %new: i64, %n: index) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : i64
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }
  memref.store %new, %blocks[%c0] : memref<?xi64>
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : !rows into !flat at memref<?xi64>, memref<?xi64>
  return
}

// -----

// Unsigned division of 32 bits: -1 is block 2^28 - 1, which a cache may have.

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @no_unsigned_32_bits(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="a negative slot is taken as a large one of 32 bits, which may be in the cache"
func.func @no_unsigned_32_bits(%rows: !rows, %cache: !flat, %slots: memref<?xi32>, %n: index) {
  %c16 = arith.constant 16 : i32
  %blocks = memref.alloc(%n) : memref<?xi32>
  %offsets = memref.alloc(%n) : memref<?xi32>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi32>) outs(%blocks, %offsets : memref<?xi32>, memref<?xi32>) {
  ^bb0(%slot: i32, %b: i32, %o: i32):
    %block = arith.divui %slot, %c16 : i32
    %offset = arith.remui %slot, %c16 : i32
    linalg.yield %block, %offset : i32, i32
  }
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : !rows into !flat at memref<?xi32>, memref<?xi32>
  return
}

// -----

// What a buffer is changed through need not be a view of it.

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!rows = memref<?x8x128xbf16>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @no_slots_changed_through_a_select(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] scatter-to-index-copy | Category:kvcache | Remark="the list of slots may be overwritten in between, by memref.store"
func.func @no_slots_changed_through_a_select(%rows: !rows, %cache: !flat, %from: memref<?xi64>, %new: i64, %n: index, %flag: i1) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : i64
  %slots = memref.alloc(%n) : memref<?xi64>
  memref.copy %from, %slots : memref<?xi64> to memref<?xi64>
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }
  %one = arith.select %flag, %slots, %from : memref<?xi64>
  memref.store %new, %one[%c0] : memref<?xi64>
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : !rows into !flat at memref<?xi64>, memref<?xi64>
  return
}

// CHECK-LABEL: func.func @no_blocks_changed_through_a_branch(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] {{.*}}blocks are not computed element by element by one operation only
func.func @no_blocks_changed_through_a_branch(%rows: !rows, %cache: !flat, %slots: memref<?xi64>, %new: i64, %n: index, %flag: i1) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : i64
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }
  %one = scf.if %flag -> memref<?xi64> {
    scf.yield %blocks : memref<?xi64>
  } else {
    scf.yield %slots : memref<?xi64>
  }
  memref.store %new, %one[%c0] : memref<?xi64>
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : !rows into !flat at memref<?xi64>, memref<?xi64>
  return
}

// CHECK-LABEL: func.func @no_blocks_changed_through_a_transpose(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] {{.*}}blocks are not computed element by element by one operation only
func.func @no_blocks_changed_through_a_transpose(%rows: !rows, %cache: !flat, %slots: memref<?xi64>, %new: i64, %n: index) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : i64
  %blocks = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }
  %turned = memref.transpose %blocks (i) -> (i) : memref<?xi64> to memref<?xi64, strided<[1]>>
  memref.store %new, %turned[%c0] : memref<?xi64, strided<[1]>>
  kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
    : !rows into !flat at memref<?xi64>, memref<?xi64>
  return
}

// The quotients take the place of the slots.

// CHECK-LABEL: func.func @no_slots_divided_in_place(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] {{.*}}blocks are computed in a loop that may overwrite the slots
func.func @no_slots_divided_in_place(%rows: !rows, %cache: !flat, %from: memref<?xi64>, %n: index) {
  %c16 = arith.constant 16 : i64
  %list = memref.alloc(%n) : memref<?xi64>
  %offsets = memref.alloc(%n) : memref<?xi64>
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%list : memref<?xi64>) outs(%list, %offsets : memref<?xi64>, memref<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }
  kvcache.scatter %rows into %cache at %list, %offsets pad = skip_negative
    : !rows into !flat at memref<?xi64>, memref<?xi64>
  return
}

// CHECK-LABEL: func.func @no_slots_of_another_number(
// CHECK: kvcache.scatter
// REMARK: remark: [Missed] {{.*}}the list of slots has 5 entries for 7 rows
func.func @no_slots_of_another_number(%rows: memref<7x8x128xbf16>, %cache: !flat, %slots: memref<5xi64>) {
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
    : memref<7x8x128xbf16> into !flat at memref<?xi64>, memref<?xi64>
  return
}
