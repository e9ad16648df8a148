// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels that compute indices, and the launches they take.
//
// RUN: kv-opt %s --split-input-file --convert-kvcache-to-gpu --canonicalize --cse | FileCheck %s --implicit-check-not='{{!kvcache|kvcache[.][a-z_]+ %}}'

// A thread has a row. All threads of a block look whether a tile of starts is in
// order, and repair it if not; then each finds the request of its row in the
// tile, in ten steps for 512.

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// CHECK-LABEL: func.func @slot_mapping(
// CHECK-DAG: %[[C512:.*]] = arith.constant 512 : index
// CHECK: gpu.launch_func @kv_kernels::@slot_mapping {{.*}} threads in (%[[C512]],
// CHECK-NOT: gpu.launch_func
// CHECK: gpu.module
// CHECK-COUNT-2: llvm.mlir.global internal @slot_mapping_shared_{{.*}} : !llvm.array<4096 x i8>
// CHECK: llvm.func @slot_mapping(
// CHECK-COUNT-3: ld.global.b32
// CHECK: scf.for
// CHECK: %[[VOTE:.*]] = nvvm.barrier #nvvm.reduction<and>
// CHECK: %[[WRONG:.*]] = arith.cmpi eq, %[[VOTE]], %
// CHECK: scf.if %[[WRONG]] {
// CHECK: scf.while
// CHECK-COUNT-2: nvvm.barrier0
// CHECK: scf.yield
// CHECK-COUNT-10: llvm.load %{{.*}} : !llvm.ptr<3> -> i64
func.func @slot_mapping(%batch: !batch, %out: memref<?xi64>) {
  kvcache.slot_mapping %batch into %out : !batch into memref<?xi64>
  return
}

// -----

// The number of kernel blocks in a block is a constant: a shift. A number with a
// part that an i32 has no room for is no block, and neither is a negative one.

// CHECK-LABEL: func.func @map_blocks(
// CHECK: gpu.launch_func @kv_kernels::@map_blocks
// CHECK: llvm.func @map_blocks(
// CHECK: %[[MOST:.*]] = arith.constant 536870912 : i64
// CHECK: %[[FOUR:.*]] = arith.constant 4 : i64
// CHECK: scf.for
// CHECK: arith.divui %{{.*}}, %[[FOUR]] : i64
// CHECK: %[[NUMBER:.*]] = arith.extsi
// CHECK: arith.cmpi ult, %[[NUMBER]], %[[MOST]]
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

// One launch, without a workspace: each block of threads votes on all indices.
// Then some write starts, some positions, and the others rows of each operand.

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// CHECK-LABEL: func.func @select_rows(
// CHECK-NOT: memref.alloc
// CHECK: gpu.launch_func @kv_kernels::@select_rows blocks
// CHECK-NOT: gpu.launch_func
// CHECK: gpu.module
// CHECK: llvm.func @select_rows(
// CHECK: nvvm.barrier #nvvm.reduction<and>
// CHECK: nvvm.barrier #nvvm.reduction<and>
// CHECK: %[[USED:.*]] = arith.select
// CHECK: arith.cmpi slt, %{{.*}}, %[[STARTS:.*]] : i64
// CHECK: scf.if
// CHECK: scf.if
// CHECK: ld.global.v4.b32
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
// CHECK: ld.global.v4.b32
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
// CHECK-NOT: llvm.func @select_rows
func.func @select_rows(%x: memref<?x64xf32>, %y: memref<?x8x16xbf16>, %batch: !batch, %i: memref<?xi32>, %n: memref<1xi32>,
                       %a: memref<?x64xf32>, %b: memref<?x8x16xbf16>, %starts: memref<?xi32>, %positions: memref<?xi64>) {
  kvcache.select_rows %x, %y of %batch at %i, %n into %a, %b, %starts, %positions
    : memref<?x64xf32>, memref<?x8x16xbf16> of !batch at memref<?xi32>, memref<1xi32>
    into memref<?x64xf32>, memref<?x8x16xbf16>, memref<?xi32>, memref<?xi64>
  return
}

// -----

// The parts of a row have code of their own each; those of a very long one are
// in a loop.

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// CHECK-LABEL: func.func @select_long_rows(
// CHECK: llvm.func @select_rows(
// CHECK: scf.for %{{.*}} = %c0_i32{{.*}} to %c131072_i32{{.*}} step %c1_i32{{.*}} : i32
// CHECK: ld.global.v4.b32
// CHECK-NOT: ld.global.v4.b32
// CHECK: llvm.return
func.func @select_long_rows(%x: memref<?x268435456xf32>, %batch: !batch, %i: memref<?xi32>, %n: memref<1xi32>,
                            %a: memref<?x268435456xf32>, %starts: memref<?xi32>, %positions: memref<?xi64>) {
  kvcache.select_rows %x of %batch at %i, %n into %a, %starts, %positions
    : memref<?x268435456xf32> of !batch at memref<?xi32>, memref<1xi32>
    into memref<?x268435456xf32>, memref<?xi32>, memref<?xi64>
  return
}

// -----

// An access of a thread is of one head. Powers of two and logarithms are one
// instruction each.

// CHECK-LABEL: func.func @merge_states(
// CHECK: llvm.func @merge_states(
// CHECK: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xi32>
// CHECK: llvm.call_intrinsic "llvm.nvvm.ex2.approx"(
// CHECK: arith.truncf %{{.*}} : vector<8xf32> to vector<8xbf16>
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
// CHECK: llvm.call_intrinsic "llvm.nvvm.lg2.approx.f"(
func.func @merge_states(%a: memref<?x4x64xbf16>, %la: memref<?x4xf32>, %b: memref<?x4x64xbf16>, %lb: memref<?x4xf32>,
                        %o: memref<?x4x64xbf16>, %lo: memref<?x4xf32>) {
  kvcache.merge_states %a, %la with %b, %lb into %o, %lo
    : memref<?x4x64xbf16>, memref<?x4xf32> with memref<?x4x64xbf16>, memref<?x4xf32> into memref<?x4x64xbf16>, memref<?x4xf32>
  return
}

// -----

// A thread has an entry of the table, in one launch for it and the lengths. What
// a list does not have is -1.

// CHECK-LABEL: func.func @csr_table(
// CHECK: gpu.launch_func @kv_kernels::@csr_table
// CHECK-NOT: gpu.launch_func
// CHECK: llvm.func @csr_table(
// CHECK: scf.for
// CHECK-COUNT-2: llvm.load %{{.*}} : !llvm.ptr<1> -> i32
// CHECK: ld.global.b32
// CHECK: llvm.store %{{.*}} {alignment = 4 : i64} : i32, !llvm.ptr<1>
// CHECK: llvm.store %{{.*}} {alignment = 4 : i64} : i32, !llvm.ptr<1>
func.func @csr_table(%indptr: memref<?xi32>, %indices: memref<?xi32>, %last: memref<?xi32>, %table: memref<?x?xi32, strided<[?, 1]>>, %lengths: memref<?xi32>) {
  kvcache.csr_table %indptr, %indices last(%last of 16) into %table, %lengths
    : memref<?xi32>, memref<?xi32>, memref<?xi32> into memref<?x?xi32, strided<[?, 1]>>, memref<?xi32>
  return
}
