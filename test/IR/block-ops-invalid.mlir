// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of what moves blocks.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @relayout_to_sides(%a: !k, %b: !kvcache.cache<2S x ?B x 16N x 64D x f32>) {
  // expected-error@+1 {{'kvcache.relayout' op relayout_c1: the same axes are expected, got S in only one of '!kvcache.cache<?B x 16N x 64D x f32>' and '!kvcache.cache<2S x ?B x 16N x 64D x f32>'}}
  kvcache.relayout %a into %b : !k into !kvcache.cache<2S x ?B x 16N x 64D x f32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @relayout_to_other_tokens(%a: !k, %b: !kvcache.cache<?B x 32N x 64D x f32>) {
  // expected-error@+1 {{'kvcache.relayout' op relayout_c1: the extent of N is expected to be 16, got 32}}
  kvcache.relayout %a into %b : !k into !kvcache.cache<?B x 32N x 64D x f32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @relayout_to_other_channels(%a: !k, %b: !kvcache.cache<?B x 16N x 32D x f32>) {
  // expected-error@+1 {{'kvcache.relayout' op relayout_c1: the extent of D is expected to be 64, got 32}}
  kvcache.relayout %a into %b : !k into !kvcache.cache<?B x 16N x 32D x f32>
  return
}

// -----

func.func @relayout_to_other_blocks(%a: !kvcache.cache<4B x 16N x 64D x f32>, %b: !kvcache.cache<8B x 16N x 64D x f32>) {
  // expected-error@+1 {{'kvcache.relayout' op relayout_c1: the extent of B is expected to be 4, got 8}}
  kvcache.relayout %a into %b : !kvcache.cache<4B x 16N x 64D x f32> into !kvcache.cache<8B x 16N x 64D x f32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
!read = !kvcache.cache<?B x 16N x 64D x f32, access = read>
func.func @relayout_to_a_reader(%a: !k, %b: !read) {
  // expected-error@+1 {{'kvcache.relayout' op relayout_c2: a writable cache is expected, got '!kvcache.cache<?B x 16N x 64D x f32, access = read>'}}
  kvcache.relayout %a into %b : !k into !read
  return
}

// -----

func.func @relayout_without_names(%a: tensor<?x16x64xf32>, %b: tensor<?x16x64xf32>) {
  // expected-error@+1 {{'kvcache.relayout' op relayout_c3: names for the 3 dimensions of tensor<?x16x64xf32> are expected, got 0}}
  %0 = kvcache.relayout %a[B, N, D] into %b : tensor<?x16x64xf32> into tensor<?x16x64xf32>
  return
}

// -----

func.func @relayout_of_unnamed(%a: tensor<?x16x64xf32>, %b: tensor<?x16x64xf32>) {
  // expected-error@+1 {{'kvcache.relayout' op relayout_c3: names for the 3 dimensions of tensor<?x16x64xf32> are expected, got 0}}
  %0 = kvcache.relayout %a into %b[B, N, D] : tensor<?x16x64xf32> into tensor<?x16x64xf32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @relayout_of_named_references(%a: !k, %b: !k) {
  // expected-error@+1 {{'kvcache.relayout' op relayout_c3: no dimension names are expected for a reference, whose type has them, got ["B", "N", "D"]}}
  kvcache.relayout %a[B, N, D] into %b : !k into !k
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @relayout_to_a_tensor(%a: !k, %b: tensor<?x16x64xf32>) {
  // expected-error@+1 {{'kvcache.relayout' op relayout_c4: two tensors or two references are expected, got '!kvcache.cache<?B x 16N x 64D x f32>' and 'tensor<?x16x64xf32>'}}
  %0 = kvcache.relayout %a into %b[B, N, D] : !k into tensor<?x16x64xf32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @relayout_of_a_tensor(%a: tensor<?x16x64xf32>, %b: !k) {
  // expected-error@+1 {{'kvcache.relayout' op relayout_c4: two tensors or two references are expected, got 'tensor<?x16x64xf32>' and '!kvcache.cache<?B x 16N x 64D x f32>'}}
  kvcache.relayout %a[B, N, D] into %b : tensor<?x16x64xf32> into !k
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @pairs_are_a_list(%c: !k, %p: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.copy_blocks' op copy_blocks_c1: pairs are expected to be a matrix of 2 columns of i32 or i64, got 'memref<?xi64>'}}
  kvcache.copy_blocks %c at %p : !k at memref<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @pairs_are_a_number(%c: !k, %p: memref<i64>) {
  // expected-error@+1 {{'kvcache.copy_blocks' op copy_blocks_c1: pairs are expected to be a matrix of 2 columns of i32 or i64, got 'memref<i64>'}}
  kvcache.copy_blocks %c at %p : !k at memref<i64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @pairs_of_four(%c: !k, %p: memref<?x4xi64>) {
  // expected-error@+1 {{'kvcache.copy_blocks' op copy_blocks_c1: pairs are expected to be a matrix of 2 columns of i32 or i64, got 'memref<?x4xi64>'}}
  kvcache.copy_blocks %c at %p : !k at memref<?x4xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @pairs_of_unknown_width(%c: !k, %p: memref<?x?xi64>) {
  // expected-error@+1 {{'kvcache.copy_blocks' op copy_blocks_c1: pairs are expected to be a matrix of 2 columns of i32 or i64, got 'memref<?x?xi64>'}}
  kvcache.copy_blocks %c at %p : !k at memref<?x?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @pairs_of_floats(%c: !k, %p: tensor<?x2xf32>) {
  // expected-error@+1 {{'kvcache.copy_blocks' op copy_blocks_c1: pairs are expected to be a matrix of 2 columns of i32 or i64, got 'tensor<?x2xf32>'}}
  kvcache.copy_blocks %c at %p : !k at tensor<?x2xf32>
  return
}

// -----

!read = !kvcache.cache<?B x 16N x 64D x f32, access = read>
func.func @copy_blocks_of_a_reader(%c: !read, %p: memref<?x2xi64>) {
  // expected-error@+1 {{'kvcache.copy_blocks' op copy_blocks_c2: a writable cache is expected, got '!kvcache.cache<?B x 16N x 64D x f32, access = read>'}}
  kvcache.copy_blocks %c at %p : !read at memref<?x2xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @pairs_apart(%c: !k, %p: memref<?x2xi64, strided<[4, 1]>>) {
  // expected-error@+1 {{'kvcache.copy_blocks' op copy_blocks_c3: a contiguous memref is expected, got 'memref<?x2xi64, strided<[4, 1]>>'}}
  kvcache.copy_blocks %c at %p : !k at memref<?x2xi64, strided<[4, 1]>>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @pairs_in_space(%c: !k, %p: memref<?x2xi64, 1>) {
  // expected-error@+1 {{'kvcache.copy_blocks' op copy_blocks_c3: a memref in the default memory space is expected, got 'memref<?x2xi64, 1>'}}
  kvcache.copy_blocks %c at %p : !k at memref<?x2xi64, 1>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @blocks_in_a_matrix(%c: !k, %l: memref<?x2xi64>) {
  // expected-error@+1 {{'kvcache.clear_blocks' op clear_blocks_c1: blocks are expected to be 1-D, of i32 or i64, got 'memref<?x2xi64>'}}
  kvcache.clear_blocks %c at %l : !k at memref<?x2xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @blocks_of_short_numbers(%c: !k, %l: tensor<?xi16>) {
  // expected-error@+1 {{'kvcache.clear_blocks' op clear_blocks_c1: blocks are expected to be 1-D, of i32 or i64, got 'tensor<?xi16>'}}
  kvcache.clear_blocks %c at %l : !k at tensor<?xi16>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32, access = read>
func.func @clear_blocks_of_a_reader(%c: !k, %l: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.clear_blocks' op clear_blocks_c2: a writable cache is expected, got '!kvcache.cache<?B x 16N x 64D x f32, access = read>'}}
  kvcache.clear_blocks %c at %l : !k at memref<?xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @blocks_apart(%c: !k, %l: memref<?xi64, strided<[2]>>) {
  // expected-error@+1 {{'kvcache.clear_blocks' op clear_blocks_c3: a contiguous memref is expected, got 'memref<?xi64, strided<[2]>>'}}
  kvcache.clear_blocks %c at %l : !k at memref<?xi64, strided<[2]>>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @blocks_in_space(%c: !k, %l: memref<?xi64, 1>) {
  // expected-error@+1 {{'kvcache.clear_blocks' op clear_blocks_c3: a memref in the default memory space is expected, got 'memref<?xi64, 1>'}}
  kvcache.clear_blocks %c at %l : !k at memref<?xi64, 1>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @transfer_to_other_axes(%a: !k, %b: !kvcache.cache<?B x 16N x 1H x 64D x f32>, %p: memref<?x4xi64>) {
  // expected-error@+1 {{'kvcache.transfer' op transfer_c1: the same axes are expected, got H in only one of '!kvcache.cache<?B x 16N x 64D x f32>' and '!kvcache.cache<?B x 16N x 1H x 64D x f32>'}}
  kvcache.transfer %a to %b at %p : !k to !kvcache.cache<?B x 16N x 1H x 64D x f32> at memref<?x4xi64>
  return
}

// -----

func.func @transfer_to_other_heads(%a: !kvcache.cache<?B x 16N x 8H x 64D x f32>, %b: !kvcache.cache<?B x 16N x 4H x 64D x f32>, %p: memref<?x4xi64>) {
  // expected-error@+1 {{'kvcache.transfer' op transfer_c1: the extent of H is expected to be 8, got 4}}
  kvcache.transfer %a to %b at %p : !kvcache.cache<?B x 16N x 8H x 64D x f32> to !kvcache.cache<?B x 16N x 4H x 64D x f32> at memref<?x4xi64>
  return
}

// -----

!layers = !kvcache.cache<32L x ?B x 16N x 64D x f32>
func.func @transfer_to_other_layers(%a: !layers, %b: !kvcache.cache<16L x ?B x 16N x 64D x f32>, %p: memref<?x4xi64>) {
  // expected-error@+1 {{'kvcache.transfer' op transfer_c1: the extent of L is expected to be 32, got 16}}
  kvcache.transfer %a to %b at %p : !layers to !kvcache.cache<16L x ?B x 16N x 64D x f32> at memref<?x4xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @transfer_to_other_tokens(%a: !k, %b: !kvcache.cache<?B x 24N x 64D x f32>, %p: memref<?x4xi64>) {
  // expected-error@+1 {{'kvcache.transfer' op transfer_c2: one block size is expected to be a multiple of the other, got 16 and 24}}
  kvcache.transfer %a to %b at %p : !k to !kvcache.cache<?B x 24N x 64D x f32> at memref<?x4xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @transfer_to_other_type(%a: !k, %b: !kvcache.cache<?B x 16N x 64D x f16>, %p: memref<?x4xi64>) {
  // expected-error@+1 {{'kvcache.transfer' op transfer_c3: the element type is expected to be 'f32', got 'f16'; 'relayout' converts elements}}
  kvcache.transfer %a to %b at %p : !k to !kvcache.cache<?B x 16N x 64D x f16> at memref<?x4xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
!read = !kvcache.cache<?B x 16N x 64D x f32, access = read>
func.func @transfer_to_a_reader(%a: !k, %b: !read, %p: memref<?x4xi64>) {
  // expected-error@+1 {{'kvcache.transfer' op transfer_c4: a writable cache is expected, got '!kvcache.cache<?B x 16N x 64D x f32, access = read>'}}
  kvcache.transfer %a to %b at %p : !k to !read at memref<?x4xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @pairs_of_three(%a: !k, %b: !k, %p: memref<?x3xi64>) {
  // expected-error@+1 {{'kvcache.transfer' op transfer_c5: pairs are expected to be a matrix of 2 or 4 columns of i32 or i64, got 'memref<?x3xi64>'}}
  kvcache.transfer %a to %b at %p : !k to !k at memref<?x3xi64>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @pairs_of_short_numbers(%a: !k, %b: !k, %p: memref<?x2xi16>) {
  // expected-error@+1 {{'kvcache.transfer' op transfer_c5: pairs are expected to be a matrix of 2 or 4 columns of i32 or i64, got 'memref<?x2xi16>'}}
  kvcache.transfer %a to %b at %p : !k to !k at memref<?x2xi16>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @table_apart(%a: !k, %b: !k, %p: memref<?x4xi64, strided<[8, 1]>>) {
  // expected-error@+1 {{'kvcache.transfer' op transfer_c6: a contiguous memref is expected, got 'memref<?x4xi64, strided<[8, 1]>>'}}
  kvcache.transfer %a to %b at %p : !k to !k at memref<?x4xi64, strided<[8, 1]>>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @table_in_space(%a: !k, %b: !k, %p: memref<?x4xi64, 1>) {
  // expected-error@+1 {{'kvcache.transfer' op transfer_c6: a memref in the default memory space is expected, got 'memref<?x4xi64, 1>'}}
  kvcache.transfer %a to %b at %p : !k to !k at memref<?x4xi64, 1>
  return
}
