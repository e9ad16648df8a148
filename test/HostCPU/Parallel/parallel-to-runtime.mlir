// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s --kvcache-parallel-to-runtime --split-input-file | FileCheck %s

// CHECK:       llvm.func @kvrt_parallel_for(i64, !llvm.ptr, !llvm.ptr)
// CHECK-LABEL: llvm.func @f(
// CHECK:         llvm.call @body.all(
// CHECK:       llvm.func @body(
// CHECK:       llvm.func internal @body.thunk(%[[CONTEXT:.*]]: !llvm.ptr, %[[I:.*]]: i64) {
// CHECK:         %[[F0:.*]] = llvm.getelementptr %[[CONTEXT]][0, 0] : (!llvm.ptr) -> !llvm.ptr, ![[RECORD:llvm.struct<\(ptr, f32, vector<8xf32>\)>]]
// CHECK:         %[[X:.*]] = llvm.load %[[F0]] : !llvm.ptr -> !llvm.ptr
// CHECK:         %[[F1:.*]] = llvm.getelementptr %[[CONTEXT]][0, 1]
// CHECK:         %[[A:.*]] = llvm.load %[[F1]] : !llvm.ptr -> f32
// CHECK:         %[[F2:.*]] = llvm.getelementptr %[[CONTEXT]][0, 2]
// CHECK:         %[[V:.*]] = llvm.load %[[F2]] : !llvm.ptr -> vector<8xf32>
// CHECK:         llvm.call @body(%[[I]], %[[X]], %[[A]], %[[V]])
// CHECK:       llvm.func internal @body.all(%[[COUNT:.*]]: i64, %[[X:.*]]: !llvm.ptr, %[[A:.*]]: f32, %[[V:.*]]: vector<8xf32>) attributes {no_inline} {
// CHECK:         %[[CONTEXT:.*]] = llvm.alloca %{{.*}} x ![[RECORD]]
// CHECK:         %[[F0:.*]] = llvm.getelementptr %[[CONTEXT]][0, 0]
// CHECK:         llvm.store %[[X]], %[[F0]]
// CHECK:         %[[F1:.*]] = llvm.getelementptr %[[CONTEXT]][0, 1]
// CHECK:         llvm.store %[[A]], %[[F1]]
// CHECK:         %[[F2:.*]] = llvm.getelementptr %[[CONTEXT]][0, 2]
// CHECK:         llvm.store %[[V]], %[[F2]]
// CHECK:         %[[THUNK:.*]] = llvm.mlir.addressof @body.thunk
// CHECK:         llvm.call @kvrt_parallel_for(%[[COUNT]], %[[THUNK]], %[[CONTEXT]])
llvm.func @f(%n: i64, %x: !llvm.ptr, %a: f32, %v: vector<8xf32>) {
  llvm.call @body.all(%n, %x, %a, %v) : (i64, !llvm.ptr, f32, vector<8xf32>) -> ()
  llvm.return
}
llvm.func @body(%i: i64, %x: !llvm.ptr, %a: f32, %v: vector<8xf32>) {
  llvm.return
}
llvm.func @body.all(i64, !llvm.ptr, f32, vector<8xf32>) attributes {kvcache.parallel_body = @body}

// -----

// Nothing to hand over: no struct.
// CHECK-LABEL: llvm.func internal @alone.all(
// CHECK-NOT:     llvm.alloca
// CHECK:         %[[NULL:.*]] = llvm.mlir.zero : !llvm.ptr
// CHECK:         llvm.call @kvrt_parallel_for(%{{.*}}, %{{.*}}, %[[NULL]])
llvm.func @alone(%i: i64) {
  llvm.return
}
llvm.func @alone.all(i64) attributes {kvcache.parallel_body = @alone}

// -----

// A declaration that is not marked stays one.
// CHECK-NOT:   kvrt_parallel_for
// CHECK:       llvm.func @no_mark(i64, !llvm.ptr)
// CHECK-NOT:   kvrt_parallel_for
llvm.func @no_mark(i64, !llvm.ptr)
