// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// cache.index_copy_(0, slots, rows), as IREE 3.13 imports it from PyTorch 2.13.

"builtin.module"() ({
  "func.func"() <{arg_attrs = [{iree.abi.output = 0 : index}, {}, {}], function_type = (tensor<1024x8x128xf32>, tensor<7x8x128xf32>, tensor<7xi64>) -> tensor<1024x8x128xf32>, sym_name = "index_copy"}> ({
  ^bb0(%arg0: tensor<1024x8x128xf32>, %arg1: tensor<7x8x128xf32>, %arg2: tensor<7xi64>):
    %0 = "tensor.expand_shape"(%arg2) <{reassociation = [[0, 1]], static_output_shape = array<i64: 7, 1>}> : (tensor<7xi64>) -> tensor<7x1xi64>
    %1 = "iree_linalg_ext.scatter"(%arg1, %0, %arg0) <{dimension_map = array<i64: 0>, unique_indices = true}> ({
    ^bb0(%arg3: f32, %arg4: f32):
      "iree_linalg_ext.yield"(%arg3) : (f32) -> ()
    }) : (tensor<7x8x128xf32>, tensor<7x1xi64>, tensor<1024x8x128xf32>) -> tensor<1024x8x128xf32>
    "func.return"(%1) : (tensor<1024x8x128xf32>) -> ()
  }) : () -> ()
}) : () -> ()
