// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where variants would be no use, or are not wanted, there is no test in a call.
//
// RUN: kv-opt %s --kvcache-specialize-page-stride=target=cpu | FileCheck %s
// RUN: kv-opt %s --kvcache-specialize-page-stride="max-variants=1 trace=false" | FileCheck %s --check-prefix=ONE
// RUN: kv-opt %s --kvcache-specialize-page-stride=target=cpu -o /dev/null --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s --check-prefix=REMARK --implicit-check-not=remark:

!any = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = ?]>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!heads = memref<?x32x128xbf16>
!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_other_code(
// CHECK-NOT: has_facts
// CHECK-NOT: trace
// CHECK: kvcache.attention
// REMARK: remark: [Missed] specialize-page-stride | Category:kvcache | Remark="the code is the same where strides are compact"
func.func @no_other_code(%q: !heads, %cache: !any, %batch: !batch, %out: !heads) {
  kvcache.attention %q over %cache in %batch into %out causal
    : !heads over !any in !batch into !heads
  return
}

// The generic variant alone, without a test.
// ONE-LABEL: func.func @no_more_than_one(
// ONE-NOT: has_facts
// ONE: kvcache.index_copy
// ONE-NOT: kvcache.index_copy
// ONE: return
// REMARK: remark: [Passed]
func.func @no_more_than_one(%k: !rows, %v: !rows, %cache: !any, %slots: !slots) {
  kvcache.index_copy %k, %v into %cache at %slots : !rows, !rows into !any at !slots
  return
}

// What has no cache has no variants.
// CHECK-LABEL: func.func @no_cache(
// CHECK-NOT: has_facts
// CHECK: kvcache.block_slots
func.func @no_cache(%list: memref<?xi64>, %slots: memref<?xi64>) {
  kvcache.block_slots %list of 16 into %slots : memref<?xi64> into memref<?xi64>
  return
}
