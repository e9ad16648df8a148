// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What other passes do to operations that are one launch.
//
// RUN: kv-opt %s --kvcache-optimize | FileCheck %s
// RUN: kv-compile %s --target=sm_80 --checks=full --emit=ptx -o %t.ptx
// RUN: kv-compile %s --target=cpu --checks=full --emit=llvm -o %t.ll
// RUN: kv-opt %s --convert-kvcache-to-gpu --canonicalize --cse | FileCheck %s --check-prefix=GPU

!rows = memref<?x8x128xbf16>
!table = memref<?x128xf32>
!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>

// A scatter stays one: no list is made inside.
// CHECK-LABEL: func.func @scatter(
// CHECK: kvcache.fuse {
// CHECK: kvcache.scatter
// CHECK-NEXT: }
func.func @scatter(%k: !rows, %table: !table, %cache: !kv {kvcache.noalias}, %slots: memref<?xi64>, %blocks: memref<?xi64>, %offsets: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %k, %c0 : !rows
  kvcache.fuse {
    %a = memref.alloc(%t) : !rows
    kvcache.rotate %k by %table into %a : !rows by !table into !rows
    kvcache.scatter %a into %cache at %blocks, %offsets pad = skip_negative
      : !rows into !kv at memref<?xi64>, memref<?xi64>
  }
  return
}

// With checks, the buffer is a part of the workspace, before the loop.
func.func @loop(%k: !rows, %table: !table, %p: memref<?xi32>, %cache: !kv {kvcache.noalias}, %blocks: memref<?xi64>, %offsets: memref<?xi64>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %t = memref.dim %k, %c0 : !rows
  scf.for %i = %c0 to %n step %c1 {
    kvcache.fuse {
      %a = memref.alloc(%t) : !rows
      kvcache.rotate %k by %table at %p into %a
        : !rows by !table at memref<?xi32> into !rows
      kvcache.scatter %a into %cache at %blocks, %offsets pad = skip_negative
        : !rows into !kv at memref<?xi64>, memref<?xi64>
    }
  }
  return
}

// Rows of four bytes and of two: each is aligned as its accesses are wide.
!key = memref<?x8x128xf32>
!both = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
// GPU-LABEL: func.func @formats(
// GPU-DAG: %[[A:.*]] = arith.andi %{{.*}}, %c15
// GPU-DAG: %[[B:.*]] = arith.andi %{{.*}}, %c7
// GPU: arith.ori %[[A]], %[[B]]
func.func @formats(%k: !key {kvcache.align = 4}, %v: !rows {kvcache.align = 2}, %cache: !both {kvcache.noalias}, %slots: !kvcache.slots<?T x i32, rows_per_block = 16, pad = skip_negative>) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %k, %c0 : !key
  kvcache.fuse {
    %a = memref.alloc(%t) : !rows
    kvcache.normalize %k into %a epsilon 1.0e-06 : !key into !rows
    kvcache.index_copy %a, %v into %cache at %slots
      : !rows, !rows into !both at !kvcache.slots<?T x i32, rows_per_block = 16, pad = skip_negative>
  }
  return
}
