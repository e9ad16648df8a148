// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --convert-kvcache-to-loops --canonicalize --cse | FileCheck %s --implicit-check-not=kvcache
// RUN: kv-opt %s --convert-kvcache-to-loops --canonicalize --cse --kvcache-outline-workspace-size | FileCheck %s --check-prefix=SIZE

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// A batch is its members. Its starts are repaired once, in the workspace: not
// decreasing, and at most the number of rows.

// SIZE-LABEL: func.func private @slots_of_rows.workspace_size(
// SIZE-SAME: %[[STARTS:[^ ]*]]: memref<?xi32>, %[[LENGTHS:[^ ]*]]: memref<?xi32>,
// SIZE: memref.dim %[[STARTS]]
// SIZE: memref.dim %[[LENGTHS]]
// SIZE: arith.ceildivui
// SIZE: return

// CHECK-LABEL: func.func @slots_of_rows(
// CHECK-SAME: %[[STARTS:[^ ]*]]: memref<?xi32>, %[[LENGTHS:[^ ]*]]: memref<?xi32>, %[[TABLE:[^ ]*]]: memref<?x?xi32, strided<[?, 1], offset: ?>>, %[[OUT:[^ ]*]]: memref<?xi64>)
// CHECK: %[[ROWS:.*]] = memref.dim %[[OUT]]
// CHECK: %[[REPAIRED:.*]] = memref.alloc
// CHECK: scf.for
// CHECK: %[[START:.*]] = memref.load %[[STARTS]]
// CHECK: arith.maxsi
// CHECK: arith.minsi %{{.*}}, %[[ROWS]]
// CHECK: memref.store %{{.*}}, %[[REPAIRED]]

// Rows in no request, and then those of each request.
// CHECK: scf.for
// CHECK: memref.store %{{.*}}, %[[OUT]]
// CHECK: scf.for
// CHECK: memref.store %{{.*}}, %[[OUT]]
// CHECK: scf.parallel (%[[R:.*]]) =
// CHECK: memref.load %[[LENGTHS]][%[[R]]]
// CHECK: scf.for
// CHECK: scf.if
// CHECK: memref.load %[[TABLE]][%[[R]], %{{.*}}]
func.func @slots_of_rows(%batch: !batch, %out: memref<?xi64>) {
  kvcache.slot_mapping %batch into %out : !batch into memref<?xi64>
  return
}
