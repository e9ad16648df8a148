// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of what reads rows.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

!k = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @two_destinations_of_one_side(%c: !k, %s: !slots, %o0: memref<?x64xf32>, %o1: memref<?x64xf32>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c1: 1 operands of rows are expected, one per side of the cache, got 2}}
  kvcache.gather %c at %s into %o0, %o1
    : !k at !slots into memref<?x64xf32>, memref<?x64xf32>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @one_destination_of_two_sides(%c: !kv, %s: !slots, %o0: memref<?x8x64xf32>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c1: 2 operands of rows are expected, one per side of the cache, got 1}}
  kvcache.gather %c at %s into %o0
    : !kv at !slots into memref<?x8x64xf32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @destination_of_other_shape(%c: !k, %s: !slots, %o0: memref<?x8x64xf32>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c2: rows #0 are expected to have the shape and element type of 'tensor<?x64xf32>', got 'memref<?x8x64xf32>'}}
  kvcache.gather %c at %s into %o0
    : !k at !slots into memref<?x8x64xf32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @destination_of_other_type(%c: !k, %s: !slots, %o0: memref<?x64xi8>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c2: the elements of rows are expected to be f16, bf16, f32, f8E4M3FN or f8E5M2, got 'i8'}}
  kvcache.gather %c at %s into %o0
    : !k at !slots into memref<?x64xi8>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
!slots8 = !kvcache.slots<8T x i64, rows_per_block = 16, pad = none>
func.func @destination_of_other_length(%c: !k, %s: !slots8, %o0: memref<9x64xf32>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c2: rows #0 are expected to have the shape and element type of 'tensor<8x64xf32>', got 'memref<9x64xf32>'}}
  kvcache.gather %c at %s into %o0
    : !k at !slots8 into memref<9x64xf32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
!slots32 = !kvcache.slots<?T x i64, rows_per_block = 32, pad = none>
func.func @slots_of_other_blocks(%c: !k, %s: !slots32, %o0: memref<?x64xf32>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c3: slots of 16 rows per block are expected, as in the cache, got 32}}
  kvcache.gather %c at %s into %o0
    : !k at !slots32 into memref<?x64xf32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @destination_with_gaps(%c: !k, %s: !slots, %o0: memref<?x64xf32, strided<[128, 2]>>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c4: the inner dimensions of rows #0 are expected to be contiguous, got 'memref<?x64xf32, strided<[128, 2]>>'}}
  kvcache.gather %c at %s into %o0
    : !k at !slots into memref<?x64xf32, strided<[128, 2]>>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @destination_in_space(%c: !k, %s: !slots, %o0: memref<?x64xf32, 1>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c4: rows #0 are expected to be in the default memory space, got 'memref<?x64xf32, 1>'}}
  kvcache.gather %c at %s into %o0
    : !k at !slots into memref<?x64xf32, 1>
  return
}

// -----

!layers = !kvcache.cache<32L x ?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @gather_from_layers(%c: !layers, %s: !slots, %o0: memref<?x64xf32>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c5: the cache is expected to be one layer, got '!kvcache.cache<32L x ?B x 16N x 64D x f32>'}}
  kvcache.gather %c at %s into %o0
    : !layers at !slots into memref<?x64xf32>
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @destinations_of_both_forms(%c: !kv, %s: !slots, %o0: memref<?x8x64xf32>, %o1: tensor<?x8x64xf32>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c6: buffers are expected to be all tensors or all memrefs, got 'tensor<?x8x64xf32>' and 'memref<?x8x64xf32>'}}
  %0 = kvcache.gather %c at %s into %o0, %o1
    : !kv at !slots into memref<?x8x64xf32>, tensor<?x8x64xf32>
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @gather_from_a_tensor_to_memrefs(%c: tensor<?x16x64xf32>, %s: !slots, %o0: memref<?x64xf32>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c6: buffers are expected to be all tensors or all memrefs, got 'tensor<?x16x64xf32>' and 'memref<?x64xf32>'}}
  kvcache.gather %c[B, N, D] at %s into %o0
    : tensor<?x16x64xf32> at !slots into memref<?x64xf32>
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @gather_without_names(%c: tensor<?x16x64xf32>, %s: !slots, %o0: tensor<?x64xf32>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c7: names for the 3 dimensions of tensor<?x16x64xf32> are expected, got 0}}
  %0 = kvcache.gather %c at %s into %o0
    : tensor<?x16x64xf32> at !slots into tensor<?x64xf32>
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @gather_with_too_many_names(%c: tensor<?x16x64xf32>, %s: !slots, %o0: tensor<?x64xf32>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c7: names for the 3 dimensions of tensor<?x16x64xf32> are expected, got 4}}
  %0 = kvcache.gather %c[L, B, N, D] at %s into %o0
    : tensor<?x16x64xf32> at !slots into tensor<?x64xf32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @gather_from_a_named_reference(%c: !k, %s: !slots, %o0: memref<?x64xf32>) {
  // expected-error@+1 {{'kvcache.gather' op gather_c7: no dimension names are expected for a reference, whose type has them, got ["B", "N", "D"]}}
  kvcache.gather %c[B, N, D] at %s into %o0
    : !k at !slots into memref<?x64xf32>
  return
}
