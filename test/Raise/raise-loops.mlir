// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loops that store rows. test/numerics/raise_loops.py runs more of them, as they
// are and raised.
//
// RUN: kv-opt %s --kvcache-raise=last-row-wins | FileCheck %s
//
// A loop in sequence needs a word on slots that are named twice.
// RUN: kv-opt %s --kvcache-raise | FileCheck %s --check-prefix=DEFAULT

// CHECK-DAG: !kv_slots = !kvcache.slots<7T x i64, rows_per_block = 16, pad = none>
// CHECK-DAG: !kv_slots1 = !kvcache.slots<?T x i32, rows_per_block = 16, pad = none>
// CHECK-DAG: !kv_slots2 = !kvcache.slots<7T x i32, rows_per_block = 16, pad = skip_negative>

// CHECK-LABEL: func.func @gen(
// CHECK-SAME: %[[SLOTS:.*]]: memref<7xi64>, %[[ROWS:.*]]: memref<7x8x128xf32>, %[[POOL:.*]]: memref<64x16x8x128xf32> {kvcache.noalias})
// CHECK-NEXT: %[[C:.*]] = kvcache.view %[[POOL]][B, N, H, D]
// CHECK-NEXT: %[[S:.*]] = kvcache.make_slots %[[SLOTS]] : memref<7xi64> to !kv_slots{{$}}
// CHECK-NEXT: kvcache.index_copy %[[ROWS]] into %[[C]] at %[[S]]
// CHECK-NEXT: return
func.func @gen(%slots: memref<7xi64>, %rows: memref<7x8x128xf32>, %pool: memref<64x16x8x128xf32> {kvcache.noalias}) {
  %c16 = arith.constant 16 : i64
  linalg.generic {indexing_maps = [affine_map<(t,h,d)->(t)>, affine_map<(t,h,d)->(t,h,d)>], iterator_types=["parallel","parallel","parallel"]} ins(%slots, %rows: memref<7xi64>, memref<7x8x128xf32>) {
  ^bb0(%s: i64, %r: f32):
    %b = arith.divsi %s, %c16 : i64
    %n = arith.remsi %s, %c16 : i64
    %bi = arith.index_cast %b : i64 to index
    %ni = arith.index_cast %n : i64 to index
    %h = linalg.index 1 : index
    %d = linalg.index 2 : index
    memref.store %r, %pool[%bi, %ni, %h, %d] : memref<64x16x8x128xf32>
    linalg.yield
  }
  return
}

// The pool of all layers: the slice and the transpose become names of axes and a
// view of the layer. There may be more rows than slots.

// CHECK-LABEL: func.func @parallel(
// CHECK-SAME: %[[SLOTS:.*]]: memref<?xi32>, %[[ROWS:.*]]: memref<?x8x128xf32>, %[[POOL:.*]]: memref<?x32x8x16x128xf32> {kvcache.noalias}, %[[L:.*]]: index)
// CHECK: %[[T:.*]] = memref.dim %[[SLOTS]]
// CHECK: %[[N:.*]] = arith.maxsi %[[T]]
// CHECK: %[[FIRST:.*]] = memref.subview %[[ROWS]][0, 0, 0] [%[[N]], 8, 128] [1, 1, 1]
// CHECK-NEXT: %[[ALL:.*]] = kvcache.view %[[POOL]][B, L, H, N, D] : memref<?x32x8x16x128xf32> to !kv_cross_hnd
// CHECK-NEXT: %[[C:.*]] = kvcache.layer %[[ALL]][%[[L]]]
// CHECK-NEXT: %[[S:.*]] = kvcache.make_slots %[[SLOTS]] : memref<?xi32> to !kv_slots1
// CHECK-NEXT: kvcache.index_copy %[[FIRST]] into %[[C]] at %[[S]]
// CHECK-NEXT: return
func.func @parallel(%slots: memref<?xi32>, %rows: memref<?x8x128xf32>, %pool: memref<?x32x8x16x128xf32> {kvcache.noalias}, %l: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %c128 = arith.constant 128 : index
  %c4 = arith.constant 4 : i32
  %c15 = arith.constant 15 : i32
  %z = arith.constant 0 : i32
  %B = memref.dim %pool, %c0 : memref<?x32x8x16x128xf32>
  %layer = memref.subview %pool[0, %l, 0, 0, 0] [%B, 1, 8, 16, 128] [1, 1, 1, 1, 1] : memref<?x32x8x16x128xf32> to memref<?x8x16x128xf32, strided<[524288, 2048, 128, 1], offset: ?>>
  %t = memref.transpose %layer (b, h, n, d) -> (b, n, h, d) : memref<?x8x16x128xf32, strided<[524288, 2048, 128, 1], offset: ?>> to memref<?x16x8x128xf32, strided<[524288, 128, 2048, 1], offset: ?>>
  %T = memref.dim %slots, %c0 : memref<?xi32>
  scf.parallel (%i) = (%c0) to (%T) step (%c1) {
    %s = memref.load %slots[%i] : memref<?xi32>
    %b = arith.shrsi %s, %c4 : i32
      %n = arith.andi %s, %c15 : i32
      %bi = arith.index_cast %b : i32 to index
      %ni = arith.index_cast %n : i32 to index
      scf.for %h = %c0 to %c8 step %c1 {
        scf.for %d = %c0 to %c128 step %c1 {
          %r = memref.load %rows[%i, %h, %d] : memref<?x8x128xf32>
          memref.store %r, %t[%bi, %ni, %h, %d] : memref<?x16x8x128xf32, strided<[524288, 128, 2048, 1], offset: ?>>
        }
    }
    scf.reduce
  }
  return
}

// A test for padding is what the slots say.

// CHECK-LABEL: func.func @guarded(
// CHECK-NOT: scf
// CHECK: %[[S:.*]] = kvcache.make_slots %{{.*}} : memref<7xi32> to !kv_slots2
// CHECK-NEXT: kvcache.index_copy %{{.*}} at %[[S]]
// CHECK-NEXT: return
// DEFAULT-LABEL: func.func @guarded(
// DEFAULT: scf.for
// DEFAULT: memref.store
func.func @guarded(%slots: memref<7xi32>, %rows: memref<7x8x128xf32>, %pool: memref<?x16x8x128xf32> {kvcache.noalias}) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c7 = arith.constant 7 : index
  %c8 = arith.constant 8 : index
  %c128 = arith.constant 128 : index
  %c16 = arith.constant 16 : i32
  %z = arith.constant 0 : i32
  scf.for %i = %c0 to %c7 step %c1 {
    %s = memref.load %slots[%i] : memref<7xi32>
    %ok = arith.cmpi sge, %s, %z : i32
    scf.if %ok {
      %b = arith.divsi %s, %c16 : i32
      %n = arith.remsi %s, %c16 : i32
      %bi = arith.index_cast %b : i32 to index
      %ni = arith.index_cast %n : i32 to index
      scf.for %h = %c0 to %c8 step %c1 {
        scf.for %d = %c0 to %c128 step %c1 {
          %r = memref.load %rows[%i, %h, %d] : memref<7x8x128xf32>
          memref.store %r, %pool[%bi, %ni, %h, %d] : memref<?x16x8x128xf32>
        }
      }
    }
  }
  return
}

// A loop over layers is around it.

// CHECK-LABEL: func.func @layers(
// CHECK: scf.for %[[L:.*]] =
// CHECK-NEXT: %[[ALL:.*]] = kvcache.view %{{.*}}[L, B, N, D]
// CHECK-NEXT: %[[C:.*]] = kvcache.layer %[[ALL]][%[[L]]]
// CHECK-NEXT: %[[S:.*]] = kvcache.make_slots
// CHECK-NEXT: kvcache.index_copy %{{.*}} into %[[C]] at %[[S]]
// CHECK-NEXT: }
func.func @layers(%pool: memref<4x?x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %B = memref.dim %pool, %c1 : memref<4x?x16x64xf32>
  scf.for %l = %c0 to %c4 step %c1 {
    %layer = memref.subview %pool[%l, 0, 0, 0] [1, %B, 16, 64] [1, 1, 1, 1] : memref<4x?x16x64xf32> to memref<?x16x64xf32, strided<[1024, 64, 1], offset: ?>>
    scf.parallel (%t, %d) = (%c0, %c0) to (%c5, %c64) step (%c1, %c1) {
      %s = memref.load %slots[%t] : memref<5xi64>
      %b = arith.divsi %s, %n : i64
      %o = arith.remsi %s, %n : i64
      %bi = arith.index_cast %b : i64 to index
      %oi = arith.index_cast %o : i64 to index
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %layer[%bi, %oi, %d] : memref<?x16x64xf32, strided<[1024, 64, 1], offset: ?>>
      scf.reduce
    }
  }
  return
}

// What else is in the loop goes with it, also what would be looked at by itself.

// CHECK-LABEL: func.func @more_in_the_loop(
// CHECK: kvcache.index_copy
// CHECK-NOT: scf.for
// CHECK: return
// DEFAULT-LABEL: func.func @more_in_the_loop(
// DEFAULT: scf.for
func.func @more_in_the_loop(%slots: memref<7xi64>, %rows: memref<7x8x128xf32>, %pool: memref<1024x8x128xf32> {kvcache.noalias}, %more: memref<?x16x8x128xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c7 = arith.constant 7 : index
  %c8 = arith.constant 8 : index
  %c128 = arith.constant 128 : index
  scf.for %i = %c0 to %c7 step %c1 {
    %unused = kvcache.view %more : memref<?x16x8x128xf32> to !kvcache.cache<?B x 16N x 8H x 128D x f32>
    %slot = memref.load %slots[%i] : memref<7xi64>
    %at = arith.index_cast %slot : i64 to index
    scf.for %h = %c0 to %c8 step %c1 {
      scf.for %d = %c0 to %c128 step %c1 {
        %x = memref.load %rows[%i, %h, %d] : memref<7x8x128xf32>
        memref.store %x, %pool[%at, %h, %d] : memref<1024x8x128xf32>
      }
    }
  }
  return
}
