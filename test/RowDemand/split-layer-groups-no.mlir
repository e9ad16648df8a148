// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where nothing can run on selected rows, the program stays what it is, and a
// remark names the operation that is in the way.
//
// RUN: kv-opt %s --kvcache-split-layer-groups --remark-format=emitRemark --remarks-filter='.*' -o %t 2>&1 | FileCheck %s --implicit-check-not=remark:
// RUN: kv-opt %s -o %t.before && diff %t.before %t

!kv = !kvcache.cache<2S x ?B x 16N x 2H x 8D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
#row = affine_map<(t, d) -> (t)>
#all = affine_map<(t, d) -> (t, d)>

// Prompt log-probabilities: all rows are given back.
func.func @no_output_of_all_rows(%x: tensor<?x8xf32>, %b: !batch, %i: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %y = math.exp %x : tensor<?x8xf32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
  // CHECK: split-layer-groups-no.mlir:[[@LINE+1]]:3: remark: [Missed] split-layer-groups | Category:kvcache | Remark="nothing runs on selected rows only: 'func.return' returns it, as output #1"
  return %s#0, %y : tensor<?x8xf32>, tensor<?x8xf32>
}

// The last thing that happens to the rows is that they are written.
func.func @no_write_behind_all(%x: tensor<?x2x8xf32>, %c: !kv, %slots: !slots, %b: !batch, %i: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x2x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x2x8xf32> {
  %y = math.exp %x : tensor<?x2x8xf32>
  // CHECK: :[[@LINE+1]]:3: remark: [Missed] {{.*}}"nothing runs on selected rows only: 'kvcache.index_copy' writes a value computed from it"
  kvcache.index_copy %y, %y into %c at %slots : tensor<?x2x8xf32>, tensor<?x2x8xf32> into !kv at !slots
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}

// A convolution over tokens.
func.func @no_convolution_over_tokens(%x: tensor<?x8xf32>, %k: tensor<3xf32>, %o: tensor<?x8xf32>, %b: !batch, %i: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x8xf32> {
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}"nothing runs on selected rows only: 'linalg.generic' combines rows: operand #0 is read at (d0, d1, d2) -> (d0 + d2, d1)"
  %y = linalg.generic {
      indexing_maps = [affine_map<(t, d, j) -> (t + j, d)>, affine_map<(t, d, j) -> (j)>, affine_map<(t, d, j) -> (t, d)>],
      iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%x, %k : tensor<?x8xf32>, tensor<3xf32>) outs(%o : tensor<?x8xf32>) {
  ^bb0(%a: f32, %w: f32, %c: f32):
    %p = arith.mulf %a, %w : f32
    %q = arith.addf %c, %p : f32
    linalg.yield %q : f32
  } -> tensor<?x8xf32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x8xf32>
}

// A norm over tokens: each row takes part in the sum that scales all.
func.func @no_norm_over_tokens(%x: tensor<?x8xf32>, %b: !batch, %i: tensor<?xi32>, %n: tensor<1xi32>,
    %e: tensor<?x8xf32>, %e0: tensor<?x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x8xf32> {
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'linalg.softmax' combines rows
  %y = linalg.softmax dimension(0) ins(%x : tensor<?x8xf32>) outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x8xf32>
}

// It is not known which dimension has the tokens afterwards.
func.func @no_unknown_reshape(%x: tensor<?x8xf32>, %shape: tensor<2xindex>, %b: !batch, %i: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x4xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x4xf32> {
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'tensor.reshape' is a reshape whose effect on rows is unknown
  %y = tensor.reshape %x(%shape) : (tensor<?x8xf32>, tensor<2xindex>) -> tensor<?x4xf32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x4xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x4xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x4xf32>
}

func.func @no_merged_tokens(%x: tensor<?x4x8xf32>, %b: !batch, %i: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x8xf32> {
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'tensor.collapse_shape' merges the dimension of rows with others
  %y = tensor.collapse_shape %x [[0, 1], [2]] : tensor<?x4x8xf32> into tensor<?x8xf32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x8xf32>
}

func.func @no_part_of_rows(%x: tensor<20x8xf32>, %b: !batch, %i: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x8xf32> {
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'tensor.extract_slice' takes some of the rows, or is not known to take all
  %y = tensor.extract_slice %x[10, 0] [10, 8] [1, 1] : tensor<20x8xf32> to tensor<10x8xf32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<10x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x8xf32>
}

func.func @no_rows_behind_each_other(%x: tensor<?x8xf32>, %b: !batch, %i: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x8xf32> {
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'tensor.concat' concatenates rows
  %y = tensor.concat dim(0) %x, %x : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x8xf32>
}

// Two lists name rows of one value.
func.func @no_two_lists(%x: tensor<?x8xf32>, %b: !batch, %i: tensor<?xi32>, %j: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %y = math.exp %x : tensor<?x8xf32>
  // CHECK: :[[@LINE+1]]:10: remark: [Missed] {{.*}}'kvcache.select_rows' needs rows that another index value names
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
  %u:3 = kvcache.select_rows %y of %b at %j, %n into %e0, %e1, %e2
    : tensor<?x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0, %u#0 : tensor<?x8xf32>, tensor<?x8xf32>
}

// How many requests a batch from outside has is not known.
func.func @no_unknown_requests(%x: tensor<?x2x8xf32>, %c: !kv, %e: tensor<?x2x8xf32>, %b: !batch, %i: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x2x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x2x8xf32> {
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'kvcache.attention' has a batch whose number of requests is unknown
  %y = kvcache.attention %x over %c in %b into %e causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}

// Bits of a mask would stand for other rows.
func.func @no_masked(%x: tensor<?x2x8xf32>, %m: tensor<?x1xi32>, %c: !kv, %e: tensor<?x2x8xf32>, %b: !batch, %i: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x2x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x2x8xf32> {
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'kvcache.attention' has a mask, whose bits number all rows of a request
  %y = kvcache.attention %x over %c in %b mask(%m : tensor<?x1xi32>) into %e causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}

// As many rows are asked for as there are.
func.func @no_fewer_rows(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>, %o: tensor<4x8xf32>, %b: !batch, %i: tensor<4xi32>, %n: tensor<1xi32>,
    %e0: tensor<4x8xf32>, %e1: tensor<?xi32>, %e2: tensor<4xi32>) -> tensor<4x8xf32> {
  %y = linalg.matmul ins(%x, %w : tensor<4x8xf32>, tensor<8x8xf32>) outs(%o : tensor<4x8xf32>) -> tensor<4x8xf32>
  // CHECK: :[[@LINE+1]]:10: remark: [Missed] {{.*}}'kvcache.select_rows' names 4 rows of 4, which is not fewer
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<4x8xf32> of !batch at tensor<4xi32>, tensor<1xi32> into tensor<4x8xf32>, tensor<?xi32>, tensor<4xi32>
  return %s#0 : tensor<4x8xf32>
}

// The rows that are asked for depend on the values that would be selected.
func.func @no_rows_by_value(%x: tensor<?x8xf32>, %w: tensor<8x8xf32>, %o: tensor<?x8xf32>, %b: !batch, %n: tensor<1xi32>,
    %ei: tensor<?xi32>, %e0: tensor<?x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x8xf32> {
  %y = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x8xf32>) outs(%o : tensor<?x8xf32>) -> tensor<?x8xf32>
  %c0 = arith.constant 0 : index
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'tensor.extract' needs it whole
  %v = tensor.extract %y[%c0, %c0] : tensor<?x8xf32>
  %k = arith.fptosi %v : f32 to i32
  %i = linalg.fill ins(%k : i32) outs(%ei : tensor<?xi32>) -> tensor<?xi32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x8xf32>
}

// The batch is made of memrefs, and read where it is used: positions that
// select_rows would read at the first addition are others than those that the
// attention reads.
func.func @no_lengths_that_change(%x: tensor<?x2x8xf32>, %c: !kv, %e: tensor<?x2x8xf32>, %starts: memref<?xi32>, %lengths: memref<?xi32>, %blocks: memref<?x?xi32>,
    %i: tensor<?xi32>, %n: tensor<1xi32>, %e0: tensor<?x2x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x2x8xf32> {
  %c0 = arith.constant 0 : index
  %c7 = arith.constant 7 : i32
  %table = kvcache.make_block_table %blocks : memref<?x?xi32> to !table
  %b = kvcache.make_batch %starts, %lengths, %table : memref<?xi32>, memref<?xi32>, !table
  %w = arith.addf %x, %x : tensor<?x2x8xf32>
  memref.store %c7, %lengths[%c0] : memref<?xi32>
  %y = kvcache.attention %w over %c in %b into %e causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
  // CHECK: :[[@LINE+1]]:10: remark: [Missed] {{.*}}'kvcache.select_rows' needs positions of the batch of 'kvcache.attention' before 'memref.store', which may change them
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}

// In a loop, behind the attention, for the next layer.
func.func @no_lengths_that_a_loop_changes(%x: tensor<?x2x8xf32>, %c: !kv, %e: tensor<?x2x8xf32>, %starts: memref<?xi32>, %lengths: memref<?xi32>, %blocks: memref<?x?xi32>,
    %i: tensor<?xi32>, %n: tensor<1xi32>, %e0: tensor<?x2x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x2x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %c7 = arith.constant 7 : i32
  %table = kvcache.make_block_table %blocks : memref<?x?xi32> to !table
  %b = kvcache.make_batch %starts, %lengths, %table : memref<?xi32>, memref<?xi32>, !table
  %y = scf.for %k = %c0 to %c4 step %c1 iter_args(%w = %x) -> tensor<?x2x8xf32> {
    %a = kvcache.attention %w over %c in %b into %e causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
    memref.store %c7, %lengths[%c0] : memref<?xi32>
    scf.yield %a : tensor<?x2x8xf32>
  }
  // CHECK: :[[@LINE+1]]:10: remark: [Missed] {{.*}}'kvcache.select_rows' needs positions of the batch of 'kvcache.attention' before 'memref.store', which may change them
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}

// An embedding is a gather as well, of an argument: nothing to say.
func.func @no_embedding(%table: tensor<99x8xf32>, %i: tensor<?xi32>, %e: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %g = linalg.generic {indexing_maps = [#row, #all], iterator_types = ["parallel", "parallel"]} ins(%i : tensor<?xi32>) outs(%e : tensor<?x8xf32>) {
  ^bb0(%k: i32, %out: f32):
    %at = arith.index_cast %k : i32 to index
    %d = linalg.index 1 : index
    %v = tensor.extract %table[%at, %d] : tensor<99x8xf32>
    linalg.yield %v : f32
  } -> tensor<?x8xf32>
  return %g : tensor<?x8xf32>
}

// Extents that contradict each other would be looked at, once all are constants.
func.func @no_extents_that_do_not_fit(%x: tensor<32x?xf32>, %w: tensor<16x32xf32>, %o: tensor<64x?xf32>, %i: tensor<3xi64>, %e: tensor<64x3xf32>) -> tensor<64x3xf32> {
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'linalg.generic' has operands whose extents do not match
  %y = linalg.generic {
      indexing_maps = [affine_map<(d, t, k) -> (k, t)>, affine_map<(d, t, k) -> (d, k)>, affine_map<(d, t, k) -> (d, t)>],
      iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%x, %w : tensor<32x?xf32>, tensor<16x32xf32>) outs(%o : tensor<64x?xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %p = arith.mulf %a, %b : f32
    %q = arith.addf %c, %p : f32
    linalg.yield %q : f32
  } -> tensor<64x?xf32>
  %rows = linalg.generic {
      indexing_maps = [affine_map<(d, t) -> (t)>, affine_map<(d, t) -> (d, t)>],
      iterator_types = ["parallel", "parallel"]}
      ins(%i : tensor<3xi64>) outs(%e : tensor<64x3xf32>) {
  ^bb0(%in: i64, %out: f32):
    %d = linalg.index 0 : index
    %row = arith.index_cast %in : i64 to index
    %v = tensor.extract %y[%d, %row] : tensor<64x?xf32>
    linalg.yield %v : f32
  } -> tensor<64x3xf32>
  return %rows : tensor<64x3xf32>
}

// A dimension that the tensor does not have. The call fails at it, or asks for
// anything.
func.func @no_dimension_that_is_not_there(%x: tensor<?x8xf32>, %w: tensor<8x8xf32>, %b: !batch, %i: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> (tensor<?x8xf32>, index) {
  %far = arith.constant 8 : index
  %y = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x8xf32>) outs(%x : tensor<?x8xf32>) -> tensor<?x8xf32>
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}"nothing runs on selected rows only: 'tensor.dim' queries the extent of an unknown dimension"
  %d = tensor.dim %y, %far : tensor<?x8xf32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0, %d : tensor<?x8xf32>, index
}
