// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which arguments an update of a functional program may overwrite. It is said of
// those that callers outside hand over, through whatever functions they come to
// the update: bufferization sees the calls. test/numerics/raise_donation.py runs
// such programs.
//
// RUN: kv-opt %s -split-input-file --allow-unregistered-dialect --kvcache-raise | FileCheck %s
// RUN: kv-opt %s -split-input-file --allow-unregistered-dialect --kvcache-raise --remark-format=emitRemark --remarks-filter=kvcache -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK
// RUN: kv-opt %s -split-input-file --allow-unregistered-dialect --kvcache-raise=standalone --kvcache-bufferize=allow-pool-copies | FileCheck %s --check-prefix=BUFFERS

!pool = tensor<32x8xf32>
!rows = tensor<3x8xf32>
!list = tensor<3x1xi32>

// A private function is no place to decide it: each of its callers is.
// CHECK-LABEL: func.func public @nested(
// CHECK-SAME: %{{.*}}: tensor<32x8xf32> {bufferization.writable = false}, %{{.*}}: tensor<3x8xf32>,
// CHECK-LABEL: func.func public @nested_donated(
// CHECK-SAME: %{{.*}}: tensor<32x8xf32> {tf.aliasing_output = 0 : i32}, %{{.*}}: tensor<3x8xf32>,
// CHECK-LABEL: func.func private @write(
// CHECK-NOT: bufferization.writable
// CHECK: return
// REMARK: remark: [Passed] raise | {{.*}}stablehlo.scatter raised to index_copy
// REMARK: remark: [Missed] raise | {{.*}}stablehlo.scatter not in place: argument 0 of 'nested' is not donated, so a copy of the pool is written
// REMARK-NOT: 'nested_donated'
// BUFFERS-LABEL: func.func public @nested(
// BUFFERS-SAME: %[[POOL:.*]]: memref<32x8xf32>, %{{.*}}: memref<3x8xf32>, %{{.*}}: memref<3x1xi32>, %[[OUT:.*]]: memref<32x8xf32> {bufferize.result})
// BUFFERS: memref.copy %{{.*}}, %{{.*}}
// BUFFERS-LABEL: func.func public @nested_donated(
// BUFFERS-SAME: %{{.*}}: memref<3x1xi32>) {
// BUFFERS-NOT: memref.copy
// BUFFERS: return
func.func public @nested(%pool: !pool, %rows: !rows, %slots: !list) -> !pool {
  %0 = call @write(%pool, %rows, %slots) : (!pool, !rows, !list) -> !pool
  return %0 : !pool
}
func.func public @nested_donated(%pool: !pool {tf.aliasing_output = 0 : i32}, %rows: !rows, %slots: !list) -> !pool {
  %0 = call @write(%pool, %rows, %slots) : (!pool, !rows, !list) -> !pool
  return %0 : !pool
}
func.func private @write(%pool: !pool, %rows: !rows, %slots: !list) -> !pool {
  %0 = "stablehlo.scatter"(%pool, %slots, %rows) <{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1], inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>, unique_indices = true}> ({
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    "stablehlo.return"(%b) : (tensor<f32>) -> ()
  }) : (!pool, !list, !rows) -> !pool
  return %0 : !pool
}

// -----

// The caller looks at the old pool after the call, which is a copy as well.
// CHECK-LABEL: func.func public @read_after(
// CHECK-SAME: %{{.*}}: tensor<32x8xf32> {jax.buffer_donor = true}, %{{.*}}: tensor<3x8xf32>,
// BUFFERS-LABEL: func.func public @read_after(
// BUFFERS: memref.copy
// BUFFERS: kvcache.index_copy
func.func public @read_after(%pool: tensor<32x8xf32> {jax.buffer_donor = true}, %rows: tensor<3x8xf32>, %slots: tensor<3x1xi32>, %i: index) -> (tensor<32x8xf32>, f32) {
  %0 = call @write(%pool, %rows, %slots) : (tensor<32x8xf32>, tensor<3x8xf32>, tensor<3x1xi32>) -> tensor<32x8xf32>
  %old = tensor.extract %pool[%i, %i] : tensor<32x8xf32>
  return %0, %old : tensor<32x8xf32>, f32
}
func.func private @write(%pool: tensor<32x8xf32>, %rows: tensor<3x8xf32>, %slots: tensor<3x1xi32>) -> tensor<32x8xf32> {
  %0 = "iree_linalg_ext.scatter"(%rows, %slots, %pool) <{dimension_map = array<i64: 0>, unique_indices = true}> ({
  ^bb0(%a: f32, %b: f32):
    "iree_linalg_ext.yield"(%a) : (f32) -> ()
  }) : (tensor<3x8xf32>, tensor<3x1xi32>, tensor<32x8xf32>) -> tensor<32x8xf32>
  return %0 : tensor<32x8xf32>
}

// -----

// A function that calls itself is not inlined: its caller makes the copy.
// CHECK-LABEL: func.func private @again(
// CHECK-NOT: bufferization.writable
// CHECK-LABEL: func.func @recursive(
// CHECK-SAME: %{{.*}}: tensor<32x8xf32> {bufferization.writable = false}
// BUFFERS-LABEL: func.func @recursive(
// BUFFERS-SAME: %[[POOL:[a-z0-9]*]]: memref<32x8xf32>
// BUFFERS: %[[COPY:.*]] = memref.alloc()
// BUFFERS: memref.copy %[[POOL]], %[[COPY]]
// BUFFERS: call @again(%[[COPY]],
func.func private @again(%pool: tensor<32x8xf32>, %rows: tensor<3x8xf32>, %slots: tensor<3x1xi32>, %n: index) -> tensor<32x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %isLast = arith.cmpi eq, %n, %c0 : index
  %next = scf.if %isLast -> tensor<32x8xf32> {
    scf.yield %pool : tensor<32x8xf32>
  } else {
    %p = "tm_tensor.scatter"(%rows, %slots, %pool) <{dimension_map = array<i64: 0>, unique_indices = true}> ({
    ^bb0(%a: f32, %b: f32):
      "tm_tensor.yield"(%a) : (f32) -> ()
    }) : (tensor<3x8xf32>, tensor<3x1xi32>, tensor<32x8xf32>) -> tensor<32x8xf32>
    %m = arith.subi %n, %c1 : index
    %r = func.call @again(%p, %rows, %slots, %m) : (tensor<32x8xf32>, tensor<3x8xf32>, tensor<3x1xi32>, index) -> tensor<32x8xf32>
    scf.yield %r : tensor<32x8xf32>
  }
  return %next : tensor<32x8xf32>
}
func.func @recursive(%pool: tensor<32x8xf32>, %rows: tensor<3x8xf32>, %slots: tensor<3x1xi32>, %n: index) -> tensor<32x8xf32> {
  %r = call @again(%pool, %rows, %slots, %n) : (tensor<32x8xf32>, tensor<3x8xf32>, tensor<3x1xi32>, index) -> tensor<32x8xf32>
  return %r : tensor<32x8xf32>
}

// -----

// Whoever has the address of a function may call it.
// CHECK-LABEL: func.func private @taken(
// CHECK-SAME: %{{.*}}: tensor<32x8xf32> {bufferization.writable = false}
// REMARK: argument 0 of 'taken' is not donated
func.func private @taken(%pool: tensor<32x8xf32>, %rows: tensor<3x8xf32>, %slots: tensor<3x1xi32>) -> tensor<32x8xf32> attributes {test.address_of = @taken} {
  %0 = "iree_linalg_ext.scatter"(%rows, %slots, %pool) <{dimension_map = array<i64: 0>, unique_indices = true}> ({
  ^bb0(%a: f32, %b: f32):
    "iree_linalg_ext.yield"(%a) : (f32) -> ()
  }) : (tensor<3x8xf32>, tensor<3x1xi32>, tensor<32x8xf32>) -> tensor<32x8xf32>
  return %0 : tensor<32x8xf32>
}

// -----

// Through slices, loops, choices and results of calls. Rows and lists are read.
// CHECK-LABEL: func.func @loop(
// CHECK-SAME: %{{.*}}: tensor<2x32x8xf32> {bufferization.writable = false}, %{{.*}}: tensor<32x8xf32> {bufferization.writable = false}, %{{.*}}: tensor<3x8xf32>, %{{.*}}: tensor<3x1xi32>, %{{.*}}: i1)
// REMARK-COUNT-2: not in place: argument {{[01]}} of 'loop' is not donated
// BUFFERS-LABEL: func.func @loop(
// BUFFERS-SAME: %[[OUT:[a-z0-9]*]]: memref<32x8xf32> {bufferize.result}) {
// BUFFERS: memref.expand_shape %[[OUT]]
// BUFFERS-NOT: memref.expand_shape
// BUFFERS: return
func.func private @first(%pool: tensor<2x32x8xf32>) -> tensor<32x8xf32> {
  %0 = tensor.extract_slice %pool[0, 0, 0] [1, 32, 8] [1, 1, 1] : tensor<2x32x8xf32> to tensor<32x8xf32>
  return %0 : tensor<32x8xf32>
}
func.func @loop(%both: tensor<2x32x8xf32>, %other: tensor<32x8xf32>, %rows: tensor<3x8xf32>, %slots: tensor<3x1xi32>, %c: i1) -> tensor<32x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %first = call @first(%both) : (tensor<2x32x8xf32>) -> tensor<32x8xf32>
  %start = scf.if %c -> tensor<32x8xf32> {
    scf.yield %first : tensor<32x8xf32>
  } else {
    scf.yield %other : tensor<32x8xf32>
  }
  %r = scf.for %i = %c0 to %c4 step %c1 iter_args(%p = %start) -> tensor<32x8xf32> {
    %0 = "iree_linalg_ext.scatter"(%rows, %slots, %p) <{dimension_map = array<i64: 0>, unique_indices = true}> ({
    ^bb0(%a: f32, %b: f32):
      "iree_linalg_ext.yield"(%a) : (f32) -> ()
    }) : (tensor<3x8xf32>, tensor<3x1xi32>, tensor<32x8xf32>) -> tensor<32x8xf32>
    scf.yield %0 : tensor<32x8xf32>
  }
  return %r : tensor<32x8xf32>
}

// -----

// A pool that is made in the function is nobody's.
// CHECK-LABEL: func.func @no_argument(
// CHECK-NOT: writable
// CHECK: return
// REMARK-NOT: 'no_argument' is not donated
func.func @no_argument(%x: tensor<32x8xf32>, %rows: tensor<3x8xf32>, %slots: tensor<3x1xi32>) -> tensor<32x8xf32> {
  %empty = tensor.empty() : tensor<32x8xf32>
  %pool = linalg.add ins(%x, %x : tensor<32x8xf32>, tensor<32x8xf32>) outs(%empty : tensor<32x8xf32>) -> tensor<32x8xf32>
  %0 = "iree_linalg_ext.scatter"(%rows, %slots, %pool) <{dimension_map = array<i64: 0>, unique_indices = true}> ({
  ^bb0(%a: f32, %b: f32):
    "iree_linalg_ext.yield"(%a) : (f32) -> ()
  }) : (tensor<3x8xf32>, tensor<3x1xi32>, tensor<32x8xf32>) -> tensor<32x8xf32>
  return %0 : tensor<32x8xf32>
}
