// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// All layout passes in order: a loop of another compiler is raised, a transposed
// memref becomes names, divided slots become one number, and what only a call
// knows gets variants.
//
// RUN: kv-opt %s --kvcache-optimize | FileCheck %s
// RUN: kv-opt %s --kvcache-optimize=target=gpu | FileCheck %s --check-prefix=GPU
// RUN: kv-opt %s --kvcache-optimize="target=gpu max-variants=1" | FileCheck %s --check-prefix=ONE
//
// Remarks are the same from run to run, on one thread and on several.
// RUN: kv-opt %s --kvcache-optimize --remark-format=emitRemark --remarks-filter=kvcache -o /dev/null > %t.1 2>&1
// RUN: kv-opt %s --kvcache-optimize --remark-format=emitRemark --remarks-filter=kvcache -o /dev/null > %t.2 2>&1
// RUN: kv-opt %s --kvcache-optimize --remark-format=emitRemark --remarks-filter=kvcache -o /dev/null --mlir-disable-threading > %t.3 2>&1
// RUN: diff %t.1 %t.2 && diff %t.1 %t.3
// RUN: FileCheck %s --check-prefix=REMARK < %t.1
//
// What the other compilers emit, from end to end; test/numerics/raise_hosts.py
// runs it.
// RUN: kv-opt %S/../Raise/Inputs/iree_index_put.mlir --allow-unregistered-dialect --kvcache-optimize=standalone | FileCheck %s --check-prefix=PUT
// RUN: kv-opt %S/../Raise/Inputs/iree_hnd.mlir --allow-unregistered-dialect --kvcache-optimize=standalone | FileCheck %s --check-prefix=HND
// RUN: kv-opt %S/../Raise/Inputs/iree_index_copy.mlir --allow-unregistered-dialect --kvcache-optimize=standalone | FileCheck %s --check-prefix=COPY

// PUT: func.func @index_put(
// PUT-NEXT: make_slots
// PUT-NEXT: view %arg0[B, N, H, D]
// PUT-NEXT: index_copy %arg1 into
// PUT-NEXT: return{{$}}

// HND: func.func @hnd(
// HND-NEXT: make_slots
// HND-NEXT: view %arg0[B, H, N, D]
// HND-NEXT: index_copy %arg1 into
// HND-NEXT: return{{$}}

// COPY: func.func @index_copy(
// COPY-NOT: alloc
// COPY-NOT: memref.copy
// COPY: kvcache.index_copy %arg1 into
// COPY: return{{$}}

!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
#id = affine_map<(t) -> (t)>

// CHECK-LABEL: func.func @loop(
// CHECK-NOT: scf.for
// CHECK: kvcache.index_copy %arg1 into
// CHECK: return
// REMARK: remark: [Passed] raise | Category:kvcache
func.func @loop(%pool: memref<1024x8x128xbf16> {kvcache.noalias}, %rows: memref<7x8x128xbf16>, %slots: memref<7xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c7 = arith.constant 7 : index
  %c8 = arith.constant 8 : index
  %c128 = arith.constant 128 : index
  scf.for %t = %c0 to %c7 step %c1 {
    %slot = memref.load %slots[%t] : memref<7xi64>
    %row = arith.index_cast %slot : i64 to index
    scf.for %h = %c0 to %c8 step %c1 {
      scf.for %d = %c0 to %c128 step %c1 {
        %x = memref.load %rows[%t, %h, %d] : memref<7x8x128xbf16>
        memref.store %x, %pool[%row, %h, %d] : memref<1024x8x128xbf16>
      }
    }
  }
  return
}

// CHECK-LABEL: func.func @transposed(
// CHECK-NOT: memref.transpose
// CHECK: kvcache.view %arg0[B, H, N, D]
// CHECK: return
func.func @transposed(%pool: memref<?x8x16x128xbf16>, %rows: memref<?x8x128xbf16>, %slots: !slots) {
  %nhd = memref.transpose %pool (b, h, n, d) -> (b, n, h, d)
    : memref<?x8x16x128xbf16> to memref<?x16x8x128xbf16, strided<[16384, 128, 2048, 1]>>
  %cache = kvcache.view %nhd[B, N, H, D] : memref<?x16x8x128xbf16, strided<[16384, 128, 2048, 1]>>
    to !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, N, D]>
  kvcache.index_copy %rows into %cache at %slots : memref<?x8x128xbf16>
    into !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, N, D]> at !slots
  return
}

// CHECK-LABEL: func.func @divided(
// CHECK-NOT: linalg.generic
// CHECK: trace "index_copy in line {{.*}}: strides are compact"
// CHECK: trace "index_copy in line {{.*}}: strides are multiples of 16"
// CHECK: trace "index_copy in line {{.*}}: any strides"
// CHECK-NOT: kvcache.scatter
// GPU-LABEL: func.func @divided(
// GPU: strides are compact
// GPU: strides are multiples of 16
// GPU: any strides
// ONE-LABEL: func.func @divided(
// ONE-NOT: has_facts
// ONE: kvcache.index_copy
// REMARK: remark: [Passed] scatter-to-index-copy | Category:kvcache
// REMARK: remark: [Passed] specialize-page-stride | Category:kvcache | Remark="3 variants: strides are compact; strides are multiples of 16; any strides"
func.func @divided(%pool: !any, %rows: tensor<?x8x128xbf16>, %slots: tensor<?xi64>) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : i64
  %n = tensor.dim %slots, %c0 : tensor<?xi64>
  %empty = tensor.empty(%n) : tensor<?xi64>
  %blocks, %offsets = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%slots : tensor<?xi64>) outs(%empty, %empty : tensor<?xi64>, tensor<?xi64>) {
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  } -> (tensor<?xi64>, tensor<?xi64>)
  kvcache.scatter %rows into %pool at %blocks, %offsets pad = skip_negative
    : tensor<?x8x128xbf16> into !any at tensor<?xi64>, tensor<?xi64>
  return
}
