// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What code calls and the texts that it names are declared where their names are
// looked up: in the nearest module, which may be in another one, in a function,
// or be that of kernels.
//
// RUN: kv-opt %s --convert-kvcache-to-loops | FileCheck %s

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK: func.func private @kvrt_trace(i64)
// CHECK-LABEL: func.func @outer(
// CHECK: memref.get_global @kv_trace_0
// CHECK: call @kvrt_trace(
func.func @outer() {
  kvcache.trace "outer"
  // CHECK: builtin.module {
  // CHECK-NEXT: func.func private @kvrt_trace(i64)
  // CHECK-NEXT: func.func @in_a_function(
  // CHECK: memref.get_global @kv_trace_0
  // CHECK: call @kvrt_trace(
  // CHECK: memref.global "private" constant @kv_trace_0 : memref<3xi8>
  builtin.module {
    func.func @in_a_function() {
      kvcache.trace "in"
      return
    }
  }
  return
}

// CHECK-LABEL: module @first {
// CHECK: func.func private @kvrt_trace(i64)
// CHECK: memref.get_global @kv_trace_0
// CHECK: call @kvrt_trace(
// CHECK: memref.get_global @kv_trace_0
// CHECK: memref.get_global @kv_trace_1
// CHECK: memref.global "private" constant @kv_trace_0 : memref<4xi8>
// CHECK: memref.global "private" constant @kv_trace_1 : memref<5xi8>
module @first {
  func.func @f() {
    kvcache.trace "one"
    kvcache.trace "one"
    kvcache.trace "four"
    return
  }
}

// CHECK-LABEL: module @second {
// CHECK-DAG: func.func private @kvrt_report_entry(
// CHECK-DAG: func.func private @kvrt_check_passed() -> index
// CHECK: memref.get_global @kv_trace_0
// CHECK: func.call @kvrt_report_entry(
// CHECK: call @kvrt_check_passed() : () -> index
// CHECK: memref.global "private" constant @kv_trace_0
module @second {
  func.func @f(%s: !slots, %n: index, %end: index) -> i1 {
    %0 = kvcache.check_entries "slot" in %s first %n below %end or_negative by "index_copy" of "list" : !slots
    return %0 : i1
  }
}

// CHECK-LABEL: module @third {
// CHECK-NEXT: func.func private @kvrt_thread_count() -> i64
// CHECK: call @kvrt_thread_count() : () -> i64
module @third {
  func.func @f(%q: memref<?x32x128xf32>, %c: !kvcache.cache<2S x ?B x 16N x 8H x 128D x f32>, %b: !kvcache.batch<?R x ?M x i32, tokens = 16>, %out: memref<?x32x128xf32>) {
    kvcache.attention %q over %c in %b into %out causal
      : memref<?x32x128xf32> over !kvcache.cache<2S x ?B x 16N x 8H x 128D x f32>
        in !kvcache.batch<?R x ?M x i32, tokens = 16> into memref<?x32x128xf32>
    return
  }
}

// CHECK-LABEL: gpu.module @kernels {
// CHECK: func.func private @kvrt_trace(i64)
// CHECK: gpu.func @kernel(
// CHECK: memref.get_global @kv_trace_0
// CHECK: call @kvrt_trace(
// CHECK: memref.global "private" constant @kv_trace_0 : memref<7xi8>
gpu.module @kernels {
  gpu.func @kernel() kernel {
    kvcache.trace "kernel"
    gpu.return
  }
}

// What ends the functions of another dialect may be the last in a module, and
// has to stay that.
// CHECK-LABEL: module @ends {
// CHECK: memref.global "private" constant @kv_trace_0 : memref<5xi8>
// CHECK-NEXT: llvm.return
module @ends {
  func.func @f() {
    kvcache.trace "ends"
    return
  }
  llvm.return
}

// CHECK: memref.global "private" constant @kv_trace_0 : memref<6xi8>
