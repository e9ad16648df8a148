// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-fold-permutes --split-input-file | FileCheck %s
// RUN: kv-opt %s --kvcache-fold-permutes -o /dev/null --split-input-file --remark-format=emitRemark --remarks-filter='.*' 2>&1 | FileCheck %s --check-prefix=REMARK --implicit-check-not=remark:
//
// Once more changes nothing.
// RUN: kv-opt %s --kvcache-fold-permutes --split-input-file > %t.once
// RUN: kv-opt %s --kvcache-fold-permutes --kvcache-fold-permutes --split-input-file | diff %t.once -

// A transposition in front of a cache is the names of dimensions.

!paired = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D]>

// CHECK-LABEL: func.func @transposed(
// CHECK-NEXT: %0 = kvcache.view %arg0[B, S, N, H, D] : memref<?x2x16x8x128xbf16> to !kv_nhd
// CHECK-NEXT: %1 = kvcache.stride %0[B]
// REMARK: remark: [Passed] fold-permutes | Category:kvcache | Remark="a transposition is the names of dimensions: [B, S, N, H, D]"
func.func @transposed(%pool: memref<?x2x16x8x128xbf16>) -> index {
  %hnd = memref.transpose %pool (b, s, n, h, d) -> (b, s, h, n, d)
    : memref<?x2x16x8x128xbf16> to memref<?x2x8x16x128xbf16, strided<[32768, 16384, 128, 1024, 1]>>
  %cache = kvcache.view %hnd[B, S, H, N, D]
    : memref<?x2x8x16x128xbf16, strided<[32768, 16384, 128, 1024, 1]>> to !paired
  %stride = kvcache.stride %cache[B] : !paired
  return %stride : index
}

// -----

// Two transpositions that undo each other vanish.

!paired = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D]>

// CHECK-LABEL: func.func @there_and_back(
// CHECK-NEXT: kvcache.view %arg0[B, S, N, H, D] : memref<?x2x16x8x128xbf16>
// CHECK-NOT: memref.transpose
// REMARK-COUNT-2: remark: [Passed] fold-permutes | Category:kvcache | Remark="a transposition is
func.func @there_and_back(%pool: memref<?x2x16x8x128xbf16>) -> index {
  %hnd = memref.transpose %pool (b, s, n, h, d) -> (b, s, h, n, d)
    : memref<?x2x16x8x128xbf16> to memref<?x2x8x16x128xbf16, strided<[32768, 16384, 128, 1024, 1]>>
  %nhd = memref.transpose %hnd (b, s, h, n, d) -> (b, s, n, h, d)
    : memref<?x2x8x16x128xbf16, strided<[32768, 16384, 128, 1024, 1]>> to memref<?x2x16x8x128xbf16, strided<[32768, 16384, 1024, 128, 1]>>
  %cache = kvcache.view %nhd[B, S, N, H, D]
    : memref<?x2x16x8x128xbf16, strided<[32768, 16384, 1024, 128, 1]>> to !paired
  %stride = kvcache.dim %cache[B] : !paired
  return %stride : index
}

// -----

// A cache, as memref, under a vaguer type, and as cache again.

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!any = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [S = ?, B = ?]>
!dyn = memref<2x?x16x8x128xbf16, strided<[?, ?, ?, ?, ?], offset: ?>>

// CHECK-LABEL: func.func @as_memref_and_back(
// CHECK-SAME: %[[C:.*]]: !kv_nhd)
// CHECK-NEXT: kvcache.dim %[[C]][B] : !kv_nhd
// CHECK-NEXT: return
func.func @as_memref_and_back(%cache: !kv) -> index {
  %m = kvcache.storage %cache
    : !kv to memref<2x?x16x8x128xbf16, strided<[?, 16384, 1024, 128, 1], offset: ?>>
  %v = memref.cast %m : memref<2x?x16x8x128xbf16, strided<[?, 16384, 1024, 128, 1], offset: ?>> to !dyn
  %again = kvcache.view %v : !dyn to !any
  %blocks = kvcache.dim %again[B] : !any
  return %blocks : index
}

// -----

// Rows that are flattened, and cut in blocks again.

!k = !kvcache.cache<?B x 16N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @flattened(
// CHECK-SAME: %[[C:.*]]: !kv_nhd
// CHECK-NEXT: kvcache.dim %[[C]][B] : !kv_nhd
// REMARK: remark: [Passed] fold-permutes | Category:kvcache | Remark="rows are cut in the blocks that they were"
func.func @flattened(%cache: !k, %n: index) -> index {
  %rows = kvcache.flatten %cache : !k
  %cut = memref.expand_shape %rows [[0, 1], [2], [3]] output_shape [%n, 16, 8, 128]
    : memref<?x8x128xbf16, strided<[1024, 128, 1], offset: ?>> into memref<?x16x8x128xbf16, strided<[16384, 1024, 128, 1], offset: ?>>
  %again = kvcache.view %cut : memref<?x16x8x128xbf16, strided<[16384, 1024, 128, 1], offset: ?>> to !k
  %blocks = kvcache.dim %again[B] : !k
  return %blocks : index
}

// -----

//===----------------------------------------------------------------------===//
// Facts
//===----------------------------------------------------------------------===//

// Strides that are given as constants and products, and the layer that is cut
// out.

!any = !kvcache.cache<?L x 2S x ?B x 16N x 8H x 128D x bf16, order = [B, L, S, N, H, D], strides = [B = ?]>

// CHECK: strides = [B = 2097152]
// CHECK-LABEL: func.func @constants(
// CHECK: %[[C:.*]] = kvcache.view %arg0 extents(B = %arg1) : memref<?xi8> to !kv_cross_nhd_strided
// CHECK: kvcache.layer %[[C]][%arg2] : !kv_cross_nhd_strided
func.func @constants(%bytes: memref<?xi8>, %n: index, %i: index) -> index {
  %stride = arith.constant 2097152 : index
  %layers = arith.constant 32 : index
  %pool = kvcache.view %bytes extents(L = %layers, B = %n) strides(B = %stride) : memref<?xi8> to !any
  %layer = kvcache.layer %pool[%i] : !any
  %side = kvcache.side %layer[0] : !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = ?]>
  %blocks = kvcache.dim %side[B] : !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>
  return %blocks : index
}

// -----

!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>

// CHECK: strides = [B = ? mult 16384]
// CHECK-LABEL: func.func @products(
// CHECK: kvcache.view %arg0 extents(B = %arg1) strides(B = %{{.*}}) : memref<?xi8> to !kv_nhd_strided
func.func @products(%bytes: memref<?xi8>, %n: index, %layers: index) -> index {
  %layer = arith.constant 16384 : index
  %stride = arith.muli %layers, %layer : index
  %pool = kvcache.view %bytes extents(B = %n) strides(B = %stride) : memref<?xi8> to !any
  %blocks = kvcache.dim %pool[B] : !any
  return %blocks : index
}

// -----

// The strides of a memref.

!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>

// CHECK: strides = [B = 1048576]
// CHECK-LABEL: func.func @memref_strides(
func.func @memref_strides(%m: memref<?x16x8x128xbf16, strided<[1048576, 1024, 128, 1]>>) -> index {
  %pool = kvcache.view %m : memref<?x16x8x128xbf16, strided<[1048576, 1024, 128, 1]>> to !any
  %blocks = kvcache.dim %pool[B] : !any
  return %blocks : index
}

// -----

// Into a private function, out of it, around a loop.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>

// CHECK: !kv_nhd = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
// CHECK-LABEL: func.func private @same(
// CHECK-SAME: !kv_nhd) -> !kv_nhd
func.func private @same(%cache: !any) -> !any {
  return %cache : !any
}
// CHECK-LABEL: func.func @through_calls_and_loops(
// CHECK-NOT: kvcache.cast
// CHECK: scf.for {{.*}} iter_args(%{{.*}} = %arg0) -> (!kv_nhd)
// CHECK: func.call @same(%{{.*}}) : (!kv_nhd) -> !kv_nhd
// CHECK: kvcache.dim %{{.*}}[B] : !kv_nhd
func.func @through_calls_and_loops(%cache: !kv, %n: index) -> index {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %vague = kvcache.cast %cache : !kv to !any
  %last = scf.for %i = %c0 to %n step %c1 iter_args(%c = %vague) -> (!any) {
    %next = func.call @same(%c) : (!any) -> !any
    scf.yield %next : !any
  }
  %blocks = kvcache.dim %last[B] : !any
  return %blocks : index
}

// -----

// Of two layouts that meet, what they have in common. What is known of less
// facts is forgotten by a cast.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = 32768]>
!other = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = 65536]>
!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>

// CHECK-LABEL: func.func @paths_meet(
// CHECK: scf.if %arg2 -> (!kv_nhd_strided2)
// CHECK: kvcache.cast %arg0 : !kv_nhd_strided to !kv_nhd_strided2
// CHECK: kvcache.cast %arg1 : !kv_nhd_strided1 to !kv_nhd_strided2
func.func @paths_meet(%a: !kv, %b: !other, %which: i1) -> index {
  %x = kvcache.cast %a : !kv to !any
  %y = kvcache.cast %b : !other to !any
  %c = scf.if %which -> (!any) {
    scf.yield %x : !any
  } else {
    scf.yield %y : !any
  }
  %blocks = kvcache.stride %c[B] : !any
  return %blocks : index
}

// -----

// A public function is what others call it as.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>

// CHECK: strides = [B = ?]
// CHECK-LABEL: func.func @no_public_function(
// CHECK-SAME: %arg0: !kv_nhd_strided) -> !kv_nhd_strided
func.func @no_public_function(%cache: !any) -> !any {
  return %cache : !any
}
// CHECK-LABEL: func.func @no_public_result(
// CHECK-SAME: !kv_nhd) -> !kv_nhd_strided
// CHECK: %[[C:.*]] = kvcache.cast %arg0 : !kv_nhd to !kv_nhd_strided
// CHECK: return %[[C]] : !kv_nhd_strided
func.func @no_public_result(%cache: !kv) -> !any {
  %vague = kvcache.cast %cache : !kv to !any
  return %vague : !any
}

// -----

// A cast that adds facts is a promise, which stays.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>

// CHECK-LABEL: func.func @no_promise_is_dropped(
// CHECK: kvcache.cast
func.func @no_promise_is_dropped(%cache: !any) -> index {
  %more = kvcache.cast %cache : !any to !kv
  %blocks = kvcache.stride %more[B] : !kv
  return %blocks : index
}

// -----

// Another cache in the same memory.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!other = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [N, B, H, D], strides = [N = ?, B = ?]>

// CHECK-LABEL: func.func @no_other_axes(
// CHECK: kvcache.storage
// CHECK: kvcache.view
// REMARK: remark: [Missed] fold-permutes | Category:kvcache | Remark="the memref of a cache is seen with other axes"
func.func @no_other_axes(%cache: !kv) -> index {
  %m = kvcache.storage %cache : !kv to memref<?x16x8x128xbf16, strided<[?, ?, 128, 1], offset: ?>>
  %again = kvcache.view %m : memref<?x16x8x128xbf16, strided<[?, ?, 128, 1], offset: ?>> to !other
  %blocks = kvcache.dim %again[B] : !other
  return %blocks : index
}

// -----

// A test of facts that are known to be wrong stays what it is: it is about what
// is known at that point of the program.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>

// CHECK-LABEL: func.func @no_contradiction(
// CHECK: %[[C:.*]] = kvcache.view {{.*}} to !kv_nhd_strided
// CHECK: %[[ANY:.*]] = kvcache.cast %[[C]] : !kv_nhd_strided to !kv_nhd_strided1
// CHECK: kvcache.has_facts %[[ANY]] : !kv_nhd_strided1 has !kv_nhd
func.func @no_contradiction(%m: memref<?x16x8x128xbf16, strided<[1048576, 1024, 128, 1]>>) -> index {
  %c0 = arith.constant 0 : index
  %pool = kvcache.view %m : memref<?x16x8x128xbf16, strided<[1048576, 1024, 128, 1]>> to !any
  %packed = kvcache.has_facts %pool : !any has !kv
  %n = scf.if %packed -> index {
    %c = kvcache.cast %pool : !any to !kv
    %blocks = kvcache.stride %c[B] : !kv
    scf.yield %blocks : index
  } else {
    scf.yield %c0 : index
  }
  return %n : index
}

// -----

// Functions of a module inside of the module have the types of their arguments
// and of what they return, and not of what a function in their body returns.

!kv = !kvcache.cache<?B x 16N x 64D x f32>
!any = !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ?]>

// CHECK-LABEL: func.func private @outside_of_the_inner_module()
func.func private @outside_of_the_inner_module()
// CHECK: module @inner {
// CHECK: func.func private @called(%[[C:.*]]: !kv_nd) -> !kv_nd {
// CHECK: func.func @other() {
// CHECK: return %[[C]] : !kv_nd
// CHECK: func.func @calls(
// CHECK: call @called(%{{.*}}) : (!kv_nd) -> !kv_nd
module @inner {
  func.func private @called(%c: !any) -> !any {
    cf.br ^end
  ^end:
    builtin.module {
      func.func @other() {
        return
      }
    }
    return %c : !any
  }
  func.func @calls(%m: memref<?x16x64xf32>) -> index {
    %c = kvcache.view %m[B, N, D] : memref<?x16x64xf32> to !any
    %d = call @called(%c) : (!any) -> !any
    %stride = kvcache.stride %d[B] : !any
    return %stride : index
  }
}

// -----

// Nor do facts that reach a view by another way than by its own type: with the
// stride of H, which the memref says, the type would say that of B, too.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [H = ?]>

// CHECK-LABEL: func.func @no_stride_that_the_memref_contradicts(
// CHECK: kvcache.view {{.*}} to !kv_nhd_strided
func.func @no_stride_that_the_memref_contradicts(%m: memref<?x16x8x128xbf16, strided<[1048576, 1024, 128, 1]>>) -> index {
  %pool = kvcache.view %m : memref<?x16x8x128xbf16, strided<[1048576, 1024, 128, 1]>> to !any
  %stride = kvcache.stride %pool[B] : !any
  return %stride : index
}

// -----

// More facts may contradict what is said of the same cache further on: there it
// keeps the type that it had.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>
!other = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = 32768]>

// CHECK-LABEL: func.func @no_contradiction_after_a_branch(
// CHECK: %[[C:.*]] = scf.if {{.*}} -> (!kv_nhd) {
// CHECK: %[[ANY:.*]] = kvcache.cast %[[C]] : !kv_nhd to !kv_nhd_strided
// CHECK: kvcache.cast %[[ANY]] : !kv_nhd_strided to !kv_nhd_strided1
func.func @no_contradiction_after_a_branch(%a: !kv, %b: !kv, %first: i1) -> memref<?x16x8x128xbf16, strided<[32768, 1024, 128, 1], offset: ?>> {
  %c = scf.if %first -> !any {
    %any = kvcache.cast %a : !kv to !any
    scf.yield %any : !any
  } else {
    %any = kvcache.cast %b : !kv to !any
    scf.yield %any : !any
  }
  %other = kvcache.cast %c : !any to !other
  %m = kvcache.storage %other : !other to memref<?x16x8x128xbf16, strided<[32768, 1024, 128, 1], offset: ?>>
  return %m : memref<?x16x8x128xbf16, strided<[32768, 1024, 128, 1], offset: ?>>
}

// -----

// Blocks need not be listed in the sequence in which they run: what a view is
// made of may be looked at after it.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @listed_before_its_source(
// CHECK: kvcache.storage
// CHECK-NEXT: return
func.func @listed_before_its_source(%m: memref<?x16x8x128xbf16>) {
  cf.br ^second
^first:
  %s = kvcache.storage %c : !kv to memref<?x16x8x128xbf16, strided<[16384, 1024, 128, 1], offset: ?>>
  %v = kvcache.view %s : memref<?x16x8x128xbf16, strided<[16384, 1024, 128, 1], offset: ?>> to !kv
  return
^second:
  %c = kvcache.view %m : memref<?x16x8x128xbf16> to !kv
  cf.br ^first
}
