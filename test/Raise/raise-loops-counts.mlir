// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loops to constants that no list is as long as.
//
// RUN: kv-opt %s --kvcache-raise=last-row-wins --split-input-file --verify-diagnostics --remark-format=emitRemark --remarks-filter='.*' -o /dev/null

// -----

func.func @no_loop_to_a_negative_number(%pool: memref<1024x64xf32> {kvcache.noalias}, %rows: memref<?x64xf32>, %slots: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c64 = arith.constant 64 : index
  %end = arith.constant -2 : index
  // expected-remark @+1 {{left alone: expected between 0 and 2^40 iterations of a loop, got an upper bound of -2}}
  scf.for %t = %c0 to %end step %c1 {
    %s = memref.load %slots[%t] : memref<?xi64>
    %i = arith.index_cast %s : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<?x64xf32>
      memref.store %x, %pool[%i, %d] : memref<1024x64xf32>
    }
  }
  return
}

// -----

func.func @no_loop_to_what_means_unknown(%pool: memref<1024x64xf32> {kvcache.noalias}, %rows: memref<?x64xf32>, %slots: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c64 = arith.constant 64 : index
  %end = arith.constant -9223372036854775808 : index
  // expected-remark @+1 {{left alone: expected between 0 and 2^40 iterations of a loop, got an upper bound of -9223372036854775808}}
  scf.for %t = %c0 to %end step %c1 {
    %s = memref.load %slots[%t] : memref<?xi64>
    %i = arith.index_cast %s : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<?x64xf32>
      memref.store %x, %pool[%i, %d] : memref<1024x64xf32>
    }
  }
  return
}

// -----

func.func @no_loop_beyond_40_bits(%pool: memref<17179869184x64xf32> {kvcache.noalias}, %rows: memref<?x64xf32>, %slots: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c64 = arith.constant 64 : index
  %end = arith.constant 1099511627777 : index
  // expected-remark @+1 {{left alone: expected between 0 and 2^40 iterations of a loop, got an upper bound of 1099511627777}}
  scf.for %t = %c0 to %end step %c1 {
    %s = memref.load %slots[%t] : memref<?xi64>
    %i = arith.index_cast %s : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<?x64xf32>
      memref.store %x, %pool[%i, %d] : memref<17179869184x64xf32>
    }
  }
  return
}
