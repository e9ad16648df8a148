// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s --kvcache-outline-parallel --verify-diagnostics --split-input-file

func.func @workspace_in_a_loop(%x: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    // expected-error@+1 {{'memref.alloc' op is expected outside of the parallel loop: the workspace belongs to the thread of the call; move it before the loop, or use memref.alloca}}
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
        // expected-error@+1 {{expected outside of the parallel loop}}
        %own = memref.alloc(%n) : memref<?xf32>
        %0 = memref.load %own[%j] : memref<?xf32>
        memref.store %0, %x[%i] : memref<?xf32>
      }
    }
  }
  return
}
