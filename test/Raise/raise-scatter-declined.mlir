// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scatters and gathers that are left alone, and the fact that is missing. The
// verifier of diagnostics fails where there is a remark that is not expected, so
// nothing here is raised.
//
// RUN: kv-opt %s --allow-unregistered-dialect --kvcache-raise --split-input-file --verify-diagnostics --remark-format=emitRemark --remarks-filter='.*' -o /dev/null

// -----

func.func @no_sequence(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: rows of one slot are written in sequence, and nothing excludes duplicates or promises that the last row wins (last-row-wins)}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = false}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_unsigned_numbers(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xui64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: the indices are expected to be signless integers of at most 64 bits}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x2xui64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_wide_numbers(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi128>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: the indices are expected to be signless integers of at most 64 bits}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x2xi128>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_three_numbers(%pool: tensor<6x16x64xf32>, %rows: tensor<5xf32>, %at: tensor<5x3xi64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: expected one index per row, or a block and an offset, got 3}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1, 2>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5xf32>, tensor<5x3xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_such_dimension(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: the pool has no dimension 7}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 7>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_two_dimensions(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: both indices are for the same dimension of the pool}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 1, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_two_columns(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x3xi64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: the list is expected to have 2 columns}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x3xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_cache_of_f64(%pool: tensor<6x16x64xf64>, %rows: tensor<5x64xf64>, %at: tensor<5x2xi64>) -> tensor<6x16x64xf64> {
  // expected-remark @+1 {{left alone: the pool is not a cache: }}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f64, %y: f64):
    "iree_linalg_ext.yield"(%x) : (f64) -> ()
  }) : (tensor<5x64xf64>, tensor<5x2xi64>, tensor<6x16x64xf64>) -> tensor<6x16x64xf64>
  return %new : tensor<6x16x64xf64>
}

// -----

func.func @no_constant_block_size(%pool: tensor<6x?x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi64>) -> tensor<6x?x64xf32> {
  // expected-remark @+1 {{left alone: the pool is not a cache: }}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x2xi64>, tensor<6x?x64xf32>) -> tensor<6x?x64xf32>
  return %new : tensor<6x?x64xf32>
}

// -----

func.func @no_rows_of_this_type(%pool: tensor<6x16x64xf32>, %rows: tensor<5x2x64xf32>, %at: tensor<5x2xi64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: rows with the inner dimensions and the element type of the pool are expected}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x2x64xf32>, tensor<5x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_whole_rows(%pool: tensor<6x16x64xf32>, %rows: tensor<5x32xf32>, %at: tensor<5x2xi64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: whole rows are expected, of 64 in dimension 1, got 32}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x32xf32>, tensor<5x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_one_list(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x3x2xi64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: the indices are expected to be one list, got a list of rank 2}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x3x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_equal_lengths(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<4x2xi64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: there are 4 indices for 5 rows}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<4x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_three_inner_dimensions(%pool: tensor<6x16x2x4x64xf32>, %rows: tensor<5x2x4x64xf32>, %at: tensor<5x2xi64>) -> tensor<6x16x2x4x64xf32> {
  // expected-remark @+1 {{left alone: expected rows of channels, or of heads and channels, got 3 dimensions}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x2x4x64xf32>, tensor<5x2xi64>, tensor<6x16x2x4x64xf32>) -> tensor<6x16x2x4x64xf32>
  return %new : tensor<6x16x2x4x64xf32>
}

// -----

func.func @no_inner_dimension(%pool: tensor<6x16xf32>, %rows: tensor<5xf32>, %at: tensor<5x2xi64>) -> tensor<6x16xf32> {
  // expected-remark @+1 {{left alone: expected rows of channels, or of heads and channels, got 0 dimensions}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5xf32>, tensor<5x2xi64>, tensor<6x16xf32>) -> tensor<6x16xf32>
  return %new : tensor<6x16xf32>
}

// -----

func.func @no_overwriting(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: it combines rows with the contents of the pool instead of overwriting them}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    %z = arith.addf %x, %y : f32
    "iree_linalg_ext.yield"(%z) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_tensors(%pool: memref<6x16x64xf32>, %rows: memref<5x64xf32>, %at: memref<5x2xi64>) {
  // expected-remark @+1 {{left alone: it updates memory, not a tensor}}
  "tm_tensor.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "tm_tensor.yield"(%x) : (f32) -> ()
  }) : (memref<5x64xf32>, memref<5x2xi64>, memref<6x16x64xf32>) -> ()
  return
}

// -----

func.func @no_dimension_map(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: it has no dimension_map}}
  %new = "tm_tensor.scatter"(%rows, %at, %pool) ({
  ^bb0(%x: f32, %y: f32):
    "tm_tensor.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_rank(%pool: tensor<*xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi64>) -> tensor<*xf32> {
  // expected-remark @+1 {{left alone: the pool and the list of indices are expected to be tensors of known rank}}
  %new = "tm_tensor.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "tm_tensor.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x2xi64>, tensor<*xf32>) -> tensor<*xf32>
  return %new : tensor<*xf32>
}

// -----

// An operation that only has the name of a dialect that is known.

func.func @no_scatter(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi64>) -> tensor<6x16x64xf32> {
  %new = "iree_linalg_ext.attention"(%rows, %at, %pool) : (tensor<5x64xf32>, tensor<5x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_write_in_place(%pool: tensor<96x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x1xindex>) {
  // expected-remark @+1 {{left alone: the pool is used again, so the write is not known to be in place}}
  %new = tensor.scatter %rows into %pool[%at] scatter_dims([0]) unique : (tensor<5x64xf32>, tensor<96x64xf32>, tensor<5x1xindex>) -> tensor<96x64xf32>
  "test.use"(%new, %pool) : (tensor<96x64xf32>, tensor<96x64xf32>) -> ()
  return
}

// -----

func.func @no_rows_of_their_own(%pool: tensor<96x64xf32>, %rows: tensor<5x1x64xf32>, %at: tensor<5x1xindex>) {
  // expected-remark @+1 {{left alone: its rows keep the scattered dimensions as dimensions of 1; rows without them are expected}}
  %new = tensor.scatter %rows into %pool[%at] scatter_dims([0]) unique : (tensor<5x1x64xf32>, tensor<96x64xf32>, tensor<5x1xindex>) -> tensor<96x64xf32>
  "test.use"(%new) : (tensor<96x64xf32>) -> ()
  return
}

// -----

func.func @no_list_of_lists(%pool: tensor<96x64xf32>, %rows: tensor<5x2x64xf32>, %at: tensor<5x2x1xindex>) {
  // expected-remark @+1 {{left alone: its coordinates are not one list}}
  %new = tensor.scatter %rows into %pool[%at] scatter_dims([0]) unique : (tensor<5x2x64xf32>, tensor<96x64xf32>, tensor<5x2x1xindex>) -> tensor<96x64xf32>
  "test.use"(%new) : (tensor<96x64xf32>) -> ()
  return
}

// -----

func.func @no_single_pool(%a: tensor<96x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x1xindex>, %n: index) -> tensor<96x64xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%pool = %a) -> tensor<96x64xf32> {
    // expected-remark @+1 {{left alone: the pool comes from several places, so the write is not known to be in place}}
    %new = tensor.scatter %rows into %pool[%at] scatter_dims([0]) unique : (tensor<5x64xf32>, tensor<96x64xf32>, tensor<5x1xindex>) -> tensor<96x64xf32>
    scf.yield %new : tensor<96x64xf32>
  }
  return %r : tensor<96x64xf32>
}

// -----

func.func @no_dimension_numbers(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi32>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{stablehlo.scatter left alone: its dimension numbers or shapes are not known}}
  %new = "stablehlo.scatter"(%pool, %at, %rows) <{unique_indices = true}> ({
  ^bb0(%x: tensor<f32>, %y: tensor<f32>):
    "stablehlo.return"(%y) : (tensor<f32>) -> ()
  }) : (tensor<6x16x64xf32>, tensor<5x2xi32>, tensor<5x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_overwriting(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi32>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{stablehlo.scatter left alone: it combines rows with the contents of the pool instead of overwriting them}}
  %new = "stablehlo.scatter"(%pool, %at, %rows) <{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1], inserted_window_dims = [0, 1], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 1>, unique_indices = true}> ({
  ^bb0(%x: tensor<f32>, %y: tensor<f32>):
    "stablehlo.return"(%x) : (tensor<f32>) -> ()
  }) : (tensor<6x16x64xf32>, tensor<5x2xi32>, tensor<5x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_batching(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi32>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{stablehlo.scatter left alone: it has batching dimensions}}
  %new = "stablehlo.scatter"(%pool, %at, %rows) <{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1], inserted_window_dims = [0, 1], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 1, input_batching_dims = [0]>, unique_indices = true}> ({
  ^bb0(%x: tensor<f32>, %y: tensor<f32>):
    "stablehlo.return"(%y) : (tensor<f32>) -> ()
  }) : (tensor<6x16x64xf32>, tensor<5x2xi32>, tensor<5x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_window_of_one_row(%pool: tensor<6x16x64xf32>, %rows: tensor<5x1x64xf32>, %at: tensor<5x2xi32>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{stablehlo.scatter left alone: its windows have the scattered dimensions; windows of one row are expected}}
  %new = "stablehlo.scatter"(%pool, %at, %rows) <{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1, 2], inserted_window_dims = [0], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 1>, unique_indices = true}> ({
  ^bb0(%x: tensor<f32>, %y: tensor<f32>):
    "stablehlo.return"(%y) : (tensor<f32>) -> ()
  }) : (tensor<6x16x64xf32>, tensor<5x2xi32>, tensor<5x1x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_list_of_rows(%pool: tensor<6x16x64xf32>, %rows: tensor<64x5xf32>, %at: tensor<5x2xi32>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{stablehlo.scatter left alone: its rows are not one list of rows}}
  %new = "stablehlo.scatter"(%pool, %at, %rows) <{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [0], inserted_window_dims = [0, 1], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 1>, unique_indices = true}> ({
  ^bb0(%x: tensor<f32>, %y: tensor<f32>):
    "stablehlo.return"(%y) : (tensor<f32>) -> ()
  }) : (tensor<6x16x64xf32>, tensor<5x2xi32>, tensor<64x5xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_gather_numbers(%pool: tensor<6x16x64xf32>, %at: tensor<5x1xi32>) -> tensor<5x16x64xf32> {
  // expected-remark @+1 {{stablehlo.gather left alone: its dimension numbers or shapes are not known}}
  %r = "stablehlo.gather"(%pool, %at) <{slice_sizes = array<i64: 1, 16, 64>}> : (tensor<6x16x64xf32>, tensor<5x1xi32>) -> tensor<5x16x64xf32>
  return %r : tensor<5x16x64xf32>
}

// -----

func.func @no_gather_batching(%pool: tensor<6x16x64xf32>, %at: tensor<5x1xi32>) -> tensor<5x16x64xf32> {
  // expected-remark @+1 {{stablehlo.gather left alone: it has batching dimensions}}
  %r = "stablehlo.gather"(%pool, %at) <{dimension_numbers = #stablehlo.gather<offset_dims = [1, 2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1, operand_batching_dims = [1]>, slice_sizes = array<i64: 1, 16, 64>}> : (tensor<6x16x64xf32>, tensor<5x1xi32>) -> tensor<5x16x64xf32>
  return %r : tensor<5x16x64xf32>
}

// -----

func.func @no_whole_slices(%pool: tensor<6x16x64xf32>, %at: tensor<5x1xi32>) -> tensor<5x16x32xf32> {
  // expected-remark @+1 {{stablehlo.gather left alone: its slices do not cover whole rows}}
  %r = "stablehlo.gather"(%pool, %at) <{dimension_numbers = #stablehlo.gather<offset_dims = [1, 2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, slice_sizes = array<i64: 1, 16, 32>}> : (tensor<6x16x64xf32>, tensor<5x1xi32>) -> tensor<5x16x32xf32>
  return %r : tensor<5x16x32xf32>
}

// -----

func.func @no_slices_of_one(%pool: tensor<6x16x64xf32>, %at: tensor<5x1xi32>) -> tensor<5x1x16x64xf32> {
  // expected-remark @+1 {{stablehlo.gather left alone: its slices have the indexed dimensions; slices of one row or block are expected}}
  %r = "stablehlo.gather"(%pool, %at) <{dimension_numbers = #stablehlo.gather<offset_dims = [1, 2, 3], collapsed_slice_dims = [], start_index_map = [0], index_vector_dim = 1>, slice_sizes = array<i64: 1, 16, 64>}> : (tensor<6x16x64xf32>, tensor<5x1xi32>) -> tensor<5x1x16x64xf32>
  return %r : tensor<5x1x16x64xf32>
}

// -----

func.func @no_slices_last(%pool: tensor<6x16x64xf32>, %at: tensor<5x1xi32>) -> tensor<16x64x5xf32> {
  // expected-remark @+1 {{stablehlo.gather left alone: the dimensions of its slices are not the last ones}}
  %r = "stablehlo.gather"(%pool, %at) <{dimension_numbers = #stablehlo.gather<offset_dims = [0, 1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, slice_sizes = array<i64: 1, 16, 64>}> : (tensor<6x16x64xf32>, tensor<5x1xi32>) -> tensor<16x64x5xf32>
  return %r : tensor<16x64x5xf32>
}

// -----

func.func @no_gather_extents(%pool: tensor<6x16x64xf32>, %at: tensor<?x1xi32>) -> tensor<?x16x64xf32> {
  // expected-remark @+1 {{stablehlo.gather left alone: the result is expected to have constant extents}}
  %r = "stablehlo.gather"(%pool, %at) <{dimension_numbers = #stablehlo.gather<offset_dims = [1, 2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, slice_sizes = array<i64: 1, 16, 64>}> : (tensor<6x16x64xf32>, tensor<?x1xi32>) -> tensor<?x16x64xf32>
  return %r : tensor<?x16x64xf32>
}

// -----

func.func @no_pool_to_clamp_to(%pool: tensor<?x16x64xf32>, %at: tensor<5x1xi32>) -> tensor<5x16x64xf32> {
  // expected-remark @+1 {{stablehlo.gather left alone: indices outside are clamped, and the extent of the pool is not a constant}}
  %r = "stablehlo.gather"(%pool, %at) <{dimension_numbers = #stablehlo.gather<offset_dims = [1, 2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, slice_sizes = array<i64: 1, 16, 64>}> : (tensor<?x16x64xf32>, tensor<5x1xi32>) -> tensor<5x16x64xf32>
  return %r : tensor<5x16x64xf32>
}

// -----

func.func @no_bits_for_the_pool(%pool: tensor<600x16x64xf32>, %at: tensor<5x1xi8>) -> tensor<5x16x64xf32> {
  // expected-remark @+1 {{stablehlo.gather left alone: the indices have too few bits for the pool}}
  %r = "stablehlo.gather"(%pool, %at) <{dimension_numbers = #stablehlo.gather<offset_dims = [1, 2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, slice_sizes = array<i64: 1, 16, 64>}> : (tensor<600x16x64xf32>, tensor<5x1xi8>) -> tensor<5x16x64xf32>
  return %r : tensor<5x16x64xf32>
}

// -----

func.func @no_gather_dimensions(%pool: tensor<6x16x2x2x64xf32>, %at: tensor<5x1xi32>) -> tensor<5x16x2x2x64xf32> {
  // expected-remark @+1 {{stablehlo.gather left alone: expected blocks, or rows of heads and channels, got 4 dimensions for each index}}
  %r = "stablehlo.gather"(%pool, %at) <{dimension_numbers = #stablehlo.gather<offset_dims = [1, 2, 3, 4], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, slice_sizes = array<i64: 1, 16, 2, 2, 64>}> : (tensor<6x16x2x2x64xf32>, tensor<5x1xi32>) -> tensor<5x16x2x2x64xf32>
  return %r : tensor<5x16x2x2x64xf32>
}

// -----

func.func @no_pool_beyond_40_bits(%pool: tensor<6x1099511627776x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi64>) -> tensor<6x1099511627776x64xf32> {
  // expected-remark @+1 {{left alone: at most 2^40 elements of a tensor are expected}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x2xi64>, tensor<6x1099511627776x64xf32>) -> tensor<6x1099511627776x64xf32>
  return %new : tensor<6x1099511627776x64xf32>
}

// -----

func.func @no_list_beyond_40_bits(%pool: tensor<6x16x64xf32>, %rows: tensor<1099511627777x64xf32>, %at: tensor<1099511627777x2xi64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: at most 2^40 elements of a tensor are expected}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<1099511627777x64xf32>, tensor<1099511627777x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

func.func @no_wide_dimensions(%pool: tensor<6x16x64xf32>, %rows: tensor<5x64xf32>, %at: tensor<5x2xi64>) -> tensor<6x16x64xf32> {
  // expected-remark @+1 {{left alone: it has no dimension_map}}
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = [0 : i64, 36893488147419103233 : i128], unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}
