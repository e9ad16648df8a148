// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the pass does not expand is left as it is.
//
// RUN: kv-opt %s --allow-unregistered-dialect --kvcache-expand-math | FileCheck %s
// RUN: kv-opt %s --allow-unregistered-dialect --kvcache-expand-math --mlir-print-op-generic | FileCheck %s --check-prefix=GENERIC

// CHECK-LABEL: func.func @unregistered(
// CHECK-NEXT: "foo.op"() : () -> ()
func.func @unregistered() {
  "foo.op"() : () -> ()
  return
}

// CHECK-LABEL: func.func private @without_body(bf16) -> bf16
func.func private @without_body(bf16) -> bf16

// CHECK-LABEL: func.func @tensors(
// CHECK-NEXT: math.exp %{{.*}} : tensor<?x8xf32>
// CHECK-NEXT: math.exp %{{.*}} : tensor<4xbf16>
// CHECK-NEXT: arith.addf %{{.*}} : tensor<4xbf16>
func.func @tensors(%x: tensor<?x8xf32>, %y: tensor<4xbf16>) -> (tensor<?x8xf32>, tensor<4xbf16>) {
  %0 = math.exp %x : tensor<?x8xf32>
  %1 = math.exp %y : tensor<4xbf16>
  %2 = arith.addf %1, %y : tensor<4xbf16>
  return %0, %2 : tensor<?x8xf32>, tensor<4xbf16>
}

// CHECK-LABEL: func.func @other_elements(
// CHECK-NEXT: math.floor %{{.*}} : f128
// CHECK-NEXT: math.exp %{{.*}} : f80
// CHECK-NEXT: math.absi %{{.*}} : index
// CHECK-NEXT: math.ctpop %{{.*}} : i1
func.func @other_elements(%a: f128, %b: f80, %c: index, %d: i1) -> (f128, f80, index, i1) {
  %0 = math.floor %a : f128
  %1 = math.exp %b : f80
  %2 = math.absi %c : index
  %3 = math.ctpop %d : i1
  return %0, %1, %2, %3 : f128, f80, index, i1
}

// Vectors of any rank and of a length known only at run time are expanded.

// CHECK-LABEL: func.func @vectors(
// CHECK-NOT: math.sin
// CHECK-NOT: math.exp
// CHECK-NOT: bf16
// CHECK: return
func.func @vectors(%a: vector<f32>, %b: vector<2x4xf32>, %c: vector<[4]xf32>) -> (vector<f32>, vector<2x4xf32>, vector<[4]xf32>) {
  %0 = math.sin %a : vector<f32>
  %1 = math.sin %b : vector<2x4xf32>
  %2 = math.exp %c : vector<[4]xf32>
  return %0, %1, %2 : vector<f32>, vector<2x4xf32>, vector<[4]xf32>
}

// CHECK-LABEL: func.func @sums(
// CHECK: vector.reduction <add>, %{{.*}} : vector<4xf32> into f32
// CHECK: vector.fma %{{.*}} : vector<4xf32>
func.func @sums(%a: vector<4xbf16>) -> (bf16, vector<4xbf16>) {
  %0 = vector.reduction <add>, %a : vector<4xbf16> into bf16
  %1 = vector.fma %a, %a, %a : vector<4xbf16>
  return %0, %1 : bf16, vector<4xbf16>
}

// Wider than any register; the number of its bits is 2^63.

// CHECK-LABEL: func.func @far_too_wide(
// CHECK-NOT: arith.maxnumf
// CHECK: arith.select
func.func @far_too_wide(%x: vector<288230376151711744xf32>) -> vector<288230376151711744xf32> {
  %0 = arith.maxnumf %x, %x : vector<288230376151711744xf32>
  return %0 : vector<288230376151711744xf32>
}

// The name of an operation says what its body is; with the conversion from bf16
// in bits, that of a product was none. Other bodies are expanded.

// CHECK-LABEL: func.func @named(
// CHECK-NEXT: linalg.matmul
// CHECK-NEXT: linalg.exp
// CHECK-NOT: arith.extf
// CHECK: return
// GENERIC-LABEL: sym_name = "named"
// GENERIC: "linalg.matmul"
// GENERIC: arith.extf
// GENERIC: "linalg.exp"
// GENERIC: math.exp
// GENERIC: "linalg.map"
// GENERIC-NOT: arith.extf
// GENERIC: "func.return"
func.func @named(%x: memref<1x64xf32>, %w: memref<64x32xbf16>, %y: memref<1x32xf32>, %z: memref<64x32xf32>) {
  linalg.matmul ins(%x, %w : memref<1x64xf32>, memref<64x32xbf16>) outs(%y : memref<1x32xf32>)
  linalg.exp ins(%y : memref<1x32xf32>) outs(%y : memref<1x32xf32>)
  linalg.map ins(%w : memref<64x32xbf16>) outs(%z : memref<64x32xf32>) (%in: bf16, %out: f32) {
    %wide = arith.extf %in : bf16 to f32
    linalg.yield %wide : f32
  }
  return
}
