// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The example of docs/hosts.md: a pool that is a tensor is updated in place,
// the result that is the pool is gone, and the only buffer is that of the slots.
//
// RUN: kv-opt %kvcache_src/examples/functional_host.mlir --kvcache-bufferize | FileCheck %s
// RUN: kv-compile %kvcache_src/examples/functional_host.mlir -o %t.so
// RUN: FileCheck %s --input-file=%t.h --check-prefix=HEADER
//
// A host that runs the passes itself, as docs/hosts.md lists them.
// RUN: kv-opt %kvcache_src/examples/functional_host.mlir --pass-pipeline='builtin.module(inline,cse,one-shot-bufferize{bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map},kvcache-drop-donated-results,buffer-results-to-out-params{modify-public-functions hoist-static-allocs hoist-dynamic-allocs},canonicalize,cse)' | FileCheck %s
//
// The same in an mlir-opt that gets this project as a plugin.
// RUN: %mlir_opt %kvcache_src/examples/functional_host.mlir --load-dialect-plugin=%plugin --load-pass-plugin=%plugin --pass-pipeline='builtin.module(kvcache-bufferize)' | FileCheck %s
//
// And one whose results stay results: it gets back what it donated.
// RUN: kv-opt %kvcache_src/examples/functional_host.mlir --pass-pipeline='builtin.module(inline,cse,one-shot-bufferize{bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map})' | FileCheck %s --check-prefix=KEPT

// CHECK-LABEL: func.func @layer(
// CHECK-SAME: %[[POOL:[^ ]*]]: memref<?x2x16x8x128xbf16>, %[[Q:[^ ]*]]: memref<?x32x128xbf16>, %[[K:[^ ]*]]: memref<?x8x128xbf16>, %[[V:[^ ]*]]: memref<?x8x128xbf16>, %{{.*}}: memref<?xi32>, %{{.*}}: memref<?xi32>, %{{.*}}: memref<?x?xi32>, %[[OUT:[^ ]*]]: memref<?x32x128xbf16>{{( {bufferize.result})?}}) {
// CHECK-NOT: memref.copy
// CHECK: memref.alloc(%{{.*}}) {{.*}}: memref<?xi64>
// CHECK-NOT: memref.alloc
// CHECK-NOT: memref.copy
// CHECK: %[[C:.*]] = kvcache.view %[[POOL]][B, S, N, H, D] : memref<?x2x16x8x128xbf16> to !kv_nhd
// CHECK-NEXT: kvcache.index_copy %[[K]], %[[V]] into %[[C]] at
// CHECK-NEXT: kvcache.attention %[[Q]] over %[[C]] in %{{.*}} into %[[OUT]] causal
// CHECK-NEXT: return{{$}}

// HEADER: pool: bf16 [?, 2, 16, 8, 128], written
// HEADER: int32_t kv1_layer(DLTensor *pool, DLTensor *query,

// KEPT-LABEL: func.func @layer(
// KEPT-SAME: %[[POOL:[^ ]*]]: memref<?x2x16x8x128xbf16>,
// KEPT-NOT: memref.copy
// KEPT: kvcache.view %[[POOL]]
// KEPT: %[[C:.*]] = kvcache.view %[[POOL]]
// KEPT: kvcache.attention %{{.*}} over %[[C]]
// KEPT: return %[[POOL]], %{{.*}} : memref<?x2x16x8x128xbf16>, memref<?x32x128xbf16>
