// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every form of a check survives printing, in custom and generic form, and
// bytecode.
//
// RUN: kv-opt %s | FileCheck %s
// RUN: kv-opt %s | kv-opt | FileCheck %s
// RUN: kv-opt %s --mlir-print-op-generic | kv-opt | FileCheck %s
// RUN: kv-opt %s --emit-bytecode | kv-opt | FileCheck %s
//
// They are not dropped, though nobody uses what they give.
// RUN: kv-opt %s --canonicalize --cse | FileCheck %s

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// CHECK-LABEL: func.func @entries(
// CHECK-SAME: %[[S:[^ ]*]]: {{[^,]*}}, %[[L:[^ ]*]]: memref<?xi32>, %[[P:[^ ]*]]: memref<?x2xi64>, %[[N:[^ ]*]]: index, %[[E:[^ ]*]]: index)
func.func @entries(%s: !slots, %l: memref<?xi32>, %p: memref<?x2xi64>, %n: index, %end: index) {
  // CHECK: kvcache.check_entries "slot" in %[[S]] first %[[N]] below %[[E]] by "index_copy" of "s" : !kv_slots{{[0-9]*$}}
  %0 = kvcache.check_entries "slot" in %s first %n below %end by "index_copy" of "s" : !slots
  // CHECK: kvcache.check_entries "block" in %[[P]] column 1 first %[[N]] below %[[E]] or_negative on_request by "copy_blocks" of "" : memref<?x2xi64>{{$}}
  %1 = kvcache.check_entries "block" in %p column 1 first %n below %end or_negative on_request by "copy_blocks" of "" : memref<?x2xi64>
  // CHECK: kvcache.check_entries "offset" in %[[L]] first %[[N]] below %[[E]] or_negative unless %[[L]] early by "scatter" of "l" : memref<?xi32>, memref<?xi32>{{$}}
  %2 = kvcache.check_entries "offset" in %l first %n below %end or_negative unless %l early by "scatter" of "l" : memref<?xi32>, memref<?xi32>
  // CHECK: kvcache.check_entries "position" in %[[L]] first %[[N]] below %[[E]] or_negative by "rotate" of "l" : memref<?xi32>{{$}}
  %3 = kvcache.check_entries "position" in %l first %n below %end or_negative by "rotate" of "l" : memref<?xi32>
  // CHECK: kvcache.check_entries "chunk" in %[[P]] column 0 first %[[N]] below %[[E]] by "transfer" of "p" : memref<?x2xi64>{{$}}
  %4 = kvcache.check_entries "chunk" in %p column 0 first %n below %end by "transfer" of "p" : memref<?x2xi64>
  return
}

// CHECK-LABEL: func.func @batch(
// CHECK-SAME: %[[B:[^ ]*]]: {{[^,]*}}, %[[I:[^ ]*]]: memref<?xi64>, %[[V:[^ ]*]]: memref<1xi64>, %[[N:[^ ]*]]: index, %[[E:[^ ]*]]: index)
func.func @batch(%b: !batch, %i: memref<?xi64>, %v: memref<1xi64>, %n: index, %end: index) {
  // CHECK: kvcache.check_batch %[[B]] rows %[[N]] by "slot_mapping" of ["s", "l", "t"] : !kv_batch{{[0-9]*$}}
  %0 = kvcache.check_batch %b rows %n by "slot_mapping" of ["s", "l", "t"] : !batch
  // CHECK: kvcache.check_batch %[[B]] rows %[[N]] blocks %[[E]] causal window 7 on_request early by "attention" of ["s", "l", "t"] : !kv_batch{{[0-9]*$}}
  %1 = kvcache.check_batch %b rows %n blocks %end causal window 7 on_request early by "attention" of ["s", "l", "t"] : !batch
  // CHECK: kvcache.check_selection %[[I]], %[[V]] first %[[N]] of %[[B]] rows %[[E]] by "select_rows" of "i" : memref<?xi64>, memref<1xi64>, !kv_batch{{[0-9]*$}}
  %2 = kvcache.check_selection %i, %v first %n of %b rows %end by "select_rows" of "i" : memref<?xi64>, memref<1xi64>, !batch
  return
}
