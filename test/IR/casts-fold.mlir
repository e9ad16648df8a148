// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The canonicalizer folds a cast to fewer constants into an operation in
// destination style, so each tensor may know an extent that others do not.
//
// RUN: kv-opt %s --canonicalize | FileCheck %s --implicit-check-not='tensor.cast %arg'

!kv = !kvcache.cache<2S x ?B x 16N x 2H x 8D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!five = tensor<5x2x8xf32>
!rows = tensor<?x2x8xf32>

// CHECK-LABEL: func.func @index_copy(
//       CHECK: kvcache.index_copy %arg0, %arg1 into %arg2 at %arg3 : tensor<5x2x8xf32>, tensor<?x2x8xf32> into
//       CHECK: kvcache.index_copy %arg1, %arg0 into %arg2 at %arg3 : tensor<?x2x8xf32>, tensor<5x2x8xf32> into
//       CHECK: kvcache.index_copy %arg1, %arg1 into %arg4[B, S, N, H, D] at %arg3 : {{.*}} into tensor<7x2x16x2x8xf32> at
func.func @index_copy(%a: !five, %b: !rows, %c: !kv, %s: !slots, %pool: tensor<7x2x16x2x8xf32>) -> tensor<?x2x16x2x8xf32> {
  %x = tensor.cast %a : !five to !rows
  kvcache.index_copy %x, %b into %c at %s : !rows, !rows into !kv at !slots
  kvcache.index_copy %b, %x into %c at %s : !rows, !rows into !kv at !slots
  %p = tensor.cast %pool : tensor<7x2x16x2x8xf32> to tensor<?x2x16x2x8xf32>
  %r = kvcache.index_copy %b, %b into %p[B, S, N, H, D] at %s : !rows, !rows into tensor<?x2x16x2x8xf32> at !slots
  return %r : tensor<?x2x16x2x8xf32>
}

// CHECK-LABEL: func.func @scatter(
//       CHECK: kvcache.scatter %arg0, %arg1 into %arg2 at %arg3, %arg3
//       CHECK: kvcache.scatter %arg1, %arg1 into %arg2 at %arg4, %arg3
//       CHECK: kvcache.scatter %arg1, %arg1 into %arg2 at %arg3, %arg4
func.func @scatter(%a: !five, %b: !rows, %c: !kv, %l: tensor<?xi32>, %k: tensor<5xi32>) {
  %x = tensor.cast %a : !five to !rows
  %m = tensor.cast %k : tensor<5xi32> to tensor<?xi32>
  kvcache.scatter %x, %b into %c at %l, %l pad = none : !rows, !rows into !kv at tensor<?xi32>, tensor<?xi32>
  kvcache.scatter %b, %b into %c at %m, %l pad = none : !rows, !rows into !kv at tensor<?xi32>, tensor<?xi32>
  kvcache.scatter %b, %b into %c at %l, %m pad = none : !rows, !rows into !kv at tensor<?xi32>, tensor<?xi32>
  return
}

// CHECK-LABEL: func.func @gather(
//       CHECK: %[[R:.*]]:2 = kvcache.gather %arg2 at %arg3 into %arg0, %arg1 {{.*}} into tensor<5x2x8xf32>, tensor<?x2x8xf32>
//       CHECK: %[[X:.*]] = tensor.cast %[[R]]#0
//       CHECK: return %[[X]], %[[R]]#1
func.func @gather(%a: !five, %b: !rows, %c: !kv, %s: !slots) -> (!rows, !rows) {
  %x = tensor.cast %a : !five to !rows
  %r:2 = kvcache.gather %c at %s into %x, %b : !kv at !slots into !rows, !rows
  return %r#0, %r#1 : !rows, !rows
}

// CHECK-LABEL: func.func @relayout(
//       CHECK: kvcache.relayout %arg0[B, N, D] into %arg1[N, B, D] : tensor<7x16x8xf32> into tensor<16x?x8xf32>
//       CHECK: kvcache.relayout %arg1[N, B, D] into %arg0[B, N, D] : tensor<16x?x8xf32> into tensor<7x16x8xf32>
func.func @relayout(%a: tensor<7x16x8xf32>, %b: tensor<16x?x8xf32>) -> (tensor<16x?x8xf32>, tensor<?x16x8xf32>) {
  %x = tensor.cast %a : tensor<7x16x8xf32> to tensor<?x16x8xf32>
  %r = kvcache.relayout %x[B, N, D] into %b[N, B, D] : tensor<?x16x8xf32> into tensor<16x?x8xf32>
  %s = kvcache.relayout %b[N, B, D] into %x[B, N, D] : tensor<16x?x8xf32> into tensor<?x16x8xf32>
  return %r, %s : tensor<16x?x8xf32>, tensor<?x16x8xf32>
}

// CHECK-LABEL: func.func @attention(
//       CHECK: kvcache.attention %arg0 over %arg2 in %arg3 into %arg1, %arg4 {{.*}} : tensor<5x2x8xf32> over {{.*}} into tensor<?x2x8xf32>, tensor<?x2xf32>
//       CHECK: kvcache.attention %arg1 over %arg2 in %arg3 into %arg0, %arg4 {{.*}} into tensor<5x2x8xf32>, tensor<?x2xf32>
//       CHECK: kvcache.attention %arg1 over %arg2 in %arg3 into %arg1, %arg5 {{.*}} into tensor<?x2x8xf32>, tensor<5x2xf32>
func.func @attention(%a: !five, %b: !rows, %c: !kv, %batch: !batch, %l: tensor<?x2xf32>, %k: tensor<5x2xf32>)
    -> (!rows, !rows, !rows) {
  %x = tensor.cast %a : !five to !rows
  %m = tensor.cast %k : tensor<5x2xf32> to tensor<?x2xf32>
  %r:2 = kvcache.attention %x over %c in %batch into %b, %l causal : !rows over !kv in !batch into !rows, tensor<?x2xf32>
  %s:2 = kvcache.attention %b over %c in %batch into %x, %l causal : !rows over !kv in !batch into !rows, tensor<?x2xf32>
  %t:2 = kvcache.attention %b over %c in %batch into %b, %m causal : !rows over !kv in !batch into !rows, tensor<?x2xf32>
  return %r#0, %s#0, %t#0 : !rows, !rows, !rows
}

// CHECK-LABEL: func.func @merge_states(
//       CHECK: kvcache.merge_states %arg0, %arg2 with %arg1, %arg2 into %arg1, %arg2
//       CHECK: kvcache.merge_states %arg1, %arg3 with %arg0, %arg2 into %arg1, %arg2
//       CHECK: kvcache.merge_states %arg1, %arg2 with %arg1, %arg3 into %arg0, %arg3
func.func @merge_states(%a: !five, %b: !rows, %l: tensor<?x2xf32>, %k: tensor<5x2xf32>) -> (!rows, !rows, !rows) {
  %x = tensor.cast %a : !five to !rows
  %m = tensor.cast %k : tensor<5x2xf32> to tensor<?x2xf32>
  %r:2 = kvcache.merge_states %x, %l with %b, %l into %b, %l
    : !rows, tensor<?x2xf32> with !rows, tensor<?x2xf32> into !rows, tensor<?x2xf32>
  %s:2 = kvcache.merge_states %b, %m with %x, %l into %b, %l
    : !rows, tensor<?x2xf32> with !rows, tensor<?x2xf32> into !rows, tensor<?x2xf32>
  %t:2 = kvcache.merge_states %b, %l with %b, %m into %x, %m
    : !rows, tensor<?x2xf32> with !rows, tensor<?x2xf32> into !rows, tensor<?x2xf32>
  return %r#0, %s#0, %t#0 : !rows, !rows, !rows
}

// CHECK-LABEL: func.func @row_steps(
//       CHECK: kvcache.normalize %arg0 by %arg2 into %arg1 {{.*}} : tensor<5x2x8xf32> by tensor<8xf32> into tensor<?x2x8xf32>
//       CHECK: kvcache.normalize %arg1 into %arg0 {{.*}} : tensor<?x2x8xf32> into tensor<5x2x8xf32>
//       CHECK: kvcache.rotate %arg0 by %arg3 at %arg5 into %arg1 : tensor<5x2x8xf32> by tensor<?x4xf32> at tensor<5xi32> into tensor<?x2x8xf32>
//       CHECK: kvcache.rotate %arg1 by %arg4 into %arg0 : tensor<?x2x8xf32> by tensor<9x4xf32> into tensor<5x2x8xf32>
func.func @row_steps(%a: !five, %b: !rows, %w: tensor<8xf32>, %t: tensor<?x4xf32>, %u: tensor<9x4xf32>, %k: tensor<5xi32>)
    -> (!rows, !rows, !rows, !rows) {
  %x = tensor.cast %a : !five to !rows
  %v = tensor.cast %u : tensor<9x4xf32> to tensor<?x4xf32>
  %p = tensor.cast %k : tensor<5xi32> to tensor<?xi32>
  %q = kvcache.normalize %x by %w into %b epsilon 1.0 : !rows by tensor<8xf32> into !rows
  %r = kvcache.normalize %b into %x epsilon 1.0 : !rows into !rows
  %s = kvcache.rotate %x by %t at %p into %b : !rows by tensor<?x4xf32> at tensor<?xi32> into !rows
  %y = kvcache.rotate %b by %v into %x : !rows by tensor<?x4xf32> into !rows
  return %q, %r, %s, %y : !rows, !rows, !rows, !rows
}

// CHECK-LABEL: func.func @lists(
//       CHECK: kvcache.slot_mapping %arg0 into %arg2 : {{.*}} into tensor<8xi32>
//       CHECK: kvcache.map_blocks %arg3 by 4 into %arg1 : tensor<2xi32> into tensor<?xi32>
//       CHECK: kvcache.map_blocks %arg1 by 4 into %arg2 : tensor<?xi32> into tensor<8xi32>
//       CHECK: kvcache.block_slots %arg3 of 4 into %arg1 : tensor<2xi32> into tensor<?xi32>
//       CHECK: kvcache.block_slots %arg1 of 4 into %arg2 : tensor<?xi32> into tensor<8xi32>
func.func @lists(%batch: !batch, %l: tensor<?xi32>, %k: tensor<8xi32>, %j: tensor<2xi32>)
    -> (tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>) {
  %x = tensor.cast %k : tensor<8xi32> to tensor<?xi32>
  %y = tensor.cast %j : tensor<2xi32> to tensor<?xi32>
  %a = kvcache.slot_mapping %batch into %x : !batch into tensor<?xi32>
  %b = kvcache.map_blocks %y by 4 into %l : tensor<?xi32> into tensor<?xi32>
  %c = kvcache.map_blocks %l by 4 into %x : tensor<?xi32> into tensor<?xi32>
  %d = kvcache.block_slots %y of 4 into %l : tensor<?xi32> into tensor<?xi32>
  %e = kvcache.block_slots %l of 4 into %x : tensor<?xi32> into tensor<?xi32>
  return %a, %b, %c, %d, %e : tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>
}

// CHECK-LABEL: func.func @select_rows(
//       CHECK: kvcache.select_rows %arg0 of %arg2 at %arg3, %arg5 into %arg1, %arg3, %arg3
//       CHECK: kvcache.select_rows %arg1 of %arg2 at %arg4, %arg5 into %arg1, %arg3, %arg3
//       CHECK: kvcache.select_rows %arg1 of %arg2 at %arg3, %arg5 into %arg0, %arg4, %arg4
func.func @select_rows(%a: !five, %b: !rows, %batch: !batch, %l: tensor<?xi32>, %k: tensor<5xi32>, %n: tensor<1xi32>)
    -> (!rows, !rows, !rows) {
  %x = tensor.cast %a : !five to !rows
  %m = tensor.cast %k : tensor<5xi32> to tensor<?xi32>
  %r:3 = kvcache.select_rows %x of %batch at %l, %n into %b, %l, %l
    : !rows of !batch at tensor<?xi32>, tensor<1xi32> into !rows, tensor<?xi32>, tensor<?xi32>
  %s:3 = kvcache.select_rows %b of %batch at %m, %n into %b, %l, %l
    : !rows of !batch at tensor<?xi32>, tensor<1xi32> into !rows, tensor<?xi32>, tensor<?xi32>
  %t:3 = kvcache.select_rows %b of %batch at %l, %n into %x, %m, %m
    : !rows of !batch at tensor<?xi32>, tensor<1xi32> into !rows, tensor<?xi32>, tensor<?xi32>
  return %r#0, %s#0, %t#0 : !rows, !rows, !rows
}
