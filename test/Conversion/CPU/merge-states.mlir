// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Channels are merged in vectors, one after the other.
//
// RUN: kv-opt %s --convert-kvcache-to-loops --split-input-file | FileCheck %s

// CHECK-LABEL: func.func @vectors(
// CHECK: scf.parallel
// CHECK: scf.for %{{.*}} = %{{.*}} to %c4
// CHECK-NOT: scf.for
// CHECK-COUNT-2: vector.store {{.*}}, vector<16xbf16>
// CHECK: vector.store {{.*}}, vector<8xbf16>
// CHECK-NOT: vector.store
// CHECK: return
func.func @vectors(%a: memref<?x4x40xbf16>, %l: memref<?x4xf32>, %out: memref<?x4x40xbf16>) {
  kvcache.merge_states %a, %l with %a, %l into %out, %l
    : memref<?x4x40xbf16>, memref<?x4xf32> with memref<?x4x40xbf16>, memref<?x4xf32> into memref<?x4x40xbf16>, memref<?x4xf32>
  return
}

// -----

// As many vectors as this have no code of their own each.

// CHECK-LABEL: func.func @loop_of_vectors(
// CHECK: scf.parallel
// CHECK: scf.for %{{.*}} = %{{.*}} to %c4
// CHECK: scf.for %{{.*}} = %{{.*}} to %c1099511627680{{.*}} step %c16
// CHECK: vector.store {{.*}}, vector<16xbf16>
// CHECK: vector.store {{.*}}, vector<9xbf16>
// CHECK-NOT: vector.store
// CHECK: return
func.func @loop_of_vectors(%a: memref<?x4x1099511627689xbf16>, %l: memref<?x4xf32>, %out: memref<?x4x1099511627689xbf16>) {
  kvcache.merge_states %a, %l with %a, %l into %out, %l
    : memref<?x4x1099511627689xbf16>, memref<?x4xf32> with memref<?x4x1099511627689xbf16>, memref<?x4xf32> into memref<?x4x1099511627689xbf16>, memref<?x4xf32>
  return
}
