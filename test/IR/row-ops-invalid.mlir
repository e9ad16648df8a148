// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of what writes rows; index_copy into references is in ops-invalid.mlir.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @copy_without_names(%r: tensor<?x64xf32>, %c: tensor<?x16x64xf32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: names for the 3 dimensions of tensor<?x16x64xf32> are expected, got 0}}
  %0 = kvcache.index_copy %r into %c at %s : tensor<?x64xf32> into tensor<?x16x64xf32> at !slots
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @copy_with_too_few_names(%r: tensor<?x64xf32>, %c: tensor<?x16x64xf32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: names for the 3 dimensions of tensor<?x16x64xf32> are expected, got 2}}
  %0 = kvcache.index_copy %r into %c[B, N] at %s : tensor<?x64xf32> into tensor<?x16x64xf32> at !slots
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @copy_with_a_name_twice(%r: tensor<?x64xf32>, %c: tensor<?x16x64xf32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: layout_c1: each axis is expected once, got N twice}}
  %0 = kvcache.index_copy %r into %c[B, N, N] at %s : tensor<?x64xf32> into tensor<?x16x64xf32> at !slots
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @copy_without_blocks(%r: tensor<?x64xf32>, %c: tensor<?x16x64xf32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: layout_c2: a cache is expected to have the axes B, N and D, got [N, H, D] without B}}
  %0 = kvcache.index_copy %r into %c[H, N, D] at %s : tensor<?x64xf32> into tensor<?x16x64xf32> at !slots
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @copy_to_half_an_axis(%r: tensor<?x64xf32>, %c: tensor<?x16x64xf32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: layout_c1: a split axis is expected with both parts, got only D.i without D.o}}
  %0 = kvcache.index_copy %r into %c[B, N, D.i] at %s : tensor<?x64xf32> into tensor<?x16x64xf32> at !slots
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @copy_to_unknown_tokens(%r: tensor<?x64xf32>, %c: tensor<?x?x64xf32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: cache_c2: the extent of N is expected to be a constant, got '?'}}
  %0 = kvcache.index_copy %r into %c[B, N, D] at %s : tensor<?x64xf32> into tensor<?x?x64xf32> at !slots
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @copy_to_no_tokens(%r: tensor<?x64xf32>, %c: tensor<?x0x64xf32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: layout_c3: the extent of N is expected to be between 1 and 2^40, got 0}}
  %0 = kvcache.index_copy %r into %c[B, N, D] at %s : tensor<?x64xf32> into tensor<?x0x64xf32> at !slots
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @copy_to_huge_blocks(%r: tensor<?x64xf32>, %c: tensor<?x9223372036854775807x64xf32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op extents_c1: extents of at most 2^40 and at most 2^54 elements are expected, got 'tensor<?x9223372036854775807x64xf32>'}}
  %0 = kvcache.index_copy %r into %c[B, N, D] at %s : tensor<?x64xf32> into tensor<?x9223372036854775807x64xf32> at !slots
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @copy_to_integers(%r: tensor<?x64xf32>, %c: tensor<?x16x64xi32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: cache_c1: the element type is expected to be f16, bf16, f32, f8E4M3FN or f8E5M2, got 'i32'}}
  %0 = kvcache.index_copy %r into %c[B, N, D] at %s : tensor<?x64xf32> into tensor<?x16x64xi32> at !slots
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @copy_to_a_number(%r: tensor<?x64xf32>, %c: tensor<f32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: names for the 0 dimensions of tensor<f32> are expected, got 0}}
  %0 = kvcache.index_copy %r into %c at %s : tensor<?x64xf32> into tensor<f32> at !slots
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @names_of_a_reference(%r: memref<?x64xf32>, %c: !k, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: no dimension names are expected for a reference, whose type has them, got ["B", "N", "D"]}}
  kvcache.index_copy %r into %c[B, N, D] at %s : memref<?x64xf32> into !k at !slots
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @memref_rows_into_tensor(%r: memref<?x64xf32>, %c: tensor<?x16x64xf32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c6: buffers are expected to be all tensors or all memrefs, got 'tensor<?x16x64xf32>' and 'memref<?x64xf32>'}}
  %0 = kvcache.index_copy %r into %c[B, N, D] at %s : memref<?x64xf32> into tensor<?x16x64xf32> at !slots
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @copy_to_layers_of_a_tensor(%r: tensor<?x64xf32>, %c: tensor<2x?x16x64xf32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c5: the cache is expected to be one layer, got '!kvcache.cache<2L x ?B x 16N x 64D x f32>'}}
  %0 = kvcache.index_copy %r into %c[L, B, N, D] at %s : tensor<?x64xf32> into tensor<2x?x16x64xf32> at !slots
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @two_rows_of_one_side(%r0: memref<?x64xf32>, %r1: memref<?x64xf32>, %c: !k, %b: memref<?xi64>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c1: 1 operands of rows are expected, one per side of the cache, got 2}}
  kvcache.scatter %r0, %r1 into %c at %b, %o pad = none
    : memref<?x64xf32>, memref<?x64xf32> into !k at memref<?xi64>, memref<?xi64>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 64D x f32>
func.func @one_row_of_two_sides(%r0: memref<?x8x64xf32>, %c: !kv, %b: memref<?xi64>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c1: 2 operands of rows are expected, one per side of the cache, got 1}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<?x8x64xf32> into !kv at memref<?xi64>, memref<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @rows_of_other_width(%r0: memref<?x32xf32>, %c: !k, %b: memref<?xi64>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c2: rows #0 are expected to have the shape and element type of 'tensor<?x64xf32>', got 'memref<?x32xf32>'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<?x32xf32> into !k at memref<?xi64>, memref<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @rows_of_other_type(%r0: memref<?x64xf64>, %c: !k, %b: memref<?xi64>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c2: the elements of rows are expected to be f16, bf16, f32, f8E4M3FN or f8E5M2, got 'f64'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<?x64xf64> into !k at memref<?xi64>, memref<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @rows_of_other_length(%r0: memref<4x64xf32>, %c: !k, %b: memref<?xi64>, %o: memref<8xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c2: rows #0 are expected to have the shape and element type of 'tensor<8x64xf32>', got 'memref<4x64xf32>'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<4x64xf32> into !k at memref<?xi64>, memref<8xi64>
  return
}

// -----

!k = !kvcache.cache<2S x ?B x 16N x 64D x f32>
func.func @sides_of_two_lengths(%r0: memref<4x64xf32>, %r1: memref<8x64xf32>, %c: !k, %b: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c2: rows #1 are expected to have the shape and element type of 'tensor<4x64xf32>', got 'memref<8x64xf32>'}}
  kvcache.scatter %r0, %r1 into %c at %b, %b pad = none
    : memref<4x64xf32>, memref<8x64xf32> into !k at memref<?xi64>, memref<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @blocks_of_floats(%r0: memref<?x64xf32>, %c: !k, %b: memref<?xf32>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c3: blocks are expected to be 1-D, of i32 or i64, got 'memref<?xf32>'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<?x64xf32> into !k at memref<?xf32>, memref<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @offsets_are_a_matrix(%r0: memref<?x64xf32>, %c: !k, %b: memref<?xi64>, %o: memref<?x?xi32>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c3: offsets are expected to be 1-D, of i32 or i64, got 'memref<?x?xi32>'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<?x64xf32> into !k at memref<?xi64>, memref<?x?xi32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @fewer_offsets(%r0: memref<8x64xf32>, %c: !k, %b: memref<8xi32>, %o: memref<4xi32>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c3: as many offsets as blocks are expected, got 'memref<4xi32>' and 'memref<8xi32>'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<8x64xf32> into !k at memref<8xi32>, memref<4xi32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @rows_with_gaps(%r0: memref<?x64xf32, strided<[128, 2]>>, %c: !k, %b: memref<?xi64>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c4: the inner dimensions of rows #0 are expected to be contiguous, got 'memref<?x64xf32, strided<[128, 2]>>'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<?x64xf32, strided<[128, 2]>> into !k at memref<?xi64>, memref<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @rows_in_space(%r0: memref<?x64xf32, 1>, %c: !k, %b: memref<?xi64>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c4: rows #0 are expected to be in the default memory space, got 'memref<?x64xf32, 1>'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<?x64xf32, 1> into !k at memref<?xi64>, memref<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @blocks_apart(%r0: memref<?x64xf32>, %c: !k, %b: memref<?xi64, strided<[2]>>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c4: a contiguous memref is expected, got 'memref<?xi64, strided<[2]>>'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<?x64xf32> into !k at memref<?xi64, strided<[2]>>, memref<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @offsets_in_space(%r0: memref<?x64xf32>, %c: !k, %b: memref<?xi64>, %o: memref<?xi64, 1>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c4: a memref in the default memory space is expected, got 'memref<?xi64, 1>'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<?x64xf32> into !k at memref<?xi64>, memref<?xi64, 1>
  return
}

// -----

!layers = !kvcache.cache<32L x ?B x 16N x 64D x f32>
func.func @scatter_to_layers(%r0: memref<?x64xf32>, %c: !layers, %b: memref<?xi64>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c5: the cache is expected to be one layer, got '!kvcache.cache<32L x ?B x 16N x 64D x f32>'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<?x64xf32> into !layers at memref<?xi64>, memref<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @rows_of_another_form(%r0: memref<?x64xf32>, %c: !k, %b: tensor<?xi64>, %o: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c6: buffers are expected to be all tensors or all memrefs, got 'tensor<?xi64>' and 'memref<?x64xf32>'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<?x64xf32> into !k at tensor<?xi64>, tensor<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @offsets_of_another_form(%r0: memref<?x64xf32>, %c: !k, %b: memref<?xi64>, %o: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c6: buffers are expected to be all tensors or all memrefs, got 'tensor<?xi64>' and 'memref<?xi64>'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<?x64xf32> into !k at memref<?xi64>, tensor<?xi64>
  return
}

// -----

func.func @memrefs_into_a_tensor(%r0: memref<?x64xf32>, %c: tensor<?x16x64xf32>, %b: memref<?xi64>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c6: buffers are expected to be all tensors or all memrefs, got 'tensor<?x16x64xf32>' and 'memref<?x64xf32>'}}
  %0 = kvcache.scatter %r0 into %c[B, N, D] at %b, %o pad = none
    : memref<?x64xf32> into tensor<?x16x64xf32> at memref<?xi64>, memref<?xi64>
  return
}

// -----

!read = !kvcache.cache<?B x 16N x 64D x f32, access = read>
func.func @scatter_to_a_reader(%r0: memref<?x64xf32>, %c: !read, %b: memref<?xi64>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c7: a writable cache is expected, got '!kvcache.cache<?B x 16N x 64D x f32, access = read>'}}
  kvcache.scatter %r0 into %c at %b, %o pad = none
    : memref<?x64xf32> into !read at memref<?xi64>, memref<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @scatter_to_a_sink(%r0: memref<?x64xf32>, %c: !k, %b: memref<?xi64>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c8: 'none', 'skip_negative' or 'skip_out_of_range' is expected, got 'sink'}}
  kvcache.scatter %r0 into %c at %b, %o pad = sink
    : memref<?x64xf32> into !k at memref<?xi64>, memref<?xi64>
  return
}

// -----

func.func @scatter_without_names(%r0: tensor<?x64xf32>, %c: tensor<?x16x64xf32>, %b: tensor<?xi64>, %o: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c9: names for the 3 dimensions of tensor<?x16x64xf32> are expected, got 0}}
  %0 = kvcache.scatter %r0 into %c at %b, %o pad = none
    : tensor<?x64xf32> into tensor<?x16x64xf32> at tensor<?xi64>, tensor<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @scatter_to_a_named_reference(%r0: memref<?x64xf32>, %c: !k, %b: memref<?xi64>, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c9: no dimension names are expected for a reference, whose type has them, got ["B", "N", "D"]}}
  kvcache.scatter %r0 into %c[B, N, D] at %b, %o pad = none
    : memref<?x64xf32> into !k at memref<?xi64>, memref<?xi64>
  return
}
