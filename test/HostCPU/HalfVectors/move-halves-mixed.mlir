// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What says bf16 to others keeps saying so, with bit casts between: functions
// and blocks of other dialects, functions without a body, globals, structs with
// a name.
//
// RUN: kv-opt %s --kvcache-move-halves-as-integers | FileCheck %s

// CHECK: llvm.func @declared(bf16) -> bf16
llvm.func @declared(bf16) -> bf16
llvm.func @personality(...) -> i32
// CHECK: llvm.func @own(%[[X:.*]]: i16) -> i16
llvm.func @own(%x: bf16) -> bf16 {
  llvm.return %x : bf16
}

// CHECK-LABEL: llvm.func @argument(
// CHECK-SAME: %[[X:.*]]: i16) -> f32
// CHECK: %[[F:.*]] = llvm.bitcast %[[X]] : i16 to bf16
// CHECK: llvm.fpext %[[F]] : bf16 to f32
llvm.func @argument(%x: bf16) -> f32 {
  %y = llvm.fpext %x : bf16 to f32
  llvm.return %y : f32
}

// CHECK-LABEL: llvm.func @calls(
// CHECK-SAME: %[[X:.*]]: i16) -> i16
// CHECK: %[[F:.*]] = llvm.bitcast %[[X]] : i16 to bf16
// CHECK: %[[Y:.*]] = llvm.call @declared(%[[F]]) : (bf16) -> bf16
// CHECK: %[[I:.*]] = llvm.bitcast %[[Y]] : bf16 to i16
// CHECK: llvm.call @own(%[[I]]) : (i16) -> i16
llvm.func @calls(%x: bf16) -> bf16 {
  %y = llvm.call @declared(%x) : (bf16) -> bf16
  %z = llvm.call @own(%y) : (bf16) -> bf16
  llvm.return %z : bf16
}

// The result of a call that may unwind is there in another block only.
// CHECK-LABEL: llvm.func @invokes(
// CHECK-SAME: %[[X:.*]]: i16) -> i16
// CHECK: %[[Y:.*]] = llvm.invoke @own(%[[X]]) to ^[[A:.*]](%[[X]] : i16) unwind {{.*}} : (i16) -> i16
// CHECK: ^[[A]](%[[W:.*]]: i16):
// CHECK: %[[F:.*]] = llvm.bitcast %[[Y]] : i16 to bf16
// CHECK: %[[Z:.*]] = llvm.invoke @declared(%[[F]]) to ^[[C:.*]](%[[W]] : i16) unwind {{.*}} : (bf16) -> bf16
// CHECK: ^[[C]](%[[V:.*]]: i16):
// CHECK: %[[G:.*]] = llvm.bitcast %[[V]] : i16 to bf16
// CHECK: llvm.fadd %[[Z]], %[[G]] : bf16
llvm.func @invokes(%x: bf16) -> bf16 attributes {personality = @personality} {
  %y = llvm.invoke @own(%x) to ^a(%x : bf16) unwind ^b : (bf16) -> bf16
^a(%w: bf16):
  %z = llvm.invoke @declared(%y) to ^c(%w : bf16) unwind ^b : (bf16) -> bf16
^b:
  %l = llvm.landingpad cleanup : !llvm.struct<(ptr, i32)>
  llvm.resume %l : !llvm.struct<(ptr, i32)>
^c(%v: bf16):
  %s = llvm.fadd %z, %v : bf16
  llvm.return %s : bf16
}

// CHECK-LABEL: llvm.func @branches(
// CHECK-SAME: %[[C:.*]]: i1, %[[X:.*]]: i16) -> i16
// CHECK: %[[F:.*]] = llvm.bitcast %[[X]] : i16 to bf16
// CHECK: llvm.cond_br %[[C]], ^[[A:.*]](%[[X]] : i16), ^[[B:.*]](%[[F]] : bf16)
// CHECK: ^[[A]](%[[Y:.*]]: i16):
// CHECK: %[[G:.*]] = llvm.bitcast %[[Y]] : i16 to bf16
// CHECK: cf.br ^[[B]](%[[G]] : bf16)
// CHECK: ^[[B]](%[[Z:.*]]: bf16):
// CHECK: %[[R:.*]] = llvm.bitcast %[[Z]] : bf16 to i16
// CHECK: llvm.return %[[R]] : i16
llvm.func @branches(%c: i1, %x: bf16) -> bf16 {
  llvm.cond_br %c, ^a(%x : bf16), ^b(%x : bf16)
^a(%y: bf16):
  cf.br ^b(%y : bf16)
^b(%z: bf16):
  llvm.return %z : bf16
}

// CHECK-LABEL: llvm.mlir.global internal @value() {{.*}} : bf16 {
// CHECK: %[[I:.*]] = llvm.mlir.constant(16256 : i16) : i16
// CHECK: %[[F:.*]] = llvm.bitcast %[[I]] : i16 to bf16
// CHECK: llvm.return %[[F]] : bf16
llvm.mlir.global internal @value() : bf16 {
  %x = llvm.mlir.constant(1.0 : bf16) : bf16
  llvm.return %x : bf16
}

// CHECK-LABEL: llvm.func @named(
// CHECK-SAME: %[[S:.*]]: !llvm.struct<"s", (bf16)>, %[[Y:.*]]: i16) -> i16
// CHECK: %[[F:.*]] = llvm.bitcast %[[Y]] : i16 to bf16
// CHECK: %[[T:.*]] = llvm.insertvalue %[[F]], %[[S]][0]
// CHECK: %[[Z:.*]] = llvm.extractvalue %[[T]][0]
// CHECK: llvm.bitcast %[[Z]] : bf16 to i16
llvm.func @named(%s: !llvm.struct<"s", (bf16)>, %y: bf16) -> bf16 {
  %t = llvm.insertvalue %y, %s[0] : !llvm.struct<"s", (bf16)>
  %z = llvm.extractvalue %t[0] : !llvm.struct<"s", (bf16)>
  llvm.return %z : bf16
}

// LLVM casts no struct as a whole.
// CHECK-LABEL: llvm.func @members(
// CHECK: %[[S:.*]] = llvm.inline_asm {{.*}} : () -> !llvm.struct<(bf16, i32)>
// CHECK: %[[T:.*]] = llvm.mlir.poison : !llvm.struct<(i16, i32)>
// CHECK: %[[X:.*]] = llvm.extractvalue %[[S]][0]
// CHECK: %[[I:.*]] = llvm.bitcast %[[X]] : bf16 to i16
// CHECK: %[[U:.*]] = llvm.insertvalue %[[I]], %[[T]][0]
// CHECK: %[[N:.*]] = llvm.extractvalue %[[S]][1]
// CHECK: %[[V:.*]] = llvm.insertvalue %[[N]], %[[U]][1]
// CHECK: %[[Y:.*]] = llvm.extractvalue %[[V]][0]
// CHECK: llvm.return %[[Y]] : i16
llvm.func @members() -> bf16 {
  %s = llvm.inline_asm "nop", "=r,=r" : () -> !llvm.struct<(bf16, i32)>
  %x = llvm.extractvalue %s[0] : !llvm.struct<(bf16, i32)>
  llvm.return %x : bf16
}

// CHECK-LABEL: func.func @host(
// CHECK-SAME: %[[X:.*]]: bf16, %{{.*}}: memref<4xbf16>, %[[P:.*]]: !llvm.ptr
// CHECK: %[[A:.*]] = llvm.load %[[P]] : !llvm.ptr -> i16
// CHECK: %[[F:.*]] = llvm.bitcast %[[A]] : i16 to bf16
// CHECK: %[[B:.*]] = arith.addf %[[F]], %[[X]] : bf16
// CHECK: %[[I:.*]] = llvm.bitcast %[[B]] : bf16 to i16
// CHECK: llvm.store %[[I]], %[[P]] : i16, !llvm.ptr
// CHECK: linalg.generic
// CHECK-NEXT: ^{{.*}}(%{{.*}}: bf16, %{{.*}}: bf16):
// CHECK: linalg.yield %{{.*}} : bf16
// CHECK: scf.for {{.*}} iter_args({{.*}}) -> (bf16)
// CHECK: arith.addf %{{.*}}, %{{.*}} : vector<2x2xbf16>
// CHECK: return %{{.*}} : bf16
func.func @host(%x: bf16, %m: memref<4xbf16>, %p: !llvm.ptr, %n: index, %v: vector<2x2xbf16>) -> bf16 {
  %a = llvm.load %p : !llvm.ptr -> bf16
  %b = arith.addf %a, %x : bf16
  llvm.store %b, %p : bf16, !llvm.ptr
  linalg.generic {indexing_maps = [affine_map<(d) -> ()>, affine_map<(d) -> (d)>], iterator_types = ["parallel"]}
      ins(%a : bf16) outs(%m : memref<4xbf16>) {
  ^bb0(%in: bf16, %out: bf16):
    %sum = arith.addf %in, %out : bf16
    linalg.yield %sum : bf16
  }
  %r = scf.for %i = %n to %n step %n iter_args(%c = %b) -> bf16 {
    scf.yield %c : bf16
  }
  %w = arith.addf %v, %v : vector<2x2xbf16>
  return %r : bf16
}
