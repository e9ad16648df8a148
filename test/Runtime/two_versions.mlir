// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

// Twice the numbers, by way of the workspace and on several threads.
func.func @f(%x: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = memref.dim %x, %c0 : memref<?xi64>
  %copy = memref.alloc(%n) : memref<?xi64>
  memref.copy %x, %copy : memref<?xi64> to memref<?xi64>
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %a = memref.load %copy[%i] : memref<?xi64>
    %b = arith.addi %a, %a : i64
    memref.store %b, %x[%i] : memref<?xi64>
  }
  return
}
