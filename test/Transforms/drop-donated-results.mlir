// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-drop-donated-results --split-input-file | FileCheck %s

// CHECK-LABEL: func.func @public(
// CHECK-SAME: %{{.*}}: memref<4xf32>, %[[B:.*]]: memref<8xf32>) -> memref<8xf32> {
// CHECK-NEXT: %[[NEW:.*]] = memref.alloc
// CHECK-NEXT: return %[[NEW]] : memref<8xf32>
func.func @public(%a: memref<4xf32>, %b: memref<8xf32>) -> (memref<8xf32>, memref<8xf32>, memref<4xf32>) {
  %new = memref.alloc() : memref<8xf32>
  return %b, %new, %a : memref<8xf32>, memref<8xf32>, memref<4xf32>
}

// -----

// The caller uses what it gave, and has then a donated result, too.

// CHECK-LABEL: func.func private @callee(%{{.*}}: memref<4xf32>) {
// CHECK-LABEL: func.func @caller(
// CHECK-SAME: %[[A:.*]]: memref<4xf32>) {
// CHECK-NEXT: call @callee(%[[A]]) : (memref<4xf32>) -> ()
// CHECK-NEXT: return{{$}}
func.func private @callee(%a: memref<4xf32>) -> memref<4xf32> {
  return %a : memref<4xf32>
}
func.func @caller(%a: memref<4xf32>) -> memref<4xf32> {
  %0 = call @callee(%a) : (memref<4xf32>) -> memref<4xf32>
  return %0 : memref<4xf32>
}

// -----

// CHECK-LABEL: func.func private @through_casts(%{{.*}}: memref<4xf32>) {
// CHECK: func.func @caller_sees_the_cast(
// CHECK-SAME: %[[A:[^ ]*]]: memref<4xf32>, %[[I:[^ ]*]]: index) -> f32 {
// CHECK: call @through_casts(%[[A]]) : (memref<4xf32>) -> ()
// CHECK: %[[C:.*]] = memref.cast %[[A]] : memref<4xf32> to memref<?xf32>
// CHECK: memref.load %[[C]][%[[I]]]
func.func private @through_casts(%a: memref<4xf32>) -> memref<?xf32> {
  %0 = memref.cast %a : memref<4xf32> to memref<?xf32>
  return %0 : memref<?xf32>
}
func.func @caller_sees_the_cast(%a: memref<4xf32>, %i: index) -> f32 {
  %0 = call @through_casts(%a) : (memref<4xf32>) -> memref<?xf32>
  %1 = memref.load %0[%i] : memref<?xf32>
  return %1 : f32
}

// -----

// CHECK-LABEL: func.func @same_in_each_return(
// CHECK-SAME: %{{.*}}: i1, %{{.*}}: memref<4xf32>) {
func.func @same_in_each_return(%which: i1, %a: memref<4xf32>) -> memref<4xf32> {
  cf.cond_br %which, ^one, ^two
^one:
  return %a : memref<4xf32>
^two:
  return %a : memref<4xf32>
}

// CHECK-LABEL: func.func @no_drop_of_either(
// CHECK-SAME: -> memref<4xf32> {
func.func @no_drop_of_either(%which: i1, %a: memref<4xf32>, %b: memref<4xf32>) -> memref<4xf32> {
  cf.cond_br %which, ^one, ^two
^one:
  return %a : memref<4xf32>
^two:
  return %b : memref<4xf32>
}

// CHECK-LABEL: func.func @no_drop_of_a_part(
// CHECK-SAME: -> memref<2xf32, strided<[1]>> {
func.func @no_drop_of_a_part(%a: memref<4xf32>) -> memref<2xf32, strided<[1]>> {
  %0 = memref.subview %a[0] [2] [1] : memref<4xf32> to memref<2xf32, strided<[1]>>
  return %0 : memref<2xf32, strided<[1]>>
}

// CHECK-LABEL: func.func @no_drop_of_numbers(
// CHECK-SAME: -> index {
func.func @no_drop_of_numbers(%n: index) -> index {
  return %n : index
}

// CHECK-LABEL: func.func private @no_drop_of_external(memref<4xf32>) -> memref<4xf32>
func.func private @no_drop_of_external(memref<4xf32>) -> memref<4xf32>

// -----

// A use that is no call cannot be rewritten.

// CHECK-LABEL: func.func private @no_drop_behind_a_pointer(
// CHECK-SAME: -> memref<4xf32> {
func.func private @no_drop_behind_a_pointer(%a: memref<4xf32>) -> memref<4xf32> {
  return %a : memref<4xf32>
}
func.func @pointer() -> ((memref<4xf32>) -> memref<4xf32>) {
  %f = constant @no_drop_behind_a_pointer : (memref<4xf32>) -> memref<4xf32>
  return %f : (memref<4xf32>) -> memref<4xf32>
}

// -----

// Where code is not reachable, casts may form a ring.

// CHECK-LABEL: func.func @no_drop_of_a_ring(
// CHECK-SAME: -> memref<4xf32> {
func.func @no_drop_of_a_ring(%a: memref<4xf32>) -> memref<4xf32> {
  return %a : memref<4xf32>
^never:
  %0 = memref.cast %1 : memref<4xf32> to memref<4xf32>
  %1 = memref.cast %0 : memref<4xf32> to memref<4xf32>
  return %0 : memref<4xf32>
}

// -----

// CHECK-LABEL: func.func @no_buffer_is_two_results(
// CHECK: %[[A:.*]] = memref.alloc
// CHECK: %[[B:.*]] = memref.alloc
// CHECK: memref.copy %[[A]], %[[B]]
// CHECK: return %[[A]], %[[B]]
func.func @no_buffer_is_two_results(%n: index) -> (memref<?x4xf32>, memref<?x4xf32>) {
  %0 = memref.alloc(%n) : memref<?x4xf32>
  return %0, %0 : memref<?x4xf32>, memref<?x4xf32>
}

// -----

// What a function in a module in the body returns is none of its results.

// CHECK-LABEL: func.func @around_a_module(
// CHECK: func.func @inner() -> f32 {
// CHECK: return %{{.*}} : f32
// CHECK: return
// CHECK-NOT: memref
func.func @around_a_module(%a: memref<4xf32>, %b: memref<4xf32>) -> (memref<4xf32>, memref<4xf32>) {
  builtin.module {
    func.func @inner() -> f32 {
      %zero = arith.constant 0.0 : f32
      return %zero : f32
    }
  }
  return %b, %a : memref<4xf32>, memref<4xf32>
}
