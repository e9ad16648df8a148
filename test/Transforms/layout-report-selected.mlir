// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The attention of the last layer runs on the rows that are sampled, and its
// report says so. The shape of an operation is what it was.
//
// RUN: kv-opt %S/../../examples/last_layer.mlir --kvcache-layout-report -o /dev/null | FileCheck %s --check-prefix=ALL
// RUN: kv-opt %S/../../examples/last_layer.mlir --kvcache-split-layer-groups --kvcache-layout-report -o /dev/null | FileCheck %s --check-prefix=SELECTED
// RUN: kv-opt %S/../../examples/last_layer.mlir --kvcache-split-layer-groups --kvcache-bufferize --kvcache-layout-report -o /dev/null | FileCheck %s --check-prefix=SELECTED

// ALL: attention {{.*}} 128 per row and key
// SELECTED: attention {{.*}} 128 per selected row and key
