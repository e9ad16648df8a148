// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Each operation gets one remark that says what its facts gave, in the order of
// the IR, whether or not passes run in parallel.
//
// RUN: kv-opt %s --convert-kvcache-to-gpu --remark-format=emitRemark --remarks-filter='.*' -o /dev/null 2>&1 | FileCheck %s --implicit-check-not=remark:
// RUN: kv-opt %s --convert-kvcache-to-gpu --remark-format=emitRemark --remarks-filter='.*' --mlir-disable-threading -o /dev/null 2>&1 | FileCheck %s --implicit-check-not=remark:
//
// Remarks of another category are not asked for.
// RUN: kv-opt %s --convert-kvcache-to-gpu --remark-format=emitRemark --remarks-filter=other -o /dev/null 2>&1 | count 0

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!flat = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!hnd = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, N, D]>
!odd = !kvcache.cache<?B x 16N x 37D x f16>

func.func @first(%flat: !flat, %hnd: !hnd, %rows: memref<?x8x128xbf16>, %s: !slots) {
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] index-copy | Category:kvcache | Remark="rows of 2048 bytes in runs of 2048, accesses of 16 bytes, flat addressing"
  kvcache.index_copy %rows into %flat at %s : memref<?x8x128xbf16> into !flat at !slots
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] index-copy | Category:kvcache | Remark="rows of 2048 bytes in runs of 256, accesses of 16 bytes, block and offset addressing"
  kvcache.index_copy %rows into %hnd at %s : memref<?x8x128xbf16> into !hnd at !slots
  return
}

func.func @second(%odd: !odd, %rows: memref<?x37xf16>, %s: !slots) {
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] index-copy | Category:kvcache | Remark="rows of 74 bytes in runs of 74, accesses of 2 bytes, flat addressing"
  kvcache.index_copy %rows into %odd at %s : memref<?x37xf16> into !odd at !slots
  return
}

func.func private @third(%flat: !flat, %rows: memref<?x8x128xbf16>, %s: !slots) {
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] index-copy | Category:kvcache | Remark="rows of 2048 bytes in runs of 2048, accesses of 16 bytes, flat addressing"
  kvcache.index_copy %rows into %flat at %s : memref<?x8x128xbf16> into !flat at !slots
  return
}

!hdn = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, D, N]>
!host = !kvcache.cache<?B x 16N x 8H x 128D x bf16, space = host>

func.func @blocks(%flat: !flat, %hnd: !hnd, %hdn: !hdn, %host: !host, %rows: memref<?x8x128xbf16>, %s: !slots, %n: memref<?xi64>, %pairs: memref<?x2xi64>) {
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] scatter | Category:kvcache | Remark="rows of 2048 bytes in runs of 2048, accesses of 16 bytes, block and offset addressing"
  kvcache.scatter %rows into %flat at %n, %n pad = skip_negative : memref<?x8x128xbf16> into !flat at memref<?xi64>, memref<?xi64>
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] gather | Category:kvcache | Remark="rows of 2048 bytes in runs of 2048, accesses of 16 bytes, flat addressing"
  kvcache.gather %flat at %s into %rows : !flat at !slots into memref<?x8x128xbf16>
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] relayout | Category:kvcache | Remark="items of 32768 bytes in runs of 256, accesses of 16 bytes"
  kvcache.relayout %flat into %hnd : !flat into !hnd
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] relayout | Category:kvcache | Remark="items of 32768 bytes in runs of 2, tiles of 4096 bytes in shared memory, reads of 16 bytes, writes of 16"
  kvcache.relayout %flat into %hdn : !flat into !hdn
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] copy-blocks | Category:kvcache | Remark="items of 32768 bytes in runs of 32768, accesses of 16 bytes"
  kvcache.copy_blocks %hdn at %pairs : !hdn at memref<?x2xi64>
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] clear-blocks | Category:kvcache | Remark="items of 32768 bytes in runs of 32768, accesses of 16 bytes"
  kvcache.clear_blocks %hdn at %n : !hdn at memref<?xi64>
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] transfer | Category:kvcache | Remark="items of 32768 bytes in runs of 32768, accesses of 16 bytes, over the link on 16 blocks of threads"
  kvcache.transfer %flat to %host at %pairs : !flat to !host at memref<?x2xi64>
  return
}

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!q = memref<?x16x128xbf16>
!f32 = !kvcache.cache<?B x 16N x 8H x 128D x f32>
!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?], align = 2>

func.func @attention(%q: !q, %k: !hnd, %v: !flat, %any: !any, %f: !f32, %x: memref<?x16x128xf32>, %b: !batch) {
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] attention | Category:kvcache | Remark="matrix products of 8 columns, 8 warps, 4 slots; keys and values come in boxes of a tensor map; of many rows, products of 192 rows, 5 slots"
  kvcache.attention %q over %k, %v in %b into %q causal : !q over !hnd, !flat in !batch into !q
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] attention | Category:kvcache | Remark="matrix products of 8 columns, 8 warps, 4 slots; keys and values come in rows; of many rows, products of 224 rows by warps, 8 slots of 64 keys"
  kvcache.attention %q over %k, %any in %b into %q causal : !q over !hnd, !any in !batch into !q
  // CHECK: remarks.mlir:[[@LINE+1]]:3: remark: [Analysis] attention | Category:kvcache | Remark="a row and a query head for each block of threads"
  kvcache.attention %x over %f, %f in %b into %x causal : memref<?x16x128xf32> over !f32, !f32 in !batch into memref<?x16x128xf32>
  return
}
