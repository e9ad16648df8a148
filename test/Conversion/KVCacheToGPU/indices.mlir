// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels that compute indices, and the launches they take.
//
// RUN: kv-opt %s --split-input-file --convert-kvcache-to-gpu --canonicalize --cse | FileCheck %s --implicit-check-not=kvcache

// A thread has a row. The starts are repaired a tile at a time, by all threads
// of a block; then the request of each row is found in the tile.

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// CHECK-LABEL: func.func @slot_mapping(
// CHECK-DAG: %[[C256:.*]] = arith.constant 256 : index
// CHECK: gpu.launch_func @kv_kernels::@slot_mapping {{.*}} threads in (%[[C256]],
// CHECK-NOT: gpu.launch_func
// CHECK: gpu.module
// CHECK-COUNT-2: llvm.mlir.global internal @slot_mapping_shared_{{.*}} : !llvm.array<2048 x i8>
// CHECK: llvm.func @slot_mapping(
// CHECK: scf.for
// CHECK: arith.minsi
// CHECK: nvvm.barrier0
// CHECK: arith.maxsi
// CHECK: scf.while
func.func @slot_mapping(%batch: !batch, %out: memref<?xi64>) {
  kvcache.slot_mapping %batch into %out : !batch into memref<?xi64>
  return
}

// -----

// The number of kernel blocks in a block is a constant: a shift.

// CHECK-LABEL: func.func @map_blocks(
// CHECK: gpu.launch_func @kv_kernels::@map_blocks
// CHECK: llvm.func @map_blocks(
// CHECK: %[[FOUR:.*]] = arith.constant 4 : i64
// CHECK: scf.for
// CHECK: arith.divui %{{.*}}, %[[FOUR]] : i64
// CHECK: %[[NUMBER:.*]] = arith.extsi
// CHECK: arith.cmpi slt, %[[NUMBER]], %
func.func @map_blocks(%blocks: memref<?x?xi32>, %out: memref<?x?xi32>) {
  kvcache.map_blocks %blocks by 4 into %out : memref<?x?xi32> into memref<?x?xi32>
  return
}

// -----

// CHECK-LABEL: func.func @block_slots(
// CHECK: gpu.launch_func @kv_kernels::@block_slots
// CHECK: llvm.func @block_slots(
// CHECK-NOT: scf.for
// CHECK: llvm.store %{{.*}} {alignment = 8 : i64} : i64, !llvm.ptr<1>
func.func @block_slots(%blocks: memref<?xi32>, %out: memref<?xi64>) {
  kvcache.block_slots %blocks of 16 into %out : memref<?xi32> into memref<?xi64>
  return
}

// -----

// One block of threads for starts and positions, then the rows of each operand.
// What passes between the launches is in the workspace, whose size depends on
// extents only.

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// CHECK-LABEL: func.func @select_rows(
// CHECK: %[[SCRATCH:.*]] = memref.alloc(%{{.*}}) : memref<?xi64>
// CHECK: gpu.launch_func @kv_kernels::@select_rows blocks in (%[[C1:[^,]*]], %[[C1]], %[[C1]])
// CHECK: gpu.launch_func @kv_kernels::@select_rows_copy blocks
// CHECK: gpu.launch_func @kv_kernels::@select_rows_copy_1 blocks
// CHECK: llvm.func @select_rows(
// CHECK: llvm.func @select_rows_copy(
// CHECK: llvm.inline_asm {{.*}}ld.global.v4.b32
// CHECK: llvm.func @select_rows_copy_1(
func.func @select_rows(%x: memref<?x64xf32>, %y: memref<?x8x16xbf16>, %batch: !batch, %i: memref<?xi32>, %n: memref<1xi32>,
                       %a: memref<?x64xf32>, %b: memref<?x8x16xbf16>, %starts: memref<?xi32>, %positions: memref<?xi64>) {
  kvcache.select_rows %x, %y of %batch at %i, %n into %a, %b, %starts, %positions
    : memref<?x64xf32>, memref<?x8x16xbf16> of !batch at memref<?xi32>, memref<1xi32>
    into memref<?x64xf32>, memref<?x8x16xbf16>, memref<?xi32>, memref<?xi64>
  return
}

// -----

// An access of a thread is of one head. Powers of two and logarithms are one
// instruction each.

// CHECK-LABEL: func.func @merge_states(
// CHECK: llvm.func @merge_states(
// CHECK: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xi32>
// CHECK: llvm.inline_asm "ex2.approx.f32 $0, $1;", "=f,f"
// CHECK: arith.truncf %{{.*}} : vector<8xf32> to vector<8xbf16>
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
// CHECK: llvm.inline_asm "lg2.approx.f32 $0, $1;", "=f,f"
func.func @merge_states(%a: memref<?x4x64xbf16>, %la: memref<?x4xf32>, %b: memref<?x4x64xbf16>, %lb: memref<?x4xf32>,
                        %o: memref<?x4x64xbf16>, %lo: memref<?x4xf32>) {
  kvcache.merge_states %a, %la with %b, %lb into %o, %lo
    : memref<?x4x64xbf16>, memref<?x4xf32> with memref<?x4x64xbf16>, memref<?x4xf32> into memref<?x4x64xbf16>, memref<?x4xf32>
  return
}
