// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What JAX and IREE emit for a cache. test/numerics/raise_hosts.py runs the
// results.
//
// RUN: kv-opt %S/Inputs/iree_index_put.mlir --allow-unregistered-dialect --kvcache-raise | FileCheck %s --check-prefix=PUT
// RUN: kv-opt %S/Inputs/iree_hnd.mlir --allow-unregistered-dialect --kvcache-raise | FileCheck %s --check-prefix=HND
// RUN: kv-opt %S/Inputs/iree_index_copy.mlir --allow-unregistered-dialect --kvcache-raise | FileCheck %s --check-prefix=COPY
// RUN: kv-opt %S/Inputs/jax_write_2d.mlir --allow-unregistered-dialect --kvcache-raise | FileCheck %s --check-prefix=WRITE2D
// RUN: kv-opt %S/Inputs/jax_write_flat.mlir --allow-unregistered-dialect --kvcache-raise | FileCheck %s --check-prefix=FLAT
// RUN: kv-opt %S/Inputs/jax_gather_ctx.mlir --allow-unregistered-dialect --kvcache-raise | FileCheck %s --check-prefix=GATHER
//
// Without what is addressed to the compiler that it came from, and then with
// nothing of the size of the pool copied or allocated:
// RUN: kv-opt %S/Inputs/jax_write_flat.mlir --allow-unregistered-dialect --kvcache-raise=standalone --kvcache-bufferize | FileCheck %s --check-prefix=BUFFERS
// RUN: kv-opt %S/Inputs/iree_hnd.mlir --allow-unregistered-dialect --kvcache-raise --kvcache-bufferize | FileCheck %s --check-prefix=HND-BUFFERS
//
// The remarks, the same each time:
// RUN: kv-opt %S/Inputs/jax_write_2d.mlir --allow-unregistered-dialect --kvcache-raise --remark-format=emitRemark --remarks-filter=kvcache -o /dev/null 2>&1 | FileCheck %s --check-prefix=REMARK --implicit-check-not=remark:

// PUT: !kv_slots = !kvcache.slots<7T x i64, rows_per_block = 16, pad = skip_out_of_range>
// PUT-LABEL: func.func @index_put(
// PUT-SAME: %[[POOL:.*]]: tensor<64x16x8x128xf32> {iree.abi.output = 0 : index}, %[[ROWS:.*]]: tensor<7x8x128xf32>, %[[SLOTS:.*]]: tensor<7xi64>)
// PUT-NEXT: %[[S:.*]] = kvcache.make_slots %[[SLOTS]]
// PUT-NEXT: %[[NEW:.*]] = kvcache.index_copy %[[ROWS]] into %[[POOL]][B, N, H, D] at %[[S]]
// PUT-NEXT: return %[[NEW]]

// HND-LABEL: func.func @hnd(
// HND-SAME: %[[POOL:.*]]: tensor<64x8x16x128xf32> {iree.abi.output = 0 : index}, %[[ROWS:.*]]: tensor<7x8x128xf32>, %[[SLOTS:.*]]: tensor<7xi64>)
// HND-NEXT: %[[S:.*]] = kvcache.make_slots %[[SLOTS]]
// HND-NEXT: %[[NEW:.*]] = kvcache.index_copy %[[ROWS]] into %[[POOL]][B, H, N, D] at %[[S]]
// HND-NEXT: return %[[NEW]]

// HND-BUFFERS-LABEL: func.func @hnd(
// HND-BUFFERS-SAME: %[[POOL:.*]]: memref<64x8x16x128xf32> {iree.abi.output = 0 : index}, %[[ROWS:.*]]: memref<7x8x128xf32>, %[[SLOTS:.*]]: memref<7xi64>) {
// HND-BUFFERS-NEXT: %[[S:.*]] = kvcache.make_slots %[[SLOTS]]
// HND-BUFFERS-NEXT: %[[C:.*]] = kvcache.view %[[POOL]][B, H, N, D]
// HND-BUFFERS-NEXT: kvcache.index_copy %[[ROWS]] into %[[C]] at %[[S]]
// HND-BUFFERS-NEXT: return{{$}}

// COPY: !kv_slots = !kvcache.slots<7T x i64, rows_per_block = 1, pad = skip_out_of_range>
// COPY-LABEL: func.func @index_copy(
// COPY: %[[BLOCKS:.*]] = tensor.expand_shape %{{.*}} {{\[\[}}0, 1], [2], [3]]
// COPY-NEXT: %[[NEW:.*]] = kvcache.index_copy %{{.*}} into %[[BLOCKS]][B, N, H, D]
// COPY-NEXT: %[[OUT:.*]] = tensor.collapse_shape %[[NEW]]
// COPY-NEXT: return %[[OUT]]

// Slot -1 is the last one of the pool, -1025 is none.
// WRITE2D: !kv_slots = !kvcache.slots<7T x i32, rows_per_block = 16, pad = skip_out_of_range>
// WRITE2D-LABEL: func.func public @main(
// WRITE2D-SAME: %[[POOL:.*]]: tensor<64x16x8x128xbf16> {tf.aliasing_output = 0 : i32}, %[[ROWS:.*]]: tensor<7x8x128xbf16>, %[[SLOTS:.*]]: tensor<7xi32>)
// WRITE2D: %[[WRAPPED:.*]] = linalg.generic {{.*}} ins(%[[SLOTS]] :
// WRITE2D-NEXT: ^bb0(%[[X:.*]]: i32, %{{.*}}: i32):
// WRITE2D-NEXT: %[[ZERO:.*]] = arith.constant 0
// WRITE2D-NEXT: %[[NEG:.*]] = arith.cmpi slt, %[[X]], %[[ZERO]]
// WRITE2D-NEXT: %[[ALL:.*]] = arith.constant 1024
// WRITE2D-NEXT: %[[UP:.*]] = arith.addi %[[X]], %[[ALL]]
// WRITE2D-NEXT: %[[Y:.*]] = arith.select %[[NEG]], %[[UP]], %[[X]]
// WRITE2D-NEXT: linalg.yield %[[Y]]
// WRITE2D: %[[S:.*]] = kvcache.make_slots %[[WRAPPED]]
// WRITE2D-NEXT: kvcache.index_copy %[[ROWS]] into %[[POOL]][B, N, H, D] at %[[S]]
// Functions that only it called are gone.
// WRITE2D-NOT: func.func
// WRITE2D-NOT: stablehlo

// REMARK: remark: [Passed] raise | Category:kvcache | Remark="stablehlo.scatter raised to index_copy: rows_per_block = 16, pad = skip_out_of_range; negative slots count from the end, once"

// FLAT: !kv_slots = !kvcache.slots<7T x i32, rows_per_block = 1, pad = skip_out_of_range>
// FLAT-LABEL: func.func public @main(
// FLAT: arith.constant 1024
// FLAT: kvcache.index_copy %{{.*}} into %{{.*}}[B, N, H, D]
// FLAT-NOT: stablehlo

// BUFFERS: module @jit_write_flat {
// BUFFERS-NEXT: func.func public @main(%[[POOL:.*]]: memref<1024x8x128xbf16>, %{{.*}}: memref<7x8x128xbf16>, %{{.*}}: memref<7xi32>) {
// BUFFERS-NOT: memref.copy
// BUFFERS: memref.alloc() {{.*}} : memref<7xi32>
// BUFFERS-NOT: memref.alloc
// BUFFERS-NOT: memref.copy
// BUFFERS: %[[E:.*]] = memref.expand_shape %[[POOL]]
// BUFFERS: %[[C:.*]] = kvcache.view %[[E]][B, N, H, D]
// BUFFERS-NEXT: kvcache.index_copy %{{.*}} into %[[C]]
// BUFFERS-NEXT: return{{$}}

// Wrapped once, then moved to the nearest block.
// GATHER: !kv_slots = !kvcache.slots<240T x i64, rows_per_block = 16, pad = none>
// GATHER-LABEL: func.func public @main(
// GATHER: arith.constant 64
// GATHER: arith.maxsi
// GATHER: arith.minsi
// GATHER: %[[BLOCKS:.*]] = tensor.collapse_shape %{{.*}} : tensor<3x5xi32> into tensor<15xi32>
// GATHER: %[[LIST:.*]] = kvcache.block_slots %[[BLOCKS]] of 16 into
// GATHER-NEXT: %[[S:.*]] = kvcache.make_slots %[[LIST]]
// GATHER: %[[ROWS:.*]] = kvcache.gather %{{.*}}[B, N, H, D] at %[[S]] zero into
// GATHER-NEXT: %[[OUT:.*]] = tensor.expand_shape %[[ROWS]] {{.*}} into tensor<3x80x8x128xbf16>
// GATHER-NEXT: return %[[OUT]]
