// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-bufferize --verify-diagnostics

// Channels that are counted from the end are those of no cache.
func.func @reversed(%pool: tensor<6x16x128xf32>, %k: tensor<?x64xf32>, %t: tensor<?xi64>) -> tensor<6x16x64xf32> {
  %s = kvcache.make_slots %t : tensor<?xi64> to !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
  %0 = tensor.extract_slice %pool[0, 0, 127] [6, 16, 64] [1, 1, -1] : tensor<6x16x128xf32> to tensor<6x16x64xf32>
  // expected-error @+2 {{has a pool in a buffer of type 'memref<6x16x64xf32, strided<[2048, 128, -1], offset: 127>>', which no cache type describes: layout_c5: the stride of D is expected to be between 1 and 2^40, got -1}}
  // expected-error @+1 {{failed to bufferize op}}
  %1 = kvcache.index_copy %k into %0[B, N, D] at %s : tensor<?x64xf32> into tensor<6x16x64xf32> at !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
  return %1 : tensor<6x16x64xf32>
}
