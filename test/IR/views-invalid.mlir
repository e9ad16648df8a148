// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s --verify-diagnostics --split-input-file

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @no_layers(%cache: !kv, %i: index) {
  // expected-error @+1 {{'kvcache.layer' op layer_c1: an axis L is expected, got axes [S, B, N, H, D]}}
  %l = kvcache.layer %cache[%i] : !kv
  return
}

// -----

!cross = !kvcache.cache<32L x 2S x 64B x 16N x 8H x 128D x bf16, order = [B, L, S, N, H, D]>
func.func @past_the_last(%cache: !cross) {
  %i = arith.constant 32 : index
  // expected-error @+1 {{layer_c2: an index from 0 to 31 is expected, got 32}}
  %l = kvcache.layer %cache[%i] : !cross
  return
}

// -----

!cross = !kvcache.cache<32L x 2S x 64B x 16N x 8H x 128D x bf16, order = [B, L, S, N, H, D]>
func.func @constant_blocks(%cache: !cross, %i: index) {
  // expected-error @+1 {{layer_c2: with an index that is checked at run time, the number of blocks is expected to be '?', got 64}}
  %l = kvcache.layer %cache[%i] : !cross
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
func.func @no_side(%cache: !kv) {
  // expected-error @+1 {{'kvcache.side' op side_c1: an axis S is expected, got axes [B, N, H, D]}}
  %l = kvcache.side %cache[0] : !kv
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @storage_type(%cache: !kv) {
  // expected-error @+1 {{storage_c1: the result is expected to be a ranked memref of 'bf16', got 'memref<2x?x16x8x128xf16>'}}
  %m = kvcache.storage %cache : !kv to memref<2x?x16x8x128xf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @storage_names(%cache: !kv) {
  // expected-error @+1 {{storage_c2: the dimensions are expected to be named by [S, B, N, H, D] in some sequence, got [S, S, N, H, D]}}
  %m = kvcache.storage %cache[S, S, N, H, D] : !kv to memref<2x?x16x8x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @storage_rank(%cache: !kv) {
  // expected-error @+1 {{storage_c2: the result is expected to have 5 dimensions [S, B, N, H, D], got 'memref<2x?x16x1024xbf16>'}}
  %m = kvcache.storage %cache : !kv to memref<2x?x16x1024xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @storage_extent(%cache: !kv) {
  // expected-error @+1 {{storage_c3: the extent of N is expected to be 16, got 32}}
  %m = kvcache.storage %cache : !kv to memref<2x?x32x8x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @storage_stride(%cache: !kv) {
  // expected-error @+1 {{storage_c4: the stride of B is expected to be 16384, got 32768}}
  %m = kvcache.storage %cache : !kv to memref<2x?x16x8x128xbf16, strided<[?, 32768, 1024, 128, 1], offset: ?>>
  return
}

// -----

// The reshape that reviewers fear: the memref would be packed, the cache is not.
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = ?]>
func.func @storage_not_packed(%cache: !kv) {
  // expected-error @+1 {{storage_c4: the stride of B is expected to be ?, got 16384}}
  %m = kvcache.storage %cache : !kv to memref<2x?x16x8x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 128D x bf16, strides = [S = ?]>
func.func @storage_identity(%cache: !kv) {
  // expected-error @+1 {{storage_c4: a result without a layout is expected for a compact cache whose dimensions are named in memory order, got 'memref<2x?x16x128xbf16>'}}
  %m = kvcache.storage %cache : !kv to memref<2x?x16x128xbf16>
  return
}

// -----

!a = !kvcache.cache<?B x 16N x 128D x bf16>
!b = !kvcache.cache<?B x 16N x 128D x f16>
func.func @cast_type(%cache: !a) {
  // expected-error @+1 {{cast_c1: axes, order, element type and space are expected to be those of '!kvcache.cache<?B x 16N x 128D x bf16>', got '!kvcache.cache<?B x 16N x 128D x f16>'}}
  %c = kvcache.cast %cache : !a to !b
  return
}

// -----

!a = !kvcache.cache<?B x 16N x 128D x bf16, strides = [B = 4096]>
!b = !kvcache.cache<?B x 16N x 128D x bf16>
func.func @cast_stride(%cache: !a) {
  // expected-error @+1 {{cast_c2: the stride of B is expected to be 4096, got 2048}}
  %c = kvcache.cast %cache : !a to !b
  return
}

// -----

!a = !kvcache.cache<?B x 16N x 128D x bf16, strides = [B = ? mult 4096]>
!b = !kvcache.cache<?B x 16N x 128D x bf16>
func.func @cast_multiple(%cache: !a) {
  // expected-error @+1 {{cast_c2: the stride of B is expected to be a multiple of 4096, got 2048}}
  %c = kvcache.cast %cache : !a to !b
  return
}

// -----

!a = !kvcache.cache<4B x 16N x 128D x bf16>
!b = !kvcache.cache<8B x 16N x 128D x bf16>
func.func @cast_extent(%cache: !a) {
  // expected-error @+1 {{cast_c2: the extent of B is expected to be 4, got 8}}
  %c = kvcache.cast %cache : !a to !b
  return
}

// -----

!a = !kvcache.cache<?B x 16N x 128D x bf16>
func.func @facts_type(%cache: !a) {
  // expected-error @+1 {{has_facts_c1: a cache type is expected, got 'i32'}}
  %c = kvcache.has_facts %cache : !a has i32
  return
}

// -----

!a = !kvcache.cache<4B x 16N x 128D x bf16>
func.func @facts_extent(%cache: !a) {
  // expected-error @+1 {{has_facts_c2: the extent of B is expected to be 4, got 8}}
  %c = kvcache.has_facts %cache : !a has !kvcache.cache<8B x 16N x 128D x bf16>
  return
}

// -----

!a = !kvcache.cache<?B x 16N x 128D x bf16>
func.func @dim_axis(%cache: !a) {
  // expected-error @+1 {{dim_c1: an axis of [B, N, D] is expected, got 'H'}}
  %c = kvcache.dim %cache[H] : !a
  return
}

// -----

!a = !kvcache.cache<?B x 16N x 128D x bf16>
func.func @stride_axis(%cache: !a) {
  // expected-error @+1 {{stride_c1: an axis of [B, N, D] is expected, got 'L'}}
  %c = kvcache.stride %cache[L] : !a
  return
}

// -----

// A layer that uses the cache of another one writes nothing: a checked fact.
!shared = !kvcache.cache<?B x 16N x 128D x bf16, access = read>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
func.func @shared_layer(%cache: !shared, %rows: memref<?x128xbf16>, %at: !slots) {
  // expected-error @+1 {{index_copy_c8: a writable cache is expected, got '!kvcache.cache<?B x 16N x 128D x bf16, access = read>'}}
  kvcache.index_copy %rows into %cache at %at : memref<?x128xbf16> into !shared at !slots
  return
}

// -----

!shared = !kvcache.cache<2S x ?B x 16N x 128D x bf16, access = read>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
func.func @slice_of_shared(%cache: !shared, %rows: memref<?x128xbf16>, %at: !slots) {
  %key = kvcache.side %cache[0] : !shared
  // expected-error @+1 {{index_copy_c8: a writable cache is expected, got '!kvcache.cache<?B x 16N x 128D x bf16, access = read>'}}
  kvcache.index_copy %rows into %key at %at : memref<?x128xbf16> into !kvcache.cache<?B x 16N x 128D x bf16, access = read> at !slots
  return
}

// -----

!shared = !kvcache.cache<?B x 16N x 128D x bf16, access = read>
!own = !kvcache.cache<?B x 16N x 128D x bf16>
func.func @cast_away(%cache: !shared) {
  // expected-error @+1 {{cast_c3: the result is expected to be read-only, like the operand, got '!kvcache.cache<?B x 16N x 128D x bf16>'}}
  %c = kvcache.cast %cache : !shared to !own
  return
}

// -----

!shared = !kvcache.cache<?B x 16N x 128D x bf16, access = read>
func.func @storage_of_shared(%cache: !shared) {
  // expected-error @+1 {{storage_c5: expected a writable cache, since a memref is writable, got '!kvcache.cache<?B x 16N x 128D x bf16, access = read>'}}
  %m = kvcache.storage %cache : !shared to memref<?x16x128xbf16>
  return
}
