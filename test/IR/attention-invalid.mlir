// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of attention: caches, query and output.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @one_side(%q: memref<?x32x128xbf16>, %c0: !k, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c1: one cache with two sides, or two caches without sides are expected, got 1 caches, '!kvcache.cache<?B x 16N x 8H x 128D x bf16>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x32x128xbf16> over !k in !batch into memref<?x32x128xbf16>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @a_side_axis_of_one(%q: memref<?x32x128xbf16>, %c0: !kvcache.cache<1S x ?B x 16N x 8H x 128D x bf16>, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c1: one cache with two sides, or two caches without sides are expected, got 1 caches, '!kvcache.cache<1S x ?B x 16N x 8H x 128D x bf16>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x32x128xbf16> over !kvcache.cache<1S x ?B x 16N x 8H x 128D x bf16> in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @two_sides_twice(%q: memref<?x32x128xbf16>, %c0: !kv, %c1: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c1: one cache with two sides, or two caches without sides are expected, got 2 caches, '!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>', '!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>'}}
  kvcache.attention %q over %c0, %c1 in %b into %o0
    : memref<?x32x128xbf16> over !kv, !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @three_caches(%q: memref<?x32x128xbf16>, %c0: !k, %c1: !k, %c2: !k, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c1: one cache with two sides, or two caches without sides are expected, got 3 caches, '!kvcache.cache<?B x 16N x 8H x 128D x bf16>', '!kvcache.cache<?B x 16N x 8H x 128D x bf16>', '!kvcache.cache<?B x 16N x 8H x 128D x bf16>'}}
  kvcache.attention %q over %c0, %c1, %c2 in %b into %o0
    : memref<?x32x128xbf16> over !k, !k, !k in !batch into memref<?x32x128xbf16>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @layers(%q: memref<?x32x128xbf16>, %c0: !kvcache.cache<2L x 2S x ?B x 16N x 8H x 128D x bf16>, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c2: caches are expected to be one layer, got '!kvcache.cache<2L x 2S x ?B x 16N x 8H x 128D x bf16>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x32x128xbf16> over !kvcache.cache<2L x 2S x ?B x 16N x 8H x 128D x bf16> in !batch into memref<?x32x128xbf16>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @layers_of_values(%q: memref<?x32x128xbf16>, %c0: !k, %c1: !kvcache.cache<?L x ?B x 16N x 8H x 128D x bf16>, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c2: caches are expected to be one layer, got '!kvcache.cache<?L x ?B x 16N x 8H x 128D x bf16>'}}
  kvcache.attention %q over %c0, %c1 in %b into %o0
    : memref<?x32x128xbf16> over !k, !kvcache.cache<?L x ?B x 16N x 8H x 128D x bf16> in !batch into memref<?x32x128xbf16>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @other_heads(%q: memref<?x32x128xbf16>, %c0: !k, %c1: !kvcache.cache<?B x 16N x 4H x 128D x bf16>, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c2: values with 8 heads are expected, as in the keys, got 4}}
  kvcache.attention %q over %c0, %c1 in %b into %o0
    : memref<?x32x128xbf16> over !k, !kvcache.cache<?B x 16N x 4H x 128D x bf16> in !batch into memref<?x32x128xbf16>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @other_tokens(%q: memref<?x32x128xbf16>, %c0: !k, %c1: !kvcache.cache<?B x 32N x 8H x 128D x bf16>, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c2: values with 16 tokens in a block are expected, as in the keys, got 32}}
  kvcache.attention %q over %c0, %c1 in %b into %o0
    : memref<?x32x128xbf16> over !k, !kvcache.cache<?B x 32N x 8H x 128D x bf16> in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @query_is_a_matrix(%q: memref<?x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c3: the query is expected to be [T, heads, 128] with a constant number of heads, got 'memref<?x128xbf16>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @query_is_a_number(%q: memref<bf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c3: the query is expected to be [T, heads, 128] with a constant number of heads, got 'memref<bf16>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<bf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @query_of_other_channels(%q: memref<?x32x64xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c3: the query is expected to be [T, heads, 128] with a constant number of heads, got 'memref<?x32x64xbf16>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x32x64xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @query_of_unknown_channels(%q: memref<?x32x?xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c3: the query is expected to be [T, heads, 128] with a constant number of heads, got 'memref<?x32x?xbf16>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x32x?xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @query_of_unknown_heads(%q: memref<?x?x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c3: the query is expected to be [T, heads, 128] with a constant number of heads, got 'memref<?x?x128xbf16>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x?x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @no_heads(%q: memref<?x0x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x0x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c4: the number of query heads is expected to be a multiple of 8, got 0}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x0x128xbf16> over !kv in !batch into memref<?x0x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @no_multiple_of_heads(%q: memref<?x12x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x12x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c4: the number of query heads is expected to be a multiple of 8, got 12}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x12x128xbf16> over !kv in !batch into memref<?x12x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @most_heads(%q: memref<?x1099511627775x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c4: the number of query heads is expected to be a multiple of 8, got 1099511627775}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x1099511627775x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @three_destinations(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>, %o1: memref<?x32xf32>, %o2: memref<?x32xf32>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c5: one or two destinations are expected, got 3}}
  kvcache.attention %q over %c0 in %b into %o0, %o1, %o2
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>, memref<?x32xf32>, memref<?x32xf32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!v = !kvcache.cache<?B x 16N x 8H x 64D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @output_of_the_channels_of_keys(%q: memref<?x32x128xbf16>, %c0: !k, %c1: !v, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c5: the first destination is expected to be ?x32x64xbf16, got 'memref<?x32x128xbf16>'}}
  kvcache.attention %q over %c0, %c1 in %b into %o0
    : memref<?x32x128xbf16> over !k, !v in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @output_of_other_heads(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x8x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c5: the first destination is expected to be ?x32x128xbf16, got 'memref<?x8x128xbf16>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x8x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @output_of_other_rows(%q: memref<4x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<8x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c5: the first destination is expected to be 4x32x128xbf16, got 'memref<8x32x128xbf16>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<4x32x128xbf16> over !kv in !batch into memref<8x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @lse_of_other_type(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>, %o1: memref<?x32xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c5: the second destination is expected to be ?x32xf32, got 'memref<?x32xbf16>'}}
  kvcache.attention %q over %c0 in %b into %o0, %o1
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>, memref<?x32xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @lse_of_other_shape(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>, %o1: memref<32x?xf32>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c5: the second destination is expected to be ?x32xf32, got 'memref<32x?xf32>'}}
  kvcache.attention %q over %c0 in %b into %o0, %o1
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>, memref<32x?xf32>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @query_of_other_type(%q: memref<?x32x128xf64>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c6: the query is expected to be of f16, bf16 or f32, got 'memref<?x32x128xf64>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x32x128xf64> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @query_of_bytes(%q: memref<?x32x128xf8E5M2>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c6: the query is expected to be of f16, bf16 or f32, got 'memref<?x32x128xf8E5M2>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x32x128xf8E5M2> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @output_of_integers(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xi32>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c6: the output is expected to be of f16, bf16 or f32, got 'memref<?x32x128xi32>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xi32>
  return
}
