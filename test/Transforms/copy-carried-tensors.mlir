// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a loop carries has one buffer. test/numerics/carried_tensors.py runs the
// same programs.
//
// RUN: kv-opt %s --kvcache-copy-carried-tensors | FileCheck %s
// RUN: kv-opt %s --kvcache-bufferize | FileCheck %s --check-prefix=BUFFER

// A result with a buffer of its own, whichever operand comes first.
// CHECK-LABEL: func.func @residual(
//       CHECK: scf.for {{.*}} iter_args(%[[H:.*]] = %{{.*}}) ->
//       CHECK:   %[[NEXT:.*]] = linalg.add ins(%{{.*}}, %[[H]] :
//  CHECK-NEXT:   %[[COPY:.*]] = bufferization.materialize_in_destination %[[NEXT]] in %[[H]]
//  CHECK-NEXT:   scf.yield %[[COPY]]
// BUFFER-LABEL: func.func @residual(
//       BUFFER: scf.for
//       BUFFER:   memref.copy
//   BUFFER-NOT:   memref.copy
//       BUFFER: return
func.func @residual(%x: tensor<?x8xf32>, %w: tensor<4x8x8xf32>, %n: index)
    -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %r = scf.for %l = %c0 to %n step %c1 iter_args(%h = %x) -> (tensor<?x8xf32>) {
    %wl = tensor.extract_slice %w[%l, 0, 0] [1, 8, 8] [1, 1, 1]
      : tensor<4x8x8xf32> to tensor<8x8xf32>
    %e = tensor.empty(%t) : tensor<?x8xf32>
    %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
    %m = linalg.matmul ins(%h, %wl : tensor<?x8xf32>, tensor<8x8xf32>)
      outs(%f : tensor<?x8xf32>) -> tensor<?x8xf32>
    %s = linalg.add ins(%m, %h : tensor<?x8xf32>, tensor<?x8xf32>)
      outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
    scf.yield %s : tensor<?x8xf32>
  }
  return %r : tensor<?x8xf32>
}

// One that is made in place is not copied.
// CHECK-LABEL: func.func @no_copy_in_place(
//   CHECK-NOT: bufferization.
// BUFFER-LABEL: func.func @no_copy_in_place(
//   BUFFER-NOT: memref.copy
//       BUFFER: return
func.func @no_copy_in_place(%x: tensor<?x8xf32>, %y: tensor<?x8xf32>, %n: index)
    -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r = scf.for %l = %c0 to %n step %c1 iter_args(%h = %x) -> (tensor<?x8xf32>) {
    %s = linalg.add ins(%y, %y : tensor<?x8xf32>, tensor<?x8xf32>)
      outs(%h : tensor<?x8xf32>) -> tensor<?x8xf32>
    scf.yield %s : tensor<?x8xf32>
  }
  return %r : tensor<?x8xf32>
}

// Two that change places are both copied before one is overwritten.
// CHECK-LABEL: func.func @exchange(
//       CHECK: scf.for {{.*}} iter_args(%[[A:.*]] = %{{.*}}, %[[B:.*]] = %{{.*}}) ->
//   CHECK-DAG:   %[[B1:.*]] = bufferization.alloc_tensor() copy(%[[B]])
//   CHECK-DAG:   %[[A1:.*]] = bufferization.alloc_tensor() copy(%[[A]])
//       CHECK:   %[[A2:.*]] = bufferization.materialize_in_destination %[[B1]] in %[[A]]
//       CHECK:   %[[B2:.*]] = bufferization.materialize_in_destination %[[A1]] in %[[B]]
//       CHECK:   scf.yield %[[A2]], %[[B2]]
// BUFFER-LABEL: func.func @exchange(
func.func @exchange(%x: tensor<4x8xf32>, %y: tensor<4x8xf32>, %n: index)
    -> (tensor<4x8xf32>, tensor<4x8xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r:2 = scf.for %l = %c0 to %n step %c1 iter_args(%a = %x, %b = %y)
      -> (tensor<4x8xf32>, tensor<4x8xf32>) {
    scf.yield %b, %a : tensor<4x8xf32>, tensor<4x8xf32>
  }
  return %r#0, %r#1 : tensor<4x8xf32>, tensor<4x8xf32>
}

// The inner loop gives the outer one its own buffer back, once it copies.
// CHECK-LABEL: func.func @nested(
//       CHECK: scf.for {{.*}} iter_args(%[[G:.*]] = %{{.*}}) ->
//       CHECK:   %[[INNER:.*]] = scf.for {{.*}} iter_args(%[[H:.*]] = %[[G]]) ->
//       CHECK:     bufferization.materialize_in_destination %{{.*}} in %[[H]]
//       CHECK:   }
//  CHECK-NEXT:   scf.yield %[[INNER]]
// BUFFER-LABEL: func.func @nested(
func.func @nested(%x: tensor<?x8xf32>, %n: index) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r = scf.for %k = %c0 to %n step %c1 iter_args(%g = %x) -> (tensor<?x8xf32>) {
    %q = scf.for %l = %c0 to %n step %c1 iter_args(%h = %g) -> (tensor<?x8xf32>) {
      %t = tensor.dim %h, %c0 : tensor<?x8xf32>
      %e = tensor.empty(%t) : tensor<?x8xf32>
      %s = linalg.add ins(%h, %h : tensor<?x8xf32>, tensor<?x8xf32>)
        outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
      scf.yield %s : tensor<?x8xf32>
    }
    scf.yield %q : tensor<?x8xf32>
  }
  return %r : tensor<?x8xf32>
}
