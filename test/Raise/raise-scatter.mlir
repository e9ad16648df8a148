// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scatters to one or two dimensions of a pool, what is computed before them and
// the transposes around them.
//
// RUN: kv-opt %s --allow-unregistered-dialect --kvcache-raise=last-row-wins --split-input-file | FileCheck %s
//
// A pool of 2^31 rows, whose number 32 bits do not have:
// RUN: kv-opt %S/Inputs/many_rows.mlir --allow-unregistered-dialect --kvcache-raise | FileCheck %s --check-prefix=MANY
// MANY-LABEL: func.func @many_rows(
// MANY: %[[S:.*]] = arith.extsi %{{.*}} : i32 to i64
// MANY: %[[ROWS:.*]] = arith.constant 2147483648 : i64
// MANY: arith.addi %[[S]], %[[ROWS]] : i64

// Division that truncates and a mask: slots -15 to -1 are rows of block 0, so
// block and offset are kept as they were computed.

// CHECK-LABEL: func.func @division_and_mask(
// CHECK-SAME: %[[POOL:.*]]: tensor<6x16x64xf32> {bufferization.writable = true}, %[[ROWS:.*]]: tensor<?x64xf32>, %[[SLOTS:.*]]: tensor<?xi32>)
// CHECK: %[[N:.*]]:2 = linalg.generic {{.*}} ins(%[[SLOTS]] : tensor<?xi32>)
// CHECK: arith.divsi
// CHECK: arith.andi
// CHECK: kvcache.scatter %[[ROWS]] into %[[POOL]][B, N, D] at %[[N]]#0, %[[N]]#1 pad = skip_out_of_range
func.func @division_and_mask(%pool: tensor<6x16x64xf32> {bufferization.writable = true}, %rows: tensor<?x64xf32>, %slots: tensor<?xi32>) -> tensor<6x16x64xf32> {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %slots, %c0 : tensor<?xi32>
  %c16 = arith.constant dense<16> : tensor<1xi32>
  %n0 = arith.constant 16 : i32
  %n1 = arith.constant 15 : i32
  %empty = tensor.empty(%T) : tensor<?xi32>
  %n = linalg.fill ins(%n0 : i32) outs(%empty : tensor<?xi32>) -> tensor<?xi32>
  %m = linalg.fill ins(%n1 : i32) outs(%empty : tensor<?xi32>) -> tensor<?xi32>
  %b = arith.divsi %slots, %n : tensor<?xi32>
  %o = arith.andi %slots, %m : tensor<?xi32>
  %b1 = tensor.expand_shape %b [[0, 1]] output_shape [%T, 1] : tensor<?xi32> into tensor<?x1xi32>
  %o1 = tensor.expand_shape %o [[0, 1]] output_shape [%T, 1] : tensor<?xi32> into tensor<?x1xi32>
  %at = tensor.concat dim(1) %b1, %o1 : (tensor<?x1xi32>, tensor<?x1xi32>) -> tensor<?x2xi32>
  %new = "tm_tensor.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "tm_tensor.yield"(%x) : (f32) -> ()
  }) : (tensor<?x64xf32>, tensor<?x2xi32>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

// Division that rounds down and a mask are the slot, for any number of blocks.

// CHECK: !kv_slots = !kvcache.slots<?T x i32, rows_per_block = 16, pad = skip_out_of_range>
// CHECK-LABEL: func.func @shift_and_mask(
// CHECK-SAME: %arg0: tensor<?x16x64xf32> {bufferization.writable = true}, %arg1: tensor<?x64xf32>, %arg2: tensor<?xi32>)
// CHECK-NEXT: %0 = kvcache.make_slots %arg2 : tensor<?xi32> to !kv_slots
// CHECK-NEXT: %1 = kvcache.index_copy %arg1 into %arg0[B, N, D] at %0 : tensor<?x64xf32> into tensor<?x16x64xf32> at !kv_slots
func.func @shift_and_mask(%pool: tensor<?x16x64xf32> {bufferization.writable = true}, %rows: tensor<?x64xf32>, %slots: tensor<?xi32>) -> tensor<?x16x64xf32> {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %slots, %c0 : tensor<?xi32>
  %n0 = arith.constant 4 : i32
  %n1 = arith.constant 15 : i32
  %n = tensor.splat %n0[%T] : tensor<?xi32>
  %m = tensor.splat %n1[%T] : tensor<?xi32>
  %b = arith.shrsi %slots, %n : tensor<?xi32>
  %o = arith.andi %slots, %m : tensor<?xi32>
  %b1 = tensor.expand_shape %b [[0, 1]] output_shape [%T, 1] : tensor<?xi32> into tensor<?x1xi32>
  %o1 = tensor.expand_shape %o [[0, 1]] output_shape [%T, 1] : tensor<?xi32> into tensor<?x1xi32>
  %at = tensor.concat dim(1) %b1, %o1 : (tensor<?x1xi32>, tensor<?x1xi32>) -> tensor<?x2xi32>
  %new = "tm_tensor.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "tm_tensor.yield"(%x) : (f32) -> ()
  }) : (tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x16x64xf32>) -> tensor<?x16x64xf32>
  return %new : tensor<?x16x64xf32>
}

// -----

// By way of f32 only a pool of at most 2^24 rows is known to be addressed as it
// should be.

// CHECK-LABEL: func.func @f32_and_any_pool(
// CHECK: arith.divf
// CHECK: kvcache.scatter %{{.*}} into %{{.*}}[B, N, D] at %{{.*}}, %{{.*}} pad = skip_out_of_range
func.func @f32_and_any_pool(%pool: tensor<?x16x64xf32> {bufferization.writable = true}, %rows: tensor<5x64xf32>, %slots: tensor<5xi64>) -> tensor<?x16x64xf32> {
  %n = arith.constant dense<16> : tensor<5xi64>
  %nf = arith.constant dense<16.0> : tensor<5xf32>
  %f = arith.sitofp %slots : tensor<5xi64> to tensor<5xf32>
  %q = arith.divf %f, %nf : tensor<5xf32>
  %r = math.floor %q : tensor<5xf32>
  %b = arith.fptosi %r : tensor<5xf32> to tensor<5xi64>
  %o = arith.remsi %slots, %n : tensor<5xi64>
  %b1 = tensor.expand_shape %b [[0, 1]] output_shape [5, 1] : tensor<5xi64> into tensor<5x1xi64>
  %o1 = tensor.expand_shape %o [[0, 1]] output_shape [5, 1] : tensor<5xi64> into tensor<5x1xi64>
  %at = tensor.concat dim(1) %b1, %o1 : (tensor<5x1xi64>, tensor<5x1xi64>) -> tensor<5x2xi64>
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x2xi64>, tensor<?x16x64xf32>) -> tensor<?x16x64xf32>
  return %new : tensor<?x16x64xf32>
}

// -----

// Block and offset that come from somewhere else.

// CHECK-LABEL: func.func @columns(
// CHECK-SAME: %[[POOL:.*]]: tensor<6x16x2x64xf16> {bufferization.writable = true}, %[[ROWS:.*]]: tensor<5x2x64xf16>, %[[AT:.*]]: tensor<5x2xi64>)
// CHECK-DAG: %[[B:.*]] = tensor.extract_slice %[[AT]][0, 0] [5, 1] [1, 1]
// CHECK-DAG: %[[O:.*]] = tensor.extract_slice %[[AT]][0, 1] [5, 1] [1, 1]
// CHECK: %[[N:.*]]:2 = linalg.generic {{.*}} ins(%[[B]], %[[O]] :
// CHECK: kvcache.scatter %[[ROWS]] into %[[POOL]][B, N, H, D] at %[[N]]#0, %[[N]]#1 pad = skip_out_of_range
func.func @columns(%pool: tensor<6x16x2x64xf16> {bufferization.writable = true}, %rows: tensor<5x2x64xf16>, %at: tensor<5x2xi64>) -> tensor<6x16x2x64xf16> {
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f16, %y: f16):
    "iree_linalg_ext.yield"(%x) : (f16) -> ()
  }) : (tensor<5x2x64xf16>, tensor<5x2xi64>, tensor<6x16x2x64xf16>) -> tensor<6x16x2x64xf16>
  return %new : tensor<6x16x2x64xf16>
}

// -----

// A flat pool is blocks of one row, and what flattened it vanishes.

// CHECK: !kv_slots = !kvcache.slots<5T x i64, rows_per_block = 16, pad = skip_out_of_range>
// CHECK-LABEL: func.func @through_reshapes(
// CHECK-SAME: %[[POOL:.*]]: tensor<6x2x16x64xf32> {bufferization.writable = true}, %[[ROWS:.*]]: tensor<5x128xf32>, %[[SLOTS:.*]]: tensor<5xi64>)
// CHECK-DAG: %[[R:.*]] = tensor.expand_shape %[[ROWS]] {{.*}} into tensor<5x2x64xf32>
// CHECK-DAG: %[[S:.*]] = kvcache.make_slots %[[SLOTS]]
// CHECK: %[[NEW:.*]] = kvcache.index_copy %[[R]] into %[[POOL]][B, H, N, D] at %[[S]]
// CHECK-NEXT: return %[[NEW]]
func.func @through_reshapes(%pool: tensor<6x2x16x64xf32> {bufferization.writable = true}, %rows: tensor<5x128xf32>, %slots: tensor<5xi64>) -> tensor<6x2x16x64xf32> {
  %e = tensor.empty() : tensor<6x16x2x64xf32>
  %t = linalg.transpose ins(%pool : tensor<6x2x16x64xf32>) outs(%e : tensor<6x16x2x64xf32>) permutation = [0, 2, 1, 3]
  %flat = tensor.collapse_shape %t [[0, 1], [2, 3]] : tensor<6x16x2x64xf32> into tensor<96x128xf32>
  %new = "iree_linalg_ext.scatter"(%rows, %slots, %flat) <{dimension_map = array<i64: 0>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x128xf32>, tensor<5xi64>, tensor<96x128xf32>) -> tensor<96x128xf32>
  %back = tensor.expand_shape %new [[0, 1], [2, 3]] output_shape [6, 16, 2, 64] : tensor<96x128xf32> into tensor<6x16x2x64xf32>
  %e2 = tensor.empty() : tensor<6x2x16x64xf32>
  %same = linalg.transpose ins(%back : tensor<6x16x2x64xf32>) outs(%e2 : tensor<6x2x16x64xf32>) permutation = [0, 2, 1, 3]
  return %same : tensor<6x2x16x64xf32>
}

// -----

// A transpose written as linalg.generic; one that has another reader stays, for
// that reader alone.

// CHECK-LABEL: func.func @transposed_pool_is_used(
// CHECK-SAME: %[[POOL:.*]]: tensor<6x2x16x64xf32> {bufferization.writable = true},
// CHECK: %[[NEW:.*]] = kvcache.index_copy %{{.*}} into %[[POOL]][B, H, N, D]
// CHECK-NEXT: %[[T:.*]] = linalg.generic {{.*}} ins(%[[NEW]] :
// CHECK: return %[[NEW]], %[[T]]
func.func @transposed_pool_is_used(%pool: tensor<6x2x16x64xf32> {bufferization.writable = true}, %rows: tensor<5x2x64xf32>, %at: tensor<5x2xi64>) -> (tensor<6x2x16x64xf32>, tensor<6x16x2x64xf32>) {
  %e = tensor.empty() : tensor<6x16x2x64xf32>
  %t = linalg.generic {indexing_maps = [affine_map<(b, n, h, d) -> (b, h, n, d)>, affine_map<(b, n, h, d) -> (b, n, h, d)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
    ins(%pool : tensor<6x2x16x64xf32>) outs(%e : tensor<6x16x2x64xf32>) {
  ^bb0(%x: f32, %y: f32):
    linalg.yield %x : f32
  } -> tensor<6x16x2x64xf32>
  %slots = tensor.extract_slice %at[0, 1] [5, 1] [1, 1] : tensor<5x2xi64> to tensor<5xi64>
  %n = arith.constant dense<16> : tensor<5xi64>
  %b = arith.floordivsi %slots, %n : tensor<5xi64>
  %o = arith.remui %slots, %n : tensor<5xi64>
  %b1 = tensor.expand_shape %b [[0, 1]] output_shape [5, 1] : tensor<5xi64> into tensor<5x1xi64>
  %o1 = tensor.expand_shape %o [[0, 1]] output_shape [5, 1] : tensor<5xi64> into tensor<5x1xi64>
  %pair = tensor.concat dim(1) %b1, %o1 : (tensor<5x1xi64>, tensor<5x1xi64>) -> tensor<5x2xi64>
  %new = "iree_linalg_ext.scatter"(%rows, %pair, %t) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x2x64xf32>, tensor<5x2xi64>, tensor<6x16x2x64xf32>) -> tensor<6x16x2x64xf32>
  %e2 = tensor.empty() : tensor<6x2x16x64xf32>
  %same = linalg.transpose ins(%new : tensor<6x16x2x64xf32>) outs(%e2 : tensor<6x2x16x64xf32>) permutation = [0, 2, 1, 3]
  return %same, %new : tensor<6x2x16x64xf32>, tensor<6x16x2x64xf32>
}

// -----

// Two writes of one pool, keys and then values of other rows: the transposes
// between them vanish, too.

// CHECK-LABEL: func.func @two_writes(
// CHECK-SAME: %[[POOL:.*]]: tensor<6x2x16x64xf32> {bufferization.writable = true},
// CHECK-NOT: linalg.transpose
// CHECK: %[[ONE:.*]] = kvcache.scatter %{{.*}} into %[[POOL]][B, H, N, D]
// CHECK-NOT: linalg.transpose
// CHECK: %[[TWO:.*]] = kvcache.scatter %{{.*}} into %[[ONE]][B, H, N, D]
// CHECK-NEXT: return %[[TWO]]
func.func @two_writes(%pool: tensor<6x2x16x64xf32> {bufferization.writable = true}, %rows: tensor<5x2x64xf32>, %at: tensor<5x2xi64>, %more: tensor<5x2xi64>) -> tensor<6x2x16x64xf32> {
  %e = tensor.empty() : tensor<6x16x2x64xf32>
  %e2 = tensor.empty() : tensor<6x2x16x64xf32>
  %t = linalg.transpose ins(%pool : tensor<6x2x16x64xf32>) outs(%e : tensor<6x16x2x64xf32>) permutation = [0, 2, 1, 3]
  %a = "iree_linalg_ext.scatter"(%rows, %at, %t) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x2x64xf32>, tensor<5x2xi64>, tensor<6x16x2x64xf32>) -> tensor<6x16x2x64xf32>
  %b = linalg.transpose ins(%a : tensor<6x16x2x64xf32>) outs(%e2 : tensor<6x2x16x64xf32>) permutation = [0, 2, 1, 3]
  %t2 = linalg.transpose ins(%b : tensor<6x2x16x64xf32>) outs(%e : tensor<6x16x2x64xf32>) permutation = [0, 2, 1, 3]
  %c = "iree_linalg_ext.scatter"(%rows, %more, %t2) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x2x64xf32>, tensor<5x2xi64>, tensor<6x16x2x64xf32>) -> tensor<6x16x2x64xf32>
  %d = linalg.transpose ins(%c : tensor<6x16x2x64xf32>) outs(%e2 : tensor<6x2x16x64xf32>) permutation = [0, 2, 1, 3]
  return %d : tensor<6x2x16x64xf32>
}

// -----

// tensor.scatter promises that its numbers are unique and in range.

// CHECK: !kv_slots = !kvcache.slots<5T x i64, rows_per_block = 1, pad = none>
// CHECK-LABEL: func.func @tensor_scatter(
// CHECK: kvcache.make_slots %{{.*}} : tensor<5xi64> to !kv_slots
// CHECK: kvcache.index_copy
func.func @tensor_scatter(%pool: tensor<96x2x64xf32>, %rows: tensor<5x2x64xf32>, %slots: tensor<5x1xindex>) -> tensor<96x2x64xf32> {
  %new = tensor.scatter %rows into %pool[%slots] scatter_dims([0]) unique : (tensor<5x2x64xf32>, tensor<96x2x64xf32>, tensor<5x1xindex>) -> tensor<96x2x64xf32>
  return %new : tensor<96x2x64xf32>
}

// -----

// Rows that JAX does not donate stay what they are: the write is to a copy.

// CHECK-LABEL: func.func @not_donated(
// CHECK-SAME: tensor<96x2x64xf32> {bufferization.writable = false}
// CHECK: kvcache.index_copy
func.func @not_donated(%pool: tensor<96x2x64xf32>, %rows: tensor<5x2x64xf32>, %slots: tensor<5x1xi32>) -> tensor<96x2x64xf32> {
  %new = "stablehlo.scatter"(%pool, %slots, %rows) <{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1, 2], inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>, unique_indices = false}> ({
  ^bb0(%x: tensor<f32>, %y: tensor<f32>):
    "stablehlo.return"(%y) : (tensor<f32>) -> ()
  }) : (tensor<96x2x64xf32>, tensor<5x1xi32>, tensor<5x2x64xf32>) -> tensor<96x2x64xf32>
  return %new : tensor<96x2x64xf32>
}

// -----

// Rows by block and offset, both moved to the nearest that is there.

// CHECK: !kv_slots = !kvcache.slots<5T x i64, rows_per_block = 16, pad = none>
// CHECK-LABEL: func.func @gather_rows(
// CHECK: arith.constant 5
// CHECK: arith.constant 15
// CHECK: arith.muli
// CHECK: kvcache.gather %{{.*}}[B, N, D] at %{{.*}} zero into
func.func @gather_rows(%pool: tensor<6x16x64xf32>, %at: tensor<5x2xi32>) -> tensor<5x64xf32> {
  %r = "stablehlo.gather"(%pool, %at) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0, 1], start_index_map = [0, 1], index_vector_dim = 1>, slice_sizes = array<i64: 1, 1, 64>}> : (tensor<6x16x64xf32>, tensor<5x2xi32>) -> tensor<5x64xf32>
  return %r : tensor<5x64xf32>
}

// -----

// A division that may be another one, by its flags, is not known.

// CHECK-LABEL: func.func @no_fast_division(
// CHECK: kvcache.scatter
func.func @no_fast_division(%pool: tensor<6x16x64xf32> {bufferization.writable = true}, %rows: tensor<5x64xf32>, %slots: tensor<5xi64>) -> tensor<6x16x64xf32> {
  %n = arith.constant dense<16> : tensor<5xi64>
  %nf = arith.constant dense<16.0> : tensor<5xf32>
  %f = arith.sitofp %slots : tensor<5xi64> to tensor<5xf32>
  %q = arith.divf %f, %nf fastmath<arcp> : tensor<5xf32>
  %r = math.floor %q : tensor<5xf32>
  %b = arith.fptosi %r : tensor<5xf32> to tensor<5xi64>
  %o = arith.remsi %slots, %n : tensor<5xi64>
  %b1 = tensor.expand_shape %b [[0, 1]] output_shape [5, 1] : tensor<5xi64> into tensor<5x1xi64>
  %o1 = tensor.expand_shape %o [[0, 1]] output_shape [5, 1] : tensor<5xi64> into tensor<5x1xi64>
  %at = tensor.concat dim(1) %b1, %o1 : (tensor<5x1xi64>, tensor<5x1xi64>) -> tensor<5x2xi64>
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}

// -----

// What is used twice is followed once.

// CHECK-LABEL: func.func @doubled_often(
// CHECK-COUNT-40: arith.addi
// CHECK-NOT: arith.addi
// CHECK: kvcache.index_copy
func.func @doubled_often(%pool: tensor<96x64xf32> {bufferization.writable = true}, %rows: tensor<5x64xf32>, %x0: tensor<5xi64>) -> tensor<96x64xf32> {
  %x1 = arith.addi %x0, %x0 : tensor<5xi64>
  %x2 = arith.addi %x1, %x1 : tensor<5xi64>
  %x3 = arith.addi %x2, %x2 : tensor<5xi64>
  %x4 = arith.addi %x3, %x3 : tensor<5xi64>
  %x5 = arith.addi %x4, %x4 : tensor<5xi64>
  %x6 = arith.addi %x5, %x5 : tensor<5xi64>
  %x7 = arith.addi %x6, %x6 : tensor<5xi64>
  %x8 = arith.addi %x7, %x7 : tensor<5xi64>
  %x9 = arith.addi %x8, %x8 : tensor<5xi64>
  %x10 = arith.addi %x9, %x9 : tensor<5xi64>
  %x11 = arith.addi %x10, %x10 : tensor<5xi64>
  %x12 = arith.addi %x11, %x11 : tensor<5xi64>
  %x13 = arith.addi %x12, %x12 : tensor<5xi64>
  %x14 = arith.addi %x13, %x13 : tensor<5xi64>
  %x15 = arith.addi %x14, %x14 : tensor<5xi64>
  %x16 = arith.addi %x15, %x15 : tensor<5xi64>
  %x17 = arith.addi %x16, %x16 : tensor<5xi64>
  %x18 = arith.addi %x17, %x17 : tensor<5xi64>
  %x19 = arith.addi %x18, %x18 : tensor<5xi64>
  %x20 = arith.addi %x19, %x19 : tensor<5xi64>
  %x21 = arith.addi %x20, %x20 : tensor<5xi64>
  %x22 = arith.addi %x21, %x21 : tensor<5xi64>
  %x23 = arith.addi %x22, %x22 : tensor<5xi64>
  %x24 = arith.addi %x23, %x23 : tensor<5xi64>
  %x25 = arith.addi %x24, %x24 : tensor<5xi64>
  %x26 = arith.addi %x25, %x25 : tensor<5xi64>
  %x27 = arith.addi %x26, %x26 : tensor<5xi64>
  %x28 = arith.addi %x27, %x27 : tensor<5xi64>
  %x29 = arith.addi %x28, %x28 : tensor<5xi64>
  %x30 = arith.addi %x29, %x29 : tensor<5xi64>
  %x31 = arith.addi %x30, %x30 : tensor<5xi64>
  %x32 = arith.addi %x31, %x31 : tensor<5xi64>
  %x33 = arith.addi %x32, %x32 : tensor<5xi64>
  %x34 = arith.addi %x33, %x33 : tensor<5xi64>
  %x35 = arith.addi %x34, %x34 : tensor<5xi64>
  %x36 = arith.addi %x35, %x35 : tensor<5xi64>
  %x37 = arith.addi %x36, %x36 : tensor<5xi64>
  %x38 = arith.addi %x37, %x37 : tensor<5xi64>
  %x39 = arith.addi %x38, %x38 : tensor<5xi64>
  %x40 = arith.addi %x39, %x39 : tensor<5xi64>
  %new = "iree_linalg_ext.scatter"(%rows, %x40, %pool) <{dimension_map = array<i64: 0>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<5x64xf32>, tensor<5xi64>, tensor<96x64xf32>) -> tensor<96x64xf32>
  return %new : tensor<96x64xf32>
}

// -----

// A number of rows that the type of the slots does not have: 160 is -96 in 8
// bits.

// CHECK-LABEL: func.func @narrow_slots(
// CHECK: linalg.generic {{.*}} ins(%arg2 : tensor<3xi8>) outs(%{{.*}} : tensor<3xi32>)
// CHECK: %[[S:.*]] = arith.extsi %{{.*}} : i8 to i32
// CHECK: arith.cmpi slt, %[[S]], %{{.*}} : i32
// CHECK: %[[ROWS:.*]] = arith.constant 160 : i32
// CHECK: arith.addi %[[S]], %[[ROWS]] : i32
func.func @narrow_slots(%pool: tensor<40x4x8xf32> {bufferization.writable = true}, %rows: tensor<3x8xf32>, %slots: tensor<3xi8>) -> tensor<40x4x8xf32> {
  %z = arith.constant dense<0> : tensor<3xi8>
  %n = arith.constant dense<2> : tensor<3xi8>
  %m = arith.constant dense<3> : tensor<3xi8>
  %B = arith.constant dense<40> : tensor<3xi8>
  %b0 = arith.shrsi %slots, %n : tensor<3xi8>
  %neg = arith.cmpi slt, %b0, %z : tensor<3xi8>
  %up = arith.addi %b0, %B : tensor<3xi8>
  %b = arith.select %neg, %up, %b0 : tensor<3xi1>, tensor<3xi8>
  %o = arith.andi %slots, %m : tensor<3xi8>
  %b1 = tensor.expand_shape %b [[0, 1]] output_shape [3, 1] : tensor<3xi8> into tensor<3x1xi8>
  %o1 = tensor.expand_shape %o [[0, 1]] output_shape [3, 1] : tensor<3xi8> into tensor<3x1xi8>
  %at = tensor.concat dim(1) %b1, %o1 : (tensor<3x1xi8>, tensor<3x1xi8>) -> tensor<3x2xi8>
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%x: f32, %y: f32):
    "iree_linalg_ext.yield"(%x) : (f32) -> ()
  }) : (tensor<3x8xf32>, tensor<3x2xi8>, tensor<40x4x8xf32>) -> tensor<40x4x8xf32>
  return %new : tensor<40x4x8xf32>
}

// -----

// Only a diagonal of this list is computed; the rest is what it was before.

// CHECK-LABEL: func.func @diagonal(
// CHECK: %[[AT:.*]] = linalg.generic
// CHECK: tensor.extract_slice %[[AT]][0, 0] [2, 1] [1, 1]
// CHECK: tensor.extract_slice %[[AT]][0, 1] [2, 1] [1, 1]
// CHECK: kvcache.scatter
func.func @diagonal(%pool: tensor<6x16x64xf32> {bufferization.writable = true}, %rows: tensor<2x64xf32>, %before: tensor<2x2xi64>, %x: tensor<2xi64>) -> tensor<6x16x64xf32> {
  %at = linalg.generic {indexing_maps = [affine_map<(d) -> (d)>, affine_map<(d) -> (d, d)>], iterator_types = ["parallel"]} ins(%x : tensor<2xi64>) outs(%before : tensor<2x2xi64>) {
  ^bb0(%in: i64, %out: i64):
    linalg.yield %in : i64
  } -> tensor<2x2xi64>
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
  ^bb0(%a: f32, %b: f32):
    "iree_linalg_ext.yield"(%a) : (f32) -> ()
  }) : (tensor<2x64xf32>, tensor<2x2xi64>, tensor<6x16x64xf32>) -> tensor<6x16x64xf32>
  return %new : tensor<6x16x64xf32>
}
