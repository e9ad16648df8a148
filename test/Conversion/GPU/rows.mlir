// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the facts of an operation decide about its kernel and its launch. How
// the work is spread over threads is not part of it.
//
// RUN: kv-opt %s --split-input-file --convert-kvcache-to-gpu --canonicalize --cse | FileCheck %s --implicit-check-not='{{!kvcache|kvcache[.][a-z_]+ %}}'

// Aligned rows move 16 bytes at a time. All strides that the types know are
// constants of the kernel: the only numbers among the parameters are those that
// the launch passes.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!nhd = !kvcache.cache<?B x 16N x 8H x 128D x bf16>

// CHECK: module attributes {gpu.container_module, kvcache.target = #kvcache.target<chip = "sm_90a"{{.*}}>}
// CHECK-LABEL: func.func @aligned_rows(
// CHECK-SAME: %[[CACHE:[^ ]*]]: memref<?x16x8x128xbf16, strided<[16384, 1024, 128, 1], offset: ?>>, %[[ROWS:[^ ]*]]: memref<?x8x128xbf16>, %[[SLOTS:[^ ]*]]: memref<?xi64>)
// CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG: %[[C16:.*]] = arith.constant 16 : index
// CHECK-DAG: %{{.*}}, %{{.*}}, %[[SIZES:.*]]:4, %{{.*}}:4 = memref.extract_strided_metadata %[[CACHE]]
// CHECK-DAG: %[[LIMITED:.*]] = arith.minsi %[[SIZES]]#0, %{{.*}}
// CHECK-DAG: %[[SLOT_COUNT:.*]] = arith.muli %[[LIMITED]], %[[C16]]
// CHECK-DAG: %[[CAPACITY:.*]] = arith.index_cast %[[SLOT_COUNT]] : index to i64
// CHECK-DAG: %[[NS:.*]] = memref.dim %[[SLOTS]], %[[C0]]
// CHECK-DAG: %[[NR:.*]] = memref.dim %[[ROWS]], %[[C0]]
// CHECK-DAG: %[[N:.*]] = arith.minsi %[[NS]], %[[NR]]
// CHECK-DAG: %[[COUNT:.*]] = arith.index_cast %[[N]] : index to i64

// Nothing is launched for no token.
// CHECK: scf.if
// CHECK: gpu.launch_func @kv_kernels::@index_copy{{[^ ]*}} blocks in
// CHECK-SAME: %[[CAPACITY]] : i64
// CHECK: return

// CHECK: gpu.module @kv_kernels
// CHECK: llvm.func @index_copy{{[^(]*}}(%[[FROM:[^ ]*]]: !llvm.ptr<1>{{[^,]*}}, %[[TO:[^ ]*]]: !llvm.ptr<1>{{[^,]*}}, %[[LIST:[^ ]*]]: !llvm.ptr<1>{{[^,]*}}, %[[LIMIT:[^ ]*]]: i64, %[[TOKENS:[^ ]*]]: i64)
// CHECK-SAME: gpu.kernel
// CHECK-SAME: nvvm.kernel
// CHECK-SAME: nvvm.maxntid
// CHECK: %[[SLOT:.*]] = llvm.load %{{.*}} {alignment = 8 : i64{{.*}}} : !llvm.ptr<1> -> i64
// CHECK: %{{.*}} = llvm.load %{{.*}} {alignment = 16 : i64{{.*}}} : !llvm.ptr<1> -> vector<4xi32>
// CHECK: %[[LIVE:.*]] = arith.cmpi ult, %[[SLOT]], %[[LIMIT]] : i64
// CHECK-NOT: arith.divui
// CHECK-NOT: arith.remui
// CHECK: nvvm.inline_ptx "st.global{{[^ ]*}}.v4.b32 {{.*}}, predicate = %[[LIVE]]
func.func @aligned_rows(%cache: !nhd, %rows: memref<?x8x128xbf16>, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s : memref<?x8x128xbf16> into !nhd at !slots
  return
}

// -----

// Both sides are written by one launch.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!nhd = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @both_sides(
// CHECK-COUNT-1: gpu.launch_func
// CHECK-NOT: gpu.launch_func
// CHECK: return
func.func @both_sides(%cache: !nhd, %k: memref<?x8x128xbf16>, %v: memref<?x8x128xbf16>, %s: !slots) {
  kvcache.index_copy %k, %v into %cache at %s : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !nhd at !slots
  return
}

// -----

// Heads before tokens: a slot is a block of a constant number of tokens and a
// rest, and all strides are constants.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!hnd = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, N, D]>

// CHECK-LABEL: func.func @block_and_offset(
// CHECK: gpu.module @kv_kernels
// CHECK: llvm.func @index_copy{{[^(]*}}(%{{[^ ]*}}: !llvm.ptr<1>{{[^,]*}}, %{{[^ ]*}}: !llvm.ptr<1>{{[^,]*}}, %{{[^ ]*}}: !llvm.ptr<1>{{[^,]*}}, %{{[^ ]*}}: i64, %{{[^ ]*}}: i64) attributes
// CHECK: %[[C16:.*]] = arith.constant 16 : i64
// CHECK: %[[SLOT:.*]] = llvm.load %{{.*}} -> i64
// CHECK: arith.divui %[[SLOT]], %[[C16]]
// CHECK: nvvm.inline_ptx "st.global{{[^ ]*}}.v4.b32 {{.*}}, predicate = %
func.func @block_and_offset(%cache: !hnd, %rows: memref<?x8x128xbf16>, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s : memref<?x8x128xbf16> into !hnd at !slots
  return
}

// -----

// Strides that the types leave to run time are parameters, and only those: the
// distance of rows and the distance of blocks. What is known of them keeps
// accesses wide.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!dynamic = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ? mult 8]>

// CHECK-LABEL: func.func @run_time_strides(
// CHECK-SAME: %[[CACHE:[^ ]*]]: memref<?x16x8x128xbf16, strided<[?, 1024, 128, 1], offset: ?>>, %[[ROWS:[^ ]*]]: memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>>
// CHECK-DAG: %{{.*}}, %{{.*}}, %{{.*}}:3, %[[ROW_STRIDES:.*]]:3 = memref.extract_strided_metadata %[[ROWS]]
// CHECK-DAG: %[[ROW_STRIDE:.*]] = arith.index_cast %[[ROW_STRIDES]]#0 : index to i64
// CHECK-DAG: %{{.*}}, %{{.*}}, %{{.*}}:4, %[[STRIDES:.*]]:4 = memref.extract_strided_metadata %[[CACHE]]
// CHECK-DAG: %[[BLOCK_STRIDE:.*]] = arith.index_cast %[[STRIDES]]#0 : index to i64
// CHECK: gpu.launch_func
// CHECK-SAME: %[[ROW_STRIDE]] : i64
// CHECK-SAME: %[[BLOCK_STRIDE]] : i64
// CHECK: gpu.module @kv_kernels
// CHECK: llvm.func @index_copy{{[^(]*}}(%{{[^ ]*}}: !llvm.ptr<1>{{[^,]*}}, %{{[^ ]*}}: i64, %{{[^ ]*}}: !llvm.ptr<1>{{[^,]*}}, %{{[^ ]*}}: !llvm.ptr<1>{{[^,]*}}, %{{[^ ]*}}: i64, %{{[^ ]*}}: i64, %{{[^ ]*}}: i64) attributes
// CHECK: llvm.load {{.*}} {alignment = 16 : i64{{.*}}} : !llvm.ptr<1> -> vector<4xi32>
// CHECK: nvvm.inline_ptx "st.global{{[^ ]*}}.v4.b32 {{.*}}, predicate = %
func.func @run_time_strides(%cache: !dynamic, %rows: memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>>, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s : memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>> into !dynamic at !slots
  return
}

// -----

// A block stride of which nothing is known may be odd: one element at a time,
// eight for each thread. Whether it is odd is seen when it is there: one test of
// all bases and strides chooses between two kernels.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!unknown = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>

// CHECK-LABEL: func.func @unknown_stride(
// CHECK: arith.ori
// CHECK: %[[REST:.*]] = arith.andi %{{.*}}, %c15
// CHECK: %[[ALIGNED:.*]] = arith.cmpi eq, %[[REST]], %c0
// CHECK: scf.if %[[ALIGNED]] {
// CHECK: gpu.launch_func @kv_kernels::@index_copy blocks
// CHECK: } else {
// CHECK: gpu.launch_func @kv_kernels::@index_copy_any blocks
// CHECK: llvm.func @index_copy(
// CHECK: llvm.load {{.*}} {alignment = 16 : i64{{.*}}} : !llvm.ptr<1> -> vector<4xi32>
// CHECK: llvm.func @index_copy_any(
// CHECK-NOT: vector<
// CHECK-COUNT-8: llvm.load {{.*}} {alignment = 2 : i64{{.*}}} : !llvm.ptr<1> -> i16
// CHECK-COUNT-8: nvvm.inline_ptx "st.global{{[^ ]*}}.b16 {{.*}}, predicate = %
// CHECK-NOT: vector<
func.func @unknown_stride(%cache: !unknown, %rows: memref<?x8x128xbf16>, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s : memref<?x8x128xbf16> into !unknown at !slots
  return
}

// -----

// The alignment of the cache limits the width.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!aligned8 = !kvcache.cache<?B x 16N x 128D x bf16, align = 8>

// CHECK-LABEL: func.func @cache_of_small_alignment(
// CHECK: gpu.module @kv_kernels
// CHECK: llvm.func @index_copy_any(
// CHECK: llvm.load {{.*}} {alignment = 8 : i64{{.*}}} : !llvm.ptr<1> -> vector<2xi32>
// CHECK: nvvm.inline_ptx "st.global{{[^ ]*}}.v2.b32 {{.*}}, predicate = %
func.func @cache_of_small_alignment(%cache: !aligned8, %rows: memref<?x128xbf16>, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s : memref<?x128xbf16> into !aligned8 at !slots
  return
}

// -----

// So does the alignment of the rows.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!kv = !kvcache.cache<?B x 16N x 128D x bf16>

// CHECK-LABEL: func.func @rows_of_small_alignment(
// CHECK: gpu.module @kv_kernels
// CHECK: llvm.func @index_copy_any(
// CHECK: llvm.load {{.*}} {alignment = 4 : i64{{.*}}} : !llvm.ptr<1> -> i32
// CHECK: nvvm.inline_ptx "st.global{{[^ ]*}}.b32 {{.*}}, predicate = %
func.func @rows_of_small_alignment(%cache: !kv, %rows: memref<?x128xbf16> {kvcache.align = 4}, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s : memref<?x128xbf16> into !kv at !slots
  return
}

// -----

// So does a row whose length is no multiple.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!odd = !kvcache.cache<?B x 16N x 37D x f16>

// CHECK-LABEL: func.func @odd_channels(
// CHECK: gpu.module @kv_kernels
// CHECK: llvm.load {{.*}} {alignment = 2 : i64{{.*}}} : !llvm.ptr<1> -> i16
// CHECK: nvvm.inline_ptx "st.global{{[^ ]*}}.b16 {{.*}}, predicate = %
func.func @odd_channels(%cache: !odd, %rows: memref<?x37xf16>, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s : memref<?x37xf16> into !odd at !slots
  return
}

// -----

// Slots of 32 bits are signed, so that padding stays negative.

!slots32 = !kvcache.slots<?T x i32, rows_per_block = 16, pad = skip_negative>
!kv = !kvcache.cache<?B x 16N x 128D x bf16>

// CHECK-LABEL: func.func @narrow_slots(
// CHECK: gpu.module @kv_kernels
// CHECK: %[[ENTRY:.*]] = llvm.load %{{.*}} {alignment = 4 : i64{{.*}}} : !llvm.ptr<1> -> i32
// CHECK: %[[SLOT:.*]] = arith.extsi %[[ENTRY]] : i32 to i64
// CHECK: arith.cmpi ult, %[[SLOT]], %
func.func @narrow_slots(%cache: !kv, %rows: memref<?x128xbf16>, %s: !slots32) {
  kvcache.index_copy %rows into %cache at %s : memref<?x128xbf16> into !kv at !slots32
  return
}

// -----

// A schedule decides about the threads of a block.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!kv = !kvcache.cache<?B x 16N x 512D x bf16>

// CHECK-LABEL: func.func @schedule(
// CHECK: %[[THREADS:.*]] = arith.constant 64 : index
// CHECK: gpu.launch_func {{.*}} threads in (%[[THREADS]],
// CHECK: nvvm.maxntid = array<i32: 64>
func.func @schedule(%cache: !kv, %rows: memref<?x512xbf16>, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s schedule <threads = 64, rows = 1, streaming = false> : memref<?x512xbf16> into !kv at !slots
  return
}

// -----

// Each operation has a kernel of its own name.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!kv = !kvcache.cache<?B x 16N x 128D x bf16>

// CHECK-LABEL: func.func @two_operations(
// CHECK: gpu.launch_func @kv_kernels::@[[A:index_copy[^ ]*]] blocks
// CHECK: gpu.launch_func @kv_kernels::@[[B:index_copy[^ ]*]] blocks
// CHECK: gpu.module @kv_kernels
// CHECK-DAG: llvm.func @[[A]](
// CHECK-DAG: llvm.func @[[B]](
func.func @two_operations(%cache: !kv, %rows: memref<?x128xbf16>, %s: !slots) {
  kvcache.index_copy %rows into %cache at %s : memref<?x128xbf16> into !kv at !slots
  kvcache.index_copy %rows into %cache at %s : memref<?x128xbf16> into !kv at !slots
  return
}

// -----

// A block and an offset: both are compared with what the cache has, without a
// sign, and nothing is divided. Blocks and offsets may have types of their own.

!hnd = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, N, D]>

// CHECK-LABEL: func.func @scatter(
// CHECK: gpu.launch_func @kv_kernels::@scatter blocks in
// CHECK: gpu.module @kv_kernels
// CHECK: llvm.func @scatter(
// CHECK-NOT: arith.divui {{.*}} : i64
// CHECK: %[[BLOCK:.*]] = llvm.load %{{.*}} {alignment = 8 : i64{{.*}}} : !llvm.ptr<1> -> i64
// CHECK: %[[RAW:.*]] = llvm.load %{{.*}} {alignment = 4 : i64{{.*}}} : !llvm.ptr<1> -> i32
// CHECK: %[[TOKEN:.*]] = arith.extsi %[[RAW]] : i32 to i64
// CHECK: %[[A:.*]] = arith.cmpi ult, %[[BLOCK]], %
// CHECK: %[[B:.*]] = arith.cmpi ult, %[[TOKEN]], %
// CHECK: %[[LIVE:.*]] = arith.andi %[[A]], %[[B]]
// CHECK-NOT: arith.divui {{.*}} : i64
// CHECK: nvvm.inline_ptx "st.global.v4.b32 {{.*}}, predicate = %[[LIVE]]
func.func @scatter(%cache: !hnd, %rows: memref<?x8x128xbf16>, %b: memref<?xi64>, %o: memref<?xi32>) {
  kvcache.scatter %rows into %cache at %b, %o pad = skip_negative : memref<?x8x128xbf16> into !hnd at memref<?xi64>, memref<?xi32>
  return
}

// -----

// A row whose slot names nothing is not read, and not written.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!kv = !kvcache.cache<?B x 16N x 128D x bf16>

// CHECK-LABEL: func.func @gather(
// CHECK: gpu.module @kv_kernels
// CHECK: llvm.func @gather(
// CHECK: %[[SLOT:.*]] = llvm.load %{{.*}} {alignment = 8 : i64} : !llvm.ptr<1> -> i64
// CHECK: %[[LIVE:.*]] = arith.cmpi ult, %[[SLOT]], %{{.*}} : i64
// CHECK: llvm.inline_asm "mov.b32 $0, 0;{{.*}}@$5 ld.global.v4.b32 {$0, $1, $2, $3}, [$4];"{{.*}} %{{.*}}, %[[LIVE]] :
// CHECK: %[[BOTH:.*]] = arith.andi %[[LIVE]], %
// CHECK: nvvm.inline_ptx "st.global.v4.b32 {{.*}}, predicate = %[[BOTH]]
func.func @gather(%cache: !kv, %rows: memref<?x128xbf16>, %s: !slots) {
  kvcache.gather %cache at %s into %rows : !kv at !slots into memref<?x128xbf16>
  return
}

// -----

// With `zero` every row is written: what was not read is zero.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @gather_or_zero(
// CHECK: llvm.func @gather(
// CHECK: %[[SLOT:.*]] = llvm.load %{{.*}} {alignment = 8 : i64} : !llvm.ptr<1> -> i64
// CHECK: %[[LIVE:.*]] = arith.cmpi ult, %[[SLOT]], %{{.*}} : i64
// CHECK: llvm.inline_asm {{.*}} %{{.*}}, %[[LIVE]] :
// CHECK-NOT: predicate = %[[LIVE]]
// CHECK: nvvm.inline_ptx "st.global.v4.b32 {{.*}}, predicate = %
func.func @gather_or_zero(%cache: !kv, %rows: memref<?x8x128xbf16>, %s: !slots) {
  kvcache.gather %cache at %s zero into %rows : !kv at !slots into memref<?x8x128xbf16>
  return
}
