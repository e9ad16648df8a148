// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of block tables and batches.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @table_of_a_list(%t: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.make_block_table' op make_block_table_c1: the source is expected to be 2-D with the extents and element type of '!kvcache.block_table<?R x ?M x i32, tokens = 16>', got 'tensor<?xi32>'}}
  %0 = kvcache.make_block_table %t : tensor<?xi32> to !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @table_of_a_number(%t: tensor<i32>) {
  // expected-error@+1 {{'kvcache.make_block_table' op make_block_table_c1: the source is expected to be 2-D with the extents and element type of '!kvcache.block_table<?R x ?M x i32, tokens = 16>', got 'tensor<i32>'}}
  %0 = kvcache.make_block_table %t : tensor<i32> to !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @table_of_other_numbers(%t: tensor<?x?xi64>) {
  // expected-error@+1 {{'kvcache.make_block_table' op make_block_table_c1: the source is expected to be 2-D with the extents and element type of '!kvcache.block_table<?R x ?M x i32, tokens = 16>', got 'tensor<?x?xi64>'}}
  %0 = kvcache.make_block_table %t : tensor<?x?xi64> to !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @table_of_known_rows(%t: memref<4x?xi32>) {
  // expected-error@+1 {{'kvcache.make_block_table' op make_block_table_c1: the source is expected to be 2-D with the extents and element type of '!kvcache.block_table<?R x ?M x i32, tokens = 16>', got 'memref<4x?xi32>'}}
  %0 = kvcache.make_block_table %t : memref<4x?xi32> to !table
  return
}

// -----

!table4 = !kvcache.block_table<4R x 8M x i64, tokens = 16>
func.func @table_of_unknown_rows(%t: memref<?x8xi64>) {
  // expected-error@+1 {{'kvcache.make_block_table' op make_block_table_c1: the source is expected to be 2-D with the extents and element type of '!kvcache.block_table<4R x 8M x i64, tokens = 16>', got 'memref<?x8xi64>'}}
  %0 = kvcache.make_block_table %t : memref<?x8xi64> to !table4
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @columns_apart(%t: memref<?x?xi32, strided<[?, 2]>>) {
  // expected-error@+1 {{'kvcache.make_block_table' op make_block_table_c2: the source is expected to be contiguous, got 'memref<?x?xi32, strided<[?, 2]>>'}}
  %0 = kvcache.make_block_table %t : memref<?x?xi32, strided<[?, 2]>> to !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @columns_of_unknown_stride(%t: memref<?x?xi32, strided<[?, ?]>>) {
  // expected-error@+1 {{'kvcache.make_block_table' op make_block_table_c2: the source is expected to be contiguous, got 'memref<?x?xi32, strided<[?, ?]>>'}}
  %0 = kvcache.make_block_table %t : memref<?x?xi32, strided<[?, ?]>> to !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @table_without_strides(%t: memref<?x?xi32, affine_map<(d0, d1) -> (d0 floordiv 2, d1)>>) {
  // expected-error@+1 {{'kvcache.make_block_table' op make_block_table_c2: the source is expected to be contiguous, got 'memref<?x?xi32, affine_map<(d0, d1) -> (d0 floordiv 2, d1)>>'}}
  %0 = kvcache.make_block_table %t : memref<?x?xi32, affine_map<(d0, d1) -> (d0 floordiv 2, d1)>> to !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @table_in_space(%t: memref<?x?xi32, 1>) {
  // expected-error@+1 {{'kvcache.make_block_table' op make_block_table_c3: the source is expected to be in the default memory space, got 'memref<?x?xi32, 1>'}}
  %0 = kvcache.make_block_table %t : memref<?x?xi32, 1> to !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @starts_of_other_numbers(%s: tensor<?xi64>, %l: tensor<?xi32>, %t: !table) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c1: starts are expected to be ?xi32, got 'tensor<?xi64>'}}
  %0 = kvcache.make_batch %s, %l, %t : tensor<?xi64>, tensor<?xi32>, !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @starts_are_a_matrix(%s: tensor<?x1xi32>, %l: tensor<?xi32>, %t: !table) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c1: starts are expected to be ?xi32, got 'tensor<?x1xi32>'}}
  %0 = kvcache.make_batch %s, %l, %t : tensor<?x1xi32>, tensor<?xi32>, !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @lengths_of_other_numbers(%s: tensor<?xi32>, %l: tensor<?xf32>, %t: !table) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c1: lengths are expected to be ?xi32, got 'tensor<?xf32>'}}
  %0 = kvcache.make_batch %s, %l, %t : tensor<?xi32>, tensor<?xf32>, !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @lengths_are_a_number(%s: tensor<?xi32>, %l: tensor<i32>, %t: !table) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c1: lengths are expected to be ?xi32, got 'tensor<i32>'}}
  %0 = kvcache.make_batch %s, %l, %t : tensor<?xi32>, tensor<i32>, !table
  return
}

// -----

!table4 = !kvcache.block_table<4R x 8M x i64, tokens = 16>
func.func @as_many_starts_as_requests(%s: tensor<4xi64>, %l: tensor<4xi64>, %t: !table4) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c1: starts are expected to be 5xi64, got 'tensor<4xi64>'}}
  %0 = kvcache.make_batch %s, %l, %t : tensor<4xi64>, tensor<4xi64>, !table4
  return
}

// -----

!table4 = !kvcache.block_table<4R x 8M x i64, tokens = 16>
func.func @too_many_lengths(%s: tensor<5xi64>, %l: tensor<5xi64>, %t: !table4) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c1: lengths are expected to be 4xi64, got 'tensor<5xi64>'}}
  %0 = kvcache.make_batch %s, %l, %t : tensor<5xi64>, tensor<5xi64>, !table4
  return
}

// -----

func.func @most_requests(%s: tensor<?xi32>, %l: tensor<?xi32>, %t: !kvcache.block_table<1099511627776R x 1M x i64, tokens = 1>) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c1: starts are expected to be 1099511627777xi64, got 'tensor<?xi32>'}}
  %0 = kvcache.make_batch %s, %l, %t : tensor<?xi32>, tensor<?xi32>, !kvcache.block_table<1099511627776R x 1M x i64, tokens = 1>
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @positions_are_floats(%s: tensor<?xi32>, %l: tensor<?xi32>, %t: !table, %p: tensor<?xf32>) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c2: positions are expected to be 1-D, of i32 or i64, got 'tensor<?xf32>'}}
  %0 = kvcache.make_batch %s, %l, %t positions(%p : tensor<?xf32>) : tensor<?xi32>, tensor<?xi32>, !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @positions_are_short(%s: tensor<?xi32>, %l: tensor<?xi32>, %t: !table, %p: tensor<?xi16>) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c2: positions are expected to be 1-D, of i32 or i64, got 'tensor<?xi16>'}}
  %0 = kvcache.make_batch %s, %l, %t positions(%p : tensor<?xi16>) : tensor<?xi32>, tensor<?xi32>, !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @positions_are_unsigned(%s: tensor<?xi32>, %l: tensor<?xi32>, %t: !table, %p: tensor<?xui32>) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c2: positions are expected to be 1-D, of i32 or i64, got 'tensor<?xui32>'}}
  %0 = kvcache.make_batch %s, %l, %t positions(%p : tensor<?xui32>) : tensor<?xi32>, tensor<?xi32>, !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @positions_are_a_matrix(%s: tensor<?xi32>, %l: tensor<?xi32>, %t: !table, %p: tensor<?x?xi32>) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c2: positions are expected to be 1-D, of i32 or i64, got 'tensor<?x?xi32>'}}
  %0 = kvcache.make_batch %s, %l, %t positions(%p : tensor<?x?xi32>) : tensor<?xi32>, tensor<?xi32>, !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @starts_apart(%s: memref<?xi32, strided<[2]>>, %l: memref<?xi32>, %t: !table) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c3: contiguous memrefs are expected, got 'memref<?xi32, strided<[2]>>'}}
  %0 = kvcache.make_batch %s, %l, %t : memref<?xi32, strided<[2]>>, memref<?xi32>, !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @lengths_at_an_offset(%s: memref<?xi32>, %l: memref<?xi32, strided<[1], offset: ?>>, %t: !table) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c3: contiguous memrefs are expected, got 'memref<?xi32, strided<[1], offset: ?>>'}}
  %0 = kvcache.make_batch %s, %l, %t : memref<?xi32>, memref<?xi32, strided<[1], offset: ?>>, !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @positions_apart(%s: memref<?xi32>, %l: memref<?xi32>, %t: !table, %p: memref<?xi32, strided<[?]>>) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c3: contiguous memrefs are expected, got 'memref<?xi32, strided<[?]>>'}}
  %0 = kvcache.make_batch %s, %l, %t positions(%p : memref<?xi32, strided<[?]>>) : memref<?xi32>, memref<?xi32>, !table
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @lengths_in_space(%s: memref<?xi32>, %l: memref<?xi32, 1>, %t: !table) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c4: a memref in the default memory space is expected, got 'memref<?xi32, 1>'}}
  %0 = kvcache.make_batch %s, %l, %t : memref<?xi32>, memref<?xi32, 1>, !table
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @rows_of_other_numbers(%b: !batch, %s: tensor<?xi64>, %p: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.with_rows' op with_rows_c1: starts are expected to be ?xi32, got 'tensor<?xi64>'}}
  %0 = kvcache.with_rows %b, %s, %p : !batch, tensor<?xi64>, tensor<?xi32>
  return
}

// -----

!batch4 = !kvcache.batch<4R x 8M x i64, tokens = 16>
func.func @rows_of_fewer_requests(%b: !batch4, %s: tensor<4xi64>, %p: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.with_rows' op with_rows_c1: starts are expected to be 5xi64, got 'tensor<4xi64>'}}
  %0 = kvcache.with_rows %b, %s, %p : !batch4, tensor<4xi64>, tensor<?xi32>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @rows_with_positions_of_floats(%b: !batch, %s: tensor<?xi32>, %p: tensor<?xbf16>) {
  // expected-error@+1 {{'kvcache.with_rows' op with_rows_c2: positions are expected to be 1-D, of i32 or i64, got 'tensor<?xbf16>'}}
  %0 = kvcache.with_rows %b, %s, %p : !batch, tensor<?xi32>, tensor<?xbf16>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @rows_with_a_position(%b: !batch, %s: tensor<?xi32>, %p: tensor<i32>) {
  // expected-error@+1 {{'kvcache.with_rows' op with_rows_c2: positions are expected to be 1-D, of i32 or i64, got 'tensor<i32>'}}
  %0 = kvcache.with_rows %b, %s, %p : !batch, tensor<?xi32>, tensor<i32>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @rows_with_starts_apart(%b: !batch, %s: memref<?xi32, strided<[2]>>, %p: memref<?xi32>) {
  // expected-error@+1 {{'kvcache.with_rows' op with_rows_c3: contiguous memrefs are expected, got 'memref<?xi32, strided<[2]>>'}}
  %0 = kvcache.with_rows %b, %s, %p : !batch, memref<?xi32, strided<[2]>>, memref<?xi32>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @rows_with_positions_in_space(%b: !batch, %s: memref<?xi32>, %p: memref<?xi32, 1>) {
  // expected-error@+1 {{'kvcache.with_rows' op with_rows_c4: a memref in the default memory space is expected, got 'memref<?xi32, 1>'}}
  %0 = kvcache.with_rows %b, %s, %p : !batch, memref<?xi32>, memref<?xi32, 1>
  return
}
