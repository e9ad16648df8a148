// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What runs on selected rows. Models as a whole are run by
// test/numerics/split_models.py.
//
// RUN: kv-opt %s --kvcache-split-layer-groups | FileCheck %s
// RUN: kv-opt %s --kvcache-split-layer-groups | kv-opt --kvcache-split-layer-groups | FileCheck %s

!kv = !kvcache.cache<2S x ?B x 16N x 2H x 8D x f32>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
#row = affine_map<(t, d) -> (t)>
#all = affine_map<(t, d) -> (t, d)>

// The gather by name is the last operation on all rows; the products before it
// take the rows that it names, and it is gone.
// CHECK-LABEL: func.func @attention_and_products
//  CHECK-SAME: (%[[X:.*]]: tensor<?x32xf32>, %[[CACHE:.*]]: !kv_nhd,
//       CHECK: %[[BATCH:.*]] = kvcache.make_batch
//       CHECK: %[[ALL:.*]] = tensor.from_elements
//       CHECK: %[[S:.*]]:3 = kvcache.select_rows %[[X]] of %[[BATCH]] at %[[I:.*]], %[[ALL]] into
//       CHECK: %[[SOME:.*]] = kvcache.with_rows %[[BATCH]], %[[S]]#1, %[[S]]#2
//       CHECK: linalg.matmul ins(%[[S]]#0,
//       CHECK: tensor.expand_shape
//       CHECK: kvcache.attention %{{.*}} over %[[CACHE]] in %[[SOME]]
//       CHECK: tensor.collapse_shape
//       CHECK: %[[SUM:.*]] = arith.addf %{{.*}}, %[[S]]#0
//   CHECK-NOT: linalg.generic
//       CHECK: return %[[SUM]]
func.func @attention_and_products(
    %x: tensor<?x32xf32>, %cache: !kv, %w: tensor<32x32xf32>,
    %starts: tensor<?xi32>, %lengths: tensor<?xi32>, %blocks: tensor<?x?xi32>,
    %indices: tensor<?xi32>) -> tensor<?x32xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x32xf32>
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !table
  %e = tensor.empty(%t) : tensor<?x32xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x32xf32>) -> tensor<?x32xf32>
  %q = linalg.matmul ins(%x, %w : tensor<?x32xf32>, tensor<32x32xf32>) outs(%f : tensor<?x32xf32>) -> tensor<?x32xf32>
  // An extent of a value that is no longer made is that of what it was made of.
  %tq = tensor.dim %q, %c0 : tensor<?x32xf32>
  %q3 = tensor.expand_shape %q [[0], [1, 2]] output_shape [%tq, 4, 8] : tensor<?x32xf32> into tensor<?x4x8xf32>
  %ea = tensor.empty(%tq) : tensor<?x4x8xf32>
  %a = kvcache.attention %q3 over %cache in %batch into %ea causal : tensor<?x4x8xf32> over !kv in !batch into tensor<?x4x8xf32>
  %a2 = tensor.collapse_shape %a [[0], [1, 2]] : tensor<?x4x8xf32> into tensor<?x32xf32>
  %r = arith.addf %a2, %x : tensor<?x32xf32>
  %s = tensor.dim %indices, %c0 : tensor<?xi32>
  %eg = tensor.empty(%s) : tensor<?x32xf32>
  %g = linalg.generic {indexing_maps = [#row, #all], iterator_types = ["parallel", "parallel"]} ins(%indices : tensor<?xi32>) outs(%eg : tensor<?x32xf32>) {
  ^bb0(%i: i32, %out: f32):
    %at = arith.index_cast %i : i32 to index
    %col = linalg.index 1 : index
    %v = tensor.extract %r[%at, %col] : tensor<?x32xf32>
    linalg.yield %v : f32
  } -> tensor<?x32xf32>
  return %g : tensor<?x32xf32>
}

// Rows behind the valid ones are 0, whatever they became on the way.
// CHECK-LABEL: func.func @padded
//       CHECK: %[[S:.*]]:3 = kvcache.select_rows %{{.*}} of %{{.*}} at %{{.*}}, %[[N:arg[0-9]+]] into
//       CHECK: kvcache.attention
//       CHECK: linalg.generic
//       CHECK: arith.cmpi slt
//       CHECK: arith.select
// Starts of all rows are still asked for, rows are not.
//       CHECK: %[[NONE:.*]] = tensor.empty(%{{.*}}) : tensor<?x4x8xf32>
//       CHECK: %[[STARTS:.*]]:3 = kvcache.select_rows %[[NONE]] of
//       CHECK: return %{{.*}}, %[[STARTS]]#1
func.func @padded(
    %x: tensor<?x4x8xf32>, %cache: !kv, %starts: tensor<?xi32>,
    %lengths: tensor<?xi32>, %blocks: tensor<?x?xi32>, %indices: tensor<?xi32>,
    %n: tensor<1xi32>, %e0: tensor<?x4x8xf32>, %e1: tensor<?xi32>,
    %e2: tensor<?xi32>) -> (tensor<?x4x8xf32>, tensor<?xi32>) {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x4x8xf32>
  %ea = tensor.empty(%t) : tensor<?x4x8xf32>
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !table
  %a = kvcache.attention %x over %cache in %batch into %ea causal : tensor<?x4x8xf32> over !kv in !batch into tensor<?x4x8xf32>
  %y:3 = kvcache.select_rows %a of %batch at %indices, %n into %e0, %e1, %e2
    : tensor<?x4x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x4x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %y#0, %y#1 : tensor<?x4x8xf32>, tensor<?xi32>
}

// Tokens may be any dimension. Without an attention there is no batch, and rows
// are gathered as they are.
// CHECK-LABEL: func.func @tokens_last
//       CHECK: %[[X:.*]] = linalg.generic
//       CHECK: tensor.extract %arg0[%{{.*}}, %{{.*}}] : tensor<32x?xf32>
//       CHECK: linalg.generic {{.*}} ins(%[[X]], %arg1
//       CHECK: arith.mulf
//       CHECK: return
func.func @tokens_last(%x: tensor<32x?xf32>, %w: tensor<16x32xf32>, %indices: tensor<3xi64>) -> tensor<16x3xf32> {
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c1 : tensor<32x?xf32>
  %e = tensor.empty(%t) : tensor<16x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<16x?xf32>) -> tensor<16x?xf32>
  %y = linalg.generic {
      indexing_maps = [affine_map<(n, t, k) -> (k, t)>, affine_map<(n, t, k) -> (n, k)>, affine_map<(n, t, k) -> (n, t)>],
      iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%x, %w : tensor<32x?xf32>, tensor<16x32xf32>) outs(%f : tensor<16x?xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %c, %p : f32
    linalg.yield %s : f32
  } -> tensor<16x?xf32>
  %eg = tensor.empty() : tensor<16x3xf32>
  %g = linalg.generic {indexing_maps = [affine_map<(d, i) -> (i)>, affine_map<(d, i) -> (d, i)>], iterator_types = ["parallel", "parallel"]} ins(%indices : tensor<3xi64>) outs(%eg : tensor<16x3xf32>) {
  ^bb0(%i: i64, %out: f32):
    %d = linalg.index 0 : index
    %at = arith.index_cast %i : i64 to index
    %v = tensor.extract %y[%d, %at] : tensor<16x?xf32>
    linalg.yield %v : f32
  } -> tensor<16x3xf32>
  return %g : tensor<16x3xf32>
}

// A body that asks for the number of its row gets that of the selected row; one
// that reads a tensor at it reads selected rows. Concats, pads, slices and a
// leading 1 keep rows apart.
// CHECK-LABEL: func.func @ways_to_write_it
//   CHECK-DAG: tensor.concat dim(1) {{.*}} -> tensor<4x32xf32>
//       CHECK: tensor.pad {{.*}} low[0, 0] high[0, 4]
//       CHECK: tensor.expand_shape {{.*}} into tensor<1x4x36xf32>
//       CHECK: tensor.collapse_shape {{.*}} into tensor<4x36xf32>
//       CHECK: tensor.insert_slice {{.*}}[0, 2] [4, 32] [1, 1]
//       CHECK: linalg.generic
//       CHECK: %[[OWN:.*]] = linalg.index 0
//       CHECK: %[[I:.*]] = linalg.index 0
//       CHECK: %[[ENTRY:.*]] = tensor.extract %arg2[%[[I]]] : tensor<4xi32>
//       CHECK: %[[NUMBER:.*]] = arith.index_cast %[[ENTRY]]
//       CHECK: tensor.extract %{{.*}}[%[[OWN]], %{{.*}}] : tensor<4x36xf32>
//       CHECK: arith.index_cast %[[NUMBER]]
//       CHECK: linalg.reduce
//       CHECK: linalg.generic
//       CHECK: tensor.extract %{{.*}}[%{{.*}}] : tensor<4xf32>
//       CHECK: return
func.func @ways_to_write_it(%x: tensor<10x16xf32>, %y: tensor<10x16xf32>, %indices: tensor<4xi32>) -> tensor<4xf32> {
  %zero = arith.constant 0.0 : f32
  %c0 = arith.constant 0 : index
  %wide = tensor.concat dim(1) %x, %y : (tensor<10x16xf32>, tensor<10x16xf32>) -> tensor<10x32xf32>
  %pad = tensor.pad %wide low[0, 0] high[0, 4] {
  ^bb0(%i: index, %j: index):
    tensor.yield %zero : f32
  } : tensor<10x32xf32> to tensor<10x36xf32>
  %one = tensor.expand_shape %pad [[0, 1], [2]] output_shape [1, 10, 36] : tensor<10x36xf32> into tensor<1x10x36xf32>
  %flat = tensor.collapse_shape %one [[0, 1], [2]] : tensor<1x10x36xf32> into tensor<10x36xf32>
  %part = tensor.extract_slice %wide[0, 0] [10, 32] [1, 1] : tensor<10x32xf32> to tensor<10x32xf32>
  %put = tensor.insert_slice %part into %flat[0, 2] [10, 32] [1, 1] : tensor<10x32xf32> into tensor<10x36xf32>
  %e = tensor.empty() : tensor<10x36xf32>
  %num = linalg.generic {indexing_maps = [#all], iterator_types = ["parallel", "parallel"]} outs(%e : tensor<10x36xf32>) {
  ^bb0(%out: f32):
    %t = linalg.index 0 : index
    %d = linalg.index 1 : index
    %v = tensor.extract %put[%t, %d] : tensor<10x36xf32>
    %n = arith.index_cast %t : index to i32
    %nf = arith.sitofp %n : i32 to f32
    %r = arith.addf %v, %nf : f32
    linalg.yield %r : f32
  } -> tensor<10x36xf32>
  %e1 = tensor.empty() : tensor<10xf32>
  %f1 = linalg.fill ins(%zero : f32) outs(%e1 : tensor<10xf32>) -> tensor<10xf32>
  %sum = linalg.reduce { arith.addf } ins(%num : tensor<10x36xf32>) outs(%f1 : tensor<10xf32>) dimensions = [1]
  %eg = tensor.empty() : tensor<4xf32>
  // Not only a gather: the rest of the body stays.
  %g = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]} ins(%indices : tensor<4xi32>) outs(%eg : tensor<4xf32>) {
  ^bb0(%i: i32, %out: f32):
    %at = arith.index_cast %i : i32 to index
    %v = tensor.extract %sum[%at] : tensor<10xf32>
    %w = arith.addf %v, %v : f32
    linalg.yield %w : f32
  } -> tensor<4xf32>
  return %g : tensor<4xf32>
}

// The last iteration of a loop over layers is taken out of it.
// CHECK-LABEL: func.func @last_of_a_loop
//       CHECK: %[[LOOP:.*]] = scf.for %{{.*}} = %{{.*}} to %{{.*}} step
//       CHECK:   kvcache.index_copy
//       CHECK:   arith.mulf %{{.*}} : tensor<?x2x8xf32>
//       CHECK: }
//       CHECK: kvcache.index_copy %[[LOOP]]
//       CHECK: kvcache.select_rows %[[LOOP]]
//       CHECK: kvcache.attention
//       CHECK: return
func.func @last_of_a_loop(
    %x: tensor<?x2x8xf32>, %pool: !kvcache.cache<4L x 2S x ?B x 16N x 2H x 8D x f32>,
    %slots: !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>,
    %starts: tensor<?xi32>, %lengths: tensor<?xi32>, %blocks: tensor<?x?xi32>,
    %indices: tensor<?xi32>, %n: tensor<1xi32>, %e0: tensor<?x2x8xf32>,
    %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x2x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %t = tensor.dim %x, %c0 : tensor<?x2x8xf32>
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !table
  %y = scf.for %l = %c0 to %c4 step %c1 iter_args(%h = %x) -> tensor<?x2x8xf32> {
    %layer = kvcache.layer %pool[%l] : !kvcache.cache<4L x 2S x ?B x 16N x 2H x 8D x f32>
    kvcache.index_copy %h, %h into %layer at %slots : tensor<?x2x8xf32>, tensor<?x2x8xf32> into !kv at !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
    %e = tensor.empty(%t) : tensor<?x2x8xf32>
    %a = kvcache.attention %h over %layer in %batch into %e causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
    %m = arith.mulf %h, %a : tensor<?x2x8xf32>
    scf.yield %m : tensor<?x2x8xf32>
  }
  %s:3 = kvcache.select_rows %y of %batch at %indices, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}

// A loop of layers that write nothing carries selected rows. So does a branch.
// CHECK-LABEL: func.func @loop_and_branch
//       CHECK: %[[S:.*]]:3 = kvcache.select_rows
//       CHECK: scf.for {{.*}} iter_args(%{{.*}} = %[[S]]#0)
//       CHECK:   kvcache.attention
//       CHECK:   scf.if
//       CHECK:     arith.mulf
//       CHECK: return
func.func @loop_and_branch(
    %x: tensor<?x2x8xf32>, %cache: !kv, %flag: i1,
    %starts: tensor<?xi32>, %lengths: tensor<?xi32>, %blocks: tensor<?x?xi32>,
    %indices: tensor<?xi32>, %n: tensor<1xi32>, %e0: tensor<?x2x8xf32>,
    %e1: tensor<?xi32>, %e2: tensor<?xi32>, %layers: index) -> tensor<?x2x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %t = tensor.dim %x, %c0 : tensor<?x2x8xf32>
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !table
  %y = scf.for %l = %c0 to %layers step %c1 iter_args(%h = %x) -> tensor<?x2x8xf32> {
    %e = tensor.empty(%t) : tensor<?x2x8xf32>
    %a = kvcache.attention %h over %cache in %batch into %e causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
    %m = scf.if %flag -> tensor<?x2x8xf32> {
      %p = arith.mulf %h, %x : tensor<?x2x8xf32>
      %q = arith.addf %p, %a : tensor<?x2x8xf32>
      scf.yield %q : tensor<?x2x8xf32>
    } else {
      %q = arith.addf %h, %a : tensor<?x2x8xf32>
      scf.yield %q : tensor<?x2x8xf32>
    }
    scf.yield %m : tensor<?x2x8xf32>
  }
  %s:3 = kvcache.select_rows %y of %batch at %indices, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}

// Batches that differ in blocks: each gets rows of its own.
// CHECK-LABEL: func.func @two_batches
// CHECK-COUNT-2: kvcache.with_rows
//       CHECK: return
func.func @two_batches(
    %x: tensor<?x2x8xf32>, %cache: !kv,
    %starts: tensor<?xi32>, %lengths: tensor<?xi32>, %blocks: tensor<?x?xi32>,
    %others: tensor<?x?xi32>, %indices: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x2x8xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>)
    -> tensor<?x2x8xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x2x8xf32>
  %e = tensor.empty(%t) : tensor<?x2x8xf32>
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !table
  %a = kvcache.attention %x over %cache in %batch into %e causal : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
  %table2 = kvcache.make_block_table %others : tensor<?x?xi32> to !table
  %batch2 = kvcache.make_batch %starts, %lengths, %table2 : tensor<?xi32>, tensor<?xi32>, !table
  %b = kvcache.attention %a over %cache in %batch2 into %e causal window 4 : tensor<?x2x8xf32> over !kv in !batch into tensor<?x2x8xf32>
  %s:3 = kvcache.select_rows %b of %batch at %indices, %n into %e0, %e1, %e2
    : tensor<?x2x8xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x2x8xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x2x8xf32>
}

// Along the other dimension, softmax keeps rows apart.
// CHECK-LABEL: func.func @softmax
//       CHECK: linalg.softmax dimension(1) {{.*}} tensor<4x8xf32>
//       CHECK: linalg.matmul {{.*}} -> tensor<4x8xf32>
func.func @softmax(%x: tensor<10x8xf32>, %w: tensor<8x8xf32>, %e: tensor<10x8xf32>, %indices: tensor<4xi32>, %o: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %y = linalg.softmax dimension(1) ins(%x : tensor<10x8xf32>) outs(%e : tensor<10x8xf32>) -> tensor<10x8xf32>
  %z = linalg.matmul ins(%y, %w : tensor<10x8xf32>, tensor<8x8xf32>) outs(%x : tensor<10x8xf32>) -> tensor<10x8xf32>
  %g = linalg.generic {indexing_maps = [#row, #all], iterator_types = ["parallel", "parallel"]} ins(%indices : tensor<4xi32>) outs(%o : tensor<4x8xf32>) {
  ^bb0(%i: i32, %out: f32):
    %at = arith.index_cast %i : i32 to index
    %d = linalg.index 1 : index
    %v = tensor.extract %z[%at, %d] : tensor<10x8xf32>
    linalg.yield %v : f32
  } -> tensor<4x8xf32>
  return %g : tensor<4x8xf32>
}

// An extract in a branch of a body; a generic with two results, of which nobody
// reads the second, but for its extent.
// CHECK-LABEL: func.func @body_with_branch
//       CHECK: tensor.extract %arg0
//       CHECK: %[[BOTH:.*]]:2 = linalg.generic
//  CHECK-NEXT: ^bb0
//  CHECK-NEXT:   %[[OWN:.*]] = linalg.index 0
//       CHECK:   scf.if
//       CHECK:     tensor.extract %{{.*}}[%[[OWN]]] : tensor<?xf32>
//       CHECK: %[[T:.*]] = tensor.dim %arg0
//       CHECK: tensor.empty(%[[T]])
//       CHECK: linalg.matmul
//       CHECK: return
func.func @body_with_branch(%x: tensor<?xf32>, %y: tensor<?x8xf32>, %y8: tensor<8x8xf32>, %indices: tensor<?xi32>) -> (tensor<?x8xf32>, tensor<?xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?xf32>
  %ex = tensor.empty(%t) : tensor<?xf32>
  %x2 = linalg.generic {indexing_maps = [affine_map<(t) -> (t)>, affine_map<(t) -> (t)>], iterator_types = ["parallel"]} ins(%x : tensor<?xf32>) outs(%ex : tensor<?xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.addf %a, %a : f32
    linalg.yield %b : f32
  } -> tensor<?xf32>
  %e = tensor.empty(%t) : tensor<?x8xf32>
  %both:2 = linalg.generic {indexing_maps = [#all, #all, #row], iterator_types = ["parallel", "parallel"]} ins(%y : tensor<?x8xf32>) outs(%e, %x2 : tensor<?x8xf32>, tensor<?xf32>) {
  ^bb0(%a: f32, %out: f32, %out2: f32):
    %r = linalg.index 0 : index
    %isSmall = arith.cmpf olt, %a, %zero : f32
    %v = scf.if %isSmall -> f32 {
      %f = tensor.extract %x2[%r] : tensor<?xf32>
      scf.yield %f : f32
    } else {
      scf.yield %a : f32
    }
    linalg.yield %v, %out2 : f32, f32
  } -> (tensor<?x8xf32>, tensor<?xf32>)
  %extent = tensor.dim %both#1, %c0 : tensor<?xf32>
  %ez = tensor.empty(%extent) : tensor<?xf32>
  %zeros = linalg.fill ins(%zero : f32) outs(%ez : tensor<?xf32>) -> tensor<?xf32>
  %s = tensor.dim %indices, %c0 : tensor<?xi32>
  %eg = tensor.empty(%s) : tensor<?x8xf32>
  %w = linalg.matmul ins(%both#0, %y8 : tensor<?x8xf32>, tensor<8x8xf32>) outs(%both#0 : tensor<?x8xf32>) -> tensor<?x8xf32>
  %g = linalg.generic {indexing_maps = [#row, #all], iterator_types = ["parallel", "parallel"]} ins(%indices : tensor<?xi32>) outs(%eg : tensor<?x8xf32>) {
  ^bb0(%i: i32, %out: f32):
    %at = arith.index_cast %i : i32 to index
    %d = linalg.index 1 : index
    %v = tensor.extract %w[%at, %d] : tensor<?x8xf32>
    linalg.yield %v : f32
  } -> tensor<?x8xf32>
  return %g, %zeros : tensor<?x8xf32>, tensor<?xf32>
}

// Rows that change their dimension in each iteration: the last one is peeled,
// and no more than that.
// CHECK-LABEL: func.func @turning_loop
//       CHECK: %[[LOOP:.*]] = scf.for
//       CHECK: scf.if
//   CHECK-NOT: scf.for
//       CHECK: return
func.func @turning_loop(%x: tensor<8x8xf32>, %w: tensor<8x8xf32>, %n: index, %indices: tensor<4xi32>, %o: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %y = scf.for %i = %c0 to %n step %c1 iter_args(%h = %x) -> tensor<8x8xf32> {
    %t = linalg.transpose ins(%h : tensor<8x8xf32>) outs(%x : tensor<8x8xf32>) permutation = [1, 0]
    %z = linalg.matmul ins(%t, %w : tensor<8x8xf32>, tensor<8x8xf32>) outs(%h : tensor<8x8xf32>) -> tensor<8x8xf32>
    scf.yield %z : tensor<8x8xf32>
  }
  %g = linalg.generic {indexing_maps = [#row, #all], iterator_types = ["parallel", "parallel"]} ins(%indices : tensor<4xi32>) outs(%o : tensor<4x8xf32>) {
  ^bb0(%i: i32, %out: f32):
    %at = arith.index_cast %i : i32 to index
    %d = linalg.index 1 : index
    %v = tensor.extract %y[%at, %d] : tensor<8x8xf32>
    linalg.yield %v : f32
  } -> tensor<4x8xf32>
  return %g : tensor<4x8xf32>
}

// The verifiers of reshapes take numbers of dimensions modulo 2^32: groups are
// counted, and no number is looked up.
// CHECK-LABEL: func.func @numbers_of_dimensions_that_wrap
//       CHECK: %[[S:.*]]:3 = kvcache.select_rows %arg0
//       CHECK: linalg.matmul ins(%[[S]]#0,
//       CHECK: tensor.expand_shape %{{.*}} {{\[\[}}4294967296], [1, 2]]
//       CHECK: kvcache.attention
//       CHECK: tensor.collapse_shape %{{.*}} {{\[\[}}4294967296], [1, 2]]
//       CHECK: return
func.func @numbers_of_dimensions_that_wrap(
    %x: tensor<?x32xf32>, %cache: !kv, %w: tensor<32x32xf32>,
    %starts: tensor<?xi32>, %lengths: tensor<?xi32>, %blocks: tensor<?x?xi32>,
    %indices: tensor<?xi32>, %n: tensor<1xi32>,
    %e0: tensor<?x32xf32>, %e1: tensor<?xi32>, %e2: tensor<?xi32>) -> tensor<?x32xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x32xf32>
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !table
  %e = tensor.empty(%t) : tensor<?x32xf32>
  %q = linalg.matmul ins(%x, %w : tensor<?x32xf32>, tensor<32x32xf32>) outs(%e : tensor<?x32xf32>) -> tensor<?x32xf32>
  %q3 = tensor.expand_shape %q [[4294967296], [1, 2]] output_shape [%t, 4, 8] : tensor<?x32xf32> into tensor<?x4x8xf32>
  %ea = tensor.empty(%t) : tensor<?x4x8xf32>
  %a = kvcache.attention %q3 over %cache in %batch into %ea causal : tensor<?x4x8xf32> over !kv in !batch into tensor<?x4x8xf32>
  %a2 = tensor.collapse_shape %a [[4294967296], [1, 2]] : tensor<?x4x8xf32> into tensor<?x32xf32>
  %s:3 = kvcache.select_rows %a2 of %batch at %indices, %n into %e0, %e1, %e2
    : tensor<?x32xf32> of !batch at tensor<?xi32>, tensor<1xi32> into tensor<?x32xf32>, tensor<?xi32>, tensor<?xi32>
  return %s#0 : tensor<?x32xf32>
}
