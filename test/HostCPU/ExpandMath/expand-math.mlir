// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Functions and conversions become arithmetic.
//
// RUN: kv-opt %s --kvcache-expand-math | FileCheck %s

// CHECK-LABEL: func.func @to_bf16(
// CHECK-SAME: %[[X:.*]]: vector<16xf32>)
// CHECK: %[[NAN:.*]] = arith.cmpf une, %[[X]], %[[X]]
// CHECK: %[[BITS:.*]] = arith.bitcast %[[X]] : vector<16xf32> to vector<16xi32>
// CHECK: %[[NARROW:.*]] = arith.trunci %{{.*}} : vector<16xi32> to vector<16xi16>
// CHECK: %[[CHOSEN:.*]] = arith.select %[[NAN]], %{{.*}}, %[[NARROW]]
// CHECK: arith.bitcast %[[CHOSEN]] : vector<16xi16> to vector<16xbf16>
func.func @to_bf16(%x: vector<16xf32>) -> vector<16xbf16> {
  %y = arith.truncf %x : vector<16xf32> to vector<16xbf16>
  return %y : vector<16xbf16>
}

// CHECK-LABEL: func.func @from_bf16(
// CHECK: arith.extui %{{.*}} : i16 to i32
// CHECK: arith.shli
// CHECK-NOT: arith.extf
// CHECK: return
func.func @from_bf16(%x: bf16) -> f32 {
  %y = arith.extf %x : bf16 to f32
  return %y : f32
}

// CHECK-LABEL: func.func @arithmetic_on_bf16(
// CHECK: arith.addf %{{.*}} : f32
// CHECK-NOT: bf16 {{.*}}addf
func.func @arithmetic_on_bf16(%x: bf16, %y: bf16) -> bf16 {
  %z = arith.addf %x, %y : bf16
  return %z : bf16
}

// CHECK-LABEL: func.func @functions(
// CHECK-NOT: math.{{exp|sin|log|tanh|erf|rsqrt|floor}}
// CHECK: return
func.func @functions(%x: vector<16xf32>, %h: f16) -> (vector<16xf32>, f16) {
  %a = math.exp %x : vector<16xf32>
  %b = math.sin %a : vector<16xf32>
  %c = math.log %b : vector<16xf32>
  %d = math.tanh %c : vector<16xf32>
  %e = math.erf %d : vector<16xf32>
  %f = math.rsqrt %e : vector<16xf32>
  %g = math.floor %f : vector<16xf32>
  %i = math.exp %h : f16
  return %g, %i : vector<16xf32>, f16
}

// What a CPU has an instruction for.

// CHECK-LABEL: func.func @no_change(
// CHECK-NEXT: math.sqrt
// CHECK-NEXT: math.absf
// CHECK-NEXT: arith.truncf %{{.*}} : f32 to f16
// CHECK-NEXT: return
func.func @no_change(%x: f32) -> f16 {
  %a = math.sqrt %x : f32
  %b = math.absf %a : f32
  %c = arith.truncf %b : f32 to f16
  return %c : f16
}

// CHECK-LABEL: func.func @no_library_functions(
// CHECK-NEXT: math.powf
// CHECK-NEXT: math.exp %{{.*}} : f64
func.func @no_library_functions(%x: f32, %y: f64) -> (f32, f64) {
  %a = math.powf %x, %x : f32
  %b = math.exp %y : f64
  return %a, %b : f32, f64
}
