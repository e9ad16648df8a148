// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which functions, which outputs, how many rows. test/numerics/split_outputs.py
// runs a model with a demand on an output.
//
// RUN: kv-opt %s --kvcache-split-layer-groups="functions=all_rows outputs=0=sampled:num_valid" | FileCheck %s --check-prefix=OUTPUT
// RUN: kv-opt %s --kvcache-split-layer-groups="functions=all_rows outputs=0=2" | FileCheck %s --check-prefix=NUMBER
// RUN: kv-opt %s --kvcache-split-layer-groups="functions=all_rows outputs=0=sampled outline=true" | FileCheck %s --check-prefix=OUTLINE
// RUN: kv-opt %s --kvcache-split-layer-groups="functions=ten_rows" | FileCheck %s --check-prefix=FEW
// RUN: kv-opt %s --kvcache-split-layer-groups="functions=ten_rows min-rows=10" | FileCheck %s --check-prefix=FEW
// RUN: kv-opt %s --kvcache-split-layer-groups="functions=ten_rows min-rows=11" --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s --check-prefix=MANY
// RUN: kv-opt %s --kvcache-split-layer-groups="functions=all_rows" | FileCheck %s --check-prefix=OTHER

// The caller reads some rows only: the product is made for these. As the result
// has all rows, they are put back; rows behind the valid ones nowhere.
// OUTPUT-LABEL: func.func @all_rows(
//       OUTPUT: %[[S:.*]] = tensor.dim %arg2
//       OUTPUT: tensor.extract %arg3
//       OUTPUT: %[[Y:.*]] = linalg.matmul {{.*}} outs(%{{.*}} : tensor<?x8xf32>)
//       OUTPUT: %[[T:.*]] = tensor.dim %arg0
//       OUTPUT: %[[E:.*]] = tensor.empty(%[[T]])
//       OUTPUT: %[[ZEROS:.*]] = linalg.fill {{.*}} outs(%[[E]]
//       OUTPUT: %[[COUNT:.*]] = arith.minsi %[[S]]
//       OUTPUT: %[[R:.*]] = scf.for %[[I:.*]] = %{{.*}} to %[[COUNT]] {{.*}} iter_args(%{{.*}} = %[[ZEROS]])
//       OUTPUT:   tensor.extract_slice %[[Y]][%[[I]], 0]
//       OUTPUT:   tensor.insert_slice
//       OUTPUT: return %[[R]]
// Arguments have numbers, too.
// NUMBER-LABEL: func.func @all_rows(
//       NUMBER: linalg.matmul
//       NUMBER: tensor.insert_slice
//       NUMBER: return
// What is made of a function is not looked at again, for outputs that it has not.
// OUTLINE-LABEL: func.func @all_rows(
//       OUTLINE: call @all_rows_select(
//       OUTLINE: call @all_rows_group1(
func.func @all_rows(%x: tensor<?x8xf32>, %w: tensor<8x8xf32>,
                    %sampled: tensor<?xi32> {kvcache.name = "sampled"},
                    %n: tensor<1xi32> {kvcache.name = "num_valid"}) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %e = tensor.empty(%t) : tensor<?x8xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
  %y = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x8xf32>)
    outs(%f : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// FEW-LABEL: func.func @ten_rows(
//       FEW: linalg.matmul {{.*}} -> tensor<3x8xf32>
//       MANY: remark: [Missed] split-layer-groups {{.*}}"nothing runs on selected rows only: {{.*}}
// MANY-LABEL: func.func @ten_rows(
//       MANY: linalg.matmul {{.*}} -> tensor<10x8xf32>
// OTHER-LABEL: func.func @ten_rows(
//       OTHER: linalg.matmul {{.*}} -> tensor<10x8xf32>
func.func @ten_rows(%x: tensor<10x8xf32>, %w: tensor<8x8xf32>,
                    %indices: tensor<3xi32>) -> tensor<3x8xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<10x8xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<10x8xf32>) -> tensor<10x8xf32>
  %y = linalg.matmul ins(%x, %w : tensor<10x8xf32>, tensor<8x8xf32>)
    outs(%f : tensor<10x8xf32>) -> tensor<10x8xf32>
  %o = tensor.empty() : tensor<3x8xf32>
  %rows = linalg.generic {
      indexing_maps = [affine_map<(i, d) -> (i)>, affine_map<(i, d) -> (i, d)>],
      iterator_types = ["parallel", "parallel"]}
      ins(%indices : tensor<3xi32>) outs(%o : tensor<3x8xf32>) {
  ^bb0(%i: i32, %out: f32):
    %row = arith.index_cast %i : i32 to index
    %d = linalg.index 1 : index
    %v = tensor.extract %y[%row, %d] : tensor<10x8xf32>
    linalg.yield %v : f32
  } -> tensor<3x8xf32>
  return %rows : tensor<3x8xf32>
}
