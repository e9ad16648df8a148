// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// A program may come as text or bytecode, by name or by pipe, in a module or
// not. Bytecode does not keep names.
//
// RUN: kv-compile %s --emit=header --name=x > %t.text
// RUN: kv-compile - --emit=header --name=x < %s | diff %t.text -
// RUN: kv-opt %s | kv-compile - --emit=header --name=x \
// RUN:   | FileCheck %s --check-prefix=MODULE
// RUN: kv-opt %s --emit-bytecode -o %t.mlirbc
// RUN: kv-compile %t.mlirbc --emit=header --name=x \
// RUN:   | FileCheck %s --check-prefix=BYTECODE
// RUN: kv-compile %t.mlirbc -o %t.so
// RUN: FileCheck %s --input-file=%t.text

// CHECK:    int32_t kv1_f(DLTensor *pool, DLTensor *named, void *workspace,
// MODULE:   int32_t kv1_f(DLTensor *arg0, DLTensor *named, void *workspace,
// BYTECODE: int32_t kv1_f(DLTensor *arg0, DLTensor *named, void *workspace,
func.func @f(%pool: !kvcache.cache<?B x 16N x 64D x f32>,
             %x: tensor<?xi64> {kvcache.name = "named"}) {
  return
}
