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
  llvm.store %a, %x : f32, !llvm.ptr
  llvm.store %v, %x : vector<8xf32>, !llvm.ptr
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

// Of a memref, the pointer to free and the extent are handed on to a function
// that does not read them; another one only hands its argument to itself.
// CHECK-LABEL: llvm.func internal @unread.thunk(
// CHECK-SAME:    %[[CONTEXT:.*]]: !llvm.ptr, %[[I:.*]]: i64) {
// CHECK-DAG:     %[[FREE:.*]] = llvm.mlir.poison : !llvm.ptr
// CHECK-DAG:     %[[F0:.*]] = llvm.getelementptr %[[CONTEXT]][0, 0] : (!llvm.ptr) -> !llvm.ptr, !llvm.struct<(ptr, i64)>
// CHECK-DAG:     %[[X:.*]] = llvm.load %[[F0]] : !llvm.ptr -> !llvm.ptr
// CHECK-DAG:     %[[F1:.*]] = llvm.getelementptr %[[CONTEXT]][0, 1]
// CHECK-DAG:     %[[AT:.*]] = llvm.load %[[F1]] : !llvm.ptr -> i64
// CHECK-DAG:     %[[EXTENT:.*]] = llvm.mlir.poison : i64
// CHECK:         llvm.call @unread(%[[I]], %[[FREE]], %[[X]], %[[AT]], %[[EXTENT]])
// CHECK-LABEL: llvm.func internal @unread.all(
// CHECK-SAME:    %{{.*}}: i64, %{{.*}}: !llvm.ptr, %[[X:.*]]: !llvm.ptr, %[[AT:.*]]: i64, %{{.*}}: i64)
// CHECK:         llvm.alloca %{{.*}} x !llvm.struct<(ptr, i64)>
// CHECK:         llvm.store %[[X]],
// CHECK:         llvm.store %[[AT]],
// CHECK-NOT:     llvm.store
// CHECK:         llvm.return
llvm.func @unread(%i: i64, %free: !llvm.ptr, %x: !llvm.ptr, %at: i64,
                  %extent: i64) {
  llvm.call @stores_at(%free, %x, %at, %extent)
    : (!llvm.ptr, !llvm.ptr, i64, i64) -> ()
  llvm.call @itself(%extent) : (i64) -> ()
  llvm.return
}
llvm.func @stores_at(%free: !llvm.ptr, %x: !llvm.ptr, %at: i64, %extent: i64) {
  %0 = llvm.getelementptr %x[%at] : (!llvm.ptr, i64) -> !llvm.ptr, i64
  llvm.store %at, %0 : i64, !llvm.ptr
  llvm.return
}
llvm.func @itself(%a: i64) {
  llvm.call @itself(%a) : (i64) -> ()
  llvm.return
}
llvm.func @unread.all(i64, !llvm.ptr, !llvm.ptr, i64, i64)
  attributes {kvcache.parallel_body = @unread}

// -----

// What becomes part of an aggregate may be read, and what goes to a function
// that is defined elsewhere or that is not known.
// CHECK-LABEL: llvm.func internal @read.all(
// CHECK:         llvm.alloca %{{.*}} x !llvm.struct<(i64, i64, i64, ptr)>
llvm.func @read(%i: i64, %a: i64, %b: i64, %c: i64, %function: !llvm.ptr) {
  %0 = llvm.mlir.poison : !llvm.struct<(i64)>
  %1 = llvm.insertvalue %a, %0[0] : !llvm.struct<(i64)>
  llvm.call @elsewhere(%b) : (i64) -> ()
  llvm.call %function(%c) : !llvm.ptr, (i64) -> ()
  llvm.return
}
llvm.func @elsewhere(i64)
llvm.func @read.all(i64, i64, i64, i64, !llvm.ptr)
  attributes {kvcache.parallel_body = @read}

// -----

// What a body does that is defined elsewhere is not known.
// CHECK-LABEL: llvm.func internal @declared.all(
// CHECK:         llvm.alloca %{{.*}} x !llvm.struct<(i64)>
// CHECK:         llvm.call @kvrt_parallel_for(
llvm.func @declared(i64, i64)
llvm.func @declared.all(i64, i64) attributes {kvcache.parallel_body = @declared}

// -----

// A declaration that is not marked stays one.
// CHECK-NOT:   kvrt_parallel_for
// CHECK:       llvm.func @no_mark(i64, !llvm.ptr)
// CHECK-NOT:   kvrt_parallel_for
llvm.func @no_mark(i64, !llvm.ptr)
