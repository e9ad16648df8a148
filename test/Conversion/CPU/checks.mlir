// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --convert-kvcache-to-loops | FileCheck %s

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!cache = !kvcache.cache<2S x ?B x 16N x 8H x 64D x f32>

// One loop, a report in it, and one question behind it.

// CHECK-LABEL: func.func @entries(
// CHECK-SAME: %[[LIST:.*]]: memref<?xi64>, %[[N:.*]]: index, %[[END:.*]]: index
// CHECK: memref.get_global @[[TEXT:.*]] : memref<28xi8>
// CHECK: scf.for %[[I:.*]] = %{{.*}} to %{{.*}} step %{{.*}} {
// CHECK: %[[RAW:.*]] = memref.load %[[LIST]][%[[I]]]
// CHECK: scf.if
// CHECK: func.call @kvrt_report_entry(
// CHECK: %[[PASSED:.*]] = call @kvrt_check_passed() : () -> index
// CHECK: arith.cmpi ne, %[[PASSED]]
// CHECK: return
func.func @entries(%s: !slots, %n: index, %end: index) -> i1 {
  %0 = kvcache.check_entries "slot" in %s first %n below %end or_negative by "index_copy" of "list" : !slots
  return %0 : i1
}

// Nothing is looked at, and everything passes, where nobody asked.

// CHECK-LABEL: func.func @on_request(
// CHECK: %[[WANTED:.*]] = call @kvrt_checks_wanted() : () -> index
// CHECK: %[[IS:.*]] = arith.cmpi ne, %[[WANTED]]
// CHECK: %[[R:.*]] = scf.if %[[IS]] -> (i1) {
// CHECK: func.call @kvrt_check_passed()
// CHECK: } else {
// CHECK-NEXT: %[[TRUE:.*]] = arith.constant true
// CHECK-NEXT: scf.yield %[[TRUE]]
// CHECK: return %[[R]]
func.func @on_request(%s: !slots, %n: index, %end: index) -> i1 {
  %0 = kvcache.check_entries "slot" in %s first %n below %end or_negative on_request by "index_copy" of "list" : !slots
  return %0 : i1
}

// The buffer of a checked operation is there whether it runs or not.

// CHECK-LABEL: func.func @checked(
// CHECK: memref.alloc
// CHECK: scf.if %{{.*}} {
// CHECK-NOT: memref.alloc(
// CHECK: return
// CHECK-NOT: kvcache.checked
func.func @checked(%b: !batch, %out: memref<?xi64>, %ok: i1) {
  scf.if %ok {
    kvcache.slot_mapping %b into %out : !batch into memref<?xi64>
  } {kvcache.checked}
  return
}

// CHECK: memref.global "private" constant @[[TEXT]] : memref<28xi8>
