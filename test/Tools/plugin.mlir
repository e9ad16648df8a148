// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The plugin in an mlir-opt that knows nothing of this project.
//
// RUN: %mlir_opt %s --load-dialect-plugin=%plugin | FileCheck %s --check-prefix=DIALECT
// RUN: %mlir_opt %s --load-dialect-plugin=%plugin --load-pass-plugin=%plugin --pass-pipeline='builtin.module(kvcache-bufferize)' | FileCheck %s --check-prefix=BUFFERIZE
// RUN: %mlir_opt %s --load-dialect-plugin=%plugin --load-pass-plugin=%plugin --pass-pipeline='builtin.module(kvcache-bufferize,convert-kvcache-to-loops)' | FileCheck %s --check-prefix=LOOPS --implicit-check-not=kvcache
// RUN: %mlir_opt %s --load-dialect-plugin=%plugin --load-pass-plugin=%plugin --pass-pipeline='builtin.module(kvcache-bufferize,kvcache-to-kernels)' | FileCheck %s --check-prefix=KERNELS
//
// Its dialect is the reason that this parses.
// RUN: not %mlir_opt %s 2>&1 | FileCheck %s --check-prefix=WITHOUT
//
// It defines two functions and nothing of MLIR or LLVM, and needs MLIR from the
// program that loads it. With all of that looked up at once it still loads.
// RUN: llvm-nm -D --defined-only --just-symbol-name %plugin | sort | FileCheck %s --check-prefix=DEFINED
// RUN: llvm-nm -D --undefined-only %plugin | FileCheck %s --check-prefix=UNDEFINED
// RUN: llvm-readelf --dynamic %plugin | FileCheck %s --check-prefix=NEEDED --implicit-check-not=libMLIR --implicit-check-not=libLLVM
// RUN: llvm-nm --defined-only %plugin | FileCheck %s --check-prefix=INSIDE --implicit-check-not='TypeIDResolverINS_{{[A-Za-z0-9_]*}}EvE2idE' --implicit-check-not=_ZTVN4mlir4PassE --implicit-check-not=_ZN4mlir11MLIRContextC
// RUN: env LD_BIND_NOW=1 %mlir_opt %s --load-dialect-plugin=%plugin | FileCheck %s --check-prefix=DIALECT

// DEFINED: {{^}}mlirGetDialectPluginInfo
// DEFINED-NEXT: {{^}}mlirGetPassPluginInfo
// DEFINED-NOT: {{.}}
// UNDEFINED: U _ZN4mlir4Pass
// NEEDED: Shared library: [libstdc++
// Inside are identities of our types, and none of MLIR's: with two copies of
// one, a cast to it fails.
// INSIDE: TypeIDResolverIN7kvcache9CacheTypeEvE2idE

!kv = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// WITHOUT: error: {{.*}}kvcache

// DIALECT: !kv_nd = !kvcache.cache<?B x 16N x 64D x f32>
// DIALECT-LABEL: func.func @insert(
// DIALECT: kvcache.make_slots %{{.*}} : tensor<?xi64> to !kv_slots
// DIALECT: kvcache.index_copy %{{.*}} : tensor<?x64xf32> into !kv_nd at !kv_slots

// BUFFERIZE-NOT: workspace_size
// BUFFERIZE-LABEL: func.func @insert(
// BUFFERIZE: kvcache.make_slots %{{.*}} : memref<?xi64> to !kv_slots
// BUFFERIZE: kvcache.index_copy %{{.*}} : memref<?x64xf32> into !kv_nd at !kv_slots

// LOOPS-LABEL: func.func @insert(
// LOOPS: scf.for
// LOOPS: vector.load {{.*}}, vector<16xf32>
// LOOPS: vector.store {{.*}}, vector<16xf32>

// KERNELS-LABEL: func.func @insert(
// KERNELS: gpu.launch_func @kv_kernels::@index_copy
// KERNELS: gpu.module @kv_kernels
// KERNELS: llvm.func @index_copy

func.func @insert(%cache: !kv, %rows: tensor<?x64xf32>, %t: tensor<?xi64>) {
  %s = kvcache.make_slots %t : tensor<?xi64> to !slots
  kvcache.index_copy %rows into %cache at %s : tensor<?x64xf32> into !kv at !slots
  return
}
