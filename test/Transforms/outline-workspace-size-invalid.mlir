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

// -----

func.func @too_large() {
  // expected-error@+1 {{'memref.alloc' op the workspace up to this buffer is expected to be less than 2^62 bytes, got a buffer of 'memref<4611686018427387904x8xi64>'}}
  %0 = memref.alloc() : memref<4611686018427387904x8xi64>
  return
}

// -----

func.func @too_large_together() {
  %0 = memref.alloc() : memref<3000000000000000000xi8>
  // expected-error@+1 {{'memref.alloc' op the workspace up to this buffer is expected to be less than 2^62 bytes, got a buffer of 'memref<3000000000000000000xi8>'}}
  %1 = memref.alloc() : memref<3000000000000000000xi8>
  return
}

// -----

func.func @divided_in_a_branch(%n: index, %by: index, %isNumber: i1) {
  scf.if %isNumber {
    %part = arith.divui %n, %by : index
    // expected-error@+1 {{'memref.alloc' op the size of this buffer is computed in a branch by 'arith.divui', which is not defined for all operands, so there is no upper bound for the workspace}}
    %0 = memref.alloc(%part) : memref<?xi64>
  }
  return
}

// -----

func.func @other(%n: index) {
  return
}
// expected-error@+1 {{the name 'other.workspace_size' is expected to be unused, since it is needed for the workspace size of 'other'}}
func.func @other.workspace_size(%n: index) -> i64 {
  %c = arith.constant 0 : i64
  return %c : i64
}

// -----

func.func @ring(%x: memref<?xf32>) {
  return
^unreachable:
  %m = arith.addi %n, %n : index
  %n = arith.addi %m, %m : index
  // expected-error@+1 {{'memref.alloc' op the size of this buffer is computed from itself, in code that is not reachable, so there is no upper bound for the workspace}}
  %a = memref.alloc(%m) : memref<?xf32>
  memref.copy %a, %x : memref<?xf32> to memref<?xf32>
  return
}
