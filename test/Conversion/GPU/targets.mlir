// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels are chosen by the facts of a target, not by its name: a chip that no
// table has is written out on the module.
//
// RUN: split-file %s %t
// RUN: cat %t/sm_89.mlir %t/program.mlir %t/end.mlir > %t/small.mlir
// RUN: cat %t/boxes.mlir %t/program.mlir %t/end.mlir > %t/large.mlir
// RUN: kv-opt %t/small.mlir --convert-kvcache-to-gpu --remark-format=emitRemark --remarks-filter=kvcache -o %t/out 2>&1 | FileCheck %s --check-prefix=SMALL
// RUN: kv-opt %t/large.mlir --convert-kvcache-to-gpu --remark-format=emitRemark --remarks-filter=kvcache -o %t/out 2>&1 | FileCheck %s --check-prefix=LARGE
// RUN: kv-opt %t/program.mlir --convert-kvcache-to-gpu=chip=sm_80 --remark-format=emitRemark --remarks-filter=kvcache -o %t/out 2>&1 | FileCheck %s --check-prefix=SM80

// Two slots of 128 channels do not fit in 99 KiB.
// SMALL: Remark="a row and a query head for each block of threads"
// SMALL: Remark="matrix products of 8 columns, 8 warps, 4 slots; keys and values come in rows; of many rows, products of 224 rows by warps, 7 slots of 64 keys"
// LARGE: Remark="matrix products of 8 columns, 8 warps, 4 slots; keys and values come in boxes of a tensor map; of many rows, products of 224 rows by warps, 8 slots of 64 keys"
// SM80: Remark="matrix products of 8 columns, 8 warps, 3 slots; keys and values come in rows; of many rows, products of 224 rows by warps, 6 slots of 64 keys"

// The target is left on the module, and kernels are compiled for it.
// RUN: kv-opt %t/small.mlir --kvcache-to-kernels | FileCheck %s --check-prefix=KERNELS
// RUN: kv-opt %t/small.mlir --kvcache-to-kernels --kvcache-attach-nvvm-target | FileCheck %s --check-prefix=ATTACHED
// RUN: kv-opt %t/small.mlir --kvcache-to-nvvm=image=ptx -o %t/nvvm
// RUN: FileCheck %s --check-prefix=PTX --input-file=%t/nvvm
// KERNELS: module attributes {gpu.container_module, kvcache.target = #kvcache.target<chip = "sm_89",
// ATTACHED-NOT: kvcache.target
// ATTACHED: gpu.module @kv_kernels [#nvvm.target<O = 3, chip = "sm_89", features = "+ptx83">]
// PTX-NOT: kvcache.target
// PTX: .target sm_89

// RUN: not kv-opt %t/small.mlir --convert-kvcache-to-gpu=chip=sm_80 2>&1 | FileCheck %s --check-prefix=OTHER
// RUN: not kv-opt %t/program.mlir --convert-kvcache-to-gpu=chip=sm_42 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not kv-opt %t/small.mlir --convert-kvcache-to-loops 2>&1 | FileCheck %s --check-prefix=CPU
// RUN: not kv-opt %t/program.mlir --convert-kvcache-to-loops=chip=sm_80 2>&1 | FileCheck %s --check-prefix=NO-CPU
// RUN: not kv-opt %t/program.mlir --kvcache-attach-nvvm-target 2>&1 | FileCheck %s --check-prefix=NONE
// OTHER: error: the module targets 'sm_89', but 'sm_80' is requested
// UNKNOWN: error: unknown chip 'sm_42'; expected sm_80, sm_90a or sm_100a
// CPU: error: the target of the module is expected to have the instructions cpu, got #kvcache.target<chip = "sm_89"
// NO-CPU: error: unknown chip 'sm_80'; expected generic, x86-64-v4, x86-64-v4-bf16 or x86-64-v4-amx
// NONE: error: the module is expected to have a target with the instructions nvvm, got none

//--- sm_89.mlir
module attributes {kvcache.target = #kvcache.target<chip = "sm_89", isa = nvvm,
    lanes = 32, matrix = mma_sync, shared_bytes = 101376, ptx = 83>} {
//--- boxes.mlir
module attributes {kvcache.target = #kvcache.target<chip = "next", isa = nvvm,
    lanes = 32, matrix = mma_sync, shared_bytes = 232448, tensor_maps = true,
    try_wait = true, ptx = 86>} {
//--- program.mlir
func.func @decode(%q: memref<?x32x128xbf16>,
    %kv: !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>,
    %batch: !kvcache.batch<?R x ?M x i32, tokens = 16>,
    %out: memref<?x32x128xbf16>) {
  kvcache.attention %q over %kv in %batch into %out causal
    : memref<?x32x128xbf16> over !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
      in !kvcache.batch<?R x ?M x i32, tokens = 16> into memref<?x32x128xbf16>
  return
}
func.func @narrow(%q: memref<?x32x64xbf16>,
    %kv: !kvcache.cache<2S x ?B x 16N x 8H x 64D x bf16>,
    %batch: !kvcache.batch<?R x ?M x i32, tokens = 16>,
    %out: memref<?x32x64xbf16>) {
  kvcache.attention %q over %kv in %batch into %out causal
    : memref<?x32x64xbf16> over !kvcache.cache<2S x ?B x 16N x 8H x 64D x bf16>
      in !kvcache.batch<?R x ?M x i32, tokens = 16> into memref<?x32x64xbf16>
  return
}
//--- end.mlir
}
