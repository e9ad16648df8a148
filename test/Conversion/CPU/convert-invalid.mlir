// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What is not bufferized yet is refused, by both conversions.
//
// RUN: kv-opt %s --convert-kvcache-to-loops --verify-diagnostics --split-input-file
// RUN: kv-opt %s --convert-kvcache-to-gpu --verify-diagnostics --split-input-file

!kv = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

func.func @rows_are_tensors(%cache: !kv, %rows: tensor<?x64xf32>, %s: !slots) {
  // expected-error@+1 {{failed to legalize operation 'kvcache.index_copy' that was explicitly marked illegal}}
  kvcache.index_copy %rows into %cache at %s : tensor<?x64xf32> into !kv at !slots
  return
}

// -----

func.func @slots_are_a_tensor(%t: tensor<?xi64>) -> !kvcache.slots<?T x i64, rows_per_block = 16, pad = none> {
  // expected-error@+1 {{failed to legalize operation 'kvcache.make_slots' that was explicitly marked illegal}}
  %0 = kvcache.make_slots %t : tensor<?xi64> to !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
  return %0 : !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
}

// -----

func.func private @called(!kvcache.cache<?B x 16N x 64D x f32>)
func.func @address() {
  // expected-error@+1 {{'func.constant' op is the address of a function with kvcache types, which is lowered only where it is called by name; got '(!kvcache.cache<?B x 16N x 64D x f32>) -> ()'}}
  %0 = func.constant @called : (!kvcache.cache<?B x 16N x 64D x f32>) -> ()
  return
}

// -----

// Whether the kernel for many rows takes it was asked of rows that have no place
// in memory yet.

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

func.func @attention_on_tensors(%q: tensor<?x32x128xbf16>, %cache: !kv, %b: !batch, %out: tensor<?x32x128xbf16>) -> tensor<?x32x128xbf16> {
  // expected-error@+1 {{failed to legalize operation 'kvcache.attention' that was explicitly marked illegal}}
  %0 = kvcache.attention %q over %cache in %b into %out causal : tensor<?x32x128xbf16> over !kv in !batch into tensor<?x32x128xbf16>
  return %0 : tensor<?x32x128xbf16>
}
