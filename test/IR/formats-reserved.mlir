// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The spellings that docs/formats.md plans for contents with scales and for
// latents. Each is an error until it means what is written there, so that no
// program can use it for something else.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

// Says nothing of what the integers mean: it stays an error.

// expected-error@+1 {{cache_c1: the element type is expected to be f16, bf16, f32, f8E4M3FN or f8E5M2, got 'i8'}}
func.func private @bare_integers(!kvcache.cache<2S x ?B x 16N x 8H x 128D x i8>)

// -----

// expected-error@+1 {{cache_c1: the element type is expected to be f16, bf16, f32, f8E4M3FN or f8E5M2, got 'f4E2M1FN'}}
func.func private @less_than_a_byte(!kvcache.cache<2S x ?B x 16N x 8H x 128D x f4E2M1FN>)

// -----

// Formats with scales: zero points.

// expected-error@+1 {{expected 'strides' before a list of facts}}
func.func private @zero_points(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N, H], zero = i8>>)

// -----

// Latents: the value of a row is its first channels; rows of two formats.

// expected-error@+1 {{expected 'order', 'strides', 'align', 'space' or 'access', got 'value'}}
func.func private @latent(!kvcache.cache<?B x 64N x 576D x bf16, value = 512>)

// -----

// expected-error@+1 {{unknown  type `parts` in dialect `kvcache`}}
func.func private @latent_of_two_formats(!kvcache.cache<?B x 64N x 576D x !kvcache.parts<512 x !kvcache.scaled<f8E4M3FN x f32, per = [B, N, D / 128]>, 64 x bf16>, value = 512>)

// -----

// What was not chosen stays free, too.

// expected-error@+1 {{expected 'order', 'strides', 'align', 'space' or 'access', got 'scales'}}
func.func private @scales_behind_the_layout(!kvcache.cache<2S x ?B x 16N x 8H x 128D x f32, scales = f32[S, H]>)

// -----

// expected-error@+1 {{expected an axis L, S, B, N, H or D, possibly with '.o' or '.i', got 'C'}}
func.func private @letters_of_a_latent(!kvcache.cache<?B x 64N x 512C x 64R x bf16>)
