// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Bits of a mask: words are gathered by the numbers of keys among the own rows of
// the request, in chunks that reach them.
//
// RUN: kv-opt %s --convert-kvcache-to-loops --canonicalize --cse | FileCheck %s --implicit-check-not='kvcache.'

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// The mask has rows and words of its own: it bounds the rows, too.

// CHECK-LABEL: func.func @tree(
// CHECK-SAME: %[[M:[^ ,]*]]: memref<?x?xi32>)
// CHECK: %[[WORDS:.*]] = memref.dim %[[M]], %c1
// CHECK: %[[MOST:.*]] = arith.minsi %[[WORDS]], %{{.*}} : index
// CHECK: %[[WORDS32:.*]] = arith.index_cast %[[MOST]] : index to i32
// CHECK: memref.dim %[[M]], %c0
// CHECK: scf.parallel
// CHECK: %[[OWN:.*]] = arith.subi %{{.*}}, %{{.*}} : vector<{{.*}}xi32>
// CHECK: %[[WORD:.*]] = arith.shrui %[[OWN]],
// CHECK: %[[THERE:.*]] = arith.cmpi ult, %[[WORD]],
// CHECK: vector.gather %{{.*}}[%c0] [%{{.*}}], %[[THERE]],
func.func @tree(%q: memref<?x32x128xbf16>, %cache: !kv, %batch: !batch, %out: memref<?x32x128xbf16>, %m: memref<?x?xi32>) {
  kvcache.attention %q over %cache in %batch mask(%m : memref<?x?xi32>) into %out causal
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}
