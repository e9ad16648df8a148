// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

// view

func.func @view_element_type(%pool: memref<?x16x64xf16>) {
  // expected-error@+1 {{'kvcache.view' op view_c1: the element type is expected to be 'f32' or i8, got 'f16'}}
  %0 = kvcache.view %pool : memref<?x16x64xf16> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_unranked(%pool: memref<*xf32>) {
  // expected-error@+1 {{invalid kind of type specified: expected builtin.memref, but found 'memref<*xf32>'}}
  %0 = kvcache.view %pool : memref<*xf32> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_bytes_in_rows(%bytes: memref<?x4xi8>, %n: index) {
  // expected-error@+1 {{'kvcache.view' op view_c1: bytes are expected as a contiguous memref of rank 1, got 'memref<?x4xi8>'}}
  %0 = kvcache.view %bytes extents(B = %n) : memref<?x4xi8> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_bytes_apart(%bytes: memref<?xi8, strided<[2]>>, %n: index) {
  // expected-error@+1 {{'kvcache.view' op view_c1: bytes are expected as a contiguous memref of rank 1, got 'memref<?xi8, strided<[2]>>'}}
  %0 = kvcache.view %bytes extents(B = %n) : memref<?xi8, strided<[2]>> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_rank(%pool: memref<?x64xf32>) {
  // expected-error@+1 {{'kvcache.view' op view_c2: the source is expected to have 3 dimensions [B, N, D], got 'memref<?x64xf32>'}}
  %0 = kvcache.view %pool : memref<?x64xf32> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_axis_twice(%pool: memref<?x16x64xf32>) {
  // expected-error@+1 {{'kvcache.view' op view_c2: the dimensions are expected to be named by [B, N, D] in some sequence, got [B, D, D]}}
  %0 = kvcache.view %pool[B, D, D] : memref<?x16x64xf32> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_axis_missing(%pool: memref<?x16x64xf32>) {
  // expected-error@+1 {{'kvcache.view' op view_c2: the dimensions are expected to be named by [B, N, D] in some sequence, got [B, N]}}
  %0 = kvcache.view %pool[B, N] : memref<?x16x64xf32> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_no_axes(%pool: memref<?x16x64xf32>) {
  // expected-error@+1 {{custom op 'kvcache.view' expected valid keyword}}
  %0 = kvcache.view %pool[] : memref<?x16x64xf32> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_axis_that_is_none(%pool: memref<?x16x64xf32>) {
  // expected-error@+1 {{'kvcache.view' op view_c2: the dimensions are expected to be named by [B, N, D] in some sequence, got [B, N, Q]}}
  %0 = "kvcache.view"(%pool) <{axes = ["B", "N", "Q"], operandSegmentSizes = array<i32: 1, 0, 0, 0>}> : (memref<?x16x64xf32>) -> !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_extent(%pool: memref<?x8x64xf32>) {
  // expected-error@+1 {{'kvcache.view' op view_c3: the extent of N is expected to be 16, got 8}}
  %0 = kvcache.view %pool : memref<?x8x64xf32> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_named_extent(%pool: memref<?x16x64xf32>) {
  // expected-error@+1 {{'kvcache.view' op view_c3: the extent of N is expected to be 16, got 64}}
  %0 = kvcache.view %pool[B, D, N] : memref<?x16x64xf32> to !kvcache.cache<?B x 16N x 16D x f32>
  return
}

// -----

func.func @view_run_time_extent(%pool: memref<4x16x64xf32>) {
  // expected-error@+1 {{'kvcache.view' op view_c3: the extent of B is expected to be ?, got 4}}
  %0 = kvcache.view %pool : memref<4x16x64xf32> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_constant_extent(%pool: memref<?x16x64xf32>) {
  // expected-error@+1 {{'kvcache.view' op view_c3: the extent of B is expected to be 4, got ?}}
  %0 = kvcache.view %pool : memref<?x16x64xf32> to !kvcache.cache<4B x 16N x 64D x f32>
  return
}

// -----

func.func @view_stride(%pool: memref<?x16x64xf32, strided<[2048, 64, 1]>>) {
  // expected-error@+1 {{'kvcache.view' op view_c4: the stride of B is expected to be 1024, got 2048}}
  %0 = kvcache.view %pool : memref<?x16x64xf32, strided<[2048, 64, 1]>> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_multiple(%pool: memref<?x16x64xf32, strided<[1030, 64, 1]>>) {
  // expected-error@+1 {{'kvcache.view' op view_c4: the stride of B is expected to be a multiple of 4, got 1030}}
  %0 = kvcache.view %pool : memref<?x16x64xf32, strided<[1030, 64, 1]>> to !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ? mult 4]>
  return
}

// -----

func.func @view_order(%pool: memref<?x16x8x64xf32>) {
  // expected-error@+1 {{'kvcache.view' op view_c4: the stride of N is expected to be 64, got 512}}
  %0 = kvcache.view %pool : memref<?x16x8x64xf32> to !kvcache.cache<?B x 16N x 8H x 64D x f32, order = [B, H, N, D]>
  return
}

// -----

func.func @view_no_strides(%pool: memref<?x16x64xf32, affine_map<(a, b, c) -> (a floordiv 2, b, c)>>) {
  // expected-error@+1 {{'kvcache.view' op view_c4: the source is expected to have strides, got 'memref<?x16x64xf32, affine_map<(d0, d1, d2) -> (d0 floordiv 2, d1, d2)>>'}}
  %0 = kvcache.view %pool : memref<?x16x64xf32, affine_map<(a, b, c) -> (a floordiv 2, b, c)>> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_of_elements_with_offset(%pool: memref<?x16x64xf32>, %n: index) {
  // expected-error@+1 {{'kvcache.view' op view_c5: 'offset', 'extents' and 'strides' are expected only for a view of bytes, got a source of 'memref<?x16x64xf32>'}}
  %0 = kvcache.view %pool offset(%n) : memref<?x16x64xf32> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_of_elements_with_extents(%pool: memref<?x16x64xf32>, %n: index) {
  // expected-error@+1 {{'kvcache.view' op view_c5: 'offset', 'extents' and 'strides' are expected only for a view of bytes, got a source of 'memref<?x16x64xf32>'}}
  %0 = kvcache.view %pool extents(B = %n) : memref<?x16x64xf32> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_of_elements_with_strides(%pool: memref<?x16x64xf32>, %n: index) {
  // expected-error@+1 {{'kvcache.view' op view_c5: 'offset', 'extents' and 'strides' are expected only for a view of bytes, got a source of 'memref<?x16x64xf32>'}}
  %0 = kvcache.view %pool strides(B = %n) : memref<?x16x64xf32> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_of_bytes_with_axes(%bytes: memref<?xi8>, %n: index) {
  // expected-error@+1 {{'kvcache.view' op view_c5: no dimension names are expected for a view of bytes, got [B, N, D]}}
  %0 = kvcache.view %bytes[B, N, D] extents(B = %n) : memref<?xi8> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_without_extents(%bytes: memref<?xi8>) {
  // expected-error@+1 {{'kvcache.view' op view_c6: extents are expected for [B], got []}}
  %0 = kvcache.view %bytes : memref<?xi8> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_with_other_extents(%bytes: memref<?xi8>, %n: index) {
  // expected-error@+1 {{'kvcache.view' op view_c6: extents are expected for [B], got [B, N]}}
  %0 = kvcache.view %bytes extents(B = %n, N = %n) : memref<?xi8> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_with_nameless_extents(%bytes: memref<?xi8>, %n: index) {
  // expected-error@+1 {{'kvcache.view' op view_c6: one operand is expected for each of the extents [B], got 2}}
  %0 = "kvcache.view"(%bytes, %n, %n) <{extentAxes = ["B"], operandSegmentSizes = array<i32: 1, 0, 2, 0>}> : (memref<?xi8>, index, index) -> !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_without_strides(%bytes: memref<?xi8>, %n: index) {
  // expected-error@+1 {{'kvcache.view' op view_c6: strides are expected for [B], got []}}
  %0 = kvcache.view %bytes extents(B = %n) : memref<?xi8> to !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ?]>
  return
}

// -----

func.func @view_with_other_strides(%bytes: memref<?xi8>, %n: index) {
  // expected-error@+1 {{'kvcache.view' op view_c6: strides are expected for [], got [B]}}
  %0 = kvcache.view %bytes extents(B = %n) strides(B = %n) : memref<?xi8> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_with_nameless_strides(%bytes: memref<?xi8>, %n: index) {
  // expected-error@+1 {{'kvcache.view' op view_c6: one operand is expected for each of the strides [B], got 0}}
  %0 = "kvcache.view"(%bytes, %n) <{extentAxes = ["B"], operandSegmentSizes = array<i32: 1, 0, 1, 0>, strideAxes = ["B"]}> : (memref<?xi8>, index) -> !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ?]>
  return
}

// -----

func.func @view_number_of_blocks(%bytes: memref<?xi8>) {
  // expected-error@+1 {{'kvcache.view' op view_c7: the number of blocks of a view of bytes is expected to be '?', got 4}}
  %0 = kvcache.view %bytes : memref<?xi8> to !kvcache.cache<4B x 16N x 64D x f32>
  return
}

// -----

func.func @view_memory_space(%pool: memref<?x16x64xf32, 1>) {
  // expected-error@+1 {{'kvcache.view' op view_c8: the source is expected to be in the default memory space, got 'memref<?x16x64xf32, 1>'}}
  %0 = kvcache.view %pool : memref<?x16x64xf32, 1> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_bytes_memory_space(%bytes: memref<?xi8, 3>, %n: index) {
  // expected-error@+1 {{'kvcache.view' op view_c8: the source is expected to be in the default memory space, got 'memref<?xi8, 3>'}}
  %0 = kvcache.view %bytes extents(B = %n) : memref<?xi8, 3> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_of_tensor(%pool: tensor<?x16x64xf32>) {
  // expected-error@+1 {{invalid kind of type specified: expected builtin.memref, but found 'tensor<?x16x64xf32>'}}
  %0 = kvcache.view %pool : tensor<?x16x64xf32> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_syntax(%pool: memref<?x16x64xf32>) {
  // expected-error@+1 {{expected an axis L, S, B, N, H or D, possibly with '.o' or '.i', got 'Q'}}
  %0 = kvcache.view %pool[B, N, Q] : memref<?x16x64xf32> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

func.func @view_syntax_of_extents(%bytes: memref<?xi8>, %n: index) {
  // expected-error@+1 {{expected an axis L, S, B, N, H or D, possibly with '.o' or '.i', got 'blocks'}}
  %0 = kvcache.view %bytes extents(blocks = %n) : memref<?xi8> to !kvcache.cache<?B x 16N x 64D x f32>
  return
}

// -----

// make_slots

func.func @make_slots_element_type(%t: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.make_slots' op make_slots_c1: the source is expected to be 1-D with the extents and element type of '!kvcache.slots<?T x i64, rows_per_block = 16, pad = none>', got 'tensor<?xi32>'}}
  %0 = kvcache.make_slots %t : tensor<?xi32> to !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
  return
}

// -----

func.func @make_slots_length(%t: memref<8xi64>) {
  // expected-error@+1 {{'kvcache.make_slots' op make_slots_c1: the source is expected to be 1-D with the extents and element type of '!kvcache.slots<?T x i64, rows_per_block = 16, pad = none>', got 'memref<8xi64>'}}
  %0 = kvcache.make_slots %t : memref<8xi64> to !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
  return
}

// -----

func.func @make_slots_rank(%t: tensor<?x1xi64>) {
  // expected-error@+1 {{'kvcache.make_slots' op make_slots_c1: the source is expected to be 1-D with the extents and element type of '!kvcache.slots<?T x i64, rows_per_block = 16, pad = none>', got 'tensor<?x1xi64>'}}
  %0 = kvcache.make_slots %t : tensor<?x1xi64> to !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
  return
}

// -----

func.func @make_slots_unranked(%t: memref<*xi64>) {
  // expected-error@+1 {{'kvcache.make_slots' op operand #0 must be ranked tensor of any type values or memref of any type values, but got 'memref<*xi64>'}}
  %0 = kvcache.make_slots %t : memref<*xi64> to !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
  return
}

// -----

func.func @make_slots_apart(%t: memref<?xi64, strided<[2]>>) {
  // expected-error@+1 {{'kvcache.make_slots' op make_slots_c2: the source is expected to be contiguous, got 'memref<?xi64, strided<[2]>>'}}
  %0 = kvcache.make_slots %t : memref<?xi64, strided<[2]>> to !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
  return
}

// -----

func.func @make_slots_memory_space(%t: memref<?xi64, 1>) {
  // expected-error@+1 {{'kvcache.make_slots' op make_slots_c3: the source is expected to be in the default memory space, got 'memref<?xi64, 1>'}}
  %0 = kvcache.make_slots %t : memref<?xi64, 1> to !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
  return
}

// -----

// index_copy

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_one_side(%rows: memref<?x8x64xf32>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c1: 2 operands of rows are expected, one per side of the cache, got 1}}
  kvcache.index_copy %rows into %cache at %slots : memref<?x8x64xf32> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 8H x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_two_sides(%rows: memref<?x8x64xf32>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c1: 1 operands of rows are expected, one per side of the cache, got 2}}
  kvcache.index_copy %rows, %rows into %cache at %slots : memref<?x8x64xf32>, memref<?x8x64xf32> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 8H x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_no_rows(%cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c1: 1 operands of rows are expected, one per side of the cache, got 0}}
  "kvcache.index_copy"(%cache, %slots) <{operandSegmentSizes = array<i32: 0, 1, 0, 1>}> : (!kv, !slots) -> ()
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 8H x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_shape(%rows: memref<?x4x64xf32>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c2: rows #0 are expected to have the shape and element type of 'tensor<?x8x64xf32>', got 'memref<?x4x64xf32>'}}
  kvcache.index_copy %rows into %cache at %slots : memref<?x4x64xf32> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_heads(%k: memref<?x64xf32>, %v: memref<?x1x64xf32>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c2: rows #1 are expected to have the shape and element type of 'tensor<?x64xf32>', got 'memref<?x1x64xf32>'}}
  kvcache.index_copy %k, %v into %cache at %slots : memref<?x64xf32>, memref<?x1x64xf32> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_element_type(%rows: tensor<?x64xf64>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c2: the elements of rows are expected to be f16, bf16, f32, f8E4M3FN or f8E5M2, got 'f64'}}
  kvcache.index_copy %rows into %cache at %slots : tensor<?x64xf64> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 64D x f8E4M3FN>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @rows_of_two_formats(%key: tensor<?x64xbf16>, %value: tensor<?x64xf16>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c2: rows #1 are expected to have the shape and element type of 'tensor<?x64xbf16>', got 'tensor<?x64xf16>'}}
  kvcache.index_copy %key, %value into %cache at %slots : tensor<?x64xbf16>, tensor<?x64xf16> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<8T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_length(%rows: memref<4x64xf32>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c2: rows #0 are expected to have the shape and element type of 'tensor<8x64xf32>', got 'memref<4x64xf32>'}}
  kvcache.index_copy %rows into %cache at %slots : memref<4x64xf32> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_unranked(%rows: memref<*xf32>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op operand #0 must be variadic of ranked tensor of any type values or memref of any type values, but got 'memref<*xf32>'}}
  kvcache.index_copy %rows into %cache at %slots : memref<*xf32> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 32, pad = none>
func.func @index_copy_block_size(%rows: memref<?x64xf32>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c3: slots of 16 rows per block are expected, as in the cache, got 32}}
  kvcache.index_copy %rows into %cache at %slots : memref<?x64xf32> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 8H x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_heads_apart(%rows: memref<?x8x64xf32, strided<[1024, 128, 1]>>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c4: the inner dimensions of rows #0 are expected to be contiguous, got 'memref<?x8x64xf32, strided<[1024, 128, 1]>>'}}
  kvcache.index_copy %rows into %cache at %slots : memref<?x8x64xf32, strided<[1024, 128, 1]>> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_channels_apart(%k: memref<?x64xf32>, %v: memref<?x64xf32, strided<[?, ?]>>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c4: the inner dimensions of rows #1 are expected to be contiguous, got 'memref<?x64xf32, strided<[?, ?]>>'}}
  kvcache.index_copy %k, %v into %cache at %slots : memref<?x64xf32>, memref<?x64xf32, strided<[?, ?]>> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<32L x ?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_layers(%rows: memref<?x64xf32>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c5: the cache is expected to be one layer, got '!kvcache.cache<32L x ?B x 16N x 64D x f32>'}}
  kvcache.index_copy %rows into %cache at %slots : memref<?x64xf32> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<?L x ?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_run_time_layers(%rows: memref<?x64xf32>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c5: the cache is expected to be one layer, got '!kvcache.cache<?L x ?B x 16N x 64D x f32>'}}
  kvcache.index_copy %rows into %cache at %slots : memref<?x64xf32> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_mixed(%k: memref<?x64xf32>, %v: tensor<?x64xf32>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c6: buffers are expected to be all tensors or all memrefs, got 'tensor<?x64xf32>' and 'memref<?x64xf32>'}}
  kvcache.index_copy %k, %v into %cache at %slots : memref<?x64xf32>, tensor<?x64xf32> into !kv at !slots
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @index_copy_memory_space(%rows: memref<?x64xf32, 1>, %cache: !kv, %slots: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c7: rows #0 are expected to be in the default memory space, got 'memref<?x64xf32, 1>'}}
  kvcache.index_copy %rows into %cache at %slots : memref<?x64xf32, 1> into !kv at !slots
  return
}

// -----

// Attributes

// expected-error@+1 {{'kvcache.name' of argument #0 is expected to be a string, got 3 : i64}}
func.func private @name_is_a_number(index {kvcache.name = 3})

// -----

// expected-error@+1 {{'kvcache.name' of argument #1 is expected to be a string, got ""}}
func.func private @name_is_empty(index, index {kvcache.name = ""})

// -----

// expected-error@+1 {{'kvcache.name' of argument #0 is expected to consist of letters, digits and '_', '.', '-' and '$', got "a*/"}}
func.func private @name_that_ends_a_comment(index {kvcache.name = "a*/"})

// -----

// expected-error@+1 {{'kvcache.name' of argument #0 is expected to consist of letters, digits and '_', '.', '-' and '$', got "\C6"}}
func.func private @name_that_is_not_text(index {kvcache.name = "\C6"})

// -----

// expected-error@+1 {{'kvcache.align' of argument #0 is expected to be a power of two of at most 4096, got 24 : i64}}
func.func private @align_not_a_power(memref<?xf32> {kvcache.align = 24})

// -----

// expected-error@+1 {{'kvcache.align' of argument #0 is expected to be a power of two of at most 4096, got 8192 : i64}}
func.func private @align_too_large(memref<?xf32> {kvcache.align = 8192})

// -----

// expected-error@+1 {{'kvcache.align' of argument #0 is expected to be a power of two of at most 4096, got 0 : i64}}
func.func private @align_zero(memref<?xf32> {kvcache.align = 0})

// -----

// expected-error@+1 {{'kvcache.align' of argument #0 is expected to be a power of two of at most 4096, got 16 : ui8}}
func.func private @align_without_sign(memref<?xf32> {kvcache.align = 16 : ui8})

// -----

// expected-error@+1 {{'kvcache.align' of argument #0 is expected to be a power of two of at most 4096, got -8 : i4}}
func.func private @align_of_four_bits(memref<?xf32> {kvcache.align = 8 : i4})

// -----

// expected-error@+1 {{'kvcache.align' of argument #0 is expected to be a power of two of at most 4096, got 36893488147419103232 : i128}}
func.func private @align_beyond_64_bits(memref<?xf32> {kvcache.align = 36893488147419103232 : i128})

// -----

// expected-error@+1 {{'kvcache.align' of argument #0 is expected to be a power of two of at most 4096, got "16"}}
func.func private @align_is_a_string(memref<?xf32> {kvcache.align = "16"})

// -----

// expected-error@+1 {{'kvcache.align' of argument #0 is expected to be at least the size of an element of 'memref<?xi64>', got 4 : i64}}
func.func private @align_of_half_an_element(memref<?xi64> {kvcache.align = 4})

// -----

// expected-error@+1 {{unknown attribute 'kvcache.alignment' on an argument; expected 'kvcache.name', 'kvcache.align', 'kvcache.host' or 'kvcache.noalias'}}
func.func private @unknown_argument_attribute(memref<?xf32> {kvcache.alignment = 16})

// -----

// expected-error@+1 {{unknown attribute 'kvcache.entry' on an operation}}
func.func private @unknown_attribute() attributes {kvcache.entry}
