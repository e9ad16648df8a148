// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --split-input-file --kvcache-fuse-rows | FileCheck %s
// RUN: kv-opt %s --split-input-file --kvcache-fuse-rows --remark-format=emitRemark --remarks-filter=.* 2>&1 >/dev/null | FileCheck %s --check-prefix=REMARK

!rows = memref<?x8x128xbf16>
!query = memref<?x32x128xbf16>
!table = memref<?x128xf32>
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!slots = !kvcache.slots<?T x i32, rows_per_block = 16, pad = skip_negative>

// Chains of steps, a write and a query, which do not overlap.

// REMARK: [Passed] fuse-rows | Category:kvcache | Remark="one launch: normalize, rotate, rotate, index_copy"
// CHECK-LABEL: func.func @one_launch(
// CHECK-NOT: memref.alloc
// CHECK: kvcache.fuse {
// CHECK-NEXT: %[[A:.*]] = memref.alloc(%{{.*}})
// CHECK-NEXT: kvcache.normalize %{{.*}} into %[[A]]
// CHECK-NEXT: %[[B:.*]] = memref.alloc(%{{.*}})
// CHECK-NEXT: kvcache.rotate %[[A]] by %{{.*}} into %[[B]]
// CHECK-NEXT: kvcache.rotate %{{.*}} into %{{.*}}
// CHECK-NEXT: kvcache.index_copy %[[B]], %
// CHECK-NEXT: }
// CHECK-NEXT: return
func.func @one_launch(%q: !query, %k: !rows, %v: !rows, %w: memref<128xbf16>,
                      %table: !table, %p: memref<?xi32>,
                      %cache: !kv {kvcache.noalias}, %slots: !slots,
                      %out: !query {kvcache.noalias}) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %k, %c0 : !rows
  %a = memref.alloc(%t) : !rows
  %b = memref.alloc(%t) : !rows
  kvcache.normalize %k by %w into %a epsilon 1.0e-06
    : !rows by memref<128xbf16> into !rows
  kvcache.rotate %a by %table at %p into %b
    : !rows by !table at memref<?xi32> into !rows
  kvcache.rotate %q by %table at %p into %out
    : !query by !table at memref<?xi32> into !query
  kvcache.index_copy %b, %v into %cache at %slots
    : !rows, !rows into !kv at !slots
  return
}

// The cache may be the memory of the query, so that its write is not moved
// after it, and has its own launch.

// REMARK: 'rotate' is not in the launch of 'rotate': one may write what the other one accesses, argument #1 and argument #6
// CHECK-LABEL: func.func @may_overlap(
// CHECK: kvcache.fuse {
// CHECK: memref.alloc
// CHECK-NEXT: kvcache.rotate %arg1
// CHECK-NEXT: kvcache.index_copy
// CHECK-NEXT: }
// CHECK-NEXT: kvcache.rotate %arg0
// CHECK-NEXT: return
func.func @may_overlap(%q: !query, %k: !rows, %v: !rows, %table: !table,
                       %cache: !kv {kvcache.noalias}, %slots: !slots,
                       %out: !query) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %k, %c0 : !rows
  %a = memref.alloc(%t) : !rows
  kvcache.rotate %k by %table into %a : !rows by !table into !rows
  kvcache.index_copy %a, %v into %cache at %slots
    : !rows, !rows into !kv at !slots
  kvcache.rotate %q by %table into %out : !query by !table into !query
  return
}

// A step cannot move past an operation that may write its rows.

// CHECK-LABEL: func.func @in_between(
// CHECK-NOT: kvcache.fuse
// CHECK: return
func.func @in_between(%q: !query, %k: !rows, %v: !rows, %table: !table,
                      %cache: !kv {kvcache.noalias}, %slots: !slots,
                      %out: !query) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %k, %c0 : !rows
  %a = memref.alloc(%t) : !rows
  kvcache.rotate %k by %table into %a : !rows by !table into !rows
  kvcache.rotate %q by %table into %out : !query by !table into !query
  kvcache.index_copy %a, %v into %cache at %slots
    : !rows, !rows into !kv at !slots
  return
}

// The step reads its rows where other ones are written already.

// REMARK: 'index_copy' is not in the launch of 'rotate': one may write what the other one accesses, argument #0 and argument #3
// CHECK-LABEL: func.func @late(
// CHECK-NOT: kvcache.fuse
// CHECK: return
func.func @late(%k: !rows, %v: !rows, %table: !table {kvcache.noalias},
                %cache: !kv, %slots: !slots) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %k, %c0 : !rows
  %a = memref.alloc(%t) : !rows
  kvcache.rotate %k by %table into %a : !rows by !table into !rows
  kvcache.index_copy %a, %v into %cache at %slots
    : !rows, !rows into !kv at !slots
  return
}

// In place, of a whole chain.

// CHECK-LABEL: func.func @chain_in_place(
// CHECK: kvcache.fuse {
// CHECK-NEXT: memref.alloc
// CHECK-NEXT: kvcache.normalize %arg0
// CHECK-NEXT: kvcache.rotate %{{.*}} into %arg0
// CHECK-NEXT: }
func.func @chain_in_place(%q: !query {kvcache.noalias}, %table: !table) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %q, %c0 : !query
  %a = memref.alloc(%t) : !query
  kvcache.normalize %q into %a epsilon 1.0e-06 : !query into !query
  kvcache.rotate %a by %table into %q : !query by !table into !query
  return
}

// Nothing else that accesses memory is passed.

// CHECK-LABEL: func.func @other_memory(
// CHECK-NOT: kvcache.fuse
// CHECK: return
func.func @other_memory(%k: !rows, %v: !rows, %table: !table, %cache: !kv,
                        %slots: !slots, %n: memref<index>) -> index {
  %c0 = arith.constant 0 : index
  %t = memref.dim %k, %c0 : !rows
  %a = memref.alloc(%t) : !rows
  kvcache.rotate %k by %table into %a : !rows by !table into !rows
  %read = memref.load %n[] : memref<index>
  kvcache.index_copy %a, %v into %cache at %slots
    : !rows, !rows into !kv at !slots
  return %read : index
}

// What is read twice, or by something else, is stored.

// CHECK-LABEL: func.func @read_twice(
// CHECK-NOT: kvcache.fuse
// CHECK: return
func.func @read_twice(%k: !rows, %table: !table, %cache: !kv, %slots: !slots) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %k, %c0 : !rows
  %a = memref.alloc(%t) : !rows
  kvcache.rotate %k by %table into %a : !rows by !table into !rows
  kvcache.index_copy %a, %a into %cache at %slots
    : !rows, !rows into !kv at !slots
  return
}
// CHECK-LABEL: func.func @is_an_argument(
// CHECK-NOT: kvcache.fuse
// CHECK: return
func.func @is_an_argument(%k: !rows, %v: !rows, %table: !table, %cache: !kv,
                          %slots: !slots, %a: !rows {kvcache.noalias}) {
  kvcache.rotate %k by %table into %a : !rows by !table into !rows
  kvcache.index_copy %a, %v into %cache at %slots
    : !rows, !rows into !kv at !slots
  return
}

// Steps alone, and writes alone.

// CHECK-LABEL: func.func @steps_alone(
// CHECK: kvcache.fuse {
// CHECK-NEXT: kvcache.normalize
// CHECK-NEXT: kvcache.normalize
// CHECK-NEXT: }
func.func @steps_alone(%k: !rows, %v: !rows, %a: !rows {kvcache.noalias},
                       %b: !rows {kvcache.noalias}) {
  kvcache.normalize %k into %a epsilon 1.0e-06 : !rows into !rows
  kvcache.normalize %v into %b epsilon 1.0e-06 : !rows into !rows
  return
}
// CHECK-LABEL: func.func @writes_alone(
// CHECK-NOT: kvcache.fuse
// CHECK: return
func.func @writes_alone(%k: !rows, %v: !rows, %a: !kv {kvcache.noalias},
                        %b: !kv {kvcache.noalias}, %slots: !slots) {
  kvcache.index_copy %k, %v into %a at %slots
    : !rows, !rows into !kv at !slots
  kvcache.index_copy %k, %v into %b at %slots
    : !rows, !rows into !kv at !slots
  return
}

// A step in place is one on its own. The one after it reads what it writes.

// CHECK-LABEL: func.func @in_place(
// CHECK-NOT: kvcache.fuse
// CHECK: return
func.func @in_place(%k: !rows, %v: !rows, %table: !table,
                    %cache: !kv {kvcache.noalias}, %slots: !slots) {
  kvcache.rotate %k by %table into %k : !rows by !table into !rows
  kvcache.index_copy %k, %v into %cache at %slots
    : !rows, !rows into !kv at !slots
  return
}

// At most eight results.

// CHECK-LABEL: func.func @many(
// CHECK-COUNT-8: kvcache.normalize
// CHECK-NEXT: }
// CHECK-NEXT: kvcache.normalize
// CHECK-NEXT: return
func.func @many(%k: !rows, %a: !rows {kvcache.noalias},
    %b: !rows {kvcache.noalias}, %c: !rows {kvcache.noalias},
    %d: !rows {kvcache.noalias}, %e: !rows {kvcache.noalias},
    %f: !rows {kvcache.noalias}, %g: !rows {kvcache.noalias},
    %h: !rows {kvcache.noalias}, %i: !rows {kvcache.noalias}) {
  kvcache.normalize %k into %a epsilon 1.0e-06 : !rows into !rows
  kvcache.normalize %k into %b epsilon 1.0e-06 : !rows into !rows
  kvcache.normalize %k into %c epsilon 1.0e-06 : !rows into !rows
  kvcache.normalize %k into %d epsilon 1.0e-06 : !rows into !rows
  kvcache.normalize %k into %e epsilon 1.0e-06 : !rows into !rows
  kvcache.normalize %k into %f epsilon 1.0e-06 : !rows into !rows
  kvcache.normalize %k into %g epsilon 1.0e-06 : !rows into !rows
  kvcache.normalize %k into %h epsilon 1.0e-06 : !rows into !rows
  kvcache.normalize %k into %i epsilon 1.0e-06 : !rows into !rows
  return
}

// -----

!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i32, rows_per_block = 16, pad = skip_negative>
!stored = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.stored<i8>>
!shared = !kvcache.cache<2S x ?B x 16N x 1H x 1D x f32>

// A scale of several heads is found by one unit of them all.

// REMARK: 'index_copy' is not in the launch of the steps before it: one scale for each head is expected
// CHECK-LABEL: func.func @shared_scales(
// CHECK-NOT: kvcache.fuse
// CHECK: return
func.func @shared_scales(%k: !rows, %v: !rows, %table: memref<?x128xf32>,
                         %cache: !stored, %scales: !shared, %slots: !slots) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %k, %c0 : !rows
  %a = memref.alloc(%t) : !rows
  kvcache.rotate %k by %table into %a
    : !rows by memref<?x128xf32> into !rows
  kvcache.index_copy %a, %v into %cache scales(%scales : !shared) at %slots
    : !rows, !rows into !stored at !slots
  return
}

// -----

!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i32, rows_per_block = 16, pad = skip_negative>
!stored = !kvcache.cache<?B x 16N x 8H x 128D x !kvcache.stored<i8>>
!given = !kvcache.cache<1B x 1N x 1H x 1D x f32, access = read>

// One that is given is read by each head, and by both writes.

// CHECK-LABEL: func.func @given_scales(
// CHECK: kvcache.fuse {
// CHECK-NEXT: memref.alloc
// CHECK-NEXT: kvcache.rotate
// CHECK-NEXT: kvcache.index_copy
// CHECK-NEXT: kvcache.index_copy
// CHECK-NEXT: }
// CHECK-NEXT: return
func.func @given_scales(%k: !rows, %v: !rows, %table: memref<?x128xf32>,
                        %keys: !stored {kvcache.noalias},
                        %values: !stored {kvcache.noalias}, %scales: !given,
                        %slots: !slots) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %k, %c0 : !rows
  %a = memref.alloc(%t) : !rows
  kvcache.rotate %k by %table into %a
    : !rows by memref<?x128xf32> into !rows
  kvcache.index_copy %a into %keys scales(%scales : !given) at %slots
    : !rows into !stored at !slots
  kvcache.index_copy %v into %values scales(%scales : !given) at %slots
    : !rows into !stored at !slots
  return
}

// -----

!rows = memref<?x8x128xbf16>
!slots = !kvcache.slots<?T x i32, rows_per_block = 16, pad = skip_negative>
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>

// A thread has both channels of a pair. The rotations alone are one launch.

// REMARK: 'index_copy' is not in the launch of the steps before it: rotations of the same channels are expected
// CHECK-LABEL: func.func @two_rotations(
// CHECK: kvcache.fuse {
// CHECK-NEXT: kvcache.rotate
// CHECK-NEXT: kvcache.rotate
// CHECK-NEXT: }
// CHECK-NEXT: kvcache.index_copy
func.func @two_rotations(%k: !rows, %v: !rows, %table: memref<?x128xf32>,
                         %other: memref<?x64xf32>, %cache: !kv,
                         %slots: !slots) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %k, %c0 : !rows
  %a = memref.alloc(%t) : !rows
  %b = memref.alloc(%t) : !rows
  kvcache.rotate %k by %table into %a : !rows by memref<?x128xf32> into !rows
  kvcache.rotate %v by %other into %b : !rows by memref<?x64xf32> into !rows
  kvcache.index_copy %a, %b into %cache at %slots
    : !rows, !rows into !kv at !slots
  return
}

// -----

!x = memref<?x64xf32>

// What is written in place is the table of the rotation, too.

// REMARK: 'normalize' is not in the launch of 'rotate': one may write what the other one accesses
// CHECK-LABEL: func.func @table_in_place(
// CHECK-NOT: kvcache.fuse
// CHECK: return
func.func @table_in_place(%x: !x {kvcache.noalias}, %p: memref<?xi32>) {
  %c0 = arith.constant 0 : index
  %t = memref.dim %x, %c0 : !x
  %a = memref.alloc(%t) : !x
  kvcache.rotate %x by %x at %p into %a : !x by !x at memref<?xi32> into !x
  kvcache.normalize %a into %x epsilon 1.0e-06 : !x into !x
  return
}

// -----

!rows = memref<?x8x128xbf16>

// A buffer of a known size, behind a cast.

// CHECK-LABEL: func.func @cast(
// CHECK: kvcache.fuse {
// CHECK-NEXT: %[[A:.*]] = memref.alloc() : memref<4x8x128xbf16>
// CHECK-NEXT: memref.cast %[[A]]
// CHECK-NEXT: kvcache.rotate
// CHECK-NEXT: kvcache.normalize
// CHECK-NEXT: }
func.func @cast(%k: !rows, %table: memref<?x128xf32>, %out: !rows {kvcache.noalias}) {
  %four = memref.alloc() : memref<4x8x128xbf16>
  %a = memref.cast %four : memref<4x8x128xbf16> to !rows
  kvcache.rotate %k by %table into %a : !rows by memref<?x128xf32> into !rows
  kvcache.normalize %a into %out epsilon 1.0e-06 : !rows into !rows
  return
}
