// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of reshape.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @to_other_elements(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c1: the element type is expected to be 'bf16', got 'f16'}}
  %0 = kvcache.reshape %c : !k to memref<?x1024xf16, strided<[1024, 1], offset: ?>>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @to_other_space(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c1: element type, space and access are expected to be those of '!kvcache.cache<?B x 16N x 8H x 128D x bf16>', got '!kvcache.cache<?B x 16N x 8H x 128D x bf16, space = host>'}}
  %0 = kvcache.reshape %c : !k to !kvcache.cache<?B x 16N x 8H x 128D x bf16, space = host>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!read = !kvcache.cache<?B x 16N x 8H x 128D x bf16, access = read>
func.func @to_other_access(%c: !read) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c1: element type, space and access are expected to be those of '!kvcache.cache<?B x 16N x 8H x 128D x bf16, access = read>', got '!kvcache.cache<?B x 16N x 8H x 128D x bf16>'}}
  %0 = kvcache.reshape %c : !read to !k
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @cache_of_other_elements(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c1: element type, space and access are expected to be those of '!kvcache.cache<?B x 16N x 8H x 128D x bf16>', got '!kvcache.cache<?B x 16N x 8H x 128D x f16>'}}
  %0 = kvcache.reshape %c : !k to !kvcache.cache<?B x 16N x 8H x 128D x f16>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @name_twice(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c2: the dimensions are expected to be named by [B, N, H, D] in some sequence, got [B, N, N, D]}}
  %0 = kvcache.reshape %c[B, N, N, D] : !k to memref<?x1024xbf16, strided<[1024, 1], offset: ?>>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @too_few_names(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c2: the dimensions are expected to be named by [B, N, H, D] in some sequence, got [B, N, D]}}
  %0 = kvcache.reshape %c[B, N, D] : !k to memref<?x1024xbf16, strided<[1024, 1], offset: ?>>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @names_of_a_cache(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c2: brackets are expected only for a memref result, got [B, N, H, D]}}
  %0 = kvcache.reshape %c[B, N, H, D] : !k to !k
  return
}

// -----

!hnd = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = hnd>
func.func @merge_heads_before_tokens(%c: !hnd) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c3: a reshape that is a view is expected, but an extent of 1024 spans axes with a gap between them; H is not packed over D: the stride of H is 2048, expected 128 * 1; 'kvcache.relayout' makes a copy}}
  %0 = kvcache.reshape %c : !hnd to memref<?x1024xbf16, strided<[1024, 1], offset: ?>>
  return
}

// -----

func.func @merge_over_a_gap(%c: !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ?]>) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c3: a reshape that is a view is expected, but an extent of ? spans axes with a gap between them; B is not packed over N: the stride of B is known only at run time, expected 16 * 64; 'kvcache.relayout' makes a copy}}
  %0 = kvcache.reshape %c : !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ?]> to memref<?x64xf32, strided<[64, 1], offset: ?>>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @fewer_elements(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c3: a reshape that is a view is expected, but the run-time extent of B to D is not known to be a multiple of what an extent of 1000 requires; 'kvcache.relayout' makes a copy}}
  %0 = kvcache.reshape %c : !k to memref<?x16x1000xbf16, strided<[?, ?, 1], offset: ?>>
  return
}

// -----

!fixed = !kvcache.cache<4B x 16N x 64D x f32>
func.func @to_a_number(%c: !fixed) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c3: a reshape that is a view is expected, but the new shape has fewer elements than B to D; 'kvcache.relayout' makes a copy}}
  %0 = kvcache.reshape %c : !fixed to memref<f32, strided<[], offset: ?>>
  return
}

// -----

!fixed = !kvcache.cache<4B x 16N x 64D x f32>
func.func @to_no_elements(%c: !fixed) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c3: a reshape that is a view is expected, but an extent of the new shape is expected to be between 1 and 2^40, got 0; 'kvcache.relayout' makes a copy}}
  %0 = kvcache.reshape %c : !fixed to memref<0xf32, strided<[1], offset: ?>>
  return
}

// -----

!fixed = !kvcache.cache<4B x 16N x 64D x f32>
func.func @to_huge_extents(%c: !fixed) {
  // expected-error@+1 {{'kvcache.reshape' op extents_c1: extents of at most 2^40 and at most 2^54 elements are expected, got 'memref<9223372036854775807x9223372036854775807xf32, strided<[?, ?], offset: ?>>'}}
  %0 = kvcache.reshape %c : !fixed to memref<9223372036854775807x9223372036854775807xf32, strided<[?, ?], offset: ?>>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @blocks_may_not_be_a_multiple(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c3: a reshape that is a view is expected, but the run-time extent of B to D is not known to be a multiple of what an extent of 128 requires; 'kvcache.relayout' makes a copy}}
  %0 = kvcache.reshape %c : !k to !kvcache.cache<?B x 64N x 8H x 128D x bf16>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @two_run_time_extents(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c3: a reshape that is a view is expected, but one run-time extent is expected for B to D, got 2; 'kvcache.relayout' makes a copy}}
  %0 = kvcache.reshape %c : !k to memref<?x?x1024xbf16, strided<[?, 1024, 1], offset: ?>>
  return
}

// -----

func.func @stride_is_not_known(%c: !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ?]>) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c4: the stride of dimension 0 is expected to be ?, got 1024}}
  %0 = kvcache.reshape %c : !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ?]> to memref<?x1024xf32, strided<[1024, 1], offset: ?>>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @stride_is_another(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c4: the stride of dimension 0 is expected to be 1024, got 2048}}
  %0 = kvcache.reshape %c : !k to memref<?x1024xbf16, strided<[2048, 1], offset: ?>>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @no_offset(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c4: strides and 'offset: ?' are expected in the result, got 'memref<?x1024xbf16>'}}
  %0 = kvcache.reshape %c : !k to memref<?x1024xbf16>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @no_strides(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c4: strides and 'offset: ?' are expected in the result, got 'memref<?x1024xbf16, affine_map<(d0, d1) -> (d0 floordiv 2, d1)>>'}}
  %0 = kvcache.reshape %c : !k to memref<?x1024xbf16, affine_map<(d0, d1) -> (d0 floordiv 2, d1)>>
  return
}

// -----

func.func @cache_of_other_stride(%c: !kvcache.cache<?B x 64N x 64D x f32>) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c4: the stride of B is expected to be 1024, got 2048}}
  %0 = kvcache.reshape %c : !kvcache.cache<?B x 64N x 64D x f32> to !kvcache.cache<?B x 16N x 64D x f32, strides = [B = 2048]>
  return
}

// -----

func.func @cache_of_other_multiple(%c: !kvcache.cache<?B x 64N x 64D x f32, strides = [B = ? mult 8]>) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c4: the stride of B is expected to be ? mult 8, got a multiple of 16}}
  %0 = kvcache.reshape %c : !kvcache.cache<?B x 64N x 64D x f32, strides = [B = ? mult 8]> to !kvcache.cache<?B x 64N x 64D x f32, strides = [B = ? mult 16]>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @cache_of_more_alignment(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c4: the alignment is expected to be at most 16, got 32}}
  %0 = kvcache.reshape %c : !k to !kvcache.cache<?B x 16N x 8H x 128D x bf16, align = 32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @other_heads(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c5: the extent of H is expected to be 8, got 4}}
  %0 = kvcache.reshape %c : !k to !kvcache.cache<?B x 16N x 4H x 256D x bf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @other_sides(%c: !kv) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c5: the extent of S is expected to be 2, got 1}}
  %0 = kvcache.reshape %c : !kv to !k
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @known_blocks(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c5: the number of blocks is expected to be '?' in both or in neither, got 4}}
  %0 = kvcache.reshape %c : !k to !kvcache.cache<4B x 16N x 8H x 128D x bf16>
  return
}

// -----

!fixed = !kvcache.cache<4B x 16N x 64D x f32>
func.func @fewer_tokens(%c: !fixed) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c5: the number of tokens is expected to be 64, got 32}}
  %0 = kvcache.reshape %c : !fixed to !kvcache.cache<2B x 16N x 64D x f32>
  return
}

// -----

!read = !kvcache.cache<?B x 16N x 8H x 128D x bf16, access = read>
func.func @memref_of_a_reader(%c: !read) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c6: expected a writable cache, since a memref is writable, got '!kvcache.cache<?B x 16N x 8H x 128D x bf16, access = read>'}}
  %0 = kvcache.reshape %c : !read to memref<?x1024xbf16, strided<[1024, 1], offset: ?>>
  return
}

// -----

// A multiple of what compact means is not compact.

!apart = !kvcache.cache<2S x ?B x 16N x 64D x f32, strides = [S = ? mult 1024]>
!packed = !kvcache.cache<2S x ?B x 8N x 64D x f32>
func.func @sides_apart(%c: !apart) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c4: the stride of S is expected to be ? mult 1024, got one that is compact over B}}
  %0 = kvcache.reshape %c : !apart to !packed
  return
}
