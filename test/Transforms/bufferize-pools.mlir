// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Pools that are tensors are updated where they are; copies are made only where
// the old contents are used again.
//
// RUN: kv-opt %s --kvcache-bufferize=allow-pool-copies | FileCheck %s

!k = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!pool = tensor<?x16x64xf32>
!rows = tensor<?x64xf32>

// CHECK-LABEL: func.func @no_copy_of_the_pool(
// CHECK-SAME: %[[POOL:[^ ]*]]: memref<?x16x64xf32>, %[[ROWS:[^ ]*]]: memref<?x64xf32>, %[[T:[^ ]*]]: memref<?xi64>, %[[N:[^ ]*]]: memref<?xi64>) {
// CHECK-NOT: memref.copy
// CHECK: %[[S:.*]] = kvcache.make_slots %[[T]]
// CHECK: %[[C:.*]] = kvcache.view %[[POOL]][B, N, D] : memref<?x16x64xf32> to !kv_nd
// CHECK-NEXT: kvcache.index_copy %[[ROWS]] into %[[C]] at %[[S]] : memref<?x64xf32> into !kv_nd
// CHECK-NEXT: kvcache.scatter %[[ROWS]] into %[[C]] at %[[N]], %[[N]] pad = none
// CHECK-NEXT: return{{$}}
func.func @no_copy_of_the_pool(%pool: !pool, %rows: !rows, %t: tensor<?xi64>, %numbers: tensor<?xi64>) -> !pool {
  %s = kvcache.make_slots %t : tensor<?xi64> to !slots
  %0 = kvcache.index_copy %rows into %pool[B, N, D] at %s : !rows into !pool at !slots
  %1 = kvcache.scatter %rows into %0[B, N, D] at %numbers, %numbers pad = none : !rows into !pool at tensor<?xi64>, tensor<?xi64>
  return %1 : !pool
}

// CHECK-LABEL: func.func @old_pool_is_used(
// CHECK-SAME: %[[OLD:[^ ]*]]: memref<?x16x64xf32>, %[[ROWS:[^ ]*]]: memref<?x64xf32>, %{{.*}}: !kv_slots, %[[OUT:[^ ]*]]: memref<?x64xf32>, %[[NEW:[^ ]*]]: memref<?x16x64xf32> {bufferize.result}) {
// CHECK: memref.copy %[[OLD]], %[[NEW]]
// CHECK: %[[A:.*]] = kvcache.view %[[NEW]][B, N, D]
// CHECK: kvcache.index_copy %[[ROWS]] into %[[A]]
// CHECK: %[[B:.*]] = kvcache.view %[[OLD]][B, N, D]
// CHECK: kvcache.gather %[[B]] at %{{.*}} zero into %[[OUT]]
// CHECK-NOT: memref.copy
// CHECK: return{{$}}
func.func @old_pool_is_used(%pool: !pool, %rows: !rows, %s: !slots, %out: !rows) -> (!pool, !rows) {
  %0 = kvcache.index_copy %rows into %pool[B, N, D] at %s : !rows into !pool at !slots
  %1 = kvcache.gather %pool[B, N, D] at %s zero into %out : !pool at !slots into !rows
  return %0, %1 : !pool, !rows
}

// Without `zero` the rows of the destination stay, so they are copied; with it
// nothing of the destination is read.

// CHECK-LABEL: func.func @rows_stay(
// CHECK: memref.copy
// CHECK: kvcache.gather
func.func @rows_stay(%cache: !k, %s: !slots, %out: !rows) -> (!rows, !rows) {
  %0 = kvcache.gather %cache at %s into %out : !k at !slots into !rows
  return %0, %out : !rows, !rows
}

// CHECK-LABEL: func.func @no_copy_of_rows_that_are_zeroed(
// CHECK-SAME: %{{.*}}: !kv_nd, %{{.*}}: !kv_slots, %[[OUT:[^ ]*]]: memref<?x64xf32>, %[[NEW:[^ ]*]]: memref<?x64xf32> {bufferize.result}) {
// CHECK-NOT: memref.copy
// CHECK: kvcache.gather %{{.*}} at %{{.*}} zero into %[[NEW]]
func.func @no_copy_of_rows_that_are_zeroed(%cache: !k, %s: !slots, %out: !rows) -> (!rows, !rows) {
  %0 = kvcache.gather %cache at %s zero into %out : !k at !slots into !rows
  return %0, %out : !rows, !rows
}

// CHECK-LABEL: func.func @relayout(
// CHECK-SAME: %[[A:[^ ]*]]: memref<?x16x64xf32>, %[[B:[^ ]*]]: memref<?x64x16xf16>) {
// CHECK-NOT: memref.copy
// CHECK: %[[FROM:.*]] = kvcache.view %[[A]][B, N, D] : memref<?x16x64xf32> to
// CHECK: %[[TO:.*]] = kvcache.view %[[B]][B, D, N] : memref<?x64x16xf16> to
// CHECK: kvcache.relayout %[[FROM]] into %[[TO]]
// CHECK-NEXT: return{{$}}
func.func @relayout(%a: !pool, %b: tensor<?x64x16xf16>) -> tensor<?x64x16xf16> {
  %0 = kvcache.relayout %a[B, N, D] into %b[B, D, N] : !pool into tensor<?x64x16xf16>
  return %0 : tensor<?x64x16xf16>
}

// Source and destination must not overlap.

// CHECK-LABEL: func.func @relayout_of_itself(
// CHECK-SAME: %[[A:[^ ]*]]: memref<?x16x64xf32>, %[[B:[^ ]*]]: memref<?x16x64xf32> {bufferize.result}) {
// CHECK: memref.copy %[[A]], %[[B]]
// CHECK: kvcache.relayout
func.func @relayout_of_itself(%a: !pool) -> !pool {
  %0 = kvcache.relayout %a[B, N, D] into %a[B, N, D] : !pool into !pool
  return %0 : !pool
}

// A step of a model: no copy of anything.

// CHECK-LABEL: func.func @no_copy_in_a_step(
// CHECK-SAME: %[[BATCH:[^ ]*]]: !kv_batch, %[[POOL:[^ ]*]]: memref<2x?x16x4x64xf32>, %[[KV:[^ ]*]]: memref<?x4x64xf32>, %[[Q:[^ ]*]]: memref<?x4x64xf32>, %[[OUT:[^ ]*]]: memref<?x4x64xf32>, %[[T:[^ ]*]]: memref<?xi64>) {
// CHECK-NEXT: kvcache.slot_mapping %[[BATCH]] into %[[T]]
// CHECK-NEXT: %[[S:.*]] = kvcache.make_slots %[[T]]
// CHECK-NEXT: %[[C:.*]] = kvcache.view %[[POOL]][S, B, N, H, D]
// CHECK-NEXT: kvcache.index_copy %[[KV]], %[[KV]] into %[[C]] at %[[S]]
// CHECK-NEXT: kvcache.attention %[[Q]] over %[[C]] in %[[BATCH]] into %[[OUT]] causal
// CHECK-NEXT: return{{$}}
func.func @no_copy_in_a_step(%batch: !batch, %pool: tensor<2x?x16x4x64xf32>, %kv: tensor<?x4x64xf32>, %q: tensor<?x4x64xf32>,
                             %out: tensor<?x4x64xf32>, %t: tensor<?xi64>) -> (tensor<2x?x16x4x64xf32>, tensor<?x4x64xf32>) {
  %m = kvcache.slot_mapping %batch into %t : !batch into tensor<?xi64>
  %s = kvcache.make_slots %m : tensor<?xi64> to !slots
  %p = kvcache.index_copy %kv, %kv into %pool[S, B, N, H, D] at %s : tensor<?x4x64xf32>, tensor<?x4x64xf32> into tensor<2x?x16x4x64xf32> at !slots
  %o = kvcache.attention %q over %p[S, B, N, H, D] in %batch into %out causal
    : tensor<?x4x64xf32> over tensor<2x?x16x4x64xf32> in !batch into tensor<?x4x64xf32>
  return %p, %o : tensor<2x?x16x4x64xf32>, tensor<?x4x64xf32>
}

// CHECK-LABEL: func.func @no_copy_of_keys_and_values(
// CHECK-NOT: memref.copy
// CHECK: %[[K:.*]] = kvcache.view %{{.*}}[B, N, H, D]
// CHECK-NEXT: kvcache.attention %{{.*}} over %[[K]], %{{.*}} in
func.func @no_copy_of_keys_and_values(%batch: !batch, %k: tensor<?x16x4x64xf32>, %v: !kvcache.cache<?B x 16N x 4H x 64D x f32>,
                                      %q: tensor<?x4x64xf32>, %out: tensor<?x4x64xf32>) -> tensor<?x4x64xf32> {
  %o = kvcache.attention %q over %k[B, N, H, D], %v in %batch into %out
    : tensor<?x4x64xf32> over tensor<?x16x4x64xf32>, !kvcache.cache<?B x 16N x 4H x 64D x f32> in !batch into tensor<?x4x64xf32>
  return %o : tensor<?x4x64xf32>
}

// CHECK-LABEL: func.func @no_copy_of_merged_states(
// CHECK-NOT: memref.copy
// CHECK: kvcache.merge_states %[[A:.*]], %{{.*}} with %[[B:.*]], %{{.*}} into %{{.*}}, %{{.*}} : memref
// CHECK-NEXT: return{{$}}
func.func @no_copy_of_merged_states(%a: tensor<?x2x8xf16>, %la: tensor<?x2xf32>, %o: tensor<?x2x8xf16>, %l: tensor<?x2xf32>) -> (tensor<?x2x8xf16>, tensor<?x2xf32>) {
  %0:2 = kvcache.merge_states %a, %la with %a, %la into %o, %l
    : tensor<?x2x8xf16>, tensor<?x2xf32> with tensor<?x2x8xf16>, tensor<?x2xf32> into tensor<?x2x8xf16>, tensor<?x2xf32>
  return %0#0, %0#1 : tensor<?x2x8xf16>, tensor<?x2xf32>
}

// Of two results in one empty tensor, each has a buffer.

// CHECK-LABEL: func.func @no_copy_of_computed_rows(
// CHECK-SAME: %[[X:[^ ]*]]: memref<?x4x64xf16>, %[[W:[^ ]*]]: memref<64xf32>, %[[T:[^ ]*]]: memref<?x64xf32>, %[[P:[^ ]*]]: memref<?xi32>, %[[POOL:[^ ]*]]: memref<?x16x4x64xf16>, %[[S:[^ ]*]]: !kv_slots) {
// CHECK-NOT: memref.copy
// CHECK-COUNT-2: memref.alloc(%{{.*}}) {{.*}}: memref<?x4x64xf16>
// CHECK-NEXT: kvcache.normalize %[[X]] by %[[W]] into %[[N:[^ ]*]] epsilon
// CHECK-NEXT: kvcache.rotate %[[N]] by %[[T]] at %[[P]] into %[[R:[^ ]*]] :
// CHECK-NEXT: %[[C:.*]] = kvcache.view %[[POOL]][B, N, H, D]
// CHECK-NEXT: kvcache.index_copy %[[R]] into %[[C]] at %[[S]]
// CHECK-NEXT: return{{$}}
func.func @no_copy_of_computed_rows(%x: tensor<?x4x64xf16>, %w: tensor<64xf32>, %t: tensor<?x64xf32>, %p: tensor<?xi32>,
                                    %pool: tensor<?x16x4x64xf16>, %s: !slots) -> tensor<?x16x4x64xf16> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %x, %c0 : tensor<?x4x64xf16>
  %e = tensor.empty(%n) : tensor<?x4x64xf16>
  %0 = kvcache.normalize %x by %w into %e epsilon 1.0 : tensor<?x4x64xf16> by tensor<64xf32> into tensor<?x4x64xf16>
  %1 = kvcache.rotate %0 by %t at %p into %e : tensor<?x4x64xf16> by tensor<?x64xf32> at tensor<?xi32> into tensor<?x4x64xf16>
  %2 = kvcache.index_copy %1 into %pool[B, N, H, D] at %s : tensor<?x4x64xf16> into tensor<?x16x4x64xf16> at !slots
  return %2 : tensor<?x16x4x64xf16>
}

// Nothing of a destination is read, so it is not copied where it is kept.

// CHECK-LABEL: func.func @no_copy_of_rows_that_are_kept(
// CHECK-SAME: %[[X:[^ ]*]]: memref<?x64xf32>, %[[T:[^ ]*]]: memref<?x64xf32>, %[[NEW:[^ ]*]]: memref<?x64xf32> {bufferize.result}) {
// CHECK-NEXT: kvcache.rotate %[[X]] by %[[T]] into %[[NEW]] interleaved
// CHECK-NEXT: return{{$}}
func.func @no_copy_of_rows_that_are_kept(%x: !rows, %t: !rows) -> (!rows, !rows) {
  %0 = kvcache.rotate %x by %t into %x interleaved : !rows by !rows into !rows
  return %0, %x : !rows, !rows
}

// CHECK-LABEL: func.func @no_copy_of_pairs(
// CHECK-NOT: memref.copy
// CHECK: kvcache.copy_blocks
// CHECK-NEXT: kvcache.transfer
// CHECK-NEXT: memref.store
func.func @no_copy_of_pairs(%a: !k, %b: !k, %pairs: tensor<?x2xi64>, %i: index, %x: i64) -> tensor<?x2xi64> {
  kvcache.copy_blocks %a at %pairs : !k at tensor<?x2xi64>
  kvcache.transfer %a to %b at %pairs : !k to !k at tensor<?x2xi64>
  %u = tensor.insert %x into %pairs[%i, %i] : tensor<?x2xi64>
  return %u : tensor<?x2xi64>
}

// A column of a matrix is packed first; the list may be written afterwards.

// CHECK-LABEL: func.func @copy_of_a_column(
// CHECK: %[[LIST:.*]] = memref.alloc
// CHECK: memref.copy %{{.*}}, %[[LIST]]
// CHECK-NEXT: kvcache.clear_blocks %{{.*}} at %[[LIST]] : {{.*}} at memref<?xi64>
// CHECK-NEXT: memref.store
func.func @copy_of_a_column(%a: !k, %pairs: tensor<?x2xi64>, %i: index, %x: i64) -> tensor<?x2xi64> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %pairs, %c0 : tensor<?x2xi64>
  %blocks = tensor.extract_slice %pairs[0, 1] [%n, 1] [1, 1] : tensor<?x2xi64> to tensor<?xi64>
  kvcache.clear_blocks %a at %blocks : !k at tensor<?xi64>
  %u = tensor.insert %x into %pairs[%i, %i] : tensor<?x2xi64>
  return %u : tensor<?x2xi64>
}

// K and V in one tensor, as engines have them: a slice is updated where it is,
// with the strides of the whole tensor, on any axis, one side after the other.

// CHECK-LABEL: func.func @sides_of_one_tensor(
// CHECK-SAME: %[[POOL:[^ ]*]]: memref<?x2x16x4x64xf32>,
// CHECK-NOT: memref.copy
// CHECK: %[[V:.*]] = memref.subview %[[POOL]][0, 1, 0, 0, 0]
// CHECK: %[[VC:.*]] = kvcache.view %[[V]][B, N, H, D] : memref<?x16x4x64xf32, strided<[8192, 256, 64, 1], offset: 4096>> to !kv_nhd_strided
// CHECK: kvcache.index_copy %{{.*}} into %[[VC]] at
// CHECK: %[[K:.*]] = memref.subview %[[POOL]][0, 0, 0, 0, 0]
// CHECK: %[[KC:.*]] = kvcache.view %[[K]][B, N, H, D] : memref<?x16x4x64xf32, strided<[8192, 256, 64, 1]>> to !kv_nhd_strided
// CHECK: kvcache.index_copy %{{.*}} into %[[KC]] at
// CHECK-NOT: memref.copy
// CHECK: return{{$}}
func.func @sides_of_one_tensor(%pool: tensor<?x2x16x4x64xf32>, %k: tensor<?x4x64xf32>, %v: tensor<?x4x64xf32>, %t: tensor<?xi64>) -> tensor<?x2x16x4x64xf32> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %pool, %c0 : tensor<?x2x16x4x64xf32>
  %s = kvcache.make_slots %t : tensor<?xi64> to !slots
  %0 = tensor.extract_slice %pool[0, 1, 0, 0, 0] [%n, 1, 16, 4, 64] [1, 1, 1, 1, 1] : tensor<?x2x16x4x64xf32> to tensor<?x16x4x64xf32>
  %1 = kvcache.index_copy %v into %0[B, N, H, D] at %s : tensor<?x4x64xf32> into tensor<?x16x4x64xf32> at !slots
  %2 = tensor.insert_slice %1 into %pool[0, 1, 0, 0, 0] [%n, 1, 16, 4, 64] [1, 1, 1, 1, 1] : tensor<?x16x4x64xf32> into tensor<?x2x16x4x64xf32>
  %3 = tensor.extract_slice %2[0, 0, 0, 0, 0] [%n, 1, 16, 4, 64] [1, 1, 1, 1, 1] : tensor<?x2x16x4x64xf32> to tensor<?x16x4x64xf32>
  %4 = kvcache.index_copy %k into %3[B, N, H, D] at %s : tensor<?x4x64xf32> into tensor<?x16x4x64xf32> at !slots
  %5 = tensor.insert_slice %4 into %2[0, 0, 0, 0, 0] [%n, 1, 16, 4, 64] [1, 1, 1, 1, 1] : tensor<?x16x4x64xf32> into tensor<?x2x16x4x64xf32>
  return %5 : tensor<?x2x16x4x64xf32>
}

// CHECK-LABEL: func.func @layer_of_one_tensor(
// CHECK-NOT: memref.copy
// CHECK: kvcache.view %{{.*}}[B, N, H, D] : memref<6x16x4x64xf32, strided<[4096, 256, 64, 1], offset: ?>> to !kv_nhd
// CHECK: return{{$}}
func.func @layer_of_one_tensor(%pool: tensor<32x6x16x4x64xf32>, %l: index, %k: tensor<?x4x64xf32>, %t: tensor<?xi64>) -> tensor<32x6x16x4x64xf32> {
  %s = kvcache.make_slots %t : tensor<?xi64> to !slots
  %0 = tensor.extract_slice %pool[%l, 0, 0, 0, 0] [1, 6, 16, 4, 64] [1, 1, 1, 1, 1] : tensor<32x6x16x4x64xf32> to tensor<6x16x4x64xf32>
  %1 = kvcache.index_copy %k into %0[B, N, H, D] at %s : tensor<?x4x64xf32> into tensor<6x16x4x64xf32> at !slots
  %2 = tensor.insert_slice %1 into %pool[%l, 0, 0, 0, 0] [1, 6, 16, 4, 64] [1, 1, 1, 1, 1] : tensor<6x16x4x64xf32> into tensor<32x6x16x4x64xf32>
  return %2 : tensor<32x6x16x4x64xf32>
}

// CHECK-LABEL: func.func @heads_of_one_tensor(
// CHECK-NOT: memref.copy
// CHECK: kvcache.view %{{.*}}[B, N, H, D] : memref<6x16x4x64xf32, strided<[8192, 512, 64, 1], offset: 256>> to !kv_nhd_strided
// CHECK: return{{$}}
func.func @heads_of_one_tensor(%pool: tensor<6x16x8x64xf32>, %k: tensor<?x4x64xf32>, %t: tensor<?xi64>) -> tensor<6x16x8x64xf32> {
  %s = kvcache.make_slots %t : tensor<?xi64> to !slots
  %0 = tensor.extract_slice %pool[0, 0, 4, 0] [6, 16, 4, 64] [1, 1, 1, 1] : tensor<6x16x8x64xf32> to tensor<6x16x4x64xf32>
  %1 = kvcache.index_copy %k into %0[B, N, H, D] at %s : tensor<?x4x64xf32> into tensor<6x16x4x64xf32> at !slots
  %2 = tensor.insert_slice %1 into %pool[0, 0, 4, 0] [6, 16, 4, 64] [1, 1, 1, 1] : tensor<6x16x4x64xf32> into tensor<6x16x8x64xf32>
  return %2 : tensor<6x16x8x64xf32>
}
