// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What an operation with a region does, of a dialect that is not loaded, is known
// to nobody, so that functions around it are not inlined.
//
// RUN: kv-opt %s --allow-unregistered-dialect --kvcache-bufferize --verify-diagnostics
// RUN: kv-opt %s --allow-unregistered-dialect --kvcache-optimize --verify-diagnostics
// RUN: kv-opt %s --allow-unregistered-dialect --kvcache-split-layer-groups --verify-diagnostics

func.func private @same(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = call @same(%x) : (tensor<4xf32>) -> tensor<4xf32>
  // expected-error @+1 {{'stablehlo.reduce' op has a region and belongs to a dialect that is not loaded: it is expected to be raised or lowered first}}
  %1 = "stablehlo.reduce"(%0) ({
  ^bb0(%a: tensor<f32>):
    "stablehlo.return"(%a) : (tensor<f32>) -> ()
  }) : (tensor<4xf32>) -> tensor<4xf32>
  return %1 : tensor<4xf32>
}
