// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s --canonicalize | FileCheck %s

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!any = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = ?], align = 2>

// CHECK-LABEL: func.func @known(
// CHECK-DAG: %[[D:.*]] = arith.constant 128 : index
// CHECK-DAG: %[[S:.*]] = arith.constant 16384 : index
// CHECK-DAG: %[[T:.*]] = arith.constant true
// CHECK: return %[[D]], %[[S]], %[[T]]
func.func @known(%cache: !kv) -> (index, index, i1) {
  %d = kvcache.dim %cache[D] : !kv
  %s = kvcache.stride %cache[B] : !kv
  %t = kvcache.has_facts %cache : !kv has !any
  return %d, %s, %t : index, index, i1
}

// CHECK-LABEL: func.func @no_unknown(
// CHECK: kvcache.dim
// CHECK: kvcache.stride
// CHECK: kvcache.has_facts
func.func @no_unknown(%cache: !any) -> (index, index, i1) {
  %d = kvcache.dim %cache[B] : !any
  %s = kvcache.stride %cache[S] : !any
  %t = kvcache.has_facts %cache : !any has !kv
  return %d, %s, %t : index, index, i1
}

// CHECK-LABEL: func.func @same_type(
// CHECK-SAME: %[[C:.*]]: !kv_nhd)
// CHECK: return %[[C]]
func.func @same_type(%cache: !kv) -> !kv {
  %c = kvcache.cast %cache : !kv to !kv
  return %c : !kv
}
