// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-outline-workspace-size --split-input-file | FileCheck %s
// RUN: kv-opt %s --kvcache-outline-workspace-size --split-input-file --canonicalize | FileCheck %s --check-prefix=FOLDED
//
// A second run makes the functions anew.
//
// RUN: kv-opt %s --kvcache-outline-workspace-size --kvcache-outline-workspace-size --split-input-file | FileCheck %s

// The example of the pass.

// CHECK-LABEL: func.func private @run_time_extent.workspace_size(
// CHECK-SAME: %[[X:.*]]: memref<?xi64>) -> i64 {
// CHECK: %[[N:.*]] = memref.dim %[[X]], %{{.*}} : memref<?xi64>
// CHECK: %[[BYTES:.*]] = arith.constant 8 : index
// CHECK: %[[SIZE:.*]], %[[LOST:.*]] = arith.mului_extended %[[BYTES]], %[[N]]
// CHECK: %[[PARTS:.*]] = arith.ori %[[N]], %[[SIZE]]
// CHECK: %[[GRANULE:.*]] = arith.constant 256 : index
// CHECK: %[[PIECES:.*]] = arith.ceildivui %[[SIZE]], %[[GRANULE]]
// CHECK: %[[TOTAL:.*]] = arith.muli %[[PIECES]], %[[GRANULE]]
// 2^62 bytes or more are too large, and so is an extent below 0.
// CHECK: %[[ALL:.*]] = arith.ori %[[PARTS]], %[[TOTAL]]
// CHECK: %[[BITS:.*]] = arith.constant 62 : index
// CHECK: %[[HIGH:.*]] = arith.shrui %[[ALL]], %[[BITS]]
// CHECK: %[[BEYOND:.*]] = arith.ori %[[LOST]], %[[HIGH]]
// CHECK: %[[BAD:.*]] = arith.cmpi ne, %[[BEYOND]], %{{.*}}
// CHECK: %[[NONE:.*]] = arith.constant -1 : index
// CHECK: %[[GIVEN:.*]] = arith.select %[[BAD]], %[[NONE]], %[[TOTAL]]
// CHECK: %[[RESULT:.*]] = arith.index_cast %[[GIVEN]] : index to i64
// CHECK: return %[[RESULT]] : i64
// CHECK-LABEL: func.func @run_time_extent(
// CHECK: memref.alloc
func.func @run_time_extent(%x: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %n = memref.dim %x, %c0 : memref<?xi64>
  %copy = memref.alloc(%n) : memref<?xi64>
  memref.copy %x, %copy : memref<?xi64> to memref<?xi64>
  return
}

// -----

// Each buffer is rounded up by itself: 256 + 256 + 1024.

// FOLDED-LABEL: func.func private @constant_extents.workspace_size(%{{.*}}: i32) -> i64 {
// FOLDED-NEXT: %[[C:.*]] = arith.constant 1536 : i64
// FOLDED-NEXT: return %[[C]]
func.func @constant_extents(%use: i32) {
  %0 = memref.alloc() : memref<i32>
  %1 = memref.alloc() : memref<4xbf16>
  %2 = memref.alloc() : memref<100x2xi32>
  memref.store %use, %0[] : memref<i32>
  return
}

// -----

// Elements of less than a byte take one, and an index takes eight.

// FOLDED-LABEL: func.func private @odd_elements.workspace_size() -> i64 {
// FOLDED-NEXT: %[[C:.*]] = arith.constant 2816 : i64
// FOLDED-NEXT: return %[[C]]
func.func @odd_elements() {
  %0 = memref.alloc() : memref<300xi1>
  %1 = memref.alloc() : memref<256xindex>
  %2 = memref.alloc() : memref<64xi24>
  return
}

// -----

// CHECK-LABEL: func.func private @computed_extent.workspace_size(
// CHECK-SAME: %[[N:.*]]: index) -> i64 {
// CHECK: %[[TWICE:.*]] = arith.muli %[[N]], %{{.*}}
// CHECK: arith.mului_extended %{{.*}}, %[[TWICE]]
func.func @computed_extent(%n: index) {
  %c2 = arith.constant 2 : index
  %twice = arith.muli %n, %c2 : index
  %0 = memref.alloc(%twice) : memref<?xi64>
  return
}

// -----

// What a reshape of a buffer has for an extent is no data.

// CHECK-LABEL: func.func private @extent_of_a_reshape.workspace_size(
// CHECK: %[[N:.*]] = memref.dim %arg0
// CHECK-NOT: memref.expand_shape
// CHECK-COUNT-2: arith.mului_extended %{{.*}}, %[[N]]
func.func @extent_of_a_reshape(%x: memref<?x32xf32>) {
  %c0 = arith.constant 0 : index
  %n = memref.dim %x, %c0 : memref<?x32xf32>
  %0 = memref.alloc(%n) : memref<?x32xf32>
  %heads = memref.expand_shape %0 [[0], [1, 2]] output_shape [%n, 4, 8] : memref<?x32xf32> into memref<?x4x8xf32>
  %m = memref.dim %heads, %c0 : memref<?x4x8xf32>
  %1 = memref.alloc(%m) : memref<?x4x8xf32>
  return
}

// -----

// A buffer of a branch counts, whichever is taken.

// FOLDED-LABEL: func.func private @branches.workspace_size(%{{.*}}: i1) -> i64 {
// FOLDED-NEXT: %[[C:.*]] = arith.constant 512 : i64
// FOLDED-NEXT: return %[[C]]
func.func @branches(%condition: i1) {
  scf.if %condition {
    %0 = memref.alloc() : memref<8xi64>
  } else {
    %1 = memref.alloc() : memref<8xi64>
  }
  return
}

// -----

// CHECK-LABEL: func.func private @no_buffers.workspace_size(
// FOLDED-LABEL: func.func private @no_buffers.workspace_size() -> i64 {
// FOLDED-NEXT: %[[C:.*]] = arith.constant 0 : i64
// FOLDED-NEXT: return %[[C]]
func.func @no_buffers() {
  return
}

// Private functions and declarations are not called from outside.

// CHECK-NOT: @no_size_of_private.workspace_size
// CHECK-NOT: @no_size_of_external.workspace_size
func.func private @no_size_of_private() {
  return
}
func.func private @no_size_of_external(memref<?xi64>)

// -----

// An extent of a reshape is no data, and the size function asks for no buffer.

// CHECK-LABEL: func.func private @joined_extent.workspace_size(
// CHECK-SAME: %[[N:.*]]: index, %{{.*}}: memref<?xf32>) -> i64 {
// CHECK-NOT: memref.alloc
// CHECK-NOT: memref.collapse_shape
// CHECK: %[[FOUR:.*]] = arith.constant 4 : index
// CHECK: return
// CHECK-LABEL: func.func @joined_extent(
func.func @joined_extent(%n: index, %x: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %a = memref.alloc(%n) : memref<?x4xf32>
  %joined = memref.collapse_shape %a [[0, 1]] : memref<?x4xf32> into memref<?xf32>
  %m = memref.dim %joined, %c0 : memref<?xf32>
  %b = memref.alloc(%m) : memref<?xf32>
  memref.copy %b, %x : memref<?xf32> to memref<?xf32>
  return
}

// -----

// The same of many dimensions, which a list on the heap names.

// FOLDED-LABEL: func.func private @long_group.workspace_size(
// FOLDED-SAME: %[[N:.*]]: index, %{{.*}}: memref<?xf32>) -> i64 {
// FOLDED: %[[ROW:.*]] = arith.constant 30 : index
// FOLDED: %[[EXTENT:.*]] = arith.muli %[[N]], %[[ROW]]
// FOLDED: arith.mului_extended %[[EXTENT]], %{{.*}}
func.func @long_group(%n: index, %x: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %a = memref.alloc(%n) : memref<?x2x3x5xf32>
  %joined = memref.collapse_shape %a [[0, 1, 2, 3]] : memref<?x2x3x5xf32> into memref<?xf32>
  %m = memref.dim %joined, %c0 : memref<?xf32>
  %b = memref.alloc(%m) : memref<?xf32>
  memref.copy %b, %x : memref<?xf32> to memref<?xf32>
  return
}

// -----

// A memref without a rank has no groups: what it is a cast of says its extents.

// FOLDED-LABEL: func.func private @no_rank.workspace_size(
// FOLDED-SAME: %[[X:.*]]: memref<?xf32>) -> i64 {
// FOLDED: %[[ANY:.*]] = memref.cast %[[X]]
// FOLDED: memref.dim %[[ANY]]
func.func @no_rank(%x: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %any = memref.cast %x : memref<?xf32> to memref<*xf32>
  %n = memref.dim %any, %c0 : memref<*xf32>
  %a = memref.alloc(%n) : memref<?xf32>
  memref.copy %a, %x : memref<?xf32> to memref<?xf32>
  return
}

// -----

// Of an extent that is looked up in a view more is computed.

// FOLDED-LABEL: func.func private @computed_from_an_extent.workspace_size(
// FOLDED-SAME: %[[N:.*]]: index, %{{.*}}: memref<?xf32>, %[[SOME:.*]]: i1) -> i64 {
// FOLDED: %[[EXTENT:.*]] = arith.muli %[[N]], %{{.*}}
// FOLDED: arith.select %[[SOME]], %[[EXTENT]], %{{.*}}
func.func @computed_from_an_extent(%n: index, %x: memref<?xf32>, %some: i1) {
  %c0 = arith.constant 0 : index
  %a = memref.alloc(%n) : memref<?x2x3x5xf32>
  %joined = memref.collapse_shape %a [[0, 1, 2, 3]] : memref<?x2x3x5xf32> into memref<?xf32>
  %m = memref.dim %joined, %c0 : memref<?xf32>
  %selected = arith.select %some, %m, %c0 : index
  %b = memref.alloc(%selected) : memref<?xf32>
  memref.copy %b, %x : memref<?xf32> to memref<?xf32>
  return
}

// -----

// Nobody here calls what is in a module in the function.

// CHECK-LABEL: func.func private @module_in_a_function.workspace_size(
// CHECK-NEXT: %[[NONE:.*]] = arith.constant 0 : i64
// CHECK-NEXT: return %[[NONE]]
func.func @module_in_a_function() {
  builtin.module {
    func.func @inner(%n: index, %x: memref<?xf32>) {
      %a = memref.alloc(%n) : memref<?xf32>
      memref.copy %a, %x : memref<?xf32> to memref<?xf32>
      func.call @inner(%n, %x) : (index, memref<?xf32>) -> ()
      return
    }
  }
  return
}
