// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: not kv-opt %s --kvcache-specialize-page-stride=target=sm_90a 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not kv-opt %s --kvcache-specialize-page-stride=multiple=0 2>&1 | FileCheck %s --check-prefix=MULTIPLE
// RUN: not kv-opt %s --kvcache-specialize-page-stride=max-variants=0 2>&1 | FileCheck %s --check-prefix=NUMBER
// RUN: not kv-opt %s --kvcache-specialize-page-stride=block-strides=64,-1 2>&1 | FileCheck %s --check-prefix=STRIDES
// RUN: not kv-opt %s --kvcache-optimize=target=tpu 2>&1 | FileCheck %s --check-prefix=PIPELINE
//
// TARGET: error: the target of variants is expected to be 'cpu' or 'gpu', got 'sm_90a'
// MULTIPLE: error: 'multiple' is expected to be 1 or more, got 0
// NUMBER: error: 'max-variants' is expected to be 1 or more, as the generic variant is always there, got 0
// STRIDES: error: 'block-strides' are expected to be 1 or more, got -1
// PIPELINE: error: the target of variants is expected to be 'cpu' or 'gpu', got 'tpu'

func.func @nothing() {
  return
}
