// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-bufferize=allow-pool-copies --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s

!pool = tensor<?x16x8x128xbf16>
!rows = tensor<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK: remark: [Analysis] check-copies | Category:kvcache | Remark="a pool is copied, 32768 bytes for each block, as is allowed"
// CHECK: func.func @not_donated(
// CHECK: memref.copy %{{.*}} : memref<?x16x8x128xbf16> to memref<?x16x8x128xbf16>
func.func @not_donated(%pool: !pool {bufferization.writable = false}, %rows: !rows, %slots: tensor<?xi64>) -> !pool {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %next = kvcache.index_copy %rows into %pool[B, N, H, D] at %where
    : !rows into !pool at !slots
  return %next : !pool
}
