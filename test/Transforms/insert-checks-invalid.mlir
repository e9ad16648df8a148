// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s --kvcache-insert-checks --verify-diagnostics
// RUN: not kv-opt %s --kvcache-insert-checks=target=tpu 2>&1 \
// RUN:   | FileCheck %s --check-prefix=TARGET
// TARGET: error: 'target' is expected to be cpu or gpu, got 'tpu'

!kv = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

func.func @tensors(%cache: !kv, %slots: !slots, %rows: tensor<?x64xf32>) {
  // expected-error @below {{is checked only after bufferization: memrefs are expected, got 'tensor<?x64xf32>'}}
  kvcache.index_copy %rows into %cache at %slots : tensor<?x64xf32> into !kv at !slots
  return
}
