// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s --kvcache-outline-parallel --verify-diagnostics --split-input-file

func.func @workspace_in_a_loop(%x: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    // expected-error@+1 {{'memref.alloc' op is expected outside the parallel loop: the workspace belongs to the thread of the call; move it before the loop, or use memref.alloca}}
    %own = memref.alloc() : memref<8xf32>
    %0 = memref.load %own[%c0] : memref<8xf32>
    memref.store %0, %x[%i] : memref<?xf32>
  }
  return
}

// -----

func.func @workspace_deep_inside(%x: memref<?xf32>, %n: index, %b: i1) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    scf.for %j = %c0 to %n step %c1 {
      scf.if %b {
        // expected-error@+1 {{expected outside the parallel loop}}
        %own = memref.alloc(%n) : memref<?xf32>
        %0 = memref.load %own[%j] : memref<?xf32>
        memref.store %0, %x[%i] : memref<?xf32>
      }
    }
  }
  return
}

// -----

func.func @product_of_tensors(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>, %y: tensor<4x8xf32>) -> tensor<4x8xf32> {
  // expected-error@+1 {{'linalg.matmul' op is expected to be bufferized and lowered}}
  %a = linalg.matmul ins(%x, %w : tensor<4x8xf32>, tensor<8x8xf32>)
    outs(%y : tensor<4x8xf32>) -> tensor<4x8xf32>
  return %a : tensor<4x8xf32>
}

// -----

// The branch would become blocks, of which such a body has one.
module @inner {
  func.func @branch_in_a_body(%n: index, %some: i1) -> tensor<?xindex> {
    // expected-error@+1 {{'tensor.generate' op is expected to be bufferized and lowered}}
    %a = tensor.generate %n {
    ^bb0(%i: index):
      %v = scf.if %some -> index {
        scf.yield %i : index
      } else {
        scf.yield %n : index
      }
      tensor.yield %v : index
    } : tensor<?xindex>
    return %a : tensor<?xindex>
  }
}
