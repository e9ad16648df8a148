// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a function returns is not what a function in a module in its body does.
//
// RUN: kv-opt %s --kvcache-keep-arguments | FileCheck %s

func.func private @around_a_module(%x: tensor<4xf32>, %y: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  builtin.module {
    func.func @inner() {
      return
    }
  }
  return %x, %y : tensor<4xf32>, tensor<4xf32>
}

// CHECK-LABEL: func.func @calls(
// CHECK-SAME: %{{.*}}: tensor<4xf32>, %[[Y:.*]]: tensor<4xf32>)
// CHECK: %[[R:.*]]:2 = call @around_a_module(
// CHECK: %[[E:.*]] = tensor.empty() : tensor<4xf32>
// CHECK: linalg.generic {{.*}} ins(%[[R]]#1, %[[Y]] : {{.*}}) outs(%[[E]] : tensor<4xf32>)
func.func @calls(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %a, %b = call @around_a_module(%x, %y) : (tensor<4xf32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
  %sum = arith.addf %b, %y : tensor<4xf32>
  return %sum : tensor<4xf32>
}
