// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// On a GPU target every operation that touches data and is not ours is listed.
//
// RUN: not kv-compile %s --target=sm_90a --gpu-image=ptx -o %t.so 2>&1 \
// RUN:   | FileCheck %s --implicit-check-not=error:

!kv = !kvcache.cache<2S x ?B x 16N x 2H x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!rows = tensor<?x2x64xf32>

// CHECK-DAG: error: 'memref.load' cannot be compiled for a GPU: expected only kvcache operations; compile it beside this program
// CHECK-DAG: error: 'memref.copy' cannot be compiled for a GPU
// CHECK-DAG: error: 'memref.store' cannot be compiled for a GPU
// CHECK-DAG: error: 'linalg.fill' cannot be compiled for a GPU
func.func @f(%pool: !kv, %slots: tensor<?xi64>, %key: !rows, %value: !rows,
             %counts: memref<4xi64>, %rest: memref<?xf32>, %i: index) {
  %before = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %new = memref.load %counts[%i] : memref<4xi64>
  %changed = tensor.insert %new into %slots[%i] : tensor<?xi64>
  %after = kvcache.make_slots %changed : tensor<?xi64> to !slots
  %zero = arith.constant 0.0 : f32
  linalg.fill ins(%zero : f32) outs(%rest : memref<?xf32>)
  kvcache.index_copy %key, %value into %pool at %before
    : !rows, !rows into !kv at !slots
  kvcache.index_copy %key, %value into %pool at %after
    : !rows, !rows into !kv at !slots
  return
}
