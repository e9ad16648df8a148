// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// cache[table].reshape(R, M * N, H, D) as JAX 0.10 lowers it: negative numbers
// count from the end, others outside are moved to the nearest block.

"builtin.module"() <{sym_name = "jit_gather_ctx"}> ({
  "func.func"() <{arg_attrs = [{}, {}], function_type = (tensor<64x16x8x128xbf16>, tensor<3x5xi32>) -> tensor<3x80x8x128xbf16>, res_attrs = [{jax.result_info = "result"}], sym_name = "main", sym_visibility = "public"}> ({
  ^bb0(%arg0: tensor<64x16x8x128xbf16>, %arg1: tensor<3x5xi32>):
    %0 = "stablehlo.constant"() <{value = dense<0> : tensor<i32>}> : () -> tensor<i32>
    %1 = "stablehlo.broadcast_in_dim"(%0) <{broadcast_dimensions = array<i64>}> : (tensor<i32>) -> tensor<3x5xi32>
    %2 = "stablehlo.compare"(%arg1, %1) <{compare_type = #stablehlo<comparison_type SIGNED>, comparison_direction = #stablehlo<comparison_direction LT>}> : (tensor<3x5xi32>, tensor<3x5xi32>) -> tensor<3x5xi1>
    %3 = "stablehlo.constant"() <{value = dense<64> : tensor<i32>}> : () -> tensor<i32>
    %4 = "stablehlo.broadcast_in_dim"(%3) <{broadcast_dimensions = array<i64>}> : (tensor<i32>) -> tensor<3x5xi32>
    %5 = "stablehlo.add"(%arg1, %4) : (tensor<3x5xi32>, tensor<3x5xi32>) -> tensor<3x5xi32>
    %6 = "stablehlo.select"(%2, %5, %arg1) : (tensor<3x5xi1>, tensor<3x5xi32>, tensor<3x5xi32>) -> tensor<3x5xi32>
    %7 = "stablehlo.broadcast_in_dim"(%6) <{broadcast_dimensions = array<i64: 0, 1>}> : (tensor<3x5xi32>) -> tensor<3x5x1xi32>
    %8 = "stablehlo.gather"(%arg0, %7) <{dimension_numbers = #stablehlo.gather<offset_dims = [2, 3, 4], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, indices_are_sorted = false, slice_sizes = array<i64: 1, 16, 8, 128>}> : (tensor<64x16x8x128xbf16>, tensor<3x5x1xi32>) -> tensor<3x5x16x8x128xbf16>
    %9 = "stablehlo.reshape"(%8) : (tensor<3x5x16x8x128xbf16>) -> tensor<3x80x8x128xbf16>
    "func.return"(%9) : (tensor<3x80x8x128xbf16>) -> ()
  }) : () -> ()
}) {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} : () -> ()
