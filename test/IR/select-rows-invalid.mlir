// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of select_rows.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @indices_are_a_matrix(%a0: tensor<?x64xf32>, %a1: !batch, %a2: tensor<?x?xi32>, %a3: tensor<1xi32>, %a4: tensor<?x64xf32>, %a5: tensor<?xi32>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c1: indices are expected to be 1-D, of i32 or i64, got 'tensor<?x?xi32>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x64xf32> of !batch at tensor<?x?xi32>, tensor<1xi32> into tensor<?x64xf32>, tensor<?xi32>, tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @indices_are_floats(%a0: tensor<?x64xf32>, %a1: !batch, %a2: tensor<?xf32>, %a3: tensor<1xi32>, %a4: tensor<?x64xf32>, %a5: tensor<?xi32>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c1: indices are expected to be 1-D, of i32 or i64, got 'tensor<?xf32>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x64xf32> of !batch at tensor<?xf32>, tensor<1xi32> into tensor<?x64xf32>, tensor<?xi32>, tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @count_of_other_numbers(%a0: tensor<?x64xf32>, %a1: !batch, %a2: tensor<?xi32>, %a3: tensor<1xi64>, %a4: tensor<?x64xf32>, %a5: tensor<?xi32>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c1: 'valid' is expected to be 1xi32, got 'tensor<1xi64>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x64xf32> of !batch at tensor<?xi32>, tensor<1xi64> into tensor<?x64xf32>, tensor<?xi32>, tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @count_is_a_list(%a0: tensor<?x64xf32>, %a1: !batch, %a2: tensor<?xi32>, %a3: tensor<?xi32>, %a4: tensor<?x64xf32>, %a5: tensor<?xi32>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c1: 'valid' is expected to be 1xi32, got 'tensor<?xi32>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x64xf32> of !batch at tensor<?xi32>, tensor<?xi32> into tensor<?x64xf32>, tensor<?xi32>, tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @two_counts(%a0: tensor<?x64xf32>, %a1: !batch, %a2: tensor<?xi32>, %a3: tensor<2xi32>, %a4: tensor<?x64xf32>, %a5: tensor<?xi32>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c1: 'valid' is expected to be 1xi32, got 'tensor<2xi32>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x64xf32> of !batch at tensor<?xi32>, tensor<2xi32> into tensor<?x64xf32>, tensor<?xi32>, tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @no_destination_of_rows(%a0: tensor<?x64xf32>, %a1: !batch, %a2: tensor<?xi32>, %a3: tensor<1xi32>, %a4: tensor<?xi32>, %a5: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c2: 3 destinations are expected, of the rows, the starts and the positions, got 2}}
  %r:2 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5
    : tensor<?x64xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?xi32>, tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @starts_of_another_batch(%a0: tensor<?x64xf32>, %a1: !batch, %a2: tensor<?xi32>, %a3: tensor<1xi32>, %a4: tensor<?x64xf32>, %a5: tensor<?xi64>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c2: starts are expected to be ?xi32, got 'tensor<?xi64>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x64xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x64xf32>, tensor<?xi64>, tensor<?xi64>
  return
}

// -----

!batch4 = !kvcache.batch<4R x 8M x i64, tokens = 16>
func.func @as_many_new_starts_as_requests(%a0: tensor<?x64xf32>, %a1: !batch4, %a2: tensor<?xi32>, %a3: tensor<1xi32>, %a4: tensor<?x64xf32>, %a5: tensor<4xi64>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c2: starts are expected to be 5xi64, got 'tensor<4xi64>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x64xf32> of !batch4 at tensor<?xi32>, tensor<1xi32> into tensor<?x64xf32>, tensor<4xi64>, tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @new_positions_are_floats(%a0: tensor<?x64xf32>, %a1: !batch, %a2: tensor<?xi32>, %a3: tensor<1xi32>, %a4: tensor<?x64xf32>, %a5: tensor<?xi32>, %a6: tensor<?xf32>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c2: positions are expected to be 1-D, of i32 or i64, got 'tensor<?xf32>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x64xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x64xf32>, tensor<?xi32>, tensor<?xf32>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @too_few_positions(%a0: tensor<?x64xf32>, %a1: !batch, %a2: tensor<8xi32>, %a3: tensor<1xi32>, %a4: tensor<?x64xf32>, %a5: tensor<?xi32>, %a6: tensor<4xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c2: positions are expected to be 8xi64, got 'tensor<4xi64>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x64xf32> of !batch at tensor<8xi32>, tensor<1xi32> into tensor<?x64xf32>, tensor<?xi32>, tensor<4xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @rows_are_numbers(%a0: tensor<f32>, %a1: !batch, %a2: tensor<?xi32>, %a3: tensor<1xi32>, %a4: tensor<?x64xf32>, %a5: tensor<?xi32>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c3: rows #0 are expected to have a dimension, got 'tensor<f32>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<f32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x64xf32>, tensor<?xi32>, tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @rows_of_unknown_width(%a0: tensor<?x?xf32>, %a1: !batch, %a2: tensor<?xi32>, %a3: tensor<1xi32>, %a4: tensor<?x?xf32>, %a5: tensor<?xi32>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c3: rows #0 are expected to have constant inner extents, got 'tensor<?x?xf32>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x?xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x?xf32>, tensor<?xi32>, tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @destination_of_other_width(%a0: tensor<?x64xf32>, %a1: !batch, %a2: tensor<?xi32>, %a3: tensor<1xi32>, %a4: tensor<?x32xf32>, %a5: tensor<?xi32>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c3: destination #0 is expected to be ?x64xf32, got 'tensor<?x32xf32>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x64xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x32xf32>, tensor<?xi32>, tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @destination_of_other_numbers(%a0: tensor<?x64xf32>, %a1: !batch, %a2: tensor<?xi32>, %a3: tensor<1xi32>, %a4: tensor<?x64xf16>, %a5: tensor<?xi32>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c3: destination #0 is expected to be ?x64xf32, got 'tensor<?x64xf16>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x64xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x64xf16>, tensor<?xi32>, tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @destination_of_other_length(%a0: tensor<?x64xf32>, %a1: !batch, %a2: tensor<8xi32>, %a3: tensor<1xi32>, %a4: tensor<4x64xf32>, %a5: tensor<?xi32>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c3: destination #0 is expected to be 8x64xf32, got 'tensor<4x64xf32>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x64xf32> of !batch at tensor<8xi32>, tensor<1xi32> into tensor<4x64xf32>, tensor<?xi32>, tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @rows_with_gaps(%a0: memref<?x64xf32, strided<[128, 2]>>, %a1: !batch, %a2: memref<?xi32>, %a3: memref<1xi32>, %a4: memref<?x64xf32>, %a5: memref<?xi32>, %a6: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c4: contiguous inner dimensions are expected, got 'memref<?x64xf32, strided<[128, 2]>>'}}
  kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : memref<?x64xf32, strided<[128, 2]>> of !batch at memref<?xi32>, memref<1xi32> into memref<?x64xf32>, memref<?xi32>, memref<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @rows_in_space(%a0: memref<?x64xf32, 1>, %a1: !batch, %a2: memref<?xi32>, %a3: memref<1xi32>, %a4: memref<?x64xf32>, %a5: memref<?xi32>, %a6: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c4: a memref in the default memory space is expected, got 'memref<?x64xf32, 1>'}}
  kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : memref<?x64xf32, 1> of !batch at memref<?xi32>, memref<1xi32> into memref<?x64xf32>, memref<?xi32>, memref<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @indices_apart(%a0: memref<?x64xf32>, %a1: !batch, %a2: memref<?xi32, strided<[2]>>, %a3: memref<1xi32>, %a4: memref<?x64xf32>, %a5: memref<?xi32>, %a6: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c4: a contiguous memref is expected, got 'memref<?xi32, strided<[2]>>'}}
  kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : memref<?x64xf32> of !batch at memref<?xi32, strided<[2]>>, memref<1xi32> into memref<?x64xf32>, memref<?xi32>, memref<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @starts_in_space(%a0: memref<?x64xf32>, %a1: !batch, %a2: memref<?xi32>, %a3: memref<1xi32>, %a4: memref<?x64xf32>, %a5: memref<?xi32, 1>, %a6: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c4: a memref in the default memory space is expected, got 'memref<?xi32, 1>'}}
  kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : memref<?x64xf32> of !batch at memref<?xi32>, memref<1xi32> into memref<?x64xf32>, memref<?xi32, 1>, memref<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @rows_of_both_forms(%a0: memref<?x64xf32>, %a1: !batch, %a2: tensor<?xi32>, %a3: tensor<1xi32>, %a4: tensor<?x64xf32>, %a5: tensor<?xi32>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c5: buffers are expected to be all tensors or all memrefs, got 'tensor<?xi64>' and 'memref<?x64xf32>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : memref<?x64xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x64xf32>, tensor<?xi32>, tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @count_of_another_form(%a0: tensor<?x64xf32>, %a1: !batch, %a2: tensor<?xi32>, %a3: memref<1xi32>, %a4: tensor<?x64xf32>, %a5: tensor<?xi32>, %a6: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c5: buffers are expected to be all tensors or all memrefs, got 'tensor<?xi64>' and 'memref<1xi32>'}}
  %r:3 = kvcache.select_rows %a0 of %a1 at %a2, %a3 into %a4, %a5, %a6
    : tensor<?x64xf32> of !batch at tensor<?xi32>, memref<1xi32> into tensor<?x64xf32>, tensor<?xi32>, tensor<?xi64>
  return
}
