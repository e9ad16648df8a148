// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every form of an operation survives printing, in custom and generic form, and
// bytecode.
//
// RUN: kv-opt %s | FileCheck %s
// RUN: kv-opt %s | kv-opt | FileCheck %s
// RUN: kv-opt %s --mlir-print-op-generic | kv-opt | FileCheck %s
// RUN: kv-opt %s --emit-bytecode | kv-opt | FileCheck %s

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!table_constant = !kvcache.block_table<4R x 8M x i64, tokens = 1>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!batch_p64 = !kvcache.batch<?R x ?M x i32, tokens = 16, positions = i64>
!batch_constant = !kvcache.batch<4R x 8M x i64, tokens = 1, positions = i32>
!sink = !kvcache.slots<?T x i32, rows_per_block = 128, pad = sink(0)>

// CHECK-DAG: ![[T_TABLE:kv_table[0-9]*]] = !kvcache.block_table<?R x ?M x i32, tokens = 16>{{$}}
// CHECK-DAG: ![[T_TABLE4:kv_table[0-9]*]] = !kvcache.block_table<4R x 8M x i64, tokens = 1>{{$}}
// CHECK-DAG: ![[T_BATCH:kv_batch[0-9]*]] = !kvcache.batch<?R x ?M x i32, tokens = 16>{{$}}
// CHECK-DAG: ![[T_BATCH64:kv_batch[0-9]*]] = !kvcache.batch<?R x ?M x i32, tokens = 16, positions = i64>{{$}}
// CHECK-DAG: ![[T_BATCH4:kv_batch[0-9]*]] = !kvcache.batch<4R x 8M x i64, tokens = 1, positions = i32>{{$}}
// CHECK-DAG: ![[T_SINK:kv_slots[0-9]*]] = !kvcache.slots<?T x i32, rows_per_block = 128, pad = sink(0)>{{$}}

// CHECK-LABEL: func.func @make_slots_of_a_sink(
// CHECK-SAME: %[[T:[^ ]*]]: tensor<?xi32>)
func.func @make_slots_of_a_sink(%t: tensor<?xi32>) {
  // CHECK: kvcache.make_slots %[[T]] : tensor<?xi32> to ![[T_SINK]]{{$}}
  %0 = kvcache.make_slots %t : tensor<?xi32> to !sink
  return
}

// The rows of a memref may be apart.

// CHECK-LABEL: func.func @make_block_table(
// CHECK-SAME: %[[T:[^ ]*]]: tensor<?x?xi32>, %[[M:[^ ]*]]: memref<4x8xi64, strided<[?, 1], offset: ?>>)
func.func @make_block_table(%t: tensor<?x?xi32>, %m: memref<4x8xi64, strided<[?, 1], offset: ?>>) {
  // CHECK: kvcache.make_block_table %[[T]] : tensor<?x?xi32> to ![[T_TABLE]]{{$}}
  %0 = kvcache.make_block_table %t : tensor<?x?xi32> to !table
  // CHECK: kvcache.make_block_table %[[M]] {tag} : memref<4x8xi64, strided<[?, 1], offset: ?>> to ![[T_TABLE4]]{{$}}
  %1 = kvcache.make_block_table %m {tag} : memref<4x8xi64, strided<[?, 1], offset: ?>> to !table_constant
  return
}

// Where R is known, so are R and R + 1; a buffer may not say so.

// CHECK-LABEL: func.func @make_batch(
// CHECK-SAME: %[[T:[^ ]*]]: tensor<?xi32>, %[[P:[^ ]*]]: tensor<?xi64>, %[[M5:[^ ]*]]: memref<5xi64>, %[[M:[^ ]*]]: memref<?xi64>, %[[PM:[^ ]*]]: memref<9xi32>
func.func @make_batch(%t: tensor<?xi32>, %p: tensor<?xi64>, %m5: memref<5xi64>, %m: memref<?xi64>, %pm: memref<9xi32>,
                      %table: !table, %constant: !table_constant) -> (!batch, !batch_p64, !batch_constant) {
  // CHECK: kvcache.make_batch %[[T]], %[[T]], %{{.*}} : tensor<?xi32>, tensor<?xi32>, ![[T_TABLE]]{{$}}
  %0 = kvcache.make_batch %t, %t, %table : tensor<?xi32>, tensor<?xi32>, !table
  // CHECK: kvcache.make_batch %[[T]], %[[T]], %{{.*}} positions(%[[P]] : tensor<?xi64>) : tensor<?xi32>, tensor<?xi32>, ![[T_TABLE]]{{$}}
  %1 = kvcache.make_batch %t, %t, %table positions(%p : tensor<?xi64>) : tensor<?xi32>, tensor<?xi32>, !table
  // CHECK: kvcache.make_batch %[[M5]], %[[M]], %{{.*}} positions(%[[PM]] : memref<9xi32>) {tag} : memref<5xi64>, memref<?xi64>, ![[T_TABLE4]]{{$}}
  %2 = kvcache.make_batch %m5, %m, %constant positions(%pm : memref<9xi32>) {tag} : memref<5xi64>, memref<?xi64>, !table_constant
  return %0, %1, %2 : !batch, !batch_p64, !batch_constant
}

// Rows that are chosen have positions, whether the batch had some or not.

// CHECK-LABEL: func.func @with_rows(
// CHECK-SAME: %[[B:[^ ]*]]: ![[T_BATCH]], %[[C:[^ ]*]]: ![[T_BATCH4]], %[[S:[^ ]*]]: tensor<?xi32>, %[[P:[^ ]*]]: tensor<?xi64>, %[[SM:[^ ]*]]: memref<5xi64>, %[[PM:[^ ]*]]: memref<?xi64>
func.func @with_rows(%batch: !batch, %constant: !batch_constant, %starts: tensor<?xi32>, %p: tensor<?xi64>, %sm: memref<5xi64>, %pm: memref<?xi64>)
    -> (!batch_p64, !kvcache.batch<4R x 8M x i64, tokens = 1, positions = i64>) {
  // CHECK: kvcache.with_rows %[[B]], %[[S]], %[[P]] : ![[T_BATCH]], tensor<?xi32>, tensor<?xi64>{{$}}
  %0 = kvcache.with_rows %batch, %starts, %p : !batch, tensor<?xi32>, tensor<?xi64>
  // CHECK: kvcache.with_rows %[[C]], %[[SM]], %[[PM]] {tag} : ![[T_BATCH4]], memref<5xi64>, memref<?xi64>{{$}}
  %1 = kvcache.with_rows %constant, %sm, %pm {tag} : !batch_constant, memref<5xi64>, memref<?xi64>
  return %0, %1 : !batch_p64, !kvcache.batch<4R x 8M x i64, tokens = 1, positions = i64>
}

// CHECK-LABEL: func.func @slot_mapping(
// CHECK-SAME: %[[B:[^ ]*]]: ![[T_BATCH]], %[[N:[^ ]*]]: index, %[[T:[^ ]*]]: tensor<?xi64>, %[[M:[^ ]*]]: memref<16xi32>) -> tensor<?xi64>
func.func @slot_mapping(%batch: !batch, %n: index, %t: tensor<?xi64>, %m: memref<16xi32>) -> tensor<?xi64> {
  // CHECK: %[[A:.*]] = kvcache.slot_mapping %[[B]] into %[[T]] : ![[T_BATCH]] into tensor<?xi64>{{$}}
  %0 = kvcache.slot_mapping %batch into %t : !batch into tensor<?xi64>
  // CHECK: %{{.*}} = kvcache.slot_mapping %[[B]] sink(%[[N]]) into %[[A]] {tag} : ![[T_BATCH]] into tensor<?xi64>{{$}}
  %1 = kvcache.slot_mapping %batch sink(%n) into %0 {tag} : !batch into tensor<?xi64>
  // CHECK: {{^ *}}kvcache.slot_mapping %[[B]] into %[[M]] : ![[T_BATCH]] into memref<16xi32>{{$}}
  kvcache.slot_mapping %batch into %m : !batch into memref<16xi32>
  // CHECK: {{^ *}}kvcache.slot_mapping %[[B]] sink(%[[N]]) into %[[M]] : ![[T_BATCH]] into memref<16xi32>{{$}}
  kvcache.slot_mapping %batch sink(%n) into %m : !batch into memref<16xi32>
  return %1 : tensor<?xi64>
}

// CHECK-LABEL: func.func @map_blocks(
func.func @map_blocks(%t: tensor<?x?xi32>, %out: tensor<?x?xi32>, %list: tensor<3xi64>, %list_out: tensor<12xi64>,
                      %m: memref<4x8xi32, strided<[?, 1], offset: ?>>, %m_out: memref<?x16xi32>) {
  // CHECK: %{{.*}} = kvcache.map_blocks %{{.*}} by 4 into %{{.*}} : tensor<?x?xi32> into tensor<?x?xi32>{{$}}
  %0 = kvcache.map_blocks %t by 4 into %out : tensor<?x?xi32> into tensor<?x?xi32>
  // CHECK: %{{.*}} = kvcache.map_blocks %{{.*}} by 4 into %{{.*}} {tag} : tensor<3xi64> into tensor<12xi64>{{$}}
  %1 = kvcache.map_blocks %list by 4 into %list_out {tag} : tensor<3xi64> into tensor<12xi64>
  // CHECK: {{^ *}}kvcache.map_blocks %{{.*}} by 2 into %{{.*}} : memref<4x8xi32, strided<[?, 1], offset: ?>> into memref<?x16xi32>{{$}}
  kvcache.map_blocks %m by 2 into %m_out : memref<4x8xi32, strided<[?, 1], offset: ?>> into memref<?x16xi32>
  // The largest ratio.
  // CHECK: kvcache.map_blocks %{{.*}} by 1048576 into
  %2 = kvcache.map_blocks %t by 1048576 into %out : tensor<?x?xi32> into tensor<?x?xi32>
  return
}

// CHECK-LABEL: func.func @block_slots(
func.func @block_slots(%t: tensor<?xi32>, %out: tensor<?xi64>, %m: memref<4xi64>, %m_out: memref<64xi32>) {
  // CHECK: %{{.*}} = kvcache.block_slots %{{.*}} of 16 into %{{.*}} : tensor<?xi32> into tensor<?xi64>{{$}}
  %0 = kvcache.block_slots %t of 16 into %out : tensor<?xi32> into tensor<?xi64>
  // CHECK: {{^ *}}kvcache.block_slots %{{.*}} of 16 into %{{.*}} {tag} : memref<4xi64> into memref<64xi32>{{$}}
  kvcache.block_slots %m of 16 into %m_out {tag} : memref<4xi64> into memref<64xi32>
  // CHECK: kvcache.block_slots %{{.*}} of 1099511627776 into
  %1 = kvcache.block_slots %t of 1099511627776 into %out : tensor<?xi32> into tensor<?xi64>
  return
}

// Any number of activations, of any element type.

// CHECK-LABEL: func.func @select_rows(
func.func @select_rows(%batch: !batch, %x: tensor<?x64xf32>, %y: tensor<?x2x3xi8>, %at: tensor<?xi32>, %valid: tensor<1xi32>,
                       %x0: tensor<?x64xf32>, %y0: tensor<?x2x3xi8>, %starts0: tensor<?xi32>, %positions0: tensor<?xi64>) {
  // CHECK: %{{.*}}:4 = kvcache.select_rows %{{.*}}, %{{.*}} of %{{.*}} at %{{.*}}, %{{.*}} into %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} : tensor<?x64xf32>, tensor<?x2x3xi8> of ![[T_BATCH]] at tensor<?xi32>, tensor<1xi32> into tensor<?x64xf32>, tensor<?x2x3xi8>, tensor<?xi32>, tensor<?xi64>{{$}}
  %0:4 = kvcache.select_rows %x, %y of %batch at %at, %valid into %x0, %y0, %starts0, %positions0
    : tensor<?x64xf32>, tensor<?x2x3xi8> of !batch at tensor<?xi32>, tensor<1xi32>
    into tensor<?x64xf32>, tensor<?x2x3xi8>, tensor<?xi32>, tensor<?xi64>
  return
}

// CHECK-LABEL: func.func @select_rows_of_memrefs(
func.func @select_rows_of_memrefs(%batch: !batch_constant, %x: memref<?x64xf16, strided<[?, 1], offset: ?>>, %at: memref<8xi64>,
                                  %valid: memref<1xi64>, %x0: memref<8x64xf16>, %starts0: memref<5xi64>, %positions0: memref<8xi32>) {
  // CHECK: {{^ *}}kvcache.select_rows %{{.*}} of %{{.*}} at %{{.*}}, %{{.*}} into %{{.*}}, %{{.*}}, %{{.*}} : memref<?x64xf16, strided<[?, 1], offset: ?>> of ![[T_BATCH4]] at memref<8xi64>, memref<1xi64> into memref<8x64xf16>, memref<5xi64>, memref<8xi32>{{$}}
  kvcache.select_rows %x of %batch at %at, %valid into %x0, %starts0, %positions0
    : memref<?x64xf16, strided<[?, 1], offset: ?>> of !batch_constant at memref<8xi64>, memref<1xi64>
    into memref<8x64xf16>, memref<5xi64>, memref<8xi32>
  return
}

// CHECK-LABEL: func.func @csr_table(
func.func @csr_table(%p: tensor<?xi32>, %i: tensor<?xi32>, %t: tensor<?x?xi32>, %n: tensor<?xi32>) -> tensor<?xi32> {
  // CHECK: %{{.*}} = kvcache.csr_table %[[P:.*]], %[[I:.*]] into %[[T:.*]] : tensor<?xi32>, tensor<?xi32> into tensor<?x?xi32>{{$}}
  %0 = kvcache.csr_table %p, %i into %t : tensor<?xi32>, tensor<?xi32> into tensor<?x?xi32>
  // CHECK: %[[R:.*]]:2 = kvcache.csr_table %[[P]], %[[I]] last(%[[N:.*]] of 16) into %[[T]], %[[N]] : tensor<?xi32>, tensor<?xi32>, tensor<?xi32> into tensor<?x?xi32>, tensor<?xi32>{{$}}
  %1:2 = kvcache.csr_table %p, %i last(%n of 16) into %t, %n
    : tensor<?xi32>, tensor<?xi32>, tensor<?xi32> into tensor<?x?xi32>, tensor<?xi32>
  // CHECK: return %[[R]]#1
  return %1#1 : tensor<?xi32>
}

// CHECK-LABEL: func.func @csr_table_of_memrefs(
func.func @csr_table_of_memrefs(%p: memref<5xi64>, %i: memref<?xi64>, %t: memref<4x?xi64, strided<[?, 1], offset: ?>>, %n: memref<4xi64>) {
  // CHECK: {{^ *}}kvcache.csr_table %{{.*}}, %{{.*}} last(%{{.*}} of 1) into %{{.*}}, %{{.*}} {tag} : memref<5xi64>, memref<?xi64>, memref<4xi64> into memref<4x?xi64, strided<[?, 1], offset: ?>>, memref<4xi64>{{$}}
  kvcache.csr_table %p, %i last(%n of 1) into %t, %n {tag}
    : memref<5xi64>, memref<?xi64>, memref<4xi64> into memref<4x?xi64, strided<[?, 1], offset: ?>>, memref<4xi64>
  return
}
