// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-move-halves-as-integers --split-input-file --verify-diagnostics | FileCheck %s

// CHECK-LABEL: llvm.func @carried(
// CHECK-SAME: %[[P:.*]]: !llvm.ptr, %[[C:.*]]: i1, %[[X:.*]]: i16) -> i16
// CHECK-NOT: bf16
// CHECK: %[[ONE:.*]] = llvm.mlir.constant(16256 : i16) : i16
// CHECK: %[[PLACE:.*]] = llvm.getelementptr %[[P]][1] : (!llvm.ptr) -> !llvm.ptr, i16
// CHECK: %[[Y:.*]] = llvm.load %[[PLACE]] : !llvm.ptr -> i16
// CHECK: %[[Z:.*]] = llvm.select %[[C]], %[[Y]], %[[ONE]] : i1, i16
// CHECK: llvm.br ^[[NEXT:.*]](%[[Z]] : i16)
// CHECK: ^[[NEXT]](%[[W:.*]]: i16):
// CHECK: llvm.return %[[W]] : i16
llvm.func @carried(%p: !llvm.ptr, %c: i1, %x: bf16) -> bf16 {
  %one = llvm.mlir.constant(1.000000e+00 : bf16) : bf16
  %place = llvm.getelementptr %p[1] : (!llvm.ptr) -> !llvm.ptr, bf16
  %y = llvm.load %place : !llvm.ptr -> bf16
  %z = llvm.select %c, %y, %one : i1, bf16
  llvm.br ^next(%z : bf16)
^next(%w: bf16):
  llvm.return %w : bf16
}

// CHECK-LABEL: llvm.func @pairs(
// CHECK: %[[A:.*]] = llvm.load %{{.*}} : !llvm.ptr -> vector<32xi16>
// CHECK: %[[B:.*]] = llvm.bitcast %[[A]] : vector<32xi16> to vector<32xbf16>
// CHECK: llvm.call_intrinsic "llvm.x86.avx512bf16.dpbf16ps.512"(%{{.*}}, %[[B]], %{{.*}})
llvm.func @pairs(%p: !llvm.ptr, %sum: vector<16xf32>) -> vector<16xf32> {
  %a = llvm.load %p : !llvm.ptr -> vector<32xbf16>
  %s = llvm.call_intrinsic "llvm.x86.avx512bf16.dpbf16ps.512"(%sum, %a, %a)
    : (vector<16xf32>, vector<32xbf16>, vector<32xbf16>) -> vector<16xf32>
  llvm.return %s : vector<16xf32>
}

// CHECK-LABEL: llvm.func @halves(
// CHECK: %[[I:.*]] = llvm.load %{{.*}} : !llvm.ptr -> vector<8xi16>
// CHECK: %[[F:.*]] = llvm.bitcast %[[I]] : vector<8xi16> to vector<8xf16>
// CHECK: %[[J:.*]] = llvm.bitcast %[[F]] : vector<8xf16> to vector<8xi16>
// CHECK: llvm.store %[[J]], %{{.*}} : vector<8xi16>, !llvm.ptr
llvm.func @halves(%p: !llvm.ptr) {
  %x = llvm.load %p : !llvm.ptr -> vector<8xf16>
  llvm.store %x, %p : vector<8xf16>, !llvm.ptr
  llvm.return
}

// CHECK-LABEL: llvm.func @exchange(
// CHECK: llvm.atomicrmw xchg %{{.*}}, %{{.*}} monotonic : !llvm.ptr, i16
llvm.func @exchange(%p: !llvm.ptr, %x: bf16) {
  %0 = llvm.atomicrmw xchg %p, %x monotonic : !llvm.ptr, bf16
  llvm.return
}

// -----

llvm.func @atomic_sum(%p: !llvm.ptr, %x: bf16) {
  // expected-error@+1 {{an atomic update of bf16 is not compiled for a CPU, as it would call a library; expected an exchange, or f32}}
  %0 = llvm.atomicrmw fadd %p, %x monotonic : !llvm.ptr, bf16
  llvm.return
}
