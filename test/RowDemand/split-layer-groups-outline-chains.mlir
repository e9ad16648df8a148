// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Groups of functions with several selections: of rows that were selected
// before, as experts get and give them, and of two batches.
//
// RUN: kv-opt %s --kvcache-split-layer-groups=outline=true | FileCheck %s
// RUN: kv-opt %s --kvcache-split-layer-groups=outline=true | kv-compile - -o %t.so
// RUN: kv-opt %s --kvcache-split-layer-groups=outline=true --remark-format=emitRemark --remarks-filter='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK

!kv = !kvcache.cache<2S x ?B x 16N x 2H x 8D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
#row = affine_map<(t, d) -> (t)>
#all = affine_map<(t, d) -> (t, d)>

// An expert gets some rows, writes a cache of all of these, and gives some of
// them. The second selection is one of the group on selected rows.

// CHECK-LABEL: func.func @expert(
// CHECK: %[[ROWS:.*]] = call @expert_select(
// CHECK: call @expert_group1({{.*}}%[[ROWS]]
// CHECK-LABEL: func.func @expert_select(
// CHECK: linalg.generic
// CHECK-NOT: linalg.generic
// CHECK: return
// CHECK-LABEL: func.func @expert_group1(
// CHECK: linalg.matmul
// CHECK: kvcache.index_copy
// CHECK: linalg.generic
// CHECK: linalg.matmul
func.func @expert(%x: tensor<?x16xf32>, %c: !kv, %slots: !slots, %given: tensor<?xi32>, %w: tensor<16x16xf32>, %v: tensor<16x16xf32>, %sampled: tensor<?xi32>) -> tensor<?x16xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x16xf32>
  %e0 = tensor.empty(%t) : tensor<?x16xf32>
  %f0 = linalg.fill ins(%zero : f32) outs(%e0 : tensor<?x16xf32>) -> tensor<?x16xf32>
  %m = linalg.matmul ins(%x, %w : tensor<?x16xf32>, tensor<16x16xf32>) outs(%f0 : tensor<?x16xf32>) -> tensor<?x16xf32>
  %k = tensor.dim %given, %c0 : tensor<?xi32>
  %e1 = tensor.empty(%k) : tensor<?x16xf32>
  %p = linalg.generic {indexing_maps = [#row, #all], iterator_types = ["parallel", "parallel"]} ins(%given : tensor<?xi32>) outs(%e1 : tensor<?x16xf32>) {
  ^bb0(%i: i32, %o: f32):
    %at = arith.index_cast %i : i32 to index
    %d = linalg.index 1 : index
    %y = tensor.extract %m[%at, %d] : tensor<?x16xf32>
    linalg.yield %y : f32
  } -> tensor<?x16xf32>
  %heads = tensor.expand_shape %p [[0], [1, 2]] output_shape [%k, 2, 8] : tensor<?x16xf32> into tensor<?x2x8xf32>
  kvcache.index_copy %heads, %heads into %c at %slots : tensor<?x2x8xf32>, tensor<?x2x8xf32> into !kv at !slots
  %e2 = tensor.empty(%k) : tensor<?x16xf32>
  %f2 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<?x16xf32>) -> tensor<?x16xf32>
  %n = linalg.matmul ins(%p, %v : tensor<?x16xf32>, tensor<16x16xf32>) outs(%f2 : tensor<?x16xf32>) -> tensor<?x16xf32>
  %s = tensor.dim %sampled, %c0 : tensor<?xi32>
  %e3 = tensor.empty(%s) : tensor<?x16xf32>
  %r = linalg.generic {indexing_maps = [#row, #all], iterator_types = ["parallel", "parallel"]} ins(%sampled : tensor<?xi32>) outs(%e3 : tensor<?x16xf32>) {
  ^bb0(%i: i32, %o: f32):
    %at = arith.index_cast %i : i32 to index
    %d = linalg.index 1 : index
    %y = tensor.extract %n[%at, %d] : tensor<?x16xf32>
    linalg.yield %y : f32
  } -> tensor<?x16xf32>
  return %r : tensor<?x16xf32>
}

// Two batches have starts and positions each, and an argument may be called as
// they are.

// CHECK-LABEL: func.func @two_batches(
// CHECK-LABEL: func.func @two_batches_group1(
// CHECK-SAME: kvcache.name = "row_starts2"
// CHECK-SAME: kvcache.name = "row_positions"
// CHECK-SAME: kvcache.name = "row_starts3"
// CHECK-SAME: kvcache.name = "row_positions2"
func.func @two_batches(%x: tensor<?x2x8xf32>, %c: !kv, %d: !kv, %s1: tensor<?xi32>, %l1: tensor<?xi32>, %b1: tensor<?x?xi32>,
    %s2: tensor<?xi32>, %l2: tensor<?xi32>, %b2: tensor<?x?xi32>, %w: tensor<?x2x8xf32> {kvcache.name = "row_starts"}, %sampled: tensor<?xi32>) -> tensor<?x16xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x2x8xf32>
  %t1 = kvcache.make_block_table %b1 : tensor<?x?xi32> to !table
  %one = kvcache.make_batch %s1, %l1, %t1 : tensor<?xi32>, tensor<?xi32>, !table
  %t2 = kvcache.make_block_table %b2 : tensor<?x?xi32> to !table
  %two = kvcache.make_batch %s2, %l2, %t2 : tensor<?xi32>, tensor<?xi32>, !table
  %e = tensor.empty(%t) : tensor<?x2x8xf32>
  %a = kvcache.attention %x over %c in %one into %e causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
  %b = kvcache.attention %a over %d in %two into %e causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
  %sum = arith.addf %b, %w : tensor<?x2x8xf32>
  %flat = tensor.collapse_shape %sum [[0], [1, 2]] : tensor<?x2x8xf32> into tensor<?x16xf32>
  %s = tensor.dim %sampled, %c0 : tensor<?xi32>
  %e3 = tensor.empty(%s) : tensor<?x16xf32>
  %r = linalg.generic {indexing_maps = [#row, #all], iterator_types = ["parallel", "parallel"]} ins(%sampled : tensor<?xi32>) outs(%e3 : tensor<?x16xf32>) {
  ^bb0(%i: i32, %o: f32):
    %at = arith.index_cast %i : i32 to index
    %k = linalg.index 1 : index
    %y = tensor.extract %flat[%at, %k] : tensor<?x16xf32>
    linalg.yield %y : f32
  } -> tensor<?x16xf32>
  return %r : tensor<?x16xf32>
}

// The selection reads starts in memory, and the first group writes them before.

// REMARK: remark: [Missed] outline-layer-groups {{.*}}"the groups stay in one function: 'memref.store' on all rows comes after 'kvcache.select_rows', and may access the same memory"
// CHECK-LABEL: func.func @no_starts_that_are_written(
// CHECK-NOT: call
// CHECK: return
func.func @no_starts_that_are_written(%x: tensor<?x2x8xf32>, %c: !kv, %e: tensor<?x2x8xf32>, %starts: memref<?xi32>, %lengths: memref<?xi32>, %blocks: memref<?x?xi32>,
    %i: tensor<?xi32>, %n: tensor<1xi32>, %e0: tensor<?x2x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x2x8xf32> {
  %c0 = arith.constant 0 : index
  %c7 = arith.constant 7 : i32
  %table = kvcache.make_block_table %blocks : memref<?x?xi32> to !table
  %b = kvcache.make_batch %starts, %lengths, %table : memref<?xi32>, memref<?xi32>, !table
  %y = kvcache.attention %x over %c in %b into %e causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
  memref.store %c7, %starts[%c0] : memref<?xi32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}

// How many rows are valid is computed on all rows, where it is needed as well.

// REMARK: remark: [Missed] outline-layer-groups {{.*}}"the groups stay in one function: 'linalg.fill' on all rows needs 'tensor.extract', which a selection needs too and which depends on operations on all rows"
// CHECK-LABEL: func.func @no_number_of_both(
// CHECK-NOT: call
// CHECK: return
func.func @no_number_of_both(%x: tensor<?x8xf32>, %counts: tensor<4xi32>, %b: !batch, %w: tensor<8x8xf32>, %i: tensor<?xi32>,
    %o: tensor<?x8xf32>, %p: tensor<4xi32>, %e0: tensor<?x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> (tensor<?x8xf32>, tensor<4xi32>) {
  %c0 = arith.constant 0 : index
  %twice = arith.addi %counts, %counts : tensor<4xi32>
  %k = tensor.extract %twice[%c0] : tensor<4xi32>
  %n = tensor.from_elements %k : tensor<1xi32>
  %filled = linalg.fill ins(%k : i32) outs(%p : tensor<4xi32>) -> tensor<4xi32>
  %y = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x8xf32>) outs(%o : tensor<?x8xf32>) -> tensor<?x8xf32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0, %filled : tensor<?x8xf32>, tensor<4xi32>
}
