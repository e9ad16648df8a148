// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --split-input-file --verify-diagnostics

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 32768D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @heads_times_channels(%q: memref<?x1099511627776x32768xbf16>, %c: !kv, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op extents_c1: extents of at most 2^40 and at most 2^54 elements are expected, got 'memref<?x1099511627776x32768xbf16>'}}
  kvcache.attention %q over %c in %b into %q causal
    : memref<?x1099511627776x32768xbf16> over !kv in !batch into memref<?x1099511627776x32768xbf16>
  return
}

// -----

func.func @long_list(%b: memref<1099511627777xi64>, %s: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.map_blocks' op extents_c1: extents of at most 2^40 and at most 2^54 elements are expected, got 'memref<1099511627777xi64>'}}
  kvcache.map_blocks %b by 1 into %s : memref<1099511627777xi64> into memref<?xi64>
  return
}

// -----

// An extent of 0 does not hide what the others multiply to.
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
#strides = strided<[?, 1073741824, 1]>
func.func @no_rows(%r: memref<0x33554432x1073741824xf32, #strides>, %b: !batch, %i: memref<?xi32>, %n: memref<1xi32>) {
  // expected-error@+1 {{'kvcache.select_rows' op extents_c1: extents of at most 2^40 and at most 2^54 elements are expected, got 'memref<0x33554432x1073741824xf32, strided<[?, 1073741824, 1]>>'}}
  kvcache.select_rows %r of %b at %i, %n into %r, %i, %i
    : memref<0x33554432x1073741824xf32, #strides> of !batch at memref<?xi32>, memref<1xi32>
      into memref<0x33554432x1073741824xf32, #strides>, memref<?xi32>, memref<?xi32>
  return
}

// -----

func.func @bytes(%m: memref<1099511627777xi8>) {
  // expected-error@+1 {{'kvcache.view' op extents_c1: extents of at most 2^40 and at most 2^54 elements are expected, got 'memref<1099511627777xi8>'}}
  %c = kvcache.view %m : memref<1099511627777xi8> to !kvcache.cache<1B x 16N x 64D x f32>
  return
}
