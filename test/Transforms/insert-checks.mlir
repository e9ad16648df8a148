// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-insert-checks | FileCheck %s --check-prefixes=CHECK,CPU
// RUN: kv-opt %s --kvcache-insert-checks=target=gpu \
// RUN:   | FileCheck %s --check-prefixes=CHECK,GPU
// RUN: kv-opt %s --kvcache-insert-checks=on-request \
// RUN:   | FileCheck %s --check-prefix=ASKED
// RUN: kv-opt %s --kvcache-insert-checks=target=gpu | kv-opt

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 64D x f32>
!pool = !kvcache.cache<4L x 2S x ?B x 16N x 8H x 64D x f32>
!layer = !kvcache.cache<2S x ?B x 16N x 8H x 64D x f32>
!rows = memref<?x8x64xf32>
!query = memref<?x8x64xf32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!none = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
!any = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_out_of_range>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!positions = !kvcache.batch<?R x ?M x i32, tokens = 16, positions = i64>

// The number of slots is that of the blocks. For a GPU the check comes behind,
// and need not wait, as nothing writes the slots.

// CHECK-LABEL: func.func @slots(
// CHECK-SAME: %[[CACHE:[^:]*]]: {{.*}}, %[[SLOTS:[^:]*]]: {{.*}}, %[[ROWS:[^:]*]]: {{.*}})
// GPU: kvcache.index_copy
// CHECK-DAG: memref.dim %[[ROWS]]
// CHECK-DAG: %[[B:.*]] = kvcache.dim %[[CACHE]][B]
// CHECK-DAG: %[[END:.*]] = arith.muli %[[B]], %c16
// CPU: %[[OK:.*]] = kvcache.check_entries "slot" in %[[SLOTS]] first %dim{{[_0-9]*}} below %[[END]] or_negative by "index_copy" of "where"
// CPU-NEXT: scf.if %[[OK]] {
// CPU-NEXT: kvcache.index_copy
// CPU-NEXT: } {kvcache.checked}
// GPU: kvcache.check_entries "slot" in %[[SLOTS]] first %dim{{[_0-9]*}} below %[[END]] or_negative early by "index_copy" of "where"
// GPU-NEXT: return
// ASKED-LABEL: func.func @slots(
// ASKED: kvcache.check_entries {{.*}} or_negative on_request by "index_copy" of "where"
func.func @slots(%cache: !kv, %slots: !slots {kvcache.name = "where"}, %rows: !rows) {
  kvcache.index_copy %rows, %rows into %cache at %slots : !rows, !rows into !kv at !slots
  return
}

// CHECK-LABEL: func.func @slots_without_padding(
// CHECK: check_entries "slot" in %{{.*}} first %{{.*}} below %{{[^ ]*}} {{(early )?}}by "gather" of "arg1"
func.func @slots_without_padding(%cache: !kv, %list: memref<?xi64>, %rows: !rows) {
  %slots = kvcache.make_slots %list : memref<?xi64> to !none
  kvcache.gather %cache at %slots into %rows, %rows : !kv at !none into !rows, !rows
  return
}

// Of positions, the number is that of the rows of the table. Operations of one
// launch are checked one by one.

// CHECK-LABEL: func.func @positions_of_a_table(
// CHECK-SAME: %[[X:[^:]*]]: {{.*}}, %[[T:[^:]*]]: {{.*}}, %[[P:[^:]*]]: {{.*}})
// CHECK-NOT: kvcache.fuse
// GPU: kvcache.rotate %[[X]] by %[[T]] at %[[P]] into %[[X]]
// CHECK-DAG: %[[N:.*]] = memref.dim %[[X]]
// CHECK-DAG: %[[END:.*]] = memref.dim %[[T]]
// CPU: %[[OK:.*]] = kvcache.check_entries "position" in %[[P]] first %[[N]] below %[[END]] or_negative by "rotate" of "where"
// CPU-NEXT: scf.if %[[OK]] {
// CPU-NEXT: kvcache.rotate
// GPU: kvcache.check_entries "position" in %[[P]] first %[[N]] below %[[END]] or_negative early by "rotate" of "where"
// CHECK-NOT: check_entries
// CHECK: kvcache.normalize
// CHECK: return
func.func @positions_of_a_table(%x: !rows, %t: memref<?x64xf32>, %p: memref<?xi64> {kvcache.name = "where"}) {
  kvcache.fuse {
    kvcache.rotate %x by %t at %p into %x : !rows by memref<?x64xf32> at memref<?xi64> into !rows
  }
  kvcache.normalize %x into %x epsilon 1.0 : !rows into !rows
  return
}

// Without positions there is nothing to check.

// CHECK-LABEL: func.func @rows_of_a_table(
// CHECK-NOT: check_entries
// CHECK: return
func.func @rows_of_a_table(%x: !rows, %t: memref<?x64xf32>) {
  kvcache.rotate %x by %t into %x : !rows by memref<?x64xf32> into !rows
  return
}

// All numbers are allowed.

// CHECK-LABEL: func.func @no_slots_out_of_range(
// CHECK-NOT: check_entries
// CHECK-NOT: scf.if
// CHECK: return
func.func @no_slots_out_of_range(%cache: !kv, %slots: !any, %rows: !rows) {
  kvcache.index_copy %rows, %rows into %cache at %slots : !rows, !rows into !kv at !any
  return
}

// CHECK-LABEL: func.func @blocks_and_offsets(
// CHECK-SAME: %[[CACHE:[^:]*]]: {{.*}}, %[[BLOCKS:[^:]*]]: memref<?xi64>, %[[OFFSETS:[^:]*]]: memref<?xi64>
// CHECK-DAG: check_entries "block" in %[[BLOCKS]] {{.*}} or_negative unless %[[OFFSETS]] {{.*}}of "arg1"
// CHECK-DAG: check_entries "offset" in %[[OFFSETS]] {{.*}} or_negative unless %[[BLOCKS]] {{.*}}of "arg2"
func.func @blocks_and_offsets(%cache: !kv, %blocks: memref<?xi64>, %offsets: memref<?xi64>, %rows: !rows) {
  kvcache.scatter %rows, %rows into %cache at %blocks, %offsets pad = skip_negative
    : !rows, !rows into !kv at memref<?xi64>, memref<?xi64>
  return
}

// CHECK-LABEL: func.func @pairs(
// CHECK-SAME: %{{.*}}, %{{.*}}, %[[PAIRS:[^:]*]]: memref<?x2xi64>
// CHECK-DAG: check_entries "block" in %[[PAIRS]] column 0
// CHECK-DAG: check_entries "block" in %[[PAIRS]] column 1
// CHECK-DAG: check_entries "chunk" in %[[PAIRS]] column 0
// CHECK-DAG: check_entries "chunk" in %[[PAIRS]] column 1
func.func @pairs(%a: !kv, %b: !kvcache.cache<2S x ?B x 8N x 8H x 64D x f32>, %pairs: memref<?x2xi64>) {
  kvcache.copy_blocks %a at %pairs : !kv at memref<?x2xi64>
  kvcache.transfer %a to %b at %pairs : !kv to !kvcache.cache<2S x ?B x 8N x 8H x 64D x f32> at memref<?x2xi64>
  return
}

// CHECK-LABEL: func.func @blocks(
// CHECK-SAME: %[[CACHE:[^:]*]]: {{.*}}, %[[BLOCKS:[^:]*]]: memref<?xi32>
// CHECK-DAG: %[[COUNT:.*]] = memref.dim %[[BLOCKS]]
// CHECK-DAG: %[[END:.*]] = kvcache.dim %[[CACHE]][B]
// CHECK: check_entries "block" in %[[BLOCKS]] first %[[COUNT]] below %[[END]] or_negative {{.*}}by "clear_blocks" of "arg1"
func.func @blocks(%cache: !kv, %blocks: memref<?xi32>) {
  kvcache.clear_blocks %cache at %blocks : !kv at memref<?xi32>
  return
}

// Members of a batch that is an argument, and lists that are ones themselves.

// CHECK-LABEL: func.func @members(
// CHECK: check_batch %arg2 rows %{{.*}} blocks %{{.*}} causal window 4 {{.*}}of ["arg2.starts", "arg2.lengths", "arg2.table"]
func.func @members(%q: !query, %cache: !kv, %b: !batch, %out: !query) {
  kvcache.attention %q over %cache in %b into %out causal window 4
    : !query over !kv in !batch into !query
  return
}

// Rows that see keys ahead of them see more than causal ones, and fewer than
// those that see further.

// CHECK-LABEL: func.func @ahead(
// CHECK: check_batch {{.*}} window 4 window_right 2 {{.*}}by "attention"
// CHECK: check_batch {{.*}} blocks %{{[^ ]*}} window_right 3
// CHECK-NOT: check_batch
// CHECK: return
func.func @ahead(%q: !query, %cache: !kv, %b: !batch, %out: !query {kvcache.noalias}) {
  kvcache.attention %q over %cache in %b into %out window 4 window_right 2
    : !query over !kv in !batch into !query
  kvcache.attention %q over %cache in %b into %out window_right 3
    : !query over !kv in !batch into !query
  kvcache.attention %q over %cache in %b into %out window 4 window_right 3
    : !query over !kv in !batch into !query
  kvcache.attention %q over %cache in %b into %out causal
    : !query over !kv in !batch into !query
  return
}

// CHECK-LABEL: func.func @lists(
// CHECK: check_batch %{{[^ ]*}} rows %{{[^ ]*}} {{(early )?}}by "slot_mapping" of ["s", "arg1", "arg2", "arg3"]
func.func @lists(%s: memref<?xi32> {kvcache.name = "s"}, %l: memref<?xi32>, %t: memref<?x?xi32>, %p: memref<?xi64>, %out: memref<?xi64> {kvcache.noalias}) {
  %table = kvcache.make_block_table %t : memref<?x?xi32> to !table
  %b = kvcache.make_batch %s, %l, %table positions(%p : memref<?xi64>) : memref<?xi32>, memref<?xi32>, !table
  kvcache.slot_mapping %b into %out : !positions into memref<?xi64>
  return
}

// The layers of a pool have its blocks, and a batch is checked once.

// CHECK-LABEL: func.func @two_layers(
// CHECK-COUNT-1: check_batch
// CHECK-NOT: check_batch
// CHECK: return
func.func @two_layers(%pool: !pool, %q: !query, %b: !batch, %out: !query) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %first = kvcache.layer %pool[%c0] : !pool
  %second = kvcache.layer %pool[%c1] : !pool
  kvcache.attention %q over %first in %b into %out causal
    : !query over !kv in !batch into !query
  kvcache.attention %q over %second in %b into %out causal
    : !query over !kv in !batch into !query
  return
}

// A causal mask sees less than all, not more.

// CHECK-LABEL: func.func @no_check_that_sees_less(
// CHECK-COUNT-2: check_batch
// CHECK-NOT: check_batch
// CHECK: return
func.func @no_check_that_sees_less(%cache: !kv, %q: !query, %b: !batch, %out: !query) {
  kvcache.attention %q over %cache in %b into %out causal window 8
    : !query over !kv in !batch into !query
  kvcache.attention %q over %cache in %b into %out causal
    : !query over !kv in !batch into !query
  kvcache.attention %q over %cache in %b into %out causal window 4
    : !query over !kv in !batch into !query
  return
}

// The list changes in between.

// CHECK-LABEL: func.func @written_in_between(
// CHECK-COUNT-2: check_entries "slot"
func.func @written_in_between(%cache: !kv, %list: memref<?xi64>, %more: memref<?xi64>, %rows: !rows) {
  %slots = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %rows, %rows into %cache at %slots : !rows, !rows into !kv at !slots
  memref.copy %more, %list : memref<?xi64> to memref<?xi64>
  kvcache.index_copy %rows, %rows into %cache at %slots : !rows, !rows into !kv at !slots
  return
}

// Not in each iteration. The operation stays where it is, and is guarded there.

// CHECK-LABEL: func.func @loop_over_layers(
// CPU: check_batch
// CHECK: scf.for
// CPU: scf.if
// CHECK-NOT: check_batch
// CHECK: kvcache.attention
// CHECK-NOT: check_batch
// CHECK: }
// GPU: check_batch {{.*}} early
// CHECK: return
func.func @loop_over_layers(%pool: !pool, %q: !query, %b: !batch, %out: !query) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  scf.for %i = %c0 to %c4 step %c1 {
    %layer = kvcache.layer %pool[%i] : !pool
    kvcache.attention %q over %layer in %b into %out causal
      : !query over !kv in !batch into !query
  }
  return
}

// A loop that may not run, and one that writes the list.

// CHECK-LABEL: func.func @no_way_out_of_loops(
// CHECK: scf.for
// CHECK: check_batch
// CHECK: scf.for
// CHECK: check_entries "slot"
func.func @no_way_out_of_loops(%cache: !kv, %q: !query, %b: !batch, %out: !query, %n: index, %list: memref<?xi64>, %more: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  scf.for %i = %c0 to %n step %c1 {
    kvcache.attention %q over %cache in %b into %out causal
      : !query over !kv in !batch into !query
  }
  scf.for %i = %c0 to %c4 step %c1 {
    memref.copy %more, %list : memref<?xi64> to memref<?xi64>
    %slots = kvcache.make_slots %list : memref<?xi64> to !slots
    kvcache.index_copy %q, %q into %cache at %slots : !rows, !rows into !kv at !slots
  }
  return
}

// What follows a check runs only if it passed, also where it has none itself.

// CPU-LABEL: func.func @what_follows(
// CPU: %[[OK:.*]] = kvcache.check_entries
// CPU: scf.if %[[OK]]
// CPU-NEXT: kvcache.index_copy
// CPU: scf.if %[[OK]]
// CPU-NEXT: kvcache.relayout
func.func @what_follows(%cache: !kv, %other: !kv, %slots: !slots, %rows: !rows) {
  kvcache.index_copy %rows, %rows into %cache at %slots : !rows, !rows into !kv at !slots
  kvcache.relayout %cache into %other : !kv into !kv
  return
}

// An operation that may write what is checked is checked before it, and what the
// function writes is not read early.

// GPU-LABEL: func.func @selection(
// GPU: check_batch {{.*}} rows %{{[^ ]*}} by "select_rows" of
// GPU: check_selection %{{.*}} by "select_rows" of "arg2"
// GPU: kvcache.select_rows
// GPU: kvcache.attention
// GPU: check_batch {{.*}} blocks %{{[^ ]*}} by "attention" of ["arg5", "arg1.lengths", "arg1.table", ""]
func.func @selection(%x: !rows, %b: !batch, %indices: memref<?xi32>, %n: memref<1xi32>, %y: !rows, %starts: memref<?xi32>, %cache: !kv, %out: !query, %k: index) {
  %at = memref.alloc(%k) : memref<?xi64>
  kvcache.select_rows %x of %b at %indices, %n into %y, %starts, %at
    : !rows of !batch at memref<?xi32>, memref<1xi32> into !rows, memref<?xi32>, memref<?xi64>
  %some = kvcache.with_rows %b, %starts, %at : !batch, memref<?xi32>, memref<?xi64>
  kvcache.attention %y over %cache in %some into %out
    : !query over !kv in !positions into !query
  return
}

// Variants of one operation are checked together, and the next layer not again.

// CHECK-LABEL: func.func @variants(
// CPU: check_batch
// CHECK: scf.if
// CHECK-NOT: check_batch
// CHECK: kvcache.attention
// CHECK-NOT: check_batch
// CHECK: kvcache.attention
// CHECK-NOT: check_batch
// CHECK: }
// GPU: check_batch
// CHECK: kvcache.attention
// CHECK-NOT: check_batch
// CHECK: return
func.func @variants(%cache: !kvcache.cache<2S x ?B x 16N x 8H x 64D x f32, strides = [B = ?]>, %q: !query, %b: !batch, %out: !query) {
  %packed = kvcache.has_facts %cache : !kvcache.cache<2S x ?B x 16N x 8H x 64D x f32, strides = [B = ?]> has !kv
  scf.if %packed {
    %c = kvcache.cast %cache : !kvcache.cache<2S x ?B x 16N x 8H x 64D x f32, strides = [B = ?]> to !kv
    kvcache.attention %q over %c in %b into %out causal
      : !query over !kv in !batch into !query
  } else {
    kvcache.attention %q over %cache in %b into %out causal
      : !query over !kvcache.cache<2S x ?B x 16N x 8H x 64D x f32, strides = [B = ?]> in !batch into !query
  }
  kvcache.attention %q over %cache in %b into %out causal
    : !query over !kvcache.cache<2S x ?B x 16N x 8H x 64D x f32, strides = [B = ?]> in !batch into !query
  return
}

// One of the branches does something else.

// CHECK-LABEL: func.func @no_way_out_of_a_branch(
// CHECK-NOT: check_batch
// CHECK: scf.if
// CHECK: check_batch
// CHECK: } else {
// CHECK: return
func.func @no_way_out_of_a_branch(%cache: !kv, %q: !query, %b: !batch, %out: !query, %yes: i1) {
  scf.if %yes {
    kvcache.attention %q over %cache in %b into %out causal
      : !query over !kv in !batch into !query
  } else {
    kvcache.relayout %cache into %cache : !kv into !kv
  }
  return
}

// What is in a function in a module in another one is checked once.

// CHECK-LABEL: func.func @module_in_a_function(
// CHECK: func.func @inner(
// CHECK: check_entries
// CHECK-NOT: check_entries
// CHECK: return
func.func @module_in_a_function() {
  builtin.module {
    func.func @inner(%cache: !kv, %slots: !slots, %rows: !rows) {
      kvcache.index_copy %rows, %rows into %cache at %slots : !rows, !rows into !kv at !slots
      return
    }
  }
  return
}
