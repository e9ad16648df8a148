// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows that are read in part, but not by the entries of a list: nothing selects
// them, the program stays what it is, and a remark says so.
//
// RUN: kv-opt %s --kvcache-split-layer-groups --remark-format=emitRemark --remarks-filter='.*' -o %t 2>&1 | FileCheck %s --implicit-check-not=remark:
// RUN: kv-opt %s -o %t.before && diff %t.before %t

#row = affine_map<(t, d) -> (t)>
#all = affine_map<(t, d) -> (t, d)>

// The last row, as samplers of other libraries take it.
func.func @last_row(%x: tensor<?x32xf32>, %w: tensor<32x32xf32>, %o: tensor<?x32xf32>, %last: index) -> tensor<1x32xf32> {
  %y = linalg.matmul ins(%x, %w : tensor<?x32xf32>, tensor<32x32xf32>) outs(%o : tensor<?x32xf32>) -> tensor<?x32xf32>
  %z = math.exp %y : tensor<?x32xf32>
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] split-layer-groups | Category:kvcache | Remark="nothing runs on selected rows only: 'tensor.extract_slice' reads some of the rows: expected a gather of rows named by a list"
  %r = tensor.extract_slice %z[%last, 0] [1, 32] [1, 1] : tensor<?x32xf32> to tensor<1x32xf32>
  return %r : tensor<1x32xf32>
}

// Indices that may count from the end.
func.func @wrapped_indices(%x: tensor<20x32xf32>, %w: tensor<32x32xf32>, %o: tensor<20x32xf32>, %ids: tensor<3xi64>, %e: tensor<3x32xf32>) -> tensor<3x32xf32> {
  %zero = arith.constant 0 : i64
  %many = arith.constant 20 : i64
  %y = linalg.matmul ins(%x, %w : tensor<20x32xf32>, tensor<32x32xf32>) outs(%o : tensor<20x32xf32>) -> tensor<20x32xf32>
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'linalg.generic' computes which rows it reads: expected an unmodified entry of a list
  %g = linalg.generic {indexing_maps = [#row, #all], iterator_types = ["parallel", "parallel"]} ins(%ids : tensor<3xi64>) outs(%e : tensor<3x32xf32>) {
  ^bb0(%i: i64, %old: f32):
    %isBelow = arith.cmpi slt, %i, %zero : i64
    %up = arith.addi %i, %many : i64
    %s = arith.select %isBelow, %up, %i : i64
    %at = arith.index_cast %s : i64 to index
    %d = linalg.index 1 : index
    %v = tensor.extract %y[%at, %d] : tensor<20x32xf32>
    linalg.yield %v : f32
  } -> tensor<3x32xf32>
  return %g : tensor<3x32xf32>
}

func.func @gather_of_tensor(%x: tensor<20x32xf32>, %w: tensor<32x32xf32>, %o: tensor<20x32xf32>, %ids: tensor<3x1xi64>) -> tensor<3x1x32xf32> {
  %y = linalg.matmul ins(%x, %w : tensor<20x32xf32>, tensor<32x32xf32>) outs(%o : tensor<20x32xf32>) -> tensor<20x32xf32>
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'tensor.gather' reads some of the rows: expected a gather of rows named by a list
  %g = tensor.gather %y[%ids] gather_dims([0]) : (tensor<20x32xf32>, tensor<3x1xi64>) -> tensor<3x1x32xf32>
  return %g : tensor<3x1x32xf32>
}

func.func @one_element(%x: tensor<20x32xf32>, %w: tensor<32x32xf32>, %o: tensor<20x32xf32>, %i: index) -> f32 {
  %y = linalg.matmul ins(%x, %w : tensor<20x32xf32>, tensor<32x32xf32>) outs(%o : tensor<20x32xf32>) -> tensor<20x32xf32>
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'tensor.extract' reads some of the rows: expected a gather of rows named by a list
  %v = tensor.extract %y[%i, %i] : tensor<20x32xf32>
  return %v : f32
}

// Bytes without a sign: 200 is a row, and -56 is none.
func.func @unsigned_bytes(%x: tensor<250x32xf32>, %w: tensor<32x32xf32>, %o: tensor<250x32xf32>, %ids: tensor<3xi8>, %e: tensor<3x32xf32>) -> tensor<3x32xf32> {
  %y = linalg.matmul ins(%x, %w : tensor<250x32xf32>, tensor<32x32xf32>) outs(%o : tensor<250x32xf32>) -> tensor<250x32xf32>
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'linalg.generic' computes which rows it reads: expected an unmodified entry of a list
  %g = linalg.generic {indexing_maps = [#row, #all], iterator_types = ["parallel", "parallel"]} ins(%ids : tensor<3xi8>) outs(%e : tensor<3x32xf32>) {
  ^bb0(%i: i8, %old: f32):
    %at = arith.index_castui %i : i8 to index
    %d = linalg.index 1 : index
    %v = tensor.extract %y[%at, %d] : tensor<250x32xf32>
    linalg.yield %v : f32
  } -> tensor<3x32xf32>
  return %g : tensor<3x32xf32>
}

// What is cut to bytes is another row.
func.func @rows_cut_to_bytes(%x: tensor<500x32xf32>, %w: tensor<32x32xf32>, %o: tensor<500x32xf32>, %e: tensor<500x32xf32>) -> tensor<500x32xf32> {
  %y = linalg.matmul ins(%x, %w : tensor<500x32xf32>, tensor<32x32xf32>) outs(%o : tensor<500x32xf32>) -> tensor<500x32xf32>
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'linalg.generic' computes which rows it reads: expected an unmodified entry of a list
  %g = linalg.generic {indexing_maps = [#all], iterator_types = ["parallel", "parallel"]} outs(%e : tensor<500x32xf32>) {
  ^bb0(%old: f32):
    %t = linalg.index 0 : index
    %byte = arith.index_cast %t : index to i8
    %at = arith.index_castui %byte : i8 to index
    %d = linalg.index 1 : index
    %v = tensor.extract %y[%at, %d] : tensor<500x32xf32>
    linalg.yield %v : f32
  } -> tensor<500x32xf32>
  return %g : tensor<500x32xf32>
}

// By name, but of what is not worth it.
func.func @no_contraction(%x: tensor<20x32xf32>, %ids: tensor<3xi64>, %e: tensor<3x32xf32>) -> tensor<3x32xf32> {
  %y = math.exp %x : tensor<20x32xf32>
  // CHECK: :[[@LINE+1]]:8: remark: [Missed] {{.*}}'linalg.generic' reads rows that no contraction or attention produces
  %g = linalg.generic {indexing_maps = [#row, #all], iterator_types = ["parallel", "parallel"]} ins(%ids : tensor<3xi64>) outs(%e : tensor<3x32xf32>) {
  ^bb0(%i: i64, %old: f32):
    %at = arith.index_cast %i : i64 to index
    %d = linalg.index 1 : index
    %v = tensor.extract %y[%at, %d] : tensor<20x32xf32>
    linalg.yield %v : f32
  } -> tensor<3x32xf32>
  return %g : tensor<3x32xf32>
}

// Nothing to say: the parts are all of it, an argument has the rows, or nothing
// dear is among what makes them.
func.func @no_part_of_rows(%x: tensor<20x32xf32>, %w: tensor<32x64xf32>, %o: tensor<20x64xf32>, %i: index) -> (tensor<20x32xf32>, tensor<20x32xf32>, tensor<1x32xf32>, tensor<1x32xf32>) {
  %y = linalg.matmul ins(%x, %w : tensor<20x32xf32>, tensor<32x64xf32>) outs(%o : tensor<20x64xf32>) -> tensor<20x64xf32>
  %a = tensor.extract_slice %y[0, 0] [20, 32] [1, 1] : tensor<20x64xf32> to tensor<20x32xf32>
  %b = tensor.extract_slice %y[0, 32] [20, 32] [1, 1] : tensor<20x64xf32> to tensor<20x32xf32>
  %c = tensor.extract_slice %x[%i, 0] [1, 32] [1, 1] : tensor<20x32xf32> to tensor<1x32xf32>
  %e = math.exp %x : tensor<20x32xf32>
  %d = tensor.extract_slice %e[%i, 0] [1, 32] [1, 1] : tensor<20x32xf32> to tensor<1x32xf32>
  return %a, %b, %c, %d : tensor<20x32xf32>, tensor<20x32xf32>, tensor<1x32xf32>, tensor<1x32xf32>
}
