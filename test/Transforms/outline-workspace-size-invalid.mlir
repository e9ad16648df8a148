// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-outline-workspace-size --verify-diagnostics --split-input-file

func.func @size_is_data(%x: memref<?xindex>) {
  %c0 = arith.constant 0 : index
  %n = memref.load %x[%c0] : memref<?xindex>
  // expected-error@+1 {{'memref.alloc' op the size of this buffer depends on data, so there is no upper bound for the workspace}}
  %0 = memref.alloc(%n) : memref<?xi64>
  return
}

// -----

func.func @size_is_computed_from_data(%x: memref<?xindex>) {
  %c0 = arith.constant 0 : index
  %n = memref.load %x[%c0] : memref<?xindex>
  %twice = arith.addi %n, %n : index
  // expected-error@+1 {{'memref.alloc' op the size of this buffer depends on data, so there is no upper bound for the workspace}}
  %0 = memref.alloc(%twice) : memref<?xi64>
  return
}

// -----

func.func @in_a_loop(%n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %i = %c0 to %n step %c1 {
    // expected-error@+1 {{'memref.alloc' op this buffer is allocated in a loop, so there is no upper bound for the workspace}}
    %0 = memref.alloc() : memref<8xi64>
  }
  return
}

// -----

func.func @in_a_loop_of_blocks(%again: i1) {
  cf.br ^loop
^loop:
  // expected-error@+1 {{'memref.alloc' op this buffer is allocated in a loop, so there is no upper bound for the workspace}}
  %0 = memref.alloc() : memref<8xi64>
  cf.cond_br %again, ^loop, ^end
^end:
  return
}

// -----

func.func @recursive(%again: i1) {
  %0 = memref.alloc() : memref<8xi64>
  scf.if %again {
    // expected-error@+1 {{'func.call' op this call is not inlined, so there is no upper bound for the workspace}}
    func.call @recursive(%again) : (i1) -> ()
  }
  return
}

// -----

func.func @unknown_elements() {
  // expected-error@+1 {{'memref.alloc' op the size of this buffer is not known, as its elements are neither integers nor floats, got 'vector<4xf32>'}}
  %0 = memref.alloc() : memref<8xvector<4xf32>>
  return
}
