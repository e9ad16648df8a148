// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How blocks move: directly where a run is long on both sides, else through a
// tile in shared memory.
//
// RUN: kv-opt %s --split-input-file --convert-kvcache-to-gpu --canonicalize --cse | FileCheck %s --implicit-check-not='{{!kvcache|kvcache[.][a-z_]+ %}}'

// A thread moves two accesses of 16 bytes. All that the types know is constant:
// parameters are two pointers, and the strides of sides.

!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!hnd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [S, B, H, N, D]>

// CHECK-LABEL: func.func @direct(
// CHECK-DAG: %[[C16:.*]] = arith.constant 16 : index
// CHECK-DAG: %[[C128:.*]] = arith.constant 128 : index
// CHECK: %[[BLOCKS:.*]] = arith.minsi %
// CHECK: %[[GRID:.*]] = arith.muli %[[BLOCKS]], %[[C16]]
// CHECK: gpu.launch_func @kv_kernels::@relayout blocks in (%[[GRID]], %{{.*}}, %{{.*}}) threads in (%[[C128]],
// CHECK: llvm.func @relayout(%{{[^,]*}}: !llvm.ptr<1>, %{{[^,]*}}: i64, %{{[^,]*}}: !llvm.ptr<1>, %{{[^,]*}}: i64) attributes
// CHECK-NOT: ptr<3>
// CHECK-COUNT-2: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xi32>
// CHECK-COUNT-2: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
// CHECK-NOT: llvm.store
func.func @direct(%a: !nhd, %b: !hnd) {
  kvcache.relayout %a into %b : !nhd into !hnd
  return
}

// -----

// Tokens are the fastest axis on one side, channels on the other: lines of 64
// channels are read, lines of 16 tokens x 64 channels are written.

!nhd = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!hdn = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, D, N]>

// CHECK-LABEL: func.func @tiled(
// CHECK: llvm.mlir.global internal @relayout_shared_0() {addr_space = 3 : i32, alignment = 16 : i64} : !llvm.array<4096 x i8>
// CHECK: llvm.func @relayout(
// CHECK: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xi32>
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<3>
// CHECK: nvvm.barrier0
// CHECK-COUNT-8: llvm.load %{{.*}} {alignment = 2 : i64} : !llvm.ptr<3> -> i16
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
func.func @tiled(%a: !nhd, %b: !hdn) {
  kvcache.relayout %a into %b : !nhd into !hdn
  return
}

// -----

// The tokens of a block are a prime: no part of them is a tile, and to find that
// out took as long as to count to it.

!nhd = !kvcache.cache<?B x 1099511627689N x 8H x 2D x bf16>
!hdn = !kvcache.cache<?B x 1099511627689N x 8H x 2D x bf16, order = [B, H, D, N]>

// CHECK-LABEL: func.func @no_tile(
// CHECK: llvm.func @relayout(
// CHECK-NOT: nvvm.barrier0
// CHECK: llvm.return
func.func @no_tile(%a: !nhd, %b: !hdn) {
  kvcache.relayout %a into %b : !nhd into !hdn
  return
}

// -----

// Runs of 8 channels, which is 16 bytes, are found on both sides of a split
// axis; but lines are longer, and they go through shared memory whole.

!nhd = !kvcache.cache<?B x 16N x 8H x 16D.o x 8D.i x bf16>
!packed = !kvcache.cache<?B x 16N x 8H x 16D.o x 8D.i x bf16, order = [B, H, D.o, N, D.i]>

// CHECK-LABEL: func.func @split_axis(
// CHECK: llvm.func @relayout(
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<3>
// CHECK: nvvm.barrier0
// CHECK: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<3> -> vector<4xi32>
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
func.func @split_axis(%a: !nhd, %b: !packed) {
  kvcache.relayout %a into %b : !nhd into !packed
  return
}

// -----

// Elements are converted between the two accesses.

!f32 = !kvcache.cache<?B x 16N x 64D x f32>
!bf16 = !kvcache.cache<?B x 16N x 64D x bf16>

// CHECK-LABEL: func.func @converted(
// CHECK: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xi32>
// CHECK: %[[FLOATS:.*]] = llvm.bitcast %{{.*}} : vector<4xi32> to vector<4xf32>
// CHECK: arith.truncf %[[FLOATS]] : vector<4xf32> to vector<4xbf16>
// CHECK: llvm.store %{{.*}} {alignment = 8 : i64} : vector<2xi32>, !llvm.ptr<1>
func.func @converted(%a: !f32, %b: !bf16) {
  kvcache.relayout %a into %b : !f32 into !bf16
  return
}

// -----

// What is not known of a stride or of the base limits the accesses.

!odd = !kvcache.cache<?B x 16N x 64D x bf16, strides = [B = ?], align = 2>
!kv = !kvcache.cache<?B x 16N x 64D x bf16>

// CHECK-LABEL: func.func @unknown_stride(
// CHECK-COUNT-8: llvm.load %{{.*}} {alignment = 2 : i64} : !llvm.ptr<1> -> i16
// CHECK-COUNT-8: llvm.store %{{.*}} {alignment = 2 : i64} : i16, !llvm.ptr<1>
func.func @unknown_stride(%a: !odd, %b: !kv) {
  kvcache.relayout %a into %b : !odd into !kv
  return
}

// -----

// A number of layers that is known at run time is the third number of the grid.

!kv = !kvcache.cache<?L x ?B x 16N x 64D x bf16>
!cross = !kvcache.cache<?L x ?B x 16N x 64D x bf16, order = [B, L, N, D]>

// CHECK-LABEL: func.func @layers_at_run_time(
// CHECK: %[[BLOCKS:.*]] = arith.minsi
// CHECK: %[[LAYERS:.*]] = arith.minsi
// CHECK: gpu.launch_func {{.*}} blocks in (%{{.*}}, %{{[^,]*}}, %[[LAYERS]])
// CHECK: nvvm.read.ptx.sreg.ctaid.z
func.func @layers_at_run_time(%a: !kv, %b: !cross) {
  kvcache.relayout %a into %b : !kv into !cross
  return
}

// -----

// Both numbers of a pair are compared with the number of blocks, and nothing of
// a pair that is padding is touched.

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D]>

// CHECK-LABEL: func.func @copy_blocks(
// CHECK: llvm.func @copy_blocks(
// CHECK: %[[FROM:.*]] = llvm.load %{{.*}} : !llvm.ptr<1> -> i64
// CHECK: %[[TO:.*]] = llvm.load %{{.*}} : !llvm.ptr<1> -> i64
// CHECK: %[[A:.*]] = arith.cmpi ult, %[[FROM]], %[[BLOCKS:.*]] : i64
// CHECK: %[[B:.*]] = arith.cmpi ult, %[[TO]], %[[BLOCKS]] : i64
// CHECK: %[[LIVE:.*]] = arith.andi %[[A]], %[[B]]
// CHECK: scf.if %[[LIVE]] {
// CHECK-COUNT-2: llvm.load %{{.*}} {alignment = 16 : i64}
func.func @copy_blocks(%kv: !kv, %pairs: memref<?x2xi64>) {
  kvcache.copy_blocks %kv at %pairs : !kv at memref<?x2xi64>
  return
}

// -----

// To clear a block nothing of it is read. A negative number of 32 bits is
// extended before it is compared, so that it is no block.

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D]>

// CHECK-LABEL: func.func @clear_blocks(
// CHECK: llvm.func @clear_blocks(
// CHECK: %[[ENTRY:.*]] = llvm.load %{{.*}} : !llvm.ptr<1> -> i32
// CHECK: %[[BLOCK:.*]] = arith.extsi %[[ENTRY]] : i32 to i64
// CHECK: %[[LIVE:.*]] = arith.cmpi ult, %[[BLOCK]], %{{.*}} : i64
// CHECK: scf.if %[[LIVE]] {
// CHECK-NOT: llvm.load
// CHECK-COUNT-2: llvm.store %{{.*}} {alignment = 16 : i64}
// CHECK-NOT: llvm.load
// CHECK: llvm.return
func.func @clear_blocks(%kv: !kv, %blocks: memref<?xi32>) {
  kvcache.clear_blocks %kv at %blocks : !kv at memref<?xi32>
  return
}

// -----

// With a range of tokens, each access knows its token; what is out of range is
// not read, and is zero where that is asked for.

!from = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!to = !kvcache.cache<?B x 64N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @range_of_tokens(
// CHECK: llvm.func @transfer(
// CHECK: arith.maxsi
// CHECK: %[[A:.*]] = arith.cmpi sle, %{{.*}}, %[[TOKEN:.*]] : i32
// CHECK: %[[B:.*]] = arith.cmpi slt, %[[TOKEN]], %{{.*}} : i32
// CHECK: %[[MOVES:.*]] = arith.andi %[[A]], %[[B]]
// CHECK: llvm.inline_asm {{.*}} %{{.*}}, %[[MOVES]] :
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
func.func @range_of_tokens(%a: !from, %b: !to, %pairs: memref<?x4xi64>) {
  kvcache.transfer %a to %b at %pairs zero : !from to !to at memref<?x4xi64>
  return
}

// -----

// Between memories a few blocks of threads go through all the work, so that the
// rest of the device is free.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!host = !kvcache.cache<?B x 16N x 8H x 128D x bf16, space = host>

// CHECK-LABEL: func.func @over_the_link(
// CHECK-DAG: %[[C16:.*]] = arith.constant 16 : index
// CHECK: %[[GRID:.*]] = arith.minsi %{{.*}}, %[[C16]]
// CHECK: gpu.launch_func @kv_kernels::@transfer blocks in (%[[GRID]],
// CHECK: llvm.func @transfer(
// CHECK: scf.for
func.func @over_the_link(%a: !kv, %b: !host, %pairs: memref<?x2xi64>) {
  kvcache.transfer %a to %b at %pairs : !kv to !host at memref<?x2xi64>
  return
}
