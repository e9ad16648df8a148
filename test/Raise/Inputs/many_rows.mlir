// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

func.func @many_rows(%pool: tensor<536870912x4x8xf32> {bufferization.writable = true}, %rows: tensor<3x8xf32>, %slots: tensor<3xi32>) -> tensor<536870912x4x8xf32> {
  %z = arith.constant dense<0> : tensor<3xi32>
  %n = arith.constant dense<2> : tensor<3xi32>
  %m = arith.constant dense<3> : tensor<3xi32>
  %B = arith.constant dense<536870912> : tensor<3xi32>
  %b0 = arith.shrsi %slots, %n : tensor<3xi32>
  %neg = arith.cmpi slt, %b0, %z : tensor<3xi32>
  %up = arith.addi %b0, %B : tensor<3xi32>
  %b = arith.select %neg, %up, %b0 : tensor<3xi1>, tensor<3xi32>
  %o = arith.andi %slots, %m : tensor<3xi32>
  %b1 = tensor.expand_shape %b [[0, 1]] output_shape [3, 1] : tensor<3xi32> into tensor<3x1xi32>
  %o1 = tensor.expand_shape %o [[0, 1]] output_shape [3, 1] : tensor<3xi32> into tensor<3x1xi32>
  %at = tensor.concat dim(1) %b1, %o1 : (tensor<3x1xi32>, tensor<3x1xi32>) -> tensor<3x2xi32>
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<3x8xf32>, tensor<3x2xi32>, tensor<536870912x4x8xf32>) -> tensor<536870912x4x8xf32>
  return %new : tensor<536870912x4x8xf32>
}
