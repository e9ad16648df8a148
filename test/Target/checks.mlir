// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Nothing of checks is in code that is compiled without them, which is the
// default, and all of a call is checked where they are asked for.
//
// RUN: kv-compile %s --emit=mlir > %t.default
// RUN: kv-compile %s --emit=mlir --checks=none | cmp - %t.default
// RUN: FileCheck %s --check-prefix=NONE --input-file=%t.default
// RUN: kv-compile %s --emit=mlir --checks=full | FileCheck %s --check-prefix=FULL
// RUN: kv-compile %s --emit=mlir --checks=on-request \
// RUN:   | FileCheck %s --check-prefix=ASKED
// RUN: kv-compile %s --target=sm_90a --emit=ptx > %t.ptx
// RUN: FileCheck %s --check-prefix=NONE --input-file=%t.ptx
// RUN: kv-compile %s --target=sm_90a --emit=ptx --checks=full \
// RUN:   | FileCheck %s --check-prefix=PTX
//
// NONE-NOT: {{kvrt_check|check_entries}}
// NONE-NOT: kvrt_report_entry
// FULL: llvm.call @kvrt_report_entry
// FULL-NOT: kvrt_checks_wanted
// ASKED: llvm.call @kvrt_checks_wanted
// PTX: .entry check_entries

!kv = !kvcache.cache<?B x 2N x 3D x f32>
!slots = !kvcache.slots<?T x i32, rows_per_block = 2, pad = skip_negative>

func.func @insert(%cache: !kv, %slots: !slots, %rows: memref<?x3xf32>) {
  kvcache.index_copy %rows into %cache at %slots
    : memref<?x3xf32> into !kv at !slots
  return
}
