// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// What the header and the manifest say of the arguments of a function.
//
// RUN: kv-compile %s --emit=header --name=paged | FileCheck %s --check-prefix=H
// RUN: kv-compile %s --emit=manifest --name=paged --target=sm_90a \
// RUN:   | FileCheck %s --check-prefix=M
// The same beside a library, whose name is that of the file.
// RUN: kv-compile %s -o %t-paged.so
// RUN: FileCheck %s --check-prefix=FILE-H --input-file=%t-paged.h
// RUN: FileCheck %s --check-prefix=FILE-M --input-file=%t-paged.json

!strided = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = ? mult 16], align = 32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!rows = memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>>

// H:      #ifndef KV_PAGED_H
// H-NEXT: #define KV_PAGED_H
// H:      #define KV_ABI_VERSION 1
// H:      const char *kv1_paged_last_error(void);
// H:      const char *kv1_paged_manifest(void);
// H:      void kv1_paged_set_parallel_for(kv_parallel_for *run, void *user);
// H:      void kv1_paged_set_thread_count(int64_t count);

// FILE-H: int32_t kv1_insert(
// FILE-M: "abi_version": 1,
// FILE-M: "target": "cpu",
// FILE-M: "cpu": "x86-64-v3",

// H:      cache: bf16 [2, ?, 16, 8, 128], written
// H-NEXT:   !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16,
// H-NEXT: arg1: i64 [n0], read
// H:      key: bf16 [n0, 8, 128], read
// H:      the_values: bf16 [n0, 8, 128], read
// H:      class: i32
// H:      x.y: f32
// M:      "abi_version": 1,
// M-NEXT: "library": "paged",
// M-NEXT: "target": "sm_90a",
// M-NEXT: "cpu": "x86-64-v3",
// M:      "name": "insert",
// M-NEXT: "symbol": "kv1_insert",
// M-NEXT: "arguments": [

// M:      "name": "cache",
// M-NEXT: "type": "!kvcache.cache<
// M-NEXT: "kind": "tensor",
// M-NEXT: "element_type": "bf16",
// M-NEXT: "dtype": "bfloat16",
// M-NEXT: "dlpack_code": 4,
// M-NEXT: "element_bits": 16,
// M-NEXT: "align": 32,
// M-NEXT: "device": "cuda",
// M-NEXT: "access": "write",

// Which axis each dimension of a pool is, and their order in memory; what of one
// block is contiguous, and which axes go through the rest of it.
// M-NEXT: "axes": [
// M-NEXT: "S",
// M-NEXT: "B",
// M-NEXT: "N",
// M-NEXT: "H",
// M-NEXT: "D"
// M-NEXT: ],
// M-NEXT: "order": [
// M-NEXT: "S",
// M-NEXT: "B",
// M-NEXT: "N",
// M-NEXT: "H",
// M-NEXT: "D"
// M-NEXT: ],
// M-NEXT: "block": {
// M-NEXT: "run_bytes": 32768,
// M-NEXT: "loops": [
// M-NEXT: "S"
// M-NEXT: ]
// M-NEXT: },
// M-NEXT: "dims": [
// M:      "extent": 2,
// M-NEXT: "stride": "compact",
// M-NEXT: "next_faster": 1
// M:      "extent": "any",
// M-NEXT: "stride": "any",
// M-NEXT: "stride_multiple": 16
// M:      "extent": 16,
// M-NEXT: "stride": "compact",
// M-NEXT: "next_faster": 3

// A number is no name.
// M:      "name": "arg1",
// M:      "align": 8,
// M:      "access": "read",
// M:      "extent": "any",
// M-NEXT: "equal": 0,
// M-NEXT: "stride": "compact",
// M-NEXT: "next_faster": -1

// M:      "name": "key",
// M:      "align": 16,
// M:      "extent": "any",
// M-NEXT: "equal": 0,
// M-NEXT: "stride": "any",
// M-NEXT: "stride_multiple": 8
// M:      "extent": 8,
// M-NEXT: "stride": 128

// M:      "name": "the_values",
// M:      "align": 4,
// M:      "equal": 0,
// M-NEXT: "stride": "any",
// M-NEXT: "stride_multiple": 2

// M:      "name": "class",
// M-NEXT: "type": "i32",
// M-NEXT: "kind": "int"
// M:      "name": "x.y",
// M-NEXT: "type": "f32",
// M-NEXT: "kind": "float"
// M-NEXT: }
func.func @insert(%cache: !strided, %0: tensor<?xi64>, %key: !rows,
                  %value: !rows {kvcache.name = "the_values",
                                 kvcache.align = 4 : i64},
                  %class: i32, %x.y: f32) {
  %where = kvcache.make_slots %0 : tensor<?xi64> to !slots
  kvcache.index_copy %key, %value into %cache at %where
    : !rows, !rows into !strided at !slots
  return
}
// H:      int32_t kv1_insert(DLTensor *cache, DLTensor *arg1, DLTensor *key,
// H-SAME: DLTensor *the_values, int64_t class_, double x_y, void *workspace,
// H-NEXT:     int64_t workspace_bytes, void *stream);
// H:      int64_t kv1_insert_workspace_size(DLTensor *cache, DLTensor *arg1,
// H-SAME: DLTensor *key, DLTensor *the_values, int64_t class_, double x_y);

// A pinned pool stays on the host, whatever the target is.
// M:      "name": "host"
// M:      "device": "cpu",
func.func @hosted(%host: !kvcache.cache<?B x 16N x 64D x f32, space = host>) {
  return
}

// A private function is no entry.
// H-NOT: helper
// M-NOT: helper
func.func private @helper(%n: index) {
  return
}
