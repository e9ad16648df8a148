// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Arithmetic on tensors whose operands may be memory of a caller gets a tensor
// of its own. test/numerics/keep_arguments.py runs the results.
//
// RUN: kv-opt %s --kvcache-keep-arguments --split-input-file | FileCheck %s
// RUN: kv-opt %s --kvcache-bufferize --split-input-file | FileCheck %s --check-prefix=BUFFERS

// CHECK-LABEL: func.func @sum(
// CHECK-SAME: %[[A:.*]]: tensor<?x4xf32>, %[[B:.*]]: tensor<?x4xf32>)
// CHECK: %[[N:.*]] = tensor.dim %[[A]], %{{.*}}
// CHECK: %[[E:.*]] = tensor.empty(%[[N]]) : tensor<?x4xf32>
// CHECK: %[[R:.*]] = linalg.generic {{.*}} ins(%[[A]], %[[B]] : {{.*}}) outs(%[[E]] : tensor<?x4xf32>)
// CHECK: arith.addf %{{.*}}, %{{.*}} fastmath<contract> : f32
// CHECK: return %[[R]]
// BUFFERS-LABEL: func.func @sum(
// BUFFERS-SAME: %[[A:.*]]: memref<?x4xf32>, %[[B:.*]]: memref<?x4xf32>, %[[OUT:.*]]: memref<?x4xf32> {bufferize.result})
// BUFFERS: outs(%[[OUT]] : memref<?x4xf32>)
func.func @sum(%a: tensor<?x4xf32>, %b: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %0 = arith.addf %a, %b fastmath<contract> : tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}

// -----

// What the function makes itself may be overwritten, and a scalar is read by
// all elements.
// CHECK-LABEL: func.func @local(
// CHECK: linalg.generic {{.*}} ins(%arg1, %arg0, %arg0 : i1, tensor<4xf32>, tensor<4xf32>)
// CHECK: arith.select
// CHECK: math.exp %{{.*}} : tensor<4xf32>
// CHECK: arith.cmpf ogt, %{{.*}}, %{{.*}} : tensor<4xf32>
func.func @local(%a: tensor<4xf32>, %c: i1) -> tensor<4xi1> {
  %0 = arith.select %c, %a, %a : tensor<4xf32>
  %1 = math.exp %0 : tensor<4xf32>
  %2 = arith.cmpf ogt, %1, %a : tensor<4xf32>
  return %2 : tensor<4xi1>
}

// -----

// Through slices, reshapes and private functions. What a loop carries is the
// loop's own: one buffer, which is updated.
// CHECK-LABEL: func.func private @inner(
// CHECK-NOT: tensor.empty
// CHECK: math.exp %arg0 : tensor<4xf32>
// CHECK-LABEL: func.func private @outer(
// CHECK: tensor.empty
// CHECK: linalg.generic
// CHECK-LABEL: func.func @through(
// CHECK: linalg.generic {{.*}} ins(%{{.*}} : tensor<2x2xf32>) outs(%{{.*}} : tensor<2x2xf32>)
// CHECK: scf.for
// CHECK: math.exp %{{.*}} : tensor<4xf32>
// CHECK: arith.addf %{{.*}}, %{{.*}} : tensor<4xf32>
func.func private @inner(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = math.exp %x : tensor<4xf32>
  return %0 : tensor<4xf32>
}
func.func private @outer(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = math.exp %x : tensor<4xf32>
  return %0 : tensor<4xf32>
}
func.func @through(%a: tensor<8xf32>, %f: f32) -> (tensor<2x2xf32>, tensor<4xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %half = tensor.extract_slice %a[4] [4] [1] : tensor<8xf32> to tensor<4xf32>
  %square = tensor.expand_shape %half [[0, 1]] output_shape [2, 2] : tensor<4xf32> into tensor<2x2xf32>
  %0 = math.exp %square : tensor<2x2xf32>
  %1 = scf.for %i = %c0 to %c4 step %c1 iter_args(%h = %half) -> tensor<4xf32> {
    %2 = math.exp %h : tensor<4xf32>
    scf.yield %2 : tensor<4xf32>
  }
  %3 = func.call @outer(%half) : (tensor<4xf32>) -> tensor<4xf32>
  %made = tensor.splat %f : tensor<4xf32>
  %4 = func.call @inner(%made) : (tensor<4xf32>) -> tensor<4xf32>
  %5 = arith.addf %4, %3 : tensor<4xf32>
  %6 = arith.addf %5, %1 : tensor<4xf32>
  return %0, %6 : tensor<2x2xf32>, tensor<4xf32>
}
