// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// What is refused before there is code, since it would mean something else
// further down, or call what no library has.
//
// RUN: rm -f %t.so %t.h %t.json
// RUN: split-file %s %t
// RUN: not kv-compile %t/alloc.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=ALLOC
// RUN: not kv-compile %t/report.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=REPORT
// RUN: not kv-compile %t/kernels.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=KERNELS
// RUN: not kv-compile %t/kernels-global.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=KERNELS-GLOBAL
// RUN: not kv-compile %t/copy.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=COPY
// RUN: not kv-compile %t/abort.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=ABORT
// RUN: not kv-compile %t/intrinsic.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=INTRINSIC
// RUN: not kv-compile %t/assembly.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=ASSEMBLY
// RUN: not kv-compile %t/passthrough.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=PASSTHROUGH
// RUN: not kv-compile %t/linkage.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=LINKAGE
// RUN: not kv-compile %t/promise.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=PROMISE
// RUN: not kv-compile %t/nested.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=NESTED
// RUN: not kv-compile %t/global.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=GLOBAL
// RUN: not kv-compile %t/print.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=PRINT
// RUN: not kv-compile %t/remainder.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=REMAINDER
// RUN: not kv-compile %t/indirect.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=INDIRECT
// RUN: not kv-compile %t/system.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=SYSTEM-CPU
// RUN: not kv-compile %t/system.mlir --target=sm_90a --gpu-image=ptx -o %t.so 2>&1 | FileCheck %s --check-prefix=SYSTEM
// RUN: not kv-compile %t/launch.mlir --target=sm_90a --gpu-image=ptx -o %t.so 2>&1 | FileCheck %s --check-prefix=LAUNCH
// RUN: not ls %t.so %t.h %t.json
//
// What only shows when everything is linked is refused as well: operations that
// have code of their own for most types.
// RUN: not kv-compile %t/wide.mlir -o %t.so 2>&1 | FileCheck %s --check-prefix=WIDE
// RUN: not ls %t.so %t.h %t.json

//--- alloc.mlir
// ALLOC: error: the name '_mlir_memref_to_llvm_alloc' is reserved for the compiler; expected another one
func.func private @_mlir_memref_to_llvm_alloc(%x: f32) {
  return
}
func.func @f(%x: f32) {
  return
}

//--- report.mlir
// REPORT: error: the name 'kvrt_report_view' is reserved for the compiler
func.func @kvrt_report_view(%x: f32) {
  return
}

//--- kernels.mlir
// KERNELS: error: the name 'kv_kernels' is reserved for the compiler
func.func @kv_kernels(%x: f32) {
  return
}

//--- kernels-global.mlir
// KERNELS-GLOBAL: error: the name 'kv_kernels_code' is reserved for the compiler
memref.global "private" constant @kv_kernels_code : memref<2xf32> = dense<1.0>
func.func @f(%x: f32) {
  return
}

//--- copy.mlir
// COPY: error: the name 'memrefCopy' is reserved for the compiler
func.func @memrefCopy(%x: f32) {
  return
}

//--- abort.mlir
// An assertion calls it.
// ABORT: error: the name 'abort' is reserved for the compiler
func.func @abort(%x: f32) {
  return
}

//--- intrinsic.mlir
// INTRINSIC: error: the name 'llvm.sqrt.f32' is reserved for the compiler
func.func private @llvm.sqrt.f32(%x: f32) -> f32 {
  return %x : f32
}

//--- assembly.mlir
// ASSEMBLY: error: attribute 'llvm.module_asm' cannot be compiled: expected none that is passed on to LLVM
module attributes {llvm.module_asm = [".globl evil", "evil: nop"]} {
  func.func @f(%x: f32) {
    return
  }
}

//--- passthrough.mlir
// PASSTHROUGH: error: attribute 'passthrough' cannot be compiled
func.func @f(%x: f32) attributes {passthrough = ["naked"]} {
  return
}

//--- linkage.mlir
// LINKAGE: error: attribute 'llvm.linkage' cannot be compiled
func.func @f(%x: f32) attributes {llvm.linkage = #llvm.linkage<weak>} {
  return
}

//--- promise.mlir
// PROMISE: error: attribute 'llvm.noalias' cannot be compiled
func.func @f(%x: memref<4xf32> {llvm.noalias}) {
  return
}

//--- nested.mlir
// NESTED: error: a nested module cannot be compiled
module @inner {
  func.func @g(%x: f32) {
    return
  }
}
func.func @f(%x: f32) {
  return
}

//--- global.mlir
// GLOBAL: error: global 'environ' is expected to have a value: a library imports nothing from its user
memref.global @environ : memref<4xi64>
func.func @f(%x: memref<4xi64>) {
  %e = memref.get_global @environ : memref<4xi64>
  memref.copy %e, %x : memref<4xi64> to memref<4xi64>
  return
}

//--- print.mlir
// PRINT: error: 'vector.print' cannot be compiled for a CPU: expected operations that are compiled without calls to other code
func.func @f(%x: f32) {
  vector.print %x : f32
  return
}

//--- remainder.mlir
// REMAINDER: error: 'arith.remf' cannot be compiled for a CPU: expected operations that are compiled without calls to other code
func.func @f(%b: memref<?xf32>, %x: f32) {
  %c0 = arith.constant 0 : index
  %y = arith.remf %x, %x : f32
  memref.store %y, %b[%c0] : memref<?xf32>
  return
}

//--- indirect.mlir
// What such a call allocates is in no bound of the workspace.
// INDIRECT: error: 'func.call_indirect' cannot be compiled for a CPU
func.func private @g(%x: memref<4xf32>) {
  return
}
func.func private @h(%x: memref<4xf32>) {
  return
}
func.func @f(%x: memref<4xf32>, %which: i1) {
  %a = func.constant @g : (memref<4xf32>) -> ()
  %b = func.constant @h : (memref<4xf32>) -> ()
  %c = arith.select %which, %a, %b : (memref<4xf32>) -> ()
  func.call_indirect %c(%x) : (memref<4xf32>) -> ()
  return
}

//--- system.mlir
// SYSTEM: error: 'llvm.func' cannot be compiled for a GPU
// SYSTEM: error: 'llvm.mlir.global' cannot be compiled for a GPU
// SYSTEM: error: 'llvm.mlir.addressof' cannot be compiled for a GPU
// SYSTEM: error: 'llvm.call' cannot be compiled for a GPU
// SYSTEM-CPU: error: 'llvm.func' cannot be compiled for a CPU
// SYSTEM-CPU: error: 'llvm.call' cannot be compiled for a CPU
llvm.func @system(!llvm.ptr) -> i32
llvm.mlir.global internal constant @command("true\00")
!c = !kvcache.cache<?B x 2N x 64D x f16>
!s = !kvcache.slots<?T x i64, rows_per_block = 2, pad = skip_negative>
func.func @f(%pool: !c, %s: !s, %r: memref<?x64xf16>) {
  %p = llvm.mlir.addressof @command : !llvm.ptr
  %x = llvm.call @system(%p) : (!llvm.ptr) -> i32
  kvcache.index_copy %r into %pool at %s : memref<?x64xf16> into !c at !s
  return
}

//--- launch.mlir
// LAUNCH: error: 'gpu.module' cannot be compiled for a GPU
module attributes {gpu.container_module} {
  gpu.module @own {
    gpu.func @kernel() kernel {
      gpu.return
    }
  }
  func.func @f(%n: index) {
    gpu.launch_func @own::@kernel blocks in (%n, %n, %n) threads in (%n, %n, %n)
    return
  }
}

//--- wide.mlir
// WIDE: error: the library '{{.*}}.so' cannot be used: the program needs '__divti3', which no library may call
func.func @f(%x: memref<?xi64>, %i: index) {
  %a = memref.load %x[%i] : memref<?xi64>
  %w = arith.extsi %a : i64 to i128
  %m = arith.muli %w, %w : i128
  %c = arith.constant 1000000007000000000000 : i128
  %k = arith.addi %w, %c : i128
  %d = arith.divsi %m, %k : i128
  %r = arith.trunci %d : i128 to i64
  memref.store %r, %x[%i] : memref<?xi64>
  return
}
