// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Pools that change places in a loop would be copied in each iteration.
//
// RUN: not kv-opt %s --kvcache-bufferize 2>&1 | FileCheck %s
// CHECK: copy-carried-pools-invalid.mlir:[[# @LINE + 13]]:5: error: 'memref.copy' op copies a pool, 131072 bytes, on each call: expected an update in place

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!pool = tensor<2x64x16x2x8xf32>
!rows = tensor<?x2x8xf32>

func.func @exchanged_pools(%p: !pool, %q: !pool, %rows: !rows, %where: !slots,
                           %n: index) -> !pool {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r:2 = scf.for %l = %c0 to %n step %c1 iter_args(%a = %p, %b = %q) -> (!pool, !pool) {
    %written = kvcache.index_copy %rows, %rows into %a[S, B, N, H, D] at %where
      : !rows, !rows into !pool at !slots
    scf.yield %b, %written : !pool, !pool
  }
  return %r#0 : !pool
}
