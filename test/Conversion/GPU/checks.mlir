// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-to-kernels | FileCheck %s
// RUN: kv-opt %s --kvcache-to-kernels=chip=sm_80 | FileCheck %s --check-prefix=SM80
// RUN: kv-compile %s --target=sm_90a --emit=ptx --checks=full \
// RUN:   | FileCheck %s --check-prefix=PTX

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 24>
!kv = !kvcache.cache<2S x ?B x 24N x 8H x 64D x bf16>
!query = memref<?x8x64xbf16>

// The host asks for the record once, which is null where nothing is to be
// checked; the function is part of the text, as the report may come in another.

// CHECK-LABEL: func.func @entries(
// CHECK: %[[RECORD:.*]] = call @kvrt_check_record_of(%c1{{.*}}) : (index) -> index
// CHECK: arith.cmpi ne, %[[RECORD]], %c0
// CHECK: scf.if
// CHECK: gpu.launch_func @kv_kernels::@check_entries
// CHECK-SAME: #kvcache.launch_mode<overlapping>
// CHECK-NOT: early
// CHECK: return
func.func @entries(%s: !slots, %n: index, %end: index) {
  %0 = kvcache.check_entries "slot" in %s first %n below %end or_negative by "index_copy" of "list" : !slots
  return
}

// CHECK-LABEL: func.func @on_request_and_early(
// CHECK: call @kvrt_check_record_of(%c0{{.*}}) : (index) -> index
// CHECK: gpu.launch_func @kv_kernels::@check_entries_1
// CHECK-SAME: early
// CHECK: return
func.func @on_request_and_early(%s: !slots, %n: index, %end: index) {
  %0 = kvcache.check_entries "slot" in %s first %n below %end or_negative on_request early by "index_copy" of "list" : !slots
  return
}

// A check waits before it reads; one whose lists nobody writes, at its end.

// CHECK: memref.global "private" constant @kv_trace_{{.*}} : memref<{{[0-9]+}}xi8> = dense<[101, 110, 116, 114, 105, 101, 115, 58, 32, 105,
// CHECK: llvm.func @check_entries(
// CHECK-NEXT: nvvm.griddepcontrol wait
// CHECK-NEXT: nvvm.griddepcontrol launch_dependents
// CHECK-NOT: nvvm.griddepcontrol
// CHECK: llvm.cmpxchg %{{.*}}, %{{.*}}, %{{.*}} monotonic monotonic : !llvm.ptr<1>, i32
// CHECK: llvm.fence acq_rel
// CHECK: llvm.func @check_entries_1(
// CHECK-NEXT: nvvm.griddepcontrol launch_dependents
// CHECK: scf.for
// CHECK: nvvm.griddepcontrol wait
// CHECK-NEXT: llvm.return
// SM80-NOT: griddepcontrol

// Attention is launched as one that leaves room for a check behind it. What is in
// a loop is loads and comparisons: the block size divides once, before.

// PTX-LABEL: .entry attention(
// PTX: griddepcontrol.launch_dependents;
// PTX-LABEL: .entry check_batch(
// PTX: griddepcontrol.launch_dependents;
// PTX-NOT: div.
// PTX-NOT: rem.
// PTX: atom.relaxed.sys.global.cas.b32
// PTX-NOT: div.
// PTX-NOT: rem.
// PTX: griddepcontrol.wait;
// PTX: ret;
func.func @attend(%q: !query, %cache: !kv, %b: !batch, %out: !query) {
  kvcache.attention %q over %cache in %b into %out causal
    : !query over !kv in !batch into !query
  return
}
