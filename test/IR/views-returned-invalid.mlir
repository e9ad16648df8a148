// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

// The memory of a cache that is returned would have no owner.
!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @returned(%n: index) -> !k {
  %m = memref.alloc(%n) : memref<?x16x64xf32>
  // expected-error@+1 {{'kvcache.view' op view_c9: memory that outlives the function is expected for a cache that is returned, got a local allocation}}
  %0 = kvcache.view %m : memref<?x16x64xf32> to !k
  return %0 : !k
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @stack_is_returned(%n: index) -> !k {
  %m = memref.alloca() : memref<4x16x64xf32>
  %d = memref.cast %m : memref<4x16x64xf32> to memref<?x16x64xf32>
  // expected-error@+1 {{'kvcache.view' op view_c9: memory that outlives the function is expected for a cache that is returned, got a local allocation}}
  %0 = kvcache.view %d : memref<?x16x64xf32> to !k
  return %0 : !k
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @part_is_returned(%n: index) -> !kvcache.cache<?B x 16N x 64D x f32, strides = [B = 2048]> {
  %m = memref.alloc(%n) : memref<?x2x16x64xf32>
  // expected-error@+1 {{'kvcache.view' op view_c9: memory that outlives the function is expected for a cache that is returned, got a local allocation}}
  %0 = kvcache.view %m[B, S, N, D] : memref<?x2x16x64xf32> to !kvcache.cache<2S x ?B x 16N x 64D x f32, order = [B, S, N, D]>
  %1 = kvcache.side %0[1] : !kvcache.cache<2S x ?B x 16N x 64D x f32, order = [B, S, N, D]>
  return %1 : !kvcache.cache<?B x 16N x 64D x f32, strides = [B = 2048]>
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @memref_is_returned(%n: index) -> memref<?x16x64xf32> {
  %m = memref.alloc(%n) : memref<?x16x64xf32>
  // expected-error@+1 {{'kvcache.view' op view_c9: memory that outlives the function is expected for a cache that is returned, got a local allocation}}
  %0 = kvcache.view %m : memref<?x16x64xf32> to !k
  %1 = kvcache.storage %0 : !k to memref<?x16x64xf32>
  return %1 : memref<?x16x64xf32>
}
