// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Programs of other compilers, of forms that passes do not expect: see
// ../passes.py.

// -----

// The extent of the rows is not known from an operand.
func.func @f(%slots: memref<?xi64>, %dummy: memref<8xf32>, %rows: memref<?x8xf32>, %pool: memref<?x16x8xf32> {kvcache.noalias}) {
  %c16 = arith.constant 16 : i64
  linalg.generic {indexing_maps = [affine_map<(t,d)->(t)>, affine_map<(t,d)->(d)>], iterator_types=["parallel","parallel"]} ins(%slots, %dummy: memref<?xi64>, memref<8xf32>) {
  ^bb0(%s: i64, %r: f32):
    %b = arith.divsi %s, %c16 : i64
    %n = arith.remsi %s, %c16 : i64
    %bi = arith.index_cast %b : i64 to index
    %ni = arith.index_cast %n : i64 to index
    %t = linalg.index 0 : index
    %d = linalg.index 1 : index
    %x = memref.load %rows[%t, %d] : memref<?x8xf32>
    memref.store %x, %pool[%bi, %ni, %d] : memref<?x16x8xf32>
    linalg.yield
  }
  return
}

// -----

// An operation with a region that is not raised.
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "stablehlo.reduce"(%x) ({
  ^bb0(%a: tensor<f32>):
    "stablehlo.return"(%a) : (tensor<f32>) -> ()
  }) : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

// Constants that do not fit the type of the slots.
func.func @f(%pool: tensor<40x4x8xf32>, %rows: tensor<3x8xf32>, %slots: tensor<3xi8>) -> tensor<40x4x8xf32> {
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

// K and V in one tensor.
!slots = !kvcache.slots<6T x i64, rows_per_block = 4, pad = skip_out_of_range>
func.func @main(%pool: tensor<8x2x4x2x8xf32>, %k: tensor<6x2x8xf32>, %s: tensor<6xi64>) -> tensor<8x2x4x2x8xf32> {
  %0 = tensor.extract_slice %pool[0, 0, 0, 0, 0] [8, 1, 4, 2, 8] [1, 1, 1, 1, 1] : tensor<8x2x4x2x8xf32> to tensor<8x4x2x8xf32>
  %w = kvcache.make_slots %s : tensor<6xi64> to !slots
  %1 = kvcache.index_copy %k into %0[B, N, H, D] at %w : tensor<6x2x8xf32> into tensor<8x4x2x8xf32> at !slots
  %2 = tensor.insert_slice %1 into %pool[0, 0, 0, 0, 0] [8, 1, 4, 2, 8] [1, 1, 1, 1, 1] : tensor<8x4x2x8xf32> into tensor<8x2x4x2x8xf32>
  return %2 : tensor<8x2x4x2x8xf32>
}

// -----

// Arithmetic of slots beside a pool.
!slots = !kvcache.slots<6T x i32, rows_per_block = 4, pad = skip_out_of_range>
func.func @main(%pool: tensor<8x4x2x8xf32>, %rows: tensor<6x2x8xf32>, %s: tensor<6xi32>) -> tensor<8x4x2x8xf32> {
  %0 = tensor.empty() : tensor<6xi32>
  %1 = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]} ins(%s : tensor<6xi32>) outs(%0 : tensor<6xi32>) {
  ^bb0(%in: i32, %out: i32):
    %c0 = arith.constant 0 : i32
    %n = arith.cmpi slt, %in, %c0 : i32
    %c32 = arith.constant 32 : i32
    %w = arith.addi %in, %c32 : i32
    %r = arith.select %n, %w, %in : i32
    linalg.yield %r : i32
  } -> tensor<6xi32>
  %2 = kvcache.make_slots %1 : tensor<6xi32> to !slots
  %3 = kvcache.index_copy %rows into %pool[B, N, H, D] at %2 : tensor<6x2x8xf32> into tensor<8x4x2x8xf32> at !slots
  return %3 : tensor<8x4x2x8xf32>
}

// -----

// Rows with dimensions of 1.
func.func @main(%pool: tensor<32x2x8xf32>, %rows: tensor<6x2x8xf32>, %slots: tensor<6xi64>) -> tensor<32x2x8xf32> {
  %at = tensor.expand_shape %slots [[0, 1]] output_shape [6, 1] : tensor<6xi64> into tensor<6x1xi64>
  %r = tensor.expand_shape %rows [[0], [1, 2], [3]] output_shape [6, 1, 2, 8] : tensor<6x2x8xf32> into tensor<6x1x2x8xf32>
  %0 = "tm_tensor.scatter"(%r, %at, %pool) <{dimension_map = array<i64: 0>, operandSegmentSizes = array<i32: 2, 1>, unique_indices = true}> ({
  ^bb0(%a: f32, %b: f32):
    "tm_tensor.yield"(%a) : (f32) -> ()
  }) : (tensor<6x1x2x8xf32>, tensor<6x1xi64>, tensor<32x2x8xf32>) -> tensor<32x2x8xf32>
  return %0 : tensor<32x2x8xf32>
}

// -----

// A buffer of complex numbers.
func.func @f(%a: tensor<4xcomplex<f32>>, %i: index) -> complex<f32> {
  %e = tensor.empty() : tensor<4xcomplex<f32>>
  %r = linalg.copy ins(%a : tensor<4xcomplex<f32>>) outs(%e : tensor<4xcomplex<f32>>) -> tensor<4xcomplex<f32>>
  %x = tensor.extract %r[%i] : tensor<4xcomplex<f32>>
  return %x : complex<f32>
}

// -----

// A buffer of indices.
func.func @f(%a: tensor<4xi32>, %p: tensor<8xf32>, %out: tensor<4xf32>) -> tensor<4xf32> {
  %e = tensor.empty() : tensor<4xindex>
  %r = linalg.generic {indexing_maps = [affine_map<(d) -> (d)>, affine_map<(d) -> (d)>], iterator_types = ["parallel"]}
    ins(%a : tensor<4xi32>) outs(%e : tensor<4xindex>) {
  ^bb0(%x: i32, %o: index):
    %i = arith.index_cast %x : i32 to index
    linalg.yield %i : index
  } -> tensor<4xindex>
  %g = linalg.generic {indexing_maps = [affine_map<(d) -> (d)>, affine_map<(d) -> (d)>], iterator_types = ["parallel"]}
    ins(%r : tensor<4xindex>) outs(%out : tensor<4xf32>) {
  ^bb0(%i: index, %o: f32):
    %v = tensor.extract %p[%i] : tensor<8xf32>
    linalg.yield %v : f32
  } -> tensor<4xf32>
  return %g : tensor<4xf32>
}

// -----

// An update in a private function.
func.func public @main(%pool: tensor<32x8xf32>, %rows: tensor<3x8xf32>, %slots: tensor<3x1xi32>) -> tensor<32x8xf32> {
  %0 = call @write(%pool, %rows, %slots) : (tensor<32x8xf32>, tensor<3x8xf32>, tensor<3x1xi32>) -> tensor<32x8xf32>
  return %0 : tensor<32x8xf32>
}
func.func private @write(%pool: tensor<32x8xf32>, %rows: tensor<3x8xf32>, %slots: tensor<3x1xi32>) -> tensor<32x8xf32> {
  %0 = "stablehlo.scatter"(%pool, %slots, %rows) <{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1], inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>, unique_indices = false}> ({
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    "stablehlo.return"(%b) : (tensor<f32>) -> ()
  }) : (tensor<32x8xf32>, tensor<3x1xi32>, tensor<3x8xf32>) -> tensor<32x8xf32>
  return %0 : tensor<32x8xf32>
}

// -----

// A buffer of vectors.
func.func @f(%a: memref<4xindex>, %b: memref<4xindex>, %i: index) -> vector<16xf32> {
  %s = memref.alloc() : memref<2xvector<16xf32>>
  %v = memref.load %s[%i] : memref<2xvector<16xf32>>
  return %v : vector<16xf32>
}

// -----

// An extent of a reshape.
!kv = !kvcache.cache<2S x ?B x 16N x 2H x 8D x f32>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @f(%x: tensor<?x32xf32>, %w: tensor<32x32xf32>, %starts: tensor<?xi32>, %lengths: tensor<?xi32>, %blocks: tensor<?x?xi32>, %pool: !kv) -> tensor<?x4x8xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x32xf32>
  %q0 = tensor.empty(%t) : tensor<?x32xf32>
  %q1 = linalg.fill ins(%zero : f32) outs(%q0 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %q = linalg.matmul ins(%x, %w : tensor<?x32xf32>, tensor<32x32xf32>) outs(%q1 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %t2 = tensor.dim %q, %c0 : tensor<?x32xf32>
  %query = tensor.expand_shape %q [[0], [1, 2]] output_shape [%t2, 4, 8] : tensor<?x32xf32> into tensor<?x4x8xf32>
  %t3 = tensor.dim %query, %c0 : tensor<?x4x8xf32>
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !table
  %a0 = tensor.empty(%t3) : tensor<?x4x8xf32>
  %a = kvcache.attention %query over %pool in %batch into %a0 causal : tensor<?x4x8xf32> over !kv in !kvcache.batch<?R x ?M x i32, tokens = 16> into tensor<?x4x8xf32>
  %b0 = tensor.empty(%t3) : tensor<?x4x8xf32>
  %b = kvcache.attention %a over %pool in %batch into %b0 causal : tensor<?x4x8xf32> over !kv in !kvcache.batch<?R x ?M x i32, tokens = 16> into tensor<?x4x8xf32>
  return %b : tensor<?x4x8xf32>
}

// -----

// Functions on tensors.
func.func @f(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = math.exp %x : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// Functions beside an operation that is not known.
func.func @f() {
  "foo.op"() : () -> ()
  return
}

// -----

// Names of results that are those of arguments.
func.func @f(%arg1: tensor<4xf32>) -> tensor<4xf32> {
  %e = tensor.empty() : tensor<4xf32>
  %r = linalg.add ins(%arg1, %arg1 : tensor<4xf32>, tensor<4xf32>) outs(%e : tensor<4xf32>) -> tensor<4xf32>
  return %r : tensor<4xf32>
}

// -----

// The last row of each request.
func.func @f(%x: tensor<?x32xf32>, %w: tensor<32x32xf32>) -> tensor<1x32xf32> {
  %z = arith.constant 0.0 : f32
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %t = tensor.dim %x, %c0 : tensor<?x32xf32>
  %e = tensor.empty(%t) : tensor<?x32xf32>
  %f = linalg.fill ins(%z : f32) outs(%e : tensor<?x32xf32>) -> tensor<?x32xf32>
  %y = linalg.matmul ins(%x, %w : tensor<?x32xf32>, tensor<32x32xf32>) outs(%f : tensor<?x32xf32>) -> tensor<?x32xf32>
  %l = arith.subi %t, %c1 : index
  %r = tensor.extract_slice %y[%l, 0] [1, 32] [1, 1] : tensor<?x32xf32> to tensor<1x32xf32>
  return %r : tensor<1x32xf32>
}

// -----

// Rows by numbers that are wrapped.
func.func @f(%x: tensor<20x32xf32>, %w: tensor<32x32xf32>, %ids: tensor<3xi64>) -> tensor<3x32xf32> {
  %z = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<20x32xf32>
  %f = linalg.fill ins(%z : f32) outs(%e : tensor<20x32xf32>) -> tensor<20x32xf32>
  %y = linalg.matmul ins(%x, %w : tensor<20x32xf32>, tensor<32x32xf32>) outs(%f : tensor<20x32xf32>) -> tensor<20x32xf32>
  %e2 = tensor.empty() : tensor<3x32xf32>
  %c0 = arith.constant 0 : i64
  %c20 = arith.constant 20 : i64
  %g = linalg.generic {indexing_maps = [affine_map<(i, d) -> (i)>, affine_map<(i, d) -> (i, d)>], iterator_types = ["parallel", "parallel"]} ins(%ids : tensor<3xi64>) outs(%e2 : tensor<3x32xf32>) {
  ^bb0(%i: i64, %o: f32):
    %n = arith.cmpi slt, %i, %c0 : i64
    %u = arith.addi %i, %c20 : i64
    %s = arith.select %n, %u, %i : i64
    %r = arith.index_cast %s : i64 to index
    %d = linalg.index 1 : index
    %v = tensor.extract %y[%r, %d] : tensor<20x32xf32>
    linalg.yield %v : f32
  } -> tensor<3x32xf32>
  return %g : tensor<3x32xf32>
}
