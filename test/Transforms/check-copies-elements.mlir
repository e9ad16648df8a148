// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kvcache-check-copies counts bytes of buffers of any elements, and elements
// where it does not know their size.
//
// RUN: kv-opt %s --kvcache-check-copies=bufferized -o /dev/null --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s --implicit-check-not=remark: --implicit-check-not=error

// CHECK: remark: {{.*}}Remark="a buffer of 128 bytes"
// CHECK: remark: {{.*}}Remark="a copy of 128 bytes"
func.func @vectors(%from: memref<2xvector<16xf32>>) {
  %a = memref.alloc() : memref<2xvector<16xf32>>
  memref.copy %from, %a : memref<2xvector<16xf32>> to memref<2xvector<16xf32>>
  return
}

// CHECK: remark: {{.*}}Remark="a buffer of 24 bytes for each index of dimension 0"
// CHECK: remark: {{.*}}Remark="a buffer of 32 bytes"
// CHECK: remark: {{.*}}Remark="a buffer of 6 bytes"
func.func @indices_complex_numbers_and_bits(%n: index) {
  %a = memref.alloc(%n) : memref<?x3xindex>
  %b = memref.alloc() : memref<4xcomplex<f32>>
  %c = memref.alloc() : memref<6xi1>
  return
}

// CHECK: remark: {{.*}}Remark="a buffer of 2 elements for each index of dimension 1"
// CHECK: remark: {{.*}}Remark="a buffer of 4 elements"
func.func @no_size(%n: index) {
  %a = memref.alloc(%n) : memref<2x?xmemref<?xf32>>
  %b = memref.alloc() : memref<4xvector<[4]xf32>>
  return
}

// CHECK: remark: {{.*}}Remark="a copy of any number of bytes"
func.func @no_rank(%a: memref<*xf32>, %b: memref<*xf32>) {
  memref.copy %a, %b : memref<*xf32> to memref<*xf32>
  return
}

// A number of bytes that no machine has.

// CHECK: remark: {{.*}}Remark="a buffer of 18446744073709551615 bytes"
func.func @too_many() {
  %a = memref.alloc() : memref<4611686018427387904x4611686018427387904xf32>
  return
}
