// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: not kv-opt %s --kvcache-split-layer-groups=outputs=1=sampled 2>&1 | FileCheck %s --check-prefix=RESULT
// RUN: not kv-opt %s --kvcache-split-layer-groups=outputs=0=samples 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: not kv-opt %s --kvcache-split-layer-groups=outputs=0=0 2>&1 | FileCheck %s --check-prefix=LIST
// RUN: not kv-opt %s --kvcache-split-layer-groups=outputs=0=sampled:x 2>&1 | FileCheck %s --check-prefix=VALID
// RUN: not kv-opt %s --kvcache-split-layer-groups=functions=other 2>&1 | FileCheck %s --check-prefix=FUNCTION

// RESULT: error: outputs: a result that is a tensor and an argument that is a list of i32 or i64 of 'f' are expected, as in '0=sampled', got '1=sampled'
// NAME: error: outputs: {{.*}} are expected, as in '0=sampled', got '0=samples'
// LIST: error: outputs: {{.*}} are expected, as in '0=sampled', got '0=0'
// VALID: error: outputs: {{.*}} are expected, as in '0=sampled', got '0=sampled:x'
// FUNCTION: error: functions: expected the name of a function, got 'other'
func.func @f(%x: tensor<?x8xf32>,
             %sampled: tensor<?xi32> {kvcache.name = "sampled"}) -> tensor<?x8xf32> {
  return %x : tensor<?x8xf32>
}
