// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The spellings that docs/formats.md plans for contents with scales and for
// latents. Each is an error until it means what is written there, so that no
// program can use it for something else.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

// Formats of one byte without scales.

// expected-error@+1 {{cache_c1: the element type is expected to be f16, bf16 or f32, got 'f8E4M3FN'}}
func.func private @fp8(!kvcache.cache<2S x ?B x 16N x 8H x 128D x f8E4M3FN>)

// -----

// expected-error@+1 {{cache_c1: the element type is expected to be f16, bf16 or f32, got 'f8E5M2'}}
func.func private @fp8_of_more_range(!kvcache.cache<2S x ?B x 16N x 8H x 128D x f8E5M2>)

// -----

// Says nothing of what the integers mean: it stays an error.

// expected-error@+1 {{cache_c1: the element type is expected to be f16, bf16 or f32, got 'i8'}}
func.func private @bare_integers(!kvcache.cache<2S x ?B x 16N x 8H x 128D x i8>)

// -----

// expected-error@+1 {{cache_c1: the element type is expected to be f16, bf16 or f32, got 'f4E2M1FN'}}
func.func private @less_than_a_byte(!kvcache.cache<2S x ?B x 16N x 8H x 128D x f4E2M1FN>)

// -----

// The tensor form knows no more than the type.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @tensor_of_fp8(%pool: tensor<?x16x64xf8E4M3FN>, %rows: tensor<?x64xf8E4M3FN>, %s: !slots) {
  // expected-error@+1 {{index_copy_c9: cache_c1: the element type is expected to be f16, bf16 or f32, got 'f8E4M3FN'}}
  %0 = kvcache.index_copy %rows into %pool[B, N, D] at %s : tensor<?x64xf8E4M3FN> into tensor<?x16x64xf8E4M3FN> at !slots
  return
}

// -----

// Formats with scales: one for the pool, per side, per side and head, per token
// and head, per group of channels.

// expected-error@+1 {{unknown  type `scaled` in dialect `kvcache`}}
func.func private @scale_of_a_pool(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32>>)

// -----

// expected-error@+1 {{unknown  type `scaled` in dialect `kvcache`}}
func.func private @scale_per_side(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<f8E5M2 x f32, per = [S]>>)

// -----

// expected-error@+1 {{unknown  type `scaled` in dialect `kvcache`}}
func.func private @scale_per_head(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [S, H]>>)

// -----

// expected-error@+1 {{unknown  type `scaled` in dialect `kvcache`}}
func.func private @scale_per_token_and_head(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [S, B, N, H]>, strides = [B = ? mult 16]>)

// -----

// expected-error@+1 {{unknown  type `scaled` in dialect `kvcache`}}
func.func private @zero_points(!kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N, H], zero = i8>>)

// -----

// expected-error@+1 {{unknown  type `scaled` in dialect `kvcache`}}
func.func private @scales_in_the_rows(!kvcache.cache<?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [B, N, H], strides = [H = 33]>, strides = [H = 132]>)

// -----

// expected-error@+1 {{unknown  type `scaled` in dialect `kvcache`}}
func.func private @scale_per_group_of_channels(!kvcache.cache<?B x 64N x 512D x !kvcache.scaled<f8E4M3FN x f32, per = [B, N, D / 128]>>)

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
