// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows in branches and loops, and operations that do something else besides.
//
// RUN: kv-opt %s --kvcache-split-layer-groups | FileCheck %s
// RUN: kv-opt %s --kvcache-split-layer-groups --remark-format=emitRemark --remarks-filter='.*' -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK
// RUN: kv-opt %s --kvcache-split-layer-groups="functions=no_output_behind_branches outputs=0=0" | FileCheck %s --check-prefix=OUTPUT

!kv = !kvcache.cache<2S x ?B x 16N x 2H x 8D x f32>
!kv4 = !kvcache.cache<4L x 2S x ?B x 16N x 2H x 8D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
#row = affine_map<(t, d) -> (t)>
#all = affine_map<(t, d) -> (t, d)>

// What both branches read is selected before them, and not inside of one with
// what is selected there.
// CHECK-LABEL: func.func @both_branches(
//       CHECK: %[[OUTER:.*]]:3 = kvcache.select_rows %arg0 of
//       CHECK: scf.if
//       CHECK:   %[[INNER:.*]]:3 = kvcache.select_rows %[[X:.*]] of
//       CHECK:   %[[Y:.*]] = kvcache.attention %[[INNER]]#0
//       CHECK:   scf.yield %[[Y]]
//       CHECK: } else {
//       CHECK:   scf.yield %[[OUTER]]#0
func.func @both_branches(%x: tensor<?x2x8xf32>, %c: !kv4, %slots: !slots, %starts: tensor<?xi32>,
    %i: tensor<?xi32>, %n: tensor<1xi32>, %lengths: tensor<?xi32>, %blocks: tensor<?x?xi32>, %some: i1,
    %e0: tensor<?x2x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x2x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %t = tensor.dim %x, %c0 : tensor<?x2x8xf32>
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %b = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !table
  %y = scf.if %some -> tensor<?x2x8xf32> {
    %z = scf.for %l = %c0 to %c4 step %c1 iter_args(%h = %x) -> tensor<?x2x8xf32> {
      %layer = kvcache.layer %c[%l] : !kv4
      kvcache.index_copy %h, %h into %layer at %slots : tensor<?x2x8xf32>, tensor<?x2x8xf32> into !kv at !slots
      %e = tensor.empty(%t) : tensor<?x2x8xf32>
      %a = kvcache.attention %h over %layer in %b into %e causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
      scf.yield %a : tensor<?x2x8xf32>
    }
    scf.yield %z : tensor<?x2x8xf32>
  } else {
    scf.yield %x : tensor<?x2x8xf32>
  }
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}

// The list is read, and what else the body does is done once more.
// CHECK-LABEL: func.func @gather_that_writes(
//       CHECK: %[[S:.*]] = scf.if
//       CHECK: linalg.matmul
//       CHECK: linalg.generic
//       CHECK:   memref.store
//       CHECK:   tensor.extract %[[S]][
//   CHECK-NOT: memref.store
//       CHECK: return
func.func @gather_that_writes(%x: tensor<?x8xf32>, %w: tensor<8x8xf32>, %i: tensor<?xi32>, %m: memref<f32>, %some: i1) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %e = tensor.empty(%t) : tensor<?x8xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
  %y = scf.if %some -> tensor<?x8xf32> {
    %z = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x8xf32>) outs(%f : tensor<?x8xf32>) -> tensor<?x8xf32>
    scf.yield %z : tensor<?x8xf32>
  } else {
    scf.yield %x : tensor<?x8xf32>
  }
  %s = tensor.dim %i, %c0 : tensor<?xi32>
  %o = tensor.empty(%s) : tensor<?x8xf32>
  %rows = linalg.generic {indexing_maps = [#row, #all], iterator_types = ["parallel", "parallel"]}
      ins(%i : tensor<?xi32>) outs(%o : tensor<?x8xf32>) {
  ^bb0(%in: i32, %out: f32):
    %row = arith.index_cast %in : i32 to index
    %d = linalg.index 1 : index
    memref.store %zero, %m[] : memref<f32>
    %v = tensor.extract %y[%row, %d] : tensor<?x8xf32>
    linalg.yield %v : f32
  } -> tensor<?x8xf32>
  return %rows : tensor<?x8xf32>
}

// With fewer rows there would be fewer writes.
// CHECK-LABEL: func.func @no_rows_that_write(
//       CHECK: linalg.generic
//       CHECK: kvcache.select_rows
//       CHECK: return
//      REMARK: [[@LINE+4]]:8: remark: [Missed] {{.*}}"nothing runs on selected rows only: 'linalg.generic' may write memory for each row"
func.func @no_rows_that_write(%x: tensor<?x8xf32>, %o: tensor<?x8xf32>, %m: memref<f32>, %b: !batch, %i: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x8xf32> {
  %zero = arith.constant 0.0 : f32
  %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<?x8xf32>) outs(%o : tensor<?x8xf32>) {
  ^bb0(%in: f32, %out: f32):
    memref.store %in, %m[] : memref<f32>
    linalg.yield %in : f32
  } -> tensor<?x8xf32>
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x8xf32>
}

// Nobody reads the second result of the loop, which adds up the first one.
// CHECK-LABEL: func.func @no_loop_with_another_reader(
//       CHECK: scf.if {{.*}} -> (tensor<?x8xf32>)
//       CHECK: scf.for {{.*}} -> (tensor<?x8xf32>)
//       CHECK: kvcache.select_rows
//      REMARK: would leave 'arith.addf', which is unused, without the rows that it reads"
func.func @no_loop_with_another_reader(%x: tensor<?x8xf32>, %w: tensor<8x8xf32>, %m: memref<f32>, %b: !batch, %i: tensor<?xi32>, %n: tensor<1xi32>, %some: i1,
    %e0: tensor<?x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x8xf32>
  %e = tensor.empty(%t) : tensor<?x8xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
  %y = scf.if %some -> tensor<?x8xf32> {
    %z = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x8xf32>) outs(%f : tensor<?x8xf32>) -> tensor<?x8xf32>
    scf.yield %z : tensor<?x8xf32>
  } else {
    scf.yield %x : tensor<?x8xf32>
  }
  %sum = scf.for %l = %c0 to %c4 step %c1 iter_args(%h = %x) -> tensor<?x8xf32> {
    memref.store %zero, %m[] : memref<f32>
    %a = arith.addf %h, %y : tensor<?x8xf32>
    scf.yield %a : tensor<?x8xf32>
  }
  %s:3 = kvcache.select_rows %y of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x8xf32>
}

// All that is selected from is inside of the branches.
// CHECK-LABEL: func.func @no_number_of_rows_behind_branches(
//       CHECK: kvcache.attention %{{.*}} over %{{.*}} in %[[B:[0-9]+]] into
//       CHECK: kvcache.select_rows %{{.*}} of %[[B]]
//      REMARK: :10: remark: [Missed] {{.*}}'kvcache.select_rows' reads rows whose number is unknown at 'kvcache.attention'"
func.func @no_number_of_rows_behind_branches(%t: index, %c: !kv, %e: tensor<?x2x8xf32>, %starts: tensor<?xi32>,
    %i: tensor<?xi32>, %n: tensor<1xi32>, %lengths: tensor<?xi32>, %blocks: tensor<?x?xi32>, %some: i1, %m: memref<?x2x8xf32>,
    %e0: tensor<?x2x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x2x8xf32> {
  %zero = arith.constant 0.0 : f32
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %b = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !table
  %x = scf.if %some -> tensor<?x2x8xf32> {
    %y = tensor.generate %t {
    ^bb0(%r: index, %h: index, %d: index):
      %v = memref.load %m[%r, %h, %d] : memref<?x2x8xf32>
      tensor.yield %v : f32
    } : tensor<?x2x8xf32>
    scf.yield %y : tensor<?x2x8xf32>
  } else {
    %y = tensor.empty(%t) : tensor<?x2x8xf32>
    scf.yield %y : tensor<?x2x8xf32>
  }
  %o = tensor.empty(%t) : tensor<?x2x8xf32>
  %a = kvcache.attention %x over %c in %b into %o causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
  %s:3 = kvcache.select_rows %a of %b at %i, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}

// The rows would be put back into a tensor of all.
// OUTPUT-LABEL: func.func @no_output_behind_branches(
//       OUTPUT: %[[Z:.*]] = linalg.matmul
//  OUTPUT-NEXT: return %[[Z]]
func.func @no_output_behind_branches(%i: tensor<?xi32>, %t: index, %w: tensor<8x8xf32>, %m: memref<?x8xf32>, %some: i1) -> tensor<?x8xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty(%t) : tensor<?x8xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x8xf32>) -> tensor<?x8xf32>
  %x = scf.if %some -> tensor<?x8xf32> {
    %y = tensor.generate %t {
    ^bb0(%r: index, %d: index):
      %v = memref.load %m[%r, %d] : memref<?x8xf32>
      tensor.yield %v : f32
    } : tensor<?x8xf32>
    scf.yield %y : tensor<?x8xf32>
  } else {
    scf.yield %e : tensor<?x8xf32>
  }
  %z = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x8xf32>) outs(%f : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %z : tensor<?x8xf32>
}

// More operations than 64 bits can count.
// CHECK-LABEL: func.func @wide_product(
//       CHECK: linalg.matmul {{.*}} outs(%{{.*}} : tensor<4x4611686018427387904xf32>)
//      REMARK: {{, [0-9]+}} FLOPs of contractions for each row"
func.func @wide_product(%x: tensor<9x64xf32>, %w: tensor<64x4611686018427387904xf32>, %i: tensor<4xi32>) -> tensor<4x4611686018427387904xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<9x4611686018427387904xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<9x4611686018427387904xf32>) -> tensor<9x4611686018427387904xf32>
  %y = linalg.matmul ins(%x, %w : tensor<9x64xf32>, tensor<64x4611686018427387904xf32>)
    outs(%f : tensor<9x4611686018427387904xf32>) -> tensor<9x4611686018427387904xf32>
  %o = tensor.empty() : tensor<4x4611686018427387904xf32>
  %rows = linalg.generic {indexing_maps = [#row, #all], iterator_types = ["parallel", "parallel"]}
      ins(%i : tensor<4xi32>) outs(%o : tensor<4x4611686018427387904xf32>) {
  ^bb0(%in: i32, %out: f32):
    %row = arith.index_cast %in : i32 to index
    %d = linalg.index 1 : index
    %v = tensor.extract %y[%row, %d] : tensor<9x4611686018427387904xf32>
    linalg.yield %v : f32
  } -> tensor<4x4611686018427387904xf32>
  return %rows : tensor<4x4611686018427387904xf32>
}

// More than a selection takes.
// CHECK-LABEL: func.func @no_wide_rows(
//       CHECK: linalg.matmul {{.*}} outs(%{{.*}} : tensor<9x8xf32>)
//      REMARK: selects from tensor<9x1099511627777xf32>: extents of at most 2^40 and at most 2^54 elements are expected"
func.func @no_wide_rows(%x: tensor<9x1099511627777xf32>, %w: tensor<1099511627777x8xf32>, %y: tensor<9x8xf32>, %b: !batch, %i: tensor<4xi32>, %n: tensor<1xi32>,
    %e0: tensor<4x8xf32>, %e1: tensor<?xi32>, %e2: tensor<4xi32>) -> tensor<4x8xf32> {
  %z = linalg.matmul ins(%x, %w : tensor<9x1099511627777xf32>, tensor<1099511627777x8xf32>) outs(%y : tensor<9x8xf32>) -> tensor<9x8xf32>
  %s:3 = kvcache.select_rows %z of %b at %i, %n into %e0, %e1, %e2
    : tensor<9x8xf32> of !batch at tensor<4xi32>, tensor<1xi32> into tensor<4x8xf32>, tensor<?xi32>, tensor<4xi32>
  return %s#0 : tensor<4x8xf32>
}
