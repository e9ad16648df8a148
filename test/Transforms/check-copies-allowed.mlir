// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-bufferize=allow-pool-copies --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s

!pool = tensor<?x16x8x128xbf16>
!rows = tensor<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK: remark: [Analysis] check-copies | Category:kvcache | Remark="a pool is copied, 32768 bytes for each block, as allowed"
// CHECK: remark: [Analysis] check-copies | Category:kvcache | Remark="a pool is allocated, 32768 bytes for each block, as allowed"
// CHECK: func.func @not_donated(
// CHECK: memref.copy %{{.*}} : memref<?x16x8x128xbf16> to memref<?x16x8x128xbf16>
func.func @not_donated(%pool: !pool {bufferization.writable = false}, %rows: !rows, %slots: tensor<?xi64>) -> !pool {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %next = kvcache.index_copy %rows into %pool[B, N, H, D] at %where
    : !rows into !pool at !slots
  return %next : !pool
}

// CHECK: func.func @cleared_and_old(
// CHECK: memref.alloc
func.func @cleared_and_old(%pool: !pool, %rows: !rows, %slots: tensor<?xi64>, %a: !rows, %b: !rows) -> (!rows, !rows) {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %zero = arith.constant 0.0 : bf16
  %cleared = linalg.fill ins(%zero : bf16) outs(%pool : !pool) -> !pool
  %next = kvcache.index_copy %rows into %cleared[B, N, H, D] at %where : !rows into !pool at !slots
  %new = kvcache.gather %next[B, N, H, D] at %where into %a : !pool at !slots into !rows
  %old = kvcache.gather %pool[B, N, H, D] at %where into %b : !pool at !slots into !rows
  return %new, %old : !rows, !rows
}
