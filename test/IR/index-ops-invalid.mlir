// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of what computes indices.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @mapping_to_a_matrix(%b: !batch, %o: tensor<?x?xi64>) {
  // expected-error@+1 {{'kvcache.slot_mapping' op slot_mapping_c1: the destination is expected to be 1-D, of i32 or i64, got 'tensor<?x?xi64>'}}
  %0 = kvcache.slot_mapping %b into %o : !batch into tensor<?x?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @mapping_to_a_number(%b: !batch, %o: memref<i64>) {
  // expected-error@+1 {{'kvcache.slot_mapping' op slot_mapping_c1: the destination is expected to be 1-D, of i32 or i64, got 'memref<i64>'}}
  kvcache.slot_mapping %b into %o : !batch into memref<i64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @mapping_to_floats(%b: !batch, %o: tensor<?xf32>) {
  // expected-error@+1 {{'kvcache.slot_mapping' op slot_mapping_c1: the destination is expected to be 1-D, of i32 or i64, got 'tensor<?xf32>'}}
  %0 = kvcache.slot_mapping %b into %o : !batch into tensor<?xf32>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @mapping_apart(%b: !batch, %o: memref<?xi64, strided<[2]>>) {
  // expected-error@+1 {{'kvcache.slot_mapping' op slot_mapping_c2: a contiguous memref is expected, got 'memref<?xi64, strided<[2]>>'}}
  kvcache.slot_mapping %b into %o : !batch into memref<?xi64, strided<[2]>>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @mapping_in_space(%b: !batch, %o: memref<?xi64, 1>) {
  // expected-error@+1 {{'kvcache.slot_mapping' op slot_mapping_c2: a memref in the default memory space is expected, got 'memref<?xi64, 1>'}}
  kvcache.slot_mapping %b into %o : !batch into memref<?xi64, 1>
  return
}

// -----

func.func @blocks_are_a_number(%t: tensor<i32>, %o: tensor<i32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c1: the source is expected to be 1-D or 2-D, got 'tensor<i32>'}}
  %0 = kvcache.map_blocks %t by 4 into %o : tensor<i32> into tensor<i32>
  return
}

// -----

func.func @blocks_of_rank_three(%t: tensor<?x?x?xi32>, %o: tensor<?x?x?xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c1: the source is expected to be 1-D or 2-D, got 'tensor<?x?x?xi32>'}}
  %0 = kvcache.map_blocks %t by 4 into %o : tensor<?x?x?xi32> into tensor<?x?x?xi32>
  return
}

// -----

func.func @blocks_are_floats(%t: tensor<?xf32>, %o: tensor<?xf32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c1: the source is expected to be 1-D, of i32 or i64, got 'tensor<?xf32>'}}
  %0 = kvcache.map_blocks %t by 4 into %o : tensor<?xf32> into tensor<?xf32>
  return
}

// -----

func.func @blocks_of_other_numbers(%t: tensor<?xi32>, %o: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c1: the destination is expected to be ?xi32, got 'tensor<?xi64>'}}
  %0 = kvcache.map_blocks %t by 4 into %o : tensor<?xi32> into tensor<?xi64>
  return
}

// -----

func.func @blocks_of_another_rank(%t: tensor<?xi32>, %o: tensor<?x?xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c1: the destination is expected to be ?xi32, got 'tensor<?x?xi32>'}}
  %0 = kvcache.map_blocks %t by 4 into %o : tensor<?xi32> into tensor<?x?xi32>
  return
}

// -----

func.func @blocks_of_other_rows(%t: tensor<3x4xi32>, %o: tensor<4x16xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c1: the destination is expected to be 3x16xi32, got 'tensor<4x16xi32>'}}
  %0 = kvcache.map_blocks %t by 4 into %o : tensor<3x4xi32> into tensor<4x16xi32>
  return
}

// -----

func.func @too_few_columns(%t: tensor<3x4xi32>, %o: tensor<3x8xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c1: the destination is expected to be 3x16xi32, got 'tensor<3x8xi32>'}}
  %0 = kvcache.map_blocks %t by 4 into %o : tensor<3x4xi32> into tensor<3x8xi32>
  return
}

// -----

func.func @too_many_columns(%t: tensor<1099511627776xi32>, %o: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c1: at most 2^40 columns are expected, got 1099511627776 times 2}}
  %0 = kvcache.map_blocks %t by 2 into %o : tensor<1099511627776xi32> into tensor<?xi32>
  return
}

// -----

func.func @most_columns(%t: tensor<1099511627776xi32>, %o: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c1: at most 2^40 columns are expected, got 1099511627776 times 1048576}}
  %0 = kvcache.map_blocks %t by 1048576 into %o : tensor<1099511627776xi32> into tensor<?xi32>
  return
}

// -----

func.func @ratio_zero(%t: tensor<?xi32>, %o: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c2: the ratio is expected to be from 1 to 2^20, got 0}}
  %0 = kvcache.map_blocks %t by 0 into %o : tensor<?xi32> into tensor<?xi32>
  return
}

// -----

func.func @ratio_negative(%t: tensor<?xi32>, %o: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c2: the ratio is expected to be from 1 to 2^20, got -4}}
  %0 = kvcache.map_blocks %t by -4 into %o : tensor<?xi32> into tensor<?xi32>
  return
}

// -----

func.func @ratio_too_large(%t: tensor<?xi32>, %o: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c2: the ratio is expected to be from 1 to 2^20, got 1048577}}
  %0 = kvcache.map_blocks %t by 1048577 into %o : tensor<?xi32> into tensor<?xi32>
  return
}

// -----

func.func @ratio_huge(%t: tensor<?xi32>, %o: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c2: the ratio is expected to be from 1 to 2^20, got 1099511627776}}
  %0 = kvcache.map_blocks %t by 1099511627776 into %o : tensor<?xi32> into tensor<?xi32>
  return
}

// -----

func.func @blocks_apart(%t: memref<?xi32, strided<[2]>>, %o: memref<?xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c3: contiguous inner dimensions are expected, got 'memref<?xi32, strided<[2]>>'}}
  kvcache.map_blocks %t by 4 into %o : memref<?xi32, strided<[2]>> into memref<?xi32>
  return
}

// -----

func.func @blocks_in_space(%t: memref<?xi32>, %o: memref<?xi32, 1>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c3: a memref in the default memory space is expected, got 'memref<?xi32, 1>'}}
  kvcache.map_blocks %t by 4 into %o : memref<?xi32> into memref<?xi32, 1>
  return
}

// -----

func.func @blocks_of_both_forms(%t: tensor<?xi32>, %o: memref<?xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c4: buffers are expected to be all tensors or all memrefs, got 'tensor<?xi32>' and 'memref<?xi32>'}}
  kvcache.map_blocks %t by 4 into %o : tensor<?xi32> into memref<?xi32>
  return
}

// -----

func.func @list_is_a_matrix(%t: tensor<?x?xi32>, %o: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.block_slots' op block_slots_c1: blocks are expected to be 1-D, of i32 or i64, got 'tensor<?x?xi32>'}}
  %0 = kvcache.block_slots %t of 16 into %o : tensor<?x?xi32> into tensor<?xi32>
  return
}

// -----

func.func @list_is_a_number(%t: tensor<i32>, %o: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.block_slots' op block_slots_c1: blocks are expected to be 1-D, of i32 or i64, got 'tensor<i32>'}}
  %0 = kvcache.block_slots %t of 16 into %o : tensor<i32> into tensor<?xi32>
  return
}

// -----

func.func @slots_are_a_number(%t: tensor<?xi32>, %o: tensor<i32>) {
  // expected-error@+1 {{'kvcache.block_slots' op block_slots_c1: slots are expected to be 1-D, of i32 or i64, got 'tensor<i32>'}}
  %0 = kvcache.block_slots %t of 16 into %o : tensor<?xi32> into tensor<i32>
  return
}

// -----

func.func @slots_are_short(%t: tensor<?xi32>, %o: tensor<?xi8>) {
  // expected-error@+1 {{'kvcache.block_slots' op block_slots_c1: slots are expected to be 1-D, of i32 or i64, got 'tensor<?xi8>'}}
  %0 = kvcache.block_slots %t of 16 into %o : tensor<?xi32> into tensor<?xi8>
  return
}

// -----

func.func @too_few_slots(%t: tensor<4xi32>, %o: tensor<4xi64>) {
  // expected-error@+1 {{'kvcache.block_slots' op block_slots_c1: slots are expected to be 64xi64, got 'tensor<4xi64>'}}
  %0 = kvcache.block_slots %t of 16 into %o : tensor<4xi32> into tensor<4xi64>
  return
}

// -----

func.func @too_many_slots(%t: tensor<1099511627776xi32>, %o: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.block_slots' op block_slots_c1: at most 2^40 slots are expected, got 1099511627776 times 16}}
  %0 = kvcache.block_slots %t of 16 into %o : tensor<1099511627776xi32> into tensor<?xi64>
  return
}

// -----

func.func @most_slots(%t: tensor<1099511627776xi32>, %o: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.block_slots' op block_slots_c1: at most 2^40 slots are expected, got 1099511627776 times 1099511627776}}
  %0 = kvcache.block_slots %t of 1099511627776 into %o : tensor<1099511627776xi32> into tensor<?xi64>
  return
}

// -----

func.func @blocks_without_tokens(%t: tensor<?xi32>, %o: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.block_slots' op block_slots_c2: 'tokens' is expected to be from 1 to 2^40, got 0}}
  %0 = kvcache.block_slots %t of 0 into %o : tensor<?xi32> into tensor<?xi64>
  return
}

// -----

func.func @blocks_of_negative_size(%t: tensor<?xi32>, %o: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.block_slots' op block_slots_c2: 'tokens' is expected to be from 1 to 2^40, got -1}}
  %0 = kvcache.block_slots %t of -1 into %o : tensor<?xi32> into tensor<?xi64>
  return
}

// -----

func.func @blocks_too_large(%t: tensor<?xi32>, %o: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.block_slots' op block_slots_c2: 'tokens' is expected to be from 1 to 2^40, got 1099511627777}}
  %0 = kvcache.block_slots %t of 1099511627777 into %o : tensor<?xi32> into tensor<?xi64>
  return
}

// -----

func.func @slots_apart(%t: memref<?xi32>, %o: memref<?xi64, strided<[2]>>) {
  // expected-error@+1 {{'kvcache.block_slots' op block_slots_c3: a contiguous memref is expected, got 'memref<?xi64, strided<[2]>>'}}
  kvcache.block_slots %t of 16 into %o : memref<?xi32> into memref<?xi64, strided<[2]>>
  return
}

// -----

func.func @slots_in_space(%t: memref<?xi32, 2>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.block_slots' op block_slots_c3: a memref in the default memory space is expected, got 'memref<?xi32, 2>'}}
  kvcache.block_slots %t of 16 into %o : memref<?xi32, 2> into memref<?xi64>
  return
}

// -----

func.func @slots_of_both_forms(%t: memref<?xi32>, %o: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.block_slots' op block_slots_c4: buffers are expected to be all tensors or all memrefs, got 'tensor<?xi64>' and 'memref<?xi32>'}}
  %0 = kvcache.block_slots %t of 16 into %o : memref<?xi32> into tensor<?xi64>
  return
}

// -----

func.func @table_of_one_dimension(%p: memref<?xi32>, %t: memref<?xi32>) {
  // expected-error@+1 {{'kvcache.csr_table' op csr_table_c1: the table is expected to be 2-D, of i32 or i64, got 'memref<?xi32>'}}
  kvcache.csr_table %p, %p into %t : memref<?xi32>, memref<?xi32> into memref<?xi32>
  return
}

// -----

func.func @pages_of_other_type(%p: memref<?xi32>, %i: memref<?xi64>, %t: memref<?x?xi32>) {
  // expected-error@+1 {{'kvcache.csr_table' op csr_table_c1: 'indices' are expected to be ?xi32, got 'memref<?xi64>'}}
  kvcache.csr_table %p, %i into %t : memref<?xi32>, memref<?xi64> into memref<?x?xi32>
  return
}

// -----

func.func @too_few_lists(%p: memref<4xi32>, %i: memref<?xi32>, %t: memref<4x?xi32>) {
  // expected-error@+1 {{'kvcache.csr_table' op csr_table_c1: 'indptr' is expected to be 5xi32, got 'memref<4xi32>'}}
  kvcache.csr_table %p, %i into %t : memref<4xi32>, memref<?xi32> into memref<4x?xi32>
  return
}

// -----

func.func @lengths_of_nothing(%p: memref<?xi32>, %t: memref<?x?xi32>, %n: memref<?xi32>) {
  // expected-error@+1 {{'kvcache.csr_table' op csr_table_c2: a table, or a table and lengths with 'last' and its tokens, are expected, got 2 destinations}}
  kvcache.csr_table %p, %p into %t, %n : memref<?xi32>, memref<?xi32> into memref<?x?xi32>, memref<?xi32>
  return
}

// -----

func.func @last_for_nothing(%p: memref<?xi32>, %t: memref<?x?xi32>, %n: memref<?xi32>) {
  // expected-error@+1 {{'kvcache.csr_table' op csr_table_c2: a table, or a table and lengths with 'last' and its tokens, are expected, got 1 destinations}}
  kvcache.csr_table %p, %p last(%n of 16) into %t : memref<?xi32>, memref<?xi32>, memref<?xi32> into memref<?x?xi32>
  return
}

// -----

func.func @blocks_without_tokens(%p: memref<?xi32>, %t: memref<?x?xi32>, %n: memref<?xi32>) {
  // expected-error@+1 {{'kvcache.csr_table' op csr_table_c2: blocks of 1 to 2^40 tokens are expected, got 0}}
  kvcache.csr_table %p, %p last(%n of 0) into %t, %n : memref<?xi32>, memref<?xi32>, memref<?xi32> into memref<?x?xi32>, memref<?xi32>
  return
}

// -----

func.func @lengths_of_other_requests(%p: memref<?xi32>, %t: memref<4x?xi32>, %n: memref<4xi32>, %l: memref<5xi32>) {
  // expected-error@+1 {{'kvcache.csr_table' op csr_table_c2: lengths are expected to be 4xi32, got 'memref<5xi32>'}}
  kvcache.csr_table %p, %p last(%n of 16) into %t, %l : memref<?xi32>, memref<?xi32>, memref<4xi32> into memref<4x?xi32>, memref<5xi32>
  return
}

// -----

func.func @lists_apart(%p: memref<?xi32, strided<[2]>>, %i: memref<?xi32>, %t: memref<?x?xi32>) {
  // expected-error@+1 {{'kvcache.csr_table' op csr_table_c3: a contiguous memref is expected, got 'memref<?xi32, strided<[2]>>'}}
  kvcache.csr_table %p, %i into %t : memref<?xi32, strided<[2]>>, memref<?xi32> into memref<?x?xi32>
  return
}

// -----

func.func @table_by_columns(%p: memref<?xi32>, %t: memref<?x?xi32, strided<[1, ?]>>) {
  // expected-error@+1 {{'kvcache.csr_table' op csr_table_c3: contiguous inner dimensions are expected, got 'memref<?x?xi32, strided<[1, ?]>>'}}
  kvcache.csr_table %p, %p into %t : memref<?xi32>, memref<?xi32> into memref<?x?xi32, strided<[1, ?]>>
  return
}

// -----

func.func @lists_of_both_forms(%p: memref<?xi32>, %t: tensor<?x?xi32>) {
  // expected-error@+1 {{'kvcache.csr_table' op csr_table_c4: buffers are expected to be all tensors or all memrefs, got 'tensor<?x?xi32>' and 'memref<?xi32>'}}
  %0 = kvcache.csr_table %p, %p into %t : memref<?xi32>, memref<?xi32> into tensor<?x?xi32>
  return
}
