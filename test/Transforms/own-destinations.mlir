// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --cse --kvcache-own-destinations | FileCheck %s
// RUN: kv-opt %s --cse --kvcache-own-destinations=share=2 | FileCheck %s --check-prefix=TWO
// RUN: kv-opt %s --kvcache-bufferize | FileCheck %s --check-prefix=BUFFERS
// RUN: not kv-opt %s --kvcache-own-destinations=share=0 2>&1 | FileCheck %s --check-prefix=ZERO

// ZERO: error: 'share' is expected to be 1 or more, got 0

// Three products, each of which fills what it adds to. With one tensor of zeros
// for all, two of them would copy it. The first and the last have one buffer.

// CHECK-LABEL: func.func @products(
// CHECK: %[[E:.*]] = tensor.empty(%{{.*}}) : tensor<?x8xf32>
// CHECK-NOT: tensor.empty
// CHECK: %[[Z0:.*]] = linalg.fill ins(%{{.*}} : f32) outs(%[[E]] : tensor<?x8xf32>)
// CHECK-NEXT: linalg.matmul {{.*}} outs(%[[Z0]] : tensor<?x8xf32>)
// CHECK-NEXT: %[[Z1:.*]] = linalg.fill ins(%{{.*}} : f32) outs(%[[E]] : tensor<?x8xf32>)
// CHECK-NEXT: linalg.matmul {{.*}} outs(%[[Z1]] : tensor<?x8xf32>)
// CHECK-NEXT: %[[Z2:.*]] = linalg.fill ins(%{{.*}} : f32) outs(%[[E]] : tensor<?x8xf32>)
// CHECK-NEXT: linalg.matmul {{.*}} outs(%[[Z2]] : tensor<?x8xf32>)
// TWO-LABEL: func.func @products(
// TWO-DAG: %[[E0:.*]] = tensor.empty(%[[N:.*]]) : tensor<?x8xf32>
// TWO-DAG: %[[E1:.*]] = tensor.empty(%[[N]]) : tensor<?x8xf32>
// TWO: linalg.fill ins(%{{.*}} : f32) outs(%[[SHARED:.*]] : tensor<?x8xf32>)
// TWO: linalg.fill ins(%{{.*}} : f32) outs(%[[SHARED]] : tensor<?x8xf32>)
// TWO-NOT: outs(%[[SHARED]] :
// TWO: linalg.fill
// TWO: return
// BUFFERS-LABEL: func.func @products(
// BUFFERS-COUNT-1: memref.alloc
// BUFFERS-NOT: memref.alloc
// BUFFERS-NOT: memref.copy
// BUFFERS: return
func.func @products(%x: tensor<?x8xf32>, %w: tensor<8x8xf32>, %n: index)
    -> tensor<?x8xf32> {
  %zero = arith.constant 0.0 : f32
  %e0 = tensor.empty(%n) : tensor<?x8xf32>
  %z0 = linalg.fill ins(%zero : f32) outs(%e0 : tensor<?x8xf32>) -> tensor<?x8xf32>
  %a = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x8xf32>)
    outs(%z0 : tensor<?x8xf32>) -> tensor<?x8xf32>
  %e1 = tensor.empty(%n) : tensor<?x8xf32>
  %z1 = linalg.fill ins(%zero : f32) outs(%e1 : tensor<?x8xf32>) -> tensor<?x8xf32>
  %b = linalg.matmul ins(%a, %w : tensor<?x8xf32>, tensor<8x8xf32>)
    outs(%z1 : tensor<?x8xf32>) -> tensor<?x8xf32>
  %e2 = tensor.empty(%n) : tensor<?x8xf32>
  %z2 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<?x8xf32>) -> tensor<?x8xf32>
  %c = linalg.matmul ins(%b, %w : tensor<?x8xf32>, tensor<8x8xf32>)
    outs(%z2 : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %c : tensor<?x8xf32>
}

// In a loop zeros are filled in again, and their buffer is outside of it.

// CHECK-LABEL: func.func @in_loop(
// CHECK: tensor.empty
// CHECK: scf.for
// CHECK-NOT: tensor.empty
// CHECK: %[[Z:.*]] = linalg.fill
// CHECK-NEXT: linalg.matmul {{.*}} outs(%[[Z]] : tensor<?x8xf32>)
// CHECK: scf.yield
// BUFFERS-LABEL: func.func @in_loop(
// BUFFERS: scf.for
// BUFFERS-NOT: memref.alloc
// BUFFERS-NOT: memref.copy
// BUFFERS: return
func.func @in_loop(%x: tensor<?x8xf32>, %w: tensor<8x8xf32>, %n: index)
    -> tensor<?x8xf32> {
  %zero = arith.constant 0.0 : f32
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %e = tensor.empty(%n) : tensor<?x8xf32>
  %z = linalg.fill ins(%zero : f32) outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
  %a = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x8xf32>)
    outs(%z : tensor<?x8xf32>) -> tensor<?x8xf32>
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%h = %a) -> (tensor<?x8xf32>) {
    %b = linalg.matmul ins(%h, %w : tensor<?x8xf32>, tensor<8x8xf32>)
      outs(%z : tensor<?x8xf32>) -> tensor<?x8xf32>
    %s = linalg.add ins(%b, %h : tensor<?x8xf32>, tensor<?x8xf32>)
      outs(%h : tensor<?x8xf32>) -> tensor<?x8xf32>
    scf.yield %s : tensor<?x8xf32>
  }
  return %r : tensor<?x8xf32>
}

// What is read as well keeps what it reads.

// CHECK-LABEL: func.func @read(
// CHECK: %[[Z:.*]] = linalg.fill
// CHECK: tensor.extract %[[Z]]
// CHECK: %[[OWN:.*]] = linalg.fill
// CHECK: linalg.matmul {{.*}} outs(%[[OWN]] : tensor<?x8xf32>)
func.func @read(%x: tensor<?x8xf32>, %w: tensor<8x8xf32>, %n: index)
    -> (tensor<?x8xf32>, f32) {
  %zero = arith.constant 0.0 : f32
  %c0 = arith.constant 0 : index
  %e = tensor.empty(%n) : tensor<?x8xf32>
  %z = linalg.fill ins(%zero : f32) outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
  %first = tensor.extract %z[%c0, %c0] : tensor<?x8xf32>
  %a = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x8xf32>)
    outs(%z : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %a, %first : tensor<?x8xf32>, f32
}

// One operation, and what asks for extents.

// CHECK-LABEL: func.func @no_other(
// CHECK-COUNT-1: tensor.empty
// CHECK-NOT: tensor.empty
// CHECK: return
func.func @no_other(%x: tensor<?xf32>, %n: index) -> (tensor<?xf32>, index) {
  %c0 = arith.constant 0 : index
  %e = tensor.empty(%n) : tensor<?xf32>
  %a = linalg.add ins(%x, %x : tensor<?xf32>, tensor<?xf32>)
    outs(%e : tensor<?xf32>) -> tensor<?xf32>
  %d = tensor.dim %e, %c0 : tensor<?xf32>
  return %a, %d : tensor<?xf32>, index
}
