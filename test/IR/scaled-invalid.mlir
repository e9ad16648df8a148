// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

// expected-error@+1 {{scaled_c1: stored values are expected to be i8 or floats of 8 bits, got 'bf16'}}
func.func private @wide(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<bf16 x f32, per = [S, B, N, H]>>)

// -----

// expected-error@+1 {{scaled_c1: stored values are expected to be i8 or floats of 8 bits, got 'i32'}}
func.func private @integers(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i32 x f32, per = [S, B, N, H]>>)

// -----

// expected-error@+1 {{scaled_c1: stored values are expected to be i8 or floats of 8 bits, got '!kvcache.stored<i8>'}}
func.func private @twice(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<!kvcache.stored<i8> x f32, per = [S, B, N, H]>>)

// -----

// expected-error@+1 {{scaled_c1: scales are expected to be f32, got 'f16'}}
func.func private @small_scales(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f16, per = [S, B, N, H]>>)

// -----

// expected-error@+1 {{scaled_c2: axes are expected once each, in the sequence L S B N H D, got B after N}}
func.func private @sequence(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, N, B, H]>>)

// -----

// expected-error@+1 {{scaled_c2: axes are expected once each, in the sequence L S B N H D, got B after B}}
func.func private @again(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, B, N]>>)

// -----

// expected-error@+1 {{scaled_c2: groups of D, of 1 to 2^40 channels, are expected, got H / 2}}
func.func private @groups_of_heads(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N, H / 2]>>)

// -----

// expected-error@+1 {{scaled_c2: groups of D, of 1 to 2^40 channels, are expected, got D / 0}}
func.func private @no_group(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N, D / 0]>>)

// -----

// A row that is written later may need a larger scale than its block has.
// expected-error@+1 {{scaled_c3: scales per B and N, or neither, are expected, got none per N}}
func.func private @per_block(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, H]>>)

// -----

// expected-error@+1 {{scaled_c3: scales per B and N, or neither, are expected, got none per B}}
func.func private @per_token_of_all_blocks(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, N, H]>>)

// -----

// expected-error@+1 {{expected 'strides' before a list of facts}}
func.func private @other_word(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, scale = [S]>>)

// -----

// The row of a value would overwrite the scale of its key.
// expected-error@+1 {{cache_c5: scales per S are expected where tokens have their own, got one for all}}
func.func private @one_for_both_sides(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [B, N, H]>>)

// -----

// expected-error@+1 {{cache_c5: a constant number of layers is expected for scales per L that all blocks share, got ?}}
func.func private @layers(!kvcache.cache<?L x 2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [L, S]>>)

// -----

// What all share has no stride.
// expected-error@+1 {{cache_c5: strides of axes that have scales of their own are expected, got S}}
func.func private @stride_of_a_shared_side(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [H], strides = [S = 8]>>)

// -----

// expected-error@+1 {{scaled_c4: a stride between 1 and 2^40 is expected, got 0 for H}}
func.func private @no_stride(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N, H], strides = [H = 0]>>)

// -----

// expected-error@+1 {{scaled_c4: a stride of each axis is expected once, got that of H twice}}
func.func private @two_strides(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N, H], strides = [H = 2, H = 3]>>)

// -----

// expected-error@+1 {{expected a whole axis, got 'D.i'}}
func.func private @part_of_an_axis(!kvcache.cache<2S x ?B x 16N x 8H x 16D.o x 8D.i x !kvcache.scaled<i8 x f32, per = [S, B, N, D.i]>>)

// -----

// expected-error@+1 {{cache_c5: scales per axis of the cache are expected, got L}}
func.func private @no_layers(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [L, S, B, N, H]>>)

// -----

// expected-error@+1 {{cache_c5: a group that divides 128 channels is expected, got 48}}
func.func private @group_too_large(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N, D / 48]>>)

// -----

// expected-error@+1 {{cache_c5: strides of axes that have scales of their own are expected, got H}}
func.func private @stride_of_shared(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N], strides = [H = 2]>>)

// -----

// expected-error@+1 {{cache_c5: layout_c5: the stride of N is expected to be at least 8, the span of the faster axes, got 4}}
func.func private @overlap(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N, H], strides = [N = 4]>>)

// -----

// expected-error@+1 {{stored_c1: stored values are expected to be i8 or floats of 8 bits, got 'f32'}}
func.func private @stored(!kvcache.cache<?B x 16N x 64D x !kvcache.stored<f32>>)

// -----

!kv = !kvcache.cache<?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>>
func.func @view(%m: memref<?x16x64xi8>) {
  // expected-error@+1 {{view_c10: a cache without scales is expected, got '!kvcache.cache<?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>>'; 'kvcache.with_scales' makes one that has}}
  %c = kvcache.view %m : memref<?x16x64xi8> to !kv
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>>
func.func @storage(%c: !kv) {
  // expected-error@+1 {{storage_c6: a cache without scales is expected, got '!kvcache.cache<?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>>'; 'kvcache.stored' and 'kvcache.scales' are its parts}}
  %m = kvcache.storage %c : !kv to memref<?x16x64xi8>
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>>
func.func @reshape(%c: !kv) {
  // expected-error@+1 {{reshape_c7: a cache without scales is expected, got '!kvcache.cache<?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>>'; 'kvcache.stored' and 'kvcache.scales' are its parts}}
  %m = kvcache.reshape %c[B, N, D] : !kv to memref<?x64xi8, strided<[64, 1], offset: ?>>
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>>
!fine = !kvcache.cache<?B x 8N x 64D x !kvcache.scaled<i8 x f32, per = [B, N, D / 32]>>
func.func @reshape_of_another_format(%c: !kv) {
  // expected-error@+1 {{reshape_c1: element type, space and access are expected to be those of '!kvcache.cache<?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>>', got}}
  %m = kvcache.reshape %c : !kv to !fine
  return
}

// -----

// The stored values would be a view, the scales are not.
!kv = !kvcache.cache<?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [B, N], strides = [B = 32]>>
!fine = !kvcache.cache<?B x 8N x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>>
func.func @reshape_of_scales(%c: !kv) {
  // expected-error@+1 {{reshape_c3: a reshape that is a view is expected, but}}
  %m = kvcache.reshape %c : !kv to !fine
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>>
func.func @flatten(%c: !kv) {
  // expected-error@+1 {{flatten_c4: a cache without scales is expected, got some; 'kvcache.stored' and 'kvcache.scales' are its parts}}
  %m = kvcache.flatten %c : !kv
  return
}

// -----

!plain = !kvcache.cache<?B x 16N x 64D x f8E4M3FN>
!scales = !kvcache.cache<?B x 16N x 1D x f32, align = 4>
func.func @with_scales_of_nothing(%c: !plain, %s: !scales) {
  // expected-error@+1 {{with_scales_c1: a cache with scales is expected, got '!kvcache.cache<?B x 16N x 64D x f8E4M3FN>'}}
  %m = kvcache.with_scales %c, %s : !plain, !scales to !plain
  return
}

// -----

!kv = !kvcache.cache<?B x 16N x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>>
!stored = !kvcache.cache<?B x 16N x 64D x !kvcache.stored<i8>>
!scales = !kvcache.cache<?B x 16N x 2D x f32, align = 4>
func.func @with_other_scales(%c: !stored, %s: !scales) {
  // expected-error@+1 {{with_scales_c2: scales are expected to be '!kvcache.cache<?B x 16N x 1D x f32, align = 4>', got '!kvcache.cache<?B x 16N x 2D x f32, align = 4>'}}
  %m = kvcache.with_scales %c, %s : !stored, !scales to !kv
  return
}

// -----

!plain = !kvcache.cache<?B x 16N x 64D x f8E4M3FN>
func.func @stored_of_plain(%c: !plain) {
  // expected-error@+1 {{stored_c2: a cache with scales is expected, got}}
  %m = kvcache.stored %c : !plain
  return
}

// -----

!plain = !kvcache.cache<?B x 16N x 64D x f8E4M3FN>
func.func @scales_of_plain(%c: !plain) {
  // expected-error@+1 {{scales_c1: a cache with scales is expected, got}}
  %m = kvcache.scales %c : !plain
  return
}

// -----

!stored = !kvcache.cache<?B x 16N x 64D x !kvcache.stored<i8>>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @bits_without_scales(%c: !stored, %s: !slots, %r: memref<?x64xf32>) {
  // expected-error@+1 {{index_copy_c10: a cache of scales is expected beside stored values, got none of '!kvcache.cache<?B x 16N x 64D x !kvcache.stored<i8>>'}}
  kvcache.index_copy %r into %c at %s : memref<?x64xf32> into !stored at !slots
  return
}

// -----

!plain = !kvcache.cache<?B x 16N x 64D x f8E4M3FN>
!scales = !kvcache.cache<?B x 16N x 1D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @scales_of_a_plain_cache(%c: !plain, %o: !scales, %s: !slots, %r: memref<?x64xf32>) {
  // expected-error@+1 {{index_copy_c10: a cache of scales is expected only beside stored values, got one of '!kvcache.cache<?B x 16N x 64D x f8E4M3FN>'}}
  kvcache.index_copy %r into %c scales(%o : !scales) at %s : memref<?x64xf32> into !plain at !slots
  return
}

// -----

!stored = !kvcache.cache<?B x 16N x 64D x !kvcache.stored<i8>>
!scales = !kvcache.cache<?B x 16N x 1D x f32, access = read>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @scales_to_read(%c: !stored, %o: !scales, %s: !slots, %r: memref<?x64xf32>) {
  // expected-error@+1 {{index_copy_c10: writable scales, or read-only ones of one block and token, are expected, got '!kvcache.cache<?B x 16N x 1D x f32, access = read>'}}
  kvcache.index_copy %r into %c scales(%o : !scales) at %s : memref<?x64xf32> into !stored at !slots
  return
}

// -----

!stored = !kvcache.cache<?B x 16N x 64D x !kvcache.stored<i8>>
!scales = !kvcache.cache<?B x 16N x 1D x f16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @half_scales(%c: !stored, %o: !scales, %s: !slots, %r: memref<?x64xf32>) {
  // expected-error@+1 {{gather_c8: scales are expected to be f32, got}}
  kvcache.gather %c scales(%o : !scales) at %s into %r : !stored at !slots into memref<?x64xf32>
  return
}

// -----

!stored = !kvcache.cache<?B x 16N x 64D x !kvcache.stored<i8>>
!scales = !kvcache.cache<?B x 8N x 1D x f32>
func.func @scales_of_other_blocks(%c: !stored, %o: !scales, %b: memref<?xi64>, %r: memref<?x64xf32>) {
  // expected-error@+1 {{scatter_c10: scales are expected to have the axes of '!kvcache.cache<?B x 16N x 64D x !kvcache.stored<i8>>', with the same extents or 1, of D a divisor, got N of '!kvcache.cache<?B x 8N x 1D x f32>'}}
  kvcache.scatter %r into %c scales(%o : !scales) at %b, %b pad = none
    : memref<?x64xf32> into !stored at memref<?xi64>, memref<?xi64>
  return
}

// -----

!stored = !kvcache.cache<?B x 16N x 64D x !kvcache.stored<i8>>
!plain = !kvcache.cache<?B x 16N x 64D x bf16>
!scales = !kvcache.cache<?B x 16N x 1D x f32, space = host>
func.func @scales_elsewhere(%c: !stored, %o: !scales, %p: !plain) {
  // expected-error@+1 {{relayout_c5: scales are expected in the space of '!kvcache.cache<?B x 16N x 64D x !kvcache.stored<i8>>', got}}
  kvcache.relayout %c source_scales(%o : !scales) into %p : !stored into !plain
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N, H, D / 64]>>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @attention_of_groups(%c: !kv, %b: !batch, %q: memref<?x8x128xbf16>) {
  // expected-error@+1 {{attention_c15: one scale for the channels of a token and a head is expected, got 2}}
  kvcache.attention %q over %c in %b into %q : memref<?x8x128xbf16> over !kv in !batch into memref<?x8x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!scales = !kvcache.cache<2S x ?B x 16N x 8H x 1D x f32>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @attention_with_more_scales(%c: !kv, %s: !scales, %b: !batch, %q: memref<?x8x128xbf16>) {
  // expected-error@+1 {{attention_c15: a cache of scales is expected for each of 0 caches of stored values, got 1}}
  kvcache.attention %q over %c scales(%s : !scales) in %b into %q : memref<?x8x128xbf16> over !kv in !batch into memref<?x8x128xbf16>
  return
}

// -----

func.func @nearest_of_unknown(%scales: !kvcache.cache<?L x 1B x 1N x 1D x f32>, %l: index) {
  // expected-error@+1 {{layer_c3: 'nearest' is expected of a constant number of layers, got ?}}
  %s = kvcache.layer %scales[%l] nearest : !kvcache.cache<?L x 1B x 1N x 1D x f32>
  return
}

// -----

// Four of eight heads do not tell the scale that all of them share.
!kv = !kvcache.cache<?B x 16N x 8H x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>>
!some = !kvcache.cache<?B x 16N x 4H x 64D x !kvcache.scaled<i8 x f32, per = [B, N]>, strides = [N = 512], access = read>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @some_heads(%c: !kv, %s: !slots, %r: memref<?x4x64xf32>) {
  %some = kvcache.heads %c[4, 4] : !kv
  // expected-error@+1 {{index_copy_c8: a writable cache is expected, got}}
  kvcache.index_copy %r into %some at %s : memref<?x4x64xf32> into !some at !slots
  return
}
