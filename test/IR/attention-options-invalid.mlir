// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of attention: options and forms.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @batch_of_other_blocks(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !kvcache.batch<?R x ?M x i32, tokens = 32>, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c7: a batch with blocks of 16 tokens is expected, as in the cache, got 32}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x32x128xbf16> over !kv in !kvcache.batch<?R x ?M x i32, tokens = 32> into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @alibi_of_other_heads(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %a: memref<8xf32>, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c8: alibi slopes are expected to be 32xf32, got 'memref<8xf32>'}}
  kvcache.attention %q over %c0 in %b alibi(%a : memref<8xf32>) into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @alibi_of_unknown_heads(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %a: memref<?xf32>, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c8: alibi slopes are expected to be 32xf32, got 'memref<?xf32>'}}
  kvcache.attention %q over %c0 in %b alibi(%a : memref<?xf32>) into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @sinks_of_other_type(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %s: memref<32xf16>, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c8: sinks are expected to be 32xf32, got 'memref<32xf16>'}}
  kvcache.attention %q over %c0 in %b sinks(%s : memref<32xf16>) into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @sinks_are_a_number(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %s: memref<f32>, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c8: sinks are expected to be 32xf32, got 'memref<f32>'}}
  kvcache.attention %q over %c0 in %b sinks(%s : memref<f32>) into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @empty_window(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c9: the window is expected to be at least 1, got 0}}
  kvcache.attention %q over %c0 in %b into %o0 window 0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @negative_window(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c9: the window is expected to be at least 1, got -1}}
  kvcache.attention %q over %c0 in %b into %o0 window -1
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @softcap_zero(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c9: softcap is expected to be a positive number, got 0.000000e+00 : f32}}
  kvcache.attention %q over %c0 in %b into %o0 softcap 0.0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @softcap_negative(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c9: softcap is expected to be a positive number, got -1.000000e+00 : f32}}
  kvcache.attention %q over %c0 in %b into %o0 softcap -1.0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @softcap_infinite(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c9: softcap is expected to be a positive number, got 0x7F800000 : f32}}
  kvcache.attention %q over %c0 in %b into %o0 softcap 0x7F800000
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @softcap_no_number(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c9: softcap is expected to be a positive number, got 0x7FC00000 : f32}}
  kvcache.attention %q over %c0 in %b into %o0 softcap 0x7FC00000
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @scale_infinite(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c9: scale is expected to be finite, got 0xFF800000 : f32}}
  kvcache.attention %q over %c0 in %b into %o0 scale 0xFF800000
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @scale_no_number(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c9: scale is expected to be finite, got 0x7FC00000 : f32}}
  kvcache.attention %q over %c0 in %b into %o0 scale 0x7FC00000
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @query_with_gaps(%q: memref<?x32x128xbf16, strided<[8192, 256, 2]>>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c10: a stride of 1 in the last dimension is expected, got 'memref<?x32x128xbf16, strided<[8192, 256, 2]>>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x32x128xbf16, strided<[8192, 256, 2]>> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @output_with_gaps(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16, strided<[4096, 1, 32]>>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c10: contiguous inner dimensions are expected, got 'memref<?x32x128xbf16, strided<[4096, 1, 32]>>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16, strided<[4096, 1, 32]>>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @sinks_in_space(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %s: memref<32xf32, 1>, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c10: a memref in the default memory space is expected, got 'memref<32xf32, 1>'}}
  kvcache.attention %q over %c0 in %b sinks(%s : memref<32xf32, 1>) into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @alibi_apart(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %a: memref<32xf32, strided<[2]>>, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c10: contiguous inner dimensions are expected, got 'memref<32xf32, strided<[2]>>'}}
  kvcache.attention %q over %c0 in %b alibi(%a : memref<32xf32, strided<[2]>>) into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @query_of_another_form(%q: tensor<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c11: buffers are expected to be all tensors or all memrefs, got 'tensor<?x32x128xbf16>' and 'memref<?x32x128xbf16>'}}
  kvcache.attention %q over %c0 in %b into %o0
    : tensor<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @lse_of_another_form(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>, %o1: tensor<?x32xf32>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c11: buffers are expected to be all tensors or all memrefs, got 'tensor<?x32xf32>' and 'memref<?x32x128xbf16>'}}
  %0 = kvcache.attention %q over %c0 in %b into %o0, %o1
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>, tensor<?x32xf32>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @cache_of_another_form(%q: memref<?x32x128xbf16>, %c0: tensor<2x?x16x8x128xbf16>, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c11: buffers are expected to be all tensors or all memrefs, got 'tensor<2x?x16x8x128xbf16>' and 'memref<?x32x128xbf16>'}}
  kvcache.attention %q over %c0[S, B, N, H, D] in %b into %o0
    : memref<?x32x128xbf16> over tensor<2x?x16x8x128xbf16> in !batch into memref<?x32x128xbf16>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @names_are_missing(%q: tensor<?x32x128xbf16>, %c0: tensor<2x?x16x8x128xbf16>, %b: !batch, %o0: tensor<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c12: names for the 5 dimensions of tensor<2x?x16x8x128xbf16> are expected, got 0}}
  %0 = kvcache.attention %q over %c0 in %b into %o0
    : tensor<?x32x128xbf16> over tensor<2x?x16x8x128xbf16> in !batch into tensor<?x32x128xbf16>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @a_name_is_missing(%q: tensor<?x32x128xbf16>, %c0: tensor<2x?x16x8x128xbf16>, %b: !batch, %o0: tensor<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c12: names for the 5 dimensions of tensor<2x?x16x8x128xbf16> are expected, got 4}}
  %0 = kvcache.attention %q over %c0[S, B, N, H] in %b into %o0
    : tensor<?x32x128xbf16> over tensor<2x?x16x8x128xbf16> in !batch into tensor<?x32x128xbf16>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @only_keys_have_names(%q: tensor<?x32x128xbf16>, %c0: tensor<?x16x8x128xbf16>, %c1: tensor<?x16x8x128xbf16>, %b: !batch, %o0: tensor<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c12: names for the 4 dimensions of tensor<?x16x8x128xbf16> are expected, got 0}}
  %0 = kvcache.attention %q over %c0[B, N, H, D], %c1 in %b into %o0
    : tensor<?x32x128xbf16> over tensor<?x16x8x128xbf16>, tensor<?x16x8x128xbf16> in !batch into tensor<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @names_of_a_reference(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c12: no dimension names are expected for a reference, whose type has them, got ["S", "B", "N", "H", "D"]}}
  kvcache.attention %q over %c0[S, B, N, H, D] in %b into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @causal_with_a_right_side(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op attention_c9: 'causal' or 'window_right' is expected, got both}}
  kvcache.attention %q over %c0 in %b into %q causal window_right 2
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @right_side_below_0(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op attention_c9: 'window_right' is expected to be from 0 to 2^40, got -1}}
  kvcache.attention %q over %c0 in %b into %q window_right -1
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @right_side_too_far(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op attention_c9: 'window_right' is expected to be from 0 to 2^40, got 1099511627777}}
  kvcache.attention %q over %c0 in %b into %q window_right 1099511627777
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @heads_first_of_no_lse(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op attention_c5: a second destination is expected with 'heads_first', got none}}
  kvcache.attention %q over %c0 in %b into %q heads_first
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @heads_are_not_first(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %l: memref<?x32xf32>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c5: the second destination is expected to be 32x?xf32, got 'memref<?x32xf32>'}}
  kvcache.attention %q over %c0 in %b into %q, %l heads_first
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>, memref<?x32xf32>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @heads_of_the_output_apart(%q: memref<?x32x128xbf16, strided<[?, ?, 1]>>, %c0: !kv, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op attention_c10: contiguous inner dimensions are expected, got 'memref<?x32x128xbf16, strided<[?, ?, 1]>>'}}
  kvcache.attention %q over %c0 in %b into %q
    : memref<?x32x128xbf16, strided<[?, ?, 1]>> over !kv in !batch into memref<?x32x128xbf16, strided<[?, ?, 1]>>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @mask_of_i64(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %m: memref<?x?xi64>, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c13: the mask is expected to be ?x?xi32, got 'memref<?x?xi64>'}}
  kvcache.attention %q over %c0 in %b mask(%m : memref<?x?xi64>) into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @mask_of_one_dimension(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %m: memref<?xi32>, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c13: the mask is expected to be ?x?xi32, got 'memref<?xi32>'}}
  kvcache.attention %q over %c0 in %b mask(%m : memref<?xi32>) into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @mask_of_other_rows(%q: memref<4x32x128xbf16>, %c0: !kv, %b: !batch, %m: memref<5x1xi32>, %o0: memref<4x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c13: the mask is expected to be 4x?xi32, got 'memref<5x1xi32>'}}
  kvcache.attention %q over %c0 in %b mask(%m : memref<5x1xi32>) into %o0
    : memref<4x32x128xbf16> over !kv in !batch into memref<4x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @mask_words_apart(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %m: memref<?x2xi32, strided<[4, 2]>>, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c10: contiguous inner dimensions are expected, got 'memref<?x2xi32, strided<[4, 2]>>'}}
  kvcache.attention %q over %c0 in %b mask(%m : memref<?x2xi32, strided<[4, 2]>>) into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @mask_elsewhere(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %m: memref<?x2xi32, 3>, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c10: a memref in the default memory space is expected, got 'memref<?x2xi32, 3>'}}
  kvcache.attention %q over %c0 in %b mask(%m : memref<?x2xi32, 3>) into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @mask_in_other_form(%q: memref<?x32x128xbf16>, %c0: !kv, %b: !batch, %m: tensor<?x?xi32>, %o0: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c11: buffers are expected to be all tensors or all memrefs, got 'tensor<?x?xi32>' and 'memref<?x32x128xbf16>'}}
  kvcache.attention %q over %c0 in %b mask(%m : tensor<?x?xi32>) into %o0
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @groups_of_prefixes_of_other_type(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch, %g: memref<?xi16>, %n: memref<?xi32>, %o: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c14: groups of prefixes are expected to be 1-D, of i32 or i64, got 'memref<?xi16>'}}
  kvcache.attention %q over %c in %b prefixes(%g, %n : memref<?xi16>, memref<?xi32>) into %o
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @lengths_of_prefixes_in_a_table(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch, %g: memref<?xi32>, %n: memref<?x1xi64>, %o: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c14: lengths of prefixes are expected to be 1-D, of i32 or i64, got 'memref<?x1xi64>'}}
  kvcache.attention %q over %c in %b prefixes(%g, %n : memref<?xi32>, memref<?x1xi64>) into %o
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @as_many_groups_as_lengths(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch, %g: memref<3xi32>, %n: memref<3xi32>, %o: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c14: 4 groups are expected, one more than lengths, got 3}}
  kvcache.attention %q over %c in %b prefixes(%g, %n : memref<3xi32>, memref<3xi32>) into %o
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @groups_with_gaps(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch, %g: memref<?xi32, strided<[2]>>, %n: memref<?xi32>, %o: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c14: a contiguous memref is expected, got 'memref<?xi32, strided<[2]>>'}}
  kvcache.attention %q over %c in %b prefixes(%g, %n : memref<?xi32, strided<[2]>>, memref<?xi32>) into %o
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @prefixes_in_other_form(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch, %g: tensor<?xi32>, %n: tensor<?xi32>, %o: memref<?x32x128xbf16>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c11: buffers are expected to be all tensors or all memrefs, got 'tensor<?xi32>' and 'memref<?x32x128xbf16>'}}
  kvcache.attention %q over %c in %b prefixes(%g, %n : tensor<?xi32>, tensor<?xi32>) into %o
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}
