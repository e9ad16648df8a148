// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which loops linalg operations become.
//
// RUN: split-file %s %t
// RUN: kv-opt %t/product.mlir --kvcache-lower-linalg | FileCheck %t/product.mlir --implicit-check-not=linalg.
// RUN: kv-opt %t/shared.mlir --kvcache-lower-linalg | FileCheck %t/shared.mlir
// RUN: kv-opt %t/parts.mlir --kvcache-lower-linalg | FileCheck %t/parts.mlir
// RUN: kv-opt %t/strides.mlir --kvcache-lower-linalg | FileCheck %t/strides.mlir
// RUN: kv-opt %t/generic.mlir --kvcache-lower-linalg | FileCheck %t/generic.mlir
// RUN: kv-opt %t/copy.mlir --kvcache-lower-linalg | FileCheck %t/copy.mlir
// RUN: kv-opt %t/tensors.mlir --kvcache-lower-linalg | FileCheck %t/tensors.mlir

//--- product.mlir

// One row, or tiles of six rows and what is left; chunks that may run at the
// same time.

// CHECK: func.func @transposed_weights(
// CHECK: call @[[OP:[a-z.]*]](
// CHECK: func.func private @[[ROW:.*\.row]](
// CHECK-NOT: alloca
// CHECK: scf.for {{.*}} -> (vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>)
// CHECK: func.func private @[[BLOCK:.*\.block]](
// CHECK: memref.alloca() {alignment = 64 : i64} : memref<6x256xf32>
// CHECK: memref.alloca() {alignment = 64 : i64} : memref<16x257x16xf32>
// Each block of B is transposed on its way into the copy.
// CHECK: vector.load %{{.*}} : memref<512x256xbf16>, vector<8xbf16>
// CHECK: vector.shuffle
// CHECK: scf.for {{.*}} iter_args({{.*}}) -> (vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>)
// CHECK-COUNT-6: arith.mulf {{.*}} fastmath<contract> : vector<16xf32>
// CHECK: func.func private @[[OP]](
// CHECK: scf.if
// CHECK: call @[[ROW]]
// CHECK: else
// CHECK: scf.parallel
// CHECK: call @[[BLOCK]]
func.func @transposed_weights(%x: memref<?x256xbf16>, %w: memref<512x256xbf16>,
                              %y: memref<?x512xf32>) {
  linalg.generic {
      indexing_maps = [affine_map<(m, n, k) -> (m, k)>,
                       affine_map<(m, n, k) -> (n, k)>,
                       affine_map<(m, n, k) -> (m, n)>],
      iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%x, %w : memref<?x256xbf16>, memref<512x256xbf16>)
      outs(%y : memref<?x512xf32>) {
    ^bb0(%a: bf16, %b: bf16, %c: f32):
      %a1 = arith.extf %a : bf16 to f32
      %b1 = arith.extf %b : bf16 to f32
      %p = arith.mulf %a1, %b1 : f32
      %s = arith.addf %c, %p : f32
      linalg.yield %s : f32
  }
  return
}

//--- shared.mlir

// What differs in its operands only is one function.

// CHECK: func.func @same_operations(
// CHECK: call @[[OP:[a-z.]*]](
// CHECK-NEXT: call @[[OP]](
// CHECK-NEXT: return
// CHECK: func.func private @[[OP]].row(
// CHECK: func.func private @[[OP]](
// CHECK-NOT: func.func
func.func @same_operations(%x: memref<1x64xf32>, %w: memref<64x32xf32>,
                           %v: memref<64x32xf32>, %y: memref<1x32xf32>) {
  linalg.matmul ins(%x, %w : memref<1x64xf32>, memref<64x32xf32>)
                outs(%y : memref<1x32xf32>)
  linalg.matmul ins(%x, %v : memref<1x64xf32>, memref<64x32xf32>)
                outs(%y : memref<1x32xf32>)
  return
}

//--- parts.mlir

// Parts of one buffer differ in where they begin, which is an operand.

// CHECK: func.func @layers_of_weights(
// CHECK: %[[FIRST:.*]] = memref.cast {{.*}} to memref<64x32xf32, strided<[32, 1], offset: ?>>
// CHECK: call @[[PART:[a-z_.0-9]*]](%{{.*}}, %[[FIRST]], %{{.*}})
// CHECK: %[[LAST:.*]] = memref.cast {{.*}} offset: 4096>> to memref<64x32xf32, strided<[32, 1], offset: ?>>
// CHECK: call @[[PART]](%{{.*}}, %[[LAST]], %{{.*}})
// CHECK-NEXT: return
// CHECK: func.func private @[[PART]].row(
// CHECK: func.func private @[[PART]](
// CHECK-SAME: passthrough = ["noinline"]
// CHECK-NOT: func.func
func.func @layers_of_weights(%x: memref<1x64xf32>, %w: memref<3x64x32xf32>,
                             %y: memref<1x32xf32>) {
  %first = memref.subview %w[0, 0, 0] [1, 64, 32] [1, 1, 1]
      : memref<3x64x32xf32> to memref<64x32xf32, strided<[32, 1]>>
  linalg.matmul
      ins(%x, %first : memref<1x64xf32>, memref<64x32xf32, strided<[32, 1]>>)
      outs(%y : memref<1x32xf32>)
  %last = memref.subview %w[2, 0, 0] [1, 64, 32] [1, 1, 1]
      : memref<3x64x32xf32> to memref<64x32xf32, strided<[32, 1], offset: 4096>>
  linalg.matmul
      ins(%x, %last : memref<1x64xf32>,
                      memref<64x32xf32, strided<[32, 1], offset: 4096>>)
      outs(%y : memref<1x32xf32>)
  return
}

//--- strides.mlir

// Other strides are other code.

// CHECK: func.func @no_other_strides(
// CHECK: call @[[PACKED:[a-z_.0-9]*]](
// CHECK-NOT: call @[[PACKED]](
// CHECK: call
// CHECK: return
func.func @no_other_strides(%x: memref<1x48xf32>, %w: memref<48x32xf32>,
                            %v: memref<48x32xf32, strided<[64, 1]>>,
                            %y: memref<1x32xf32>) {
  linalg.matmul ins(%x, %w : memref<1x48xf32>, memref<48x32xf32>)
                outs(%y : memref<1x32xf32>)
  linalg.matmul
      ins(%x, %v : memref<1x48xf32>, memref<48x32xf32, strided<[64, 1]>>)
      outs(%y : memref<1x32xf32>)
  return
}

// Weights of which no stride is known are packed one by one, and so are rows.

// CHECK: func.func @strides_of_the_run_time(
// CHECK: call @[[ANY:[a-z_.0-9]*]](%arg0, %arg1, %arg2)
// CHECK: func.func private @[[ANY]].block(
// CHECK-SAME: %[[X:[^ ]*]]: memref<?x8xf32, strided<[?, ?], offset: ?>>, %[[W:[^ ]*]]: memref<8x16xf32, strided<[?, ?], offset: ?>>
// CHECK-NOT: vector.load %[[X]]
// CHECK-NOT: vector.load %[[W]]
// CHECK: memref.load %[[W]]
// CHECK-NOT: vector.load %[[X]]
// CHECK-NOT: vector.load %[[W]]
// CHECK: return
func.func @strides_of_the_run_time(
    %x: memref<?x8xf32, strided<[?, ?], offset: ?>>,
    %w: memref<8x16xf32, strided<[?, ?], offset: ?>>, %y: memref<?x16xf32>) {
  linalg.matmul
      ins(%x, %w : memref<?x8xf32, strided<[?, ?], offset: ?>>,
                   memref<8x16xf32, strided<[?, ?], offset: ?>>)
      outs(%y : memref<?x16xf32>)
  return
}

//--- generic.mlir

// Vectors along the dimension in which all are contiguous; what is the same for
// all of it stays a scalar.

// CHECK: func.func private @kvcache.linalg(
// CHECK: scf.parallel
// CHECK: scf.for
// CHECK: memref.load {{.*}} : memref<?xf32>
// CHECK: scf.for {{.*}} step %c16
// CHECK: vector.load {{.*}} : memref<?x40xf32>, vector<16xf32>
// CHECK: math.exp %{{.*}} : f32
// CHECK: vector.store
// CHECK: scf.for {{.*}} step %c1
// CHECK: memref.store
func.func @vectors(%x: memref<?x40xf32>, %s: memref<?xf32>) {
  linalg.generic {indexing_maps = [affine_map<(t, d) -> (t)>,
                                   affine_map<(t, d) -> (t, d)>],
      iterator_types = ["parallel", "parallel"]}
      ins(%s : memref<?xf32>) outs(%x : memref<?x40xf32>) {
    ^bb0(%a: f32, %b: f32):
      %e = math.exp %a : f32
      %r = arith.mulf %b, %e : f32
      linalg.yield %r : f32
  }
  return
}

// A sum along the contiguous dimension, with a partial sum in each lane.

// CHECK: func.func private @kvcache.linalg_0(
// CHECK: %[[ZERO:.*]] = vector.broadcast
// CHECK: scf.for {{.*}} iter_args(%{{.*}} = %[[ZERO]]) -> (vector<16xf32>)
// CHECK: vector.shuffle
// CHECK: scf.for {{.*}} -> (f32)
func.func @lanes_of_a_sum(%x: memref<?x40xf32>, %s: memref<?xf32>) {
  linalg.generic {indexing_maps = [affine_map<(t, d) -> (t, d)>,
                                   affine_map<(t, d) -> (t)>],
      iterator_types = ["parallel", "reduction"]}
      ins(%x : memref<?x40xf32>) outs(%s : memref<?xf32>) {
    ^bb0(%a: f32, %b: f32):
      %r = arith.addf %a, %b : f32
      linalg.yield %r : f32
  }
  return
}

// A row chosen by data: vectors all the same.

// CHECK: func.func private @kvcache.linalg_1(
// CHECK: %[[I:.*]] = arith.index_cast
// CHECK: vector.load %{{.*}}[%[[I]], %{{.*}}] : memref<50x40xf32>, vector<16xf32>
func.func @rows_by_number(%ids: memref<?xi64>, %table: memref<50x40xf32>,
                          %y: memref<?x40xf32>) {
  linalg.generic {indexing_maps = [affine_map<(t, d) -> (t)>,
                                   affine_map<(t, d) -> (t, d)>],
      iterator_types = ["parallel", "parallel"]}
      ins(%ids : memref<?xi64>) outs(%y : memref<?x40xf32>) {
    ^bb0(%id: i64, %o: f32):
      %i = arith.index_cast %id : i64 to index
      %d = linalg.index 1 : index
      %v = memref.load %table[%i, %d] : memref<50x40xf32>
      linalg.yield %v : f32
  }
  return
}

// Narrow floats are summed in order: the lanes are other rows.

// CHECK: func.func private @kvcache.linalg_2(
// CHECK-NOT: vector.shuffle
// CHECK: vector.from_elements
// CHECK: vector.load %{{.*}} : memref<?xbf16>, vector<16xbf16>
func.func @no_partial_sums_of_narrow_floats(%x: memref<?x40xbf16>, %s: memref<?xbf16>) {
  linalg.generic {indexing_maps = [affine_map<(t, d) -> (t, d)>,
                                   affine_map<(t, d) -> (t)>],
      iterator_types = ["parallel", "reduction"]}
      ins(%x : memref<?x40xbf16>) outs(%s : memref<?xbf16>) {
    ^bb0(%a: bf16, %b: bf16):
      %r = arith.addf %a, %b : bf16
      linalg.yield %r : bf16
  }
  return
}

//--- copy.mlir

// CHECK-LABEL: func.func @copies(
// CHECK: call @kvcache.linalg(
// CHECK-NEXT: memref.copy %{{.*}} : memref<4x4xf32> to memref<4x4xf32>
func.func @copies(%gaps: memref<4x4xf32, strided<[8, 1]>>,
                  %from: memref<4x4xf32>, %to: memref<4x4xf32>) {
  memref.copy %gaps, %to : memref<4x4xf32, strided<[8, 1]>> to memref<4x4xf32>
  memref.copy %from, %to : memref<4x4xf32> to memref<4x4xf32>
  return
}

//--- tensors.mlir

// CHECK-LABEL: func.func @no_tensors(
// CHECK: linalg.fill
func.func @no_tensors(%x: tensor<4xf32>, %y: f32) -> tensor<4xf32> {
  %0 = linalg.fill ins(%y : f32) outs(%x : tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
