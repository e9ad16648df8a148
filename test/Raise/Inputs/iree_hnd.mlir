// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The update of a [64, 8, 16, 128] cache by index_put_ through
// permute(0, 2, 1, 3), as IREE 3.13 imports it from PyTorch 2.13. Its HAL wrapper
// is replaced by tensor arguments.

#map = affine_map<(d0) -> (d0)>
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{iree.abi.output = 0 : index}, {}, {}], function_type = (tensor<64x8x16x128xf32>, tensor<7x8x128xf32>, tensor<7xi64>) -> tensor<64x8x16x128xf32>, sym_name = "hnd"}> ({
  ^bb0(%arg0: tensor<64x8x16x128xf32>, %arg1: tensor<7x8x128xf32>, %arg2: tensor<7xi64>):
    %0 = "arith.constant"() <{value = 0 : i64}> : () -> i64
    %1 = "arith.constant"() <{value = 16 : i64}> : () -> i64
    %2 = "arith.constant"() <{value = 1.600000e+01 : f32}> : () -> f32
    %3 = "tensor.empty"() : () -> tensor<7xi64>
    %4 = "linalg.generic"(%arg2, %3) <{indexing_maps = [#map, #map], iterator_types = [#linalg.iterator_type<parallel>], operandSegmentSizes = array<i32: 1, 1>}> ({
    ^bb0(%arg11: i64, %arg12: i64):
      %20 = "arith.sitofp"(%arg11) : (i64) -> f32
      %21 = "arith.divf"(%20, %2) <{fastmath = #arith.fastmath<none>}> : (f32, f32) -> f32
      %22 = "math.floor"(%21) <{fastmath = #arith.fastmath<none>}> : (f32) -> f32
      %23 = "arith.fptosi"(%22) : (f32) -> i64
      "linalg.yield"(%23) : (i64) -> ()
    }) : (tensor<7xi64>, tensor<7xi64>) -> tensor<7xi64>
    %5 = "linalg.generic"(%arg2, %3) <{indexing_maps = [#map, #map], iterator_types = [#linalg.iterator_type<parallel>], operandSegmentSizes = array<i32: 1, 1>}> ({
    ^bb0(%arg9: i64, %arg10: i64):
      %14 = "arith.remsi"(%arg9, %1) : (i64, i64) -> i64
      %15 = "arith.cmpi"(%14, %0) <{predicate = 1 : i64}> : (i64, i64) -> i1
      %16 = "arith.cmpi"(%14, %0) <{predicate = 2 : i64}> : (i64, i64) -> i1
      %17 = "arith.andi"(%15, %16) : (i1, i1) -> i1
      %18 = "arith.addi"(%14, %1) <{overflowFlags = #arith.overflow<none>}> : (i64, i64) -> i64
      %19 = "arith.select"(%17, %18, %14) : (i1, i64, i64) -> i64
      "linalg.yield"(%19) : (i64) -> ()
    }) : (tensor<7xi64>, tensor<7xi64>) -> tensor<7xi64>
    %6 = "tensor.empty"() : () -> tensor<64x16x8x128xf32>
    %7 = "linalg.transpose"(%arg0, %6) <{permutation = array<i64: 0, 2, 1, 3>}> ({
    ^bb0(%arg7: f32, %arg8: f32):
      "linalg.yield"(%arg7) : (f32) -> ()
    }) : (tensor<64x8x16x128xf32>, tensor<64x16x8x128xf32>) -> tensor<64x16x8x128xf32>
    %8 = "tensor.expand_shape"(%4) <{reassociation = [[0, 1]], static_output_shape = array<i64: 7, 1>}> : (tensor<7xi64>) -> tensor<7x1xi64>
    %9 = "tensor.expand_shape"(%5) <{reassociation = [[0, 1]], static_output_shape = array<i64: 7, 1>}> : (tensor<7xi64>) -> tensor<7x1xi64>
    %10 = "tensor.concat"(%8, %9) <{dim = 1 : i64}> : (tensor<7x1xi64>, tensor<7x1xi64>) -> tensor<7x2xi64>
    %11 = "iree_linalg_ext.scatter"(%arg1, %10, %7) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
    ^bb0(%arg5: f32, %arg6: f32):
      "iree_linalg_ext.yield"(%arg5) : (f32) -> ()
    }) : (tensor<7x8x128xf32>, tensor<7x2xi64>, tensor<64x16x8x128xf32>) -> tensor<64x16x8x128xf32>
    %12 = "tensor.empty"() : () -> tensor<64x8x16x128xf32>
    %13 = "linalg.transpose"(%11, %12) <{permutation = array<i64: 0, 2, 1, 3>}> ({
    ^bb0(%arg3: f32, %arg4: f32):
      "linalg.yield"(%arg3) : (f32) -> ()
    }) : (tensor<64x16x8x128xf32>, tensor<64x8x16x128xf32>) -> tensor<64x8x16x128xf32>
    "func.return"(%13) : (tensor<64x8x16x128xf32>) -> ()
  }) : () -> ()
}) : () -> ()
