// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// cache.index_put_((slots // 16, slots % 16), rows), as IREE 3.13 imports it
// from PyTorch 2.13: the floor division goes through f32.

#map = affine_map<(d0) -> (d0)>
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{iree.abi.output = 0 : index}, {}, {}], function_type = (tensor<64x16x8x128xf32>, tensor<7x8x128xf32>, tensor<7xi64>) -> tensor<64x16x8x128xf32>, sym_name = "index_put"}> ({
  ^bb0(%arg0: tensor<64x16x8x128xf32>, %arg1: tensor<7x8x128xf32>, %arg2: tensor<7xi64>):
    %0 = "arith.constant"() <{value = 16 : i64}> : () -> i64
    %1 = "arith.constant"() <{value = 0 : i64}> : () -> i64
    %2 = "arith.constant"() <{value = 1.600000e+01 : f32}> : () -> f32
    %3 = "tensor.empty"() : () -> tensor<7xi64>
    %4 = "linalg.generic"(%arg2, %3) <{indexing_maps = [#map, #map], iterator_types = [#linalg.iterator_type<parallel>], operandSegmentSizes = array<i32: 1, 1>}> ({
    ^bb0(%arg7: i64, %arg8: i64):
      %16 = "arith.sitofp"(%arg7) : (i64) -> f32
      %17 = "arith.divf"(%16, %2) <{fastmath = #arith.fastmath<none>}> : (f32, f32) -> f32
      %18 = "math.floor"(%17) <{fastmath = #arith.fastmath<none>}> : (f32) -> f32
      %19 = "arith.fptosi"(%18) : (f32) -> i64
      "linalg.yield"(%19) : (i64) -> ()
    }) : (tensor<7xi64>, tensor<7xi64>) -> tensor<7xi64>
    %5 = "linalg.generic"(%arg2, %3) <{indexing_maps = [#map, #map], iterator_types = [#linalg.iterator_type<parallel>], operandSegmentSizes = array<i32: 1, 1>}> ({
    ^bb0(%arg5: i64, %arg6: i64):
      %10 = "arith.remsi"(%arg5, %0) : (i64, i64) -> i64
      %11 = "arith.cmpi"(%10, %1) <{predicate = 1 : i64}> : (i64, i64) -> i1
      %12 = "arith.cmpi"(%10, %1) <{predicate = 2 : i64}> : (i64, i64) -> i1
      %13 = "arith.andi"(%11, %12) : (i1, i1) -> i1
      %14 = "arith.addi"(%10, %0) <{overflowFlags = #arith.overflow<none>}> : (i64, i64) -> i64
      %15 = "arith.select"(%13, %14, %10) : (i1, i64, i64) -> i64
      "linalg.yield"(%15) : (i64) -> ()
    }) : (tensor<7xi64>, tensor<7xi64>) -> tensor<7xi64>
    %6 = "tensor.expand_shape"(%4) <{reassociation = [[0, 1]], static_output_shape = array<i64: 7, 1>}> : (tensor<7xi64>) -> tensor<7x1xi64>
    %7 = "tensor.expand_shape"(%5) <{reassociation = [[0, 1]], static_output_shape = array<i64: 7, 1>}> : (tensor<7xi64>) -> tensor<7x1xi64>
    %8 = "tensor.concat"(%6, %7) <{dim = 1 : i64}> : (tensor<7x1xi64>, tensor<7x1xi64>) -> tensor<7x2xi64>
    %9 = "iree_linalg_ext.scatter"(%arg1, %8, %arg0) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
    ^bb0(%arg3: f32, %arg4: f32):
      "iree_linalg_ext.yield"(%arg3) : (f32) -> ()
    }) : (tensor<7x8x128xf32>, tensor<7x2xi64>, tensor<64x16x8x128xf32>) -> tensor<64x16x8x128xf32>
    "func.return"(%9) : (tensor<64x16x8x128xf32>) -> ()
  }) : () -> ()
}) : () -> ()
