// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of heads, side and flatten.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

!mla = !kvcache.cache<?B x 16N x 64D x f32>
func.func @heads_of_no_axis(%c: !mla) {
  // expected-error@+1 {{'kvcache.heads' op heads_c1: an axis H is expected, got axes [B, N, D]}}
  %0 = kvcache.heads %c[0, 1] : !mla
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @no_heads(%c: !kv) {
  // expected-error@+1 {{'kvcache.heads' op heads_c1: some of the heads 0 to 7 are expected, got 0 starting at 0}}
  %0 = kvcache.heads %c[0, 0] : !kv
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @too_many_heads(%c: !kv) {
  // expected-error@+1 {{'kvcache.heads' op heads_c1: some of the heads 0 to 7 are expected, got 5 starting at 4}}
  %0 = kvcache.heads %c[4, 5] : !kv
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @heads_past_the_last(%c: !kv) {
  // expected-error@+1 {{'kvcache.heads' op heads_c1: some of the heads 0 to 7 are expected, got 1 starting at 8}}
  %0 = kvcache.heads %c[8, 1] : !kv
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @negative_first_head(%c: !kv) {
  // expected-error@+1 {{'kvcache.heads' op heads_c1: some of the heads 0 to 7 are expected, got 2 starting at -1}}
  %0 = kvcache.heads %c[-1, 2] : !kv
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @negative_heads(%c: !kv) {
  // expected-error@+1 {{'kvcache.heads' op heads_c1: some of the heads 0 to 7 are expected, got -1 starting at 0}}
  %0 = kvcache.heads %c[0, -1] : !kv
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @most_heads(%c: !kv) {
  // expected-error@+1 {{'kvcache.heads' op heads_c1: some of the heads 0 to 7 are expected, got 9223372036854775807 starting at 1}}
  %0 = kvcache.heads %c[1, 9223372036854775807] : !kv
  return
}

// -----

func.func @split_heads(%c: !kvcache.cache<?B x 16N x 2H.o x 4H.i x 64D x f32>) {
  // expected-error@+1 {{'kvcache.heads' op heads_c1: an axis H is expected, got axes [B, N, H.o, H.i, D]}}
  %0 = kvcache.heads %c[0, 1] : !kvcache.cache<?B x 16N x 2H.o x 4H.i x 64D x f32>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @a_third_side(%c: !kv) {
  // expected-error@+1 {{'kvcache.side' op side_c1: the index of S is expected to be nonnegative and below 2, got 2}}
  %0 = kvcache.side %c[2] : !kv
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @a_negative_side(%c: !kv) {
  // expected-error@+1 {{'kvcache.side' op side_c1: the index of S is expected to be nonnegative and below 2, got -1}}
  %0 = kvcache.side %c[-1] : !kv
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @most_sides(%c: !kv) {
  // expected-error@+1 {{'kvcache.side' op side_c1: the index of S is expected to be nonnegative and below 2, got 9223372036854775807}}
  %0 = kvcache.side %c[9223372036854775807] : !kv
  return
}

// -----

!cross = !kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16>
func.func @flatten_layers(%c: !cross) {
  // expected-error@+1 {{'kvcache.flatten' op flatten_c1: a cache without layers and sides is expected, got axes [L, S, B, N, H, D]; use 'layer' and 'side' to slice it}}
  %0 = kvcache.flatten %c : !cross
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @flatten_sides(%c: !kv) {
  // expected-error@+1 {{'kvcache.flatten' op flatten_c1: a cache without layers and sides is expected, got axes [S, B, N, H, D]; use 'layer' and 'side' to slice it}}
  %0 = kvcache.flatten %c : !kv
  return
}

// -----

!hnd = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = hnd>
func.func @flatten_heads_before_tokens(%c: !hnd) {
  // expected-error@+1 {{'kvcache.flatten' op flatten_c2: stride(B) = N * stride(N) is expected, but an extent of ? spans axes with a gap between them; B is not packed over N: the stride of B is 16384, expected 16 * 128; 'kvcache.relayout' makes a copy, and 'index_copy' writes rows by slot number whatever the strides are}}
  %0 = kvcache.flatten %c : !hnd
  return
}

// -----

func.func @flatten_blocks_apart(%c: !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ? mult 8]>) {
  // expected-error@+1 {{'kvcache.flatten' op flatten_c2: stride(B) = N * stride(N) is expected, but an extent of ? spans axes with a gap between them; B is not packed over N: the stride of B is known only at run time, expected 16 * 64; 'kvcache.relayout' makes a copy, and 'index_copy' writes rows by slot number whatever the strides are}}
  %0 = kvcache.flatten %c : !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ? mult 8]>
  return
}

// -----

func.func @flatten_blocks_at_a_distance(%c: !kvcache.cache<?B x 16N x 64D x f32, strides = [B = 4096]>) {
  // expected-error@+1 {{'kvcache.flatten' op flatten_c2: stride(B) = N * stride(N) is expected, but an extent of ? spans axes with a gap between them; B is not packed over N: the stride of B is 4096, expected 16 * 64; 'kvcache.relayout' makes a copy, and 'index_copy' writes rows by slot number whatever the strides are}}
  %0 = kvcache.flatten %c : !kvcache.cache<?B x 16N x 64D x f32, strides = [B = 4096]>
  return
}

// -----

func.func @flatten_too_many(%c: !kvcache.cache<1099511627776B x 2N x 1D x f32>) {
  // expected-error@+1 {{'kvcache.flatten' op flatten_c2: at most 2^40 slots are expected, got 1099511627776 times 2}}
  %0 = kvcache.flatten %c : !kvcache.cache<1099511627776B x 2N x 1D x f32>
  return
}

// -----

!read = !kvcache.cache<?B x 16N x 8H x 128D x bf16, access = read>
func.func @flatten_of_a_reader(%c: !read) {
  // expected-error@+1 {{'kvcache.flatten' op flatten_c3: expected a writable cache, since a memref is writable, got access = read}}
  %0 = kvcache.flatten %c : !read
  return
}
