// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-specialize-page-stride --split-input-file | FileCheck %s
// RUN: kv-opt %s --kvcache-specialize-page-stride=target=cpu --split-input-file | FileCheck %s --check-prefix=CPU
// RUN: kv-opt %s --kvcache-specialize-page-stride="max-variants=2 trace=false" --split-input-file | FileCheck %s --check-prefix=TWO
// RUN: kv-opt %s --kvcache-specialize-page-stride -o /dev/null --split-input-file --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s --check-prefix=REMARK --implicit-check-not=remark:
//
// A second run finds the tests of the first.
// RUN: kv-opt %s --kvcache-specialize-page-stride --split-input-file > %t.once
// RUN: kv-opt %s --kvcache-specialize-page-stride --kvcache-specialize-page-stride --split-input-file | diff %t.once -

// Aligned accesses and rows of one number: three variants. On a CPU it is the
// streaming stores of much data that are aligned.

!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-DAG: !kv_nhd_strided = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>
// CHECK-DAG: !kv_nhd = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
// CHECK-DAG: !kv_nhd_strided1 = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ? mult 16]>
// CHECK-LABEL: func.func @write(
// CHECK-NEXT: %0 = kvcache.has_facts %arg1 : !kv_nhd_strided has !kv_nhd
// CHECK-NEXT: scf.if %0 {
// CHECK-NEXT:   kvcache.trace "index_copy in line [[LINE:[0-9]+]]: strides are compact"
// CHECK-NEXT:   %1 = kvcache.cast %arg1 : !kv_nhd_strided to !kv_nhd
// CHECK-NEXT:   kvcache.index_copy %arg0 into %1 at %arg2 : memref<?x8x128xbf16> into !kv_nhd at !kv_slots
// CHECK-NEXT: } else {
// CHECK-NEXT:   %1 = kvcache.has_facts %arg1 : !kv_nhd_strided has !kv_nhd_strided1
// CHECK-NEXT:   scf.if %1 {
// CHECK-NEXT:     kvcache.trace "index_copy in line [[LINE]]: strides are multiples of 16"
// CHECK-NEXT:     %2 = kvcache.cast %arg1 : !kv_nhd_strided to !kv_nhd_strided1
// CHECK-NEXT:     kvcache.index_copy %arg0 into %2 at %arg2 : memref<?x8x128xbf16> into !kv_nhd_strided1 at !kv_slots
// CHECK-NEXT:   } else {
// CHECK-NEXT:     kvcache.trace "index_copy in line [[LINE]]: any strides"
// CHECK-NEXT:     kvcache.index_copy %arg0 into %arg1 at %arg2 : memref<?x8x128xbf16> into !kv_nhd_strided at !kv_slots
// CHECK-NEXT:   }
// CHECK-NEXT: }

// CPU-LABEL: func.func @write(
// CPU: strides are compact
// CPU: strides are multiples of 16
// CPU: any strides

// What assumes least serves most calls.
// TWO-LABEL: func.func @write(
// TWO: kvcache.has_facts %arg1 : {{.*}} has [[FACTS:!kv_nhd[a-z0-9_]*]]
// TWO-NOT: kvcache.has_facts
// TWO-NOT: kvcache.trace
// TWO: kvcache.cast %arg1 : {{.*}} to [[FACTS]]

// REMARK: remark: [Passed] specialize-page-stride | Category:kvcache | Remark="3 variants: strides are compact; strides are multiples of 16; any strides"
func.func @write(%rows: memref<?x8x128xbf16>, %cache: !any, %slots: !slots) {
  kvcache.index_copy %rows into %cache at %slots
    : memref<?x8x128xbf16> into !any at !slots
  return
}

// -----

// What only reads a cache stores to rows, and streams nothing: on a CPU two
// variants are left for short rows, and one for rows that take longer to copy than
// to find. Two are left of a write of rows of 96 bytes, which end in the middle of
// a line.

!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>
!short = !kvcache.cache<?B x 16N x 48D x bf16, strides = [B = ?]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @read(
// CHECK: strides are multiples of 16
// CPU-LABEL: func.func @read(
// CPU-NOT: strides are
// CPU: kvcache.gather %arg0
// CPU-NOT: strides are
// REMARK: remark: [Passed] specialize-page-stride | Category:kvcache | Remark="3 variants: strides are compact; strides are multiples of 16; any strides"
func.func @read(%cache: !any, %slots: !slots, %rows: memref<?x8x128xbf16>) {
  kvcache.gather %cache at %slots into %rows : !any at !slots into memref<?x8x128xbf16>
  return
}

// CPU-LABEL: func.func @read_short_rows(
// CPU: strides are compact
// CPU-NOT: strides are multiples
// CPU: any strides
// REMARK: remark: [Passed]
func.func @read_short_rows(%cache: !short, %slots: !slots, %rows: memref<?x48xbf16>) {
  kvcache.gather %cache at %slots into %rows : !short at !slots into memref<?x48xbf16>
  return
}

// CPU-LABEL: func.func @no_whole_lines(
// CPU: strides are compact
// CPU-NOT: strides are multiples
// CPU: any strides
// REMARK: remark: [Passed]
func.func @no_whole_lines(%cache: !short, %slots: !slots, %rows: memref<?x48xbf16>) {
  kvcache.index_copy %rows into %cache at %slots : memref<?x48xbf16> into !short at !slots
  return
}

// -----

// Attention reads channels of one head, by blocks of a table: compact strides
// would not change its loops, and channels that are apart would.

!any = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = ?]>
!apart = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = ?, S = ?, N = ?, H = ?, D = ?]>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!heads = memref<?x32x128xbf16>

// CHECK-LABEL: func.func @attend(
// CHECK: kvcache.trace "attention in line {{.*}}: strides are multiples of 16"
// CHECK: kvcache.trace "attention in line {{.*}}: any strides"
// CPU-LABEL: func.func @attend(
// CPU-NOT: has_facts
// CPU: return
// REMARK: remark: [Passed] specialize-page-stride | Category:kvcache | Remark="2 variants: strides are multiples of 16; any strides (none where strides are compact)"
func.func @attend(%q: !heads, %cache: !any, %batch: !batch, %out: !heads) {
  kvcache.attention %q over %cache in %batch into %out causal
    : !heads over !any in !batch into !heads
  return
}

// CHECK-LABEL: func.func @attend_apart(
// CHECK: strides are compact
// CPU-LABEL: func.func @attend_apart(
// CPU: strides are compact
// CPU: any strides
// REMARK: remark: [Passed] specialize-page-stride | Category:kvcache | Remark="2 variants: strides are compact; any strides (none where strides are multiples of 16)"
func.func @attend_apart(%q: !heads, %cache: !apart, %batch: !batch, %out: !heads) {
  kvcache.attention %q over %cache in %batch into %out causal
    : !heads over !apart in !batch into !heads
  return
}

// -----

// Two caches, one test for both.

!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>

// CHECK-LABEL: func.func @two_caches(
// CHECK: %[[A:.*]] = kvcache.has_facts %arg0
// CHECK: %[[B:.*]] = kvcache.has_facts %arg1
// CHECK: %[[BOTH:.*]] = arith.andi %[[A]], %[[B]]
// CHECK: scf.if %[[BOTH]]
// CHECK: kvcache.transfer
// REMARK: remark: [Passed]
func.func @two_caches(%from: !any, %to: !any, %pairs: memref<?x2xi64>) {
  kvcache.transfer %from to %to at %pairs : !any to !any at memref<?x2xi64>
  return
}

// -----

!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!layer = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = 1048576]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_strides_to_find_out(
// CHECK-NOT: has_facts
// CHECK: return
func.func @no_strides_to_find_out(%rows: memref<?x8x128xbf16>, %a: !flat, %b: !layer, %slots: !slots) {
  kvcache.index_copy %rows into %a at %slots : memref<?x8x128xbf16> into !flat at !slots
  kvcache.index_copy %rows into %b at %slots : memref<?x8x128xbf16> into !layer at !slots
  return
}

// -----

// The base is aligned to 2 bytes: no access could be wider, whatever the
// strides are, without a test of the base.

!odd = !kvcache.cache<?B x 16N x 128D x bf16, strides = [B = ?], align = 2>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @alignment(
// CHECK: strides are multiples of 16
// REMARK: remark: [Passed] specialize-page-stride | Category:kvcache | Remark="3 variants: strides are compact; strides are multiples of 16; any strides"
func.func @alignment(%rows: memref<?x128xbf16>, %cache: !odd, %slots: !slots) {
  kvcache.index_copy %rows into %cache at %slots : memref<?x128xbf16> into !odd at !slots
  return
}

// -----

// Rows of 7 elements cannot be accessed more widely: only the numbers of rows
// are worth a variant.

!odd = !kvcache.cache<?B x 16N x 7D x bf16, strides = [B = ?]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// REMARK: remark: [Passed] specialize-page-stride | Category:kvcache | Remark="2 variants: strides are compact; any strides (none where strides are multiples of 16)"
func.func @no_wider_access(%rows: memref<?x7xbf16>, %cache: !odd, %slots: !slots) {
  kvcache.index_copy %rows into %cache at %slots : memref<?x7xbf16> into !odd at !slots
  return
}

// -----

// The program tests by itself.

!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>
!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @no_test_twice(
// CHECK-COUNT-1: has_facts
// CHECK-NOT: has_facts
// REMARK: remark: [Missed] specialize-page-stride | Category:kvcache | Remark="facts are tested already"
// REMARK: remark: [Missed] specialize-page-stride | Category:kvcache | Remark="facts are tested already"
func.func @no_test_twice(%rows: memref<?x8x128xbf16>, %cache: !any, %slots: !slots) {
  %flat = kvcache.has_facts %cache : !any has !flat
  scf.if %flat {
    %c = kvcache.cast %cache : !any to !flat
    kvcache.index_copy %rows into %c at %slots : memref<?x8x128xbf16> into !flat at !slots
  } else {
    kvcache.index_copy %rows into %cache at %slots : memref<?x8x128xbf16> into !any at !slots
  }
  return
}

// -----

!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// REMARK: remark: [Missed] specialize-page-stride | Category:kvcache | Remark="a tensor; run after bufferization"
func.func @no_tensors(%pool: tensor<?x16x8x128xbf16>, %rows: tensor<?x8x128xbf16>, %slots: !slots) -> tensor<?x16x8x128xbf16> {
  %next = kvcache.index_copy %rows into %pool[B, N, H, D] at %slots
    : tensor<?x8x128xbf16> into tensor<?x16x8x128xbf16> at !slots
  return %next : tensor<?x16x8x128xbf16>
}
