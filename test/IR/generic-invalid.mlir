// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the pretty form cannot say: views, facts and index values.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!cross = !kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16>
func.func @no_index(%c: !cross) {
  // expected-error@+1 {{'kvcache.layer' op expected 2 operands, but found 1}}
  %0 = "kvcache.layer"(%c) : (!cross) -> !kv
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!cross = !kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16>
func.func @operands_swapped(%c: !cross, %i: index) {
  // expected-error@+1 {{'kvcache.layer' op operand #0 must be cache, but got 'index'}}
  %0 = "kvcache.layer"(%i, %c) : (index, !cross) -> !kv
  return
}

// -----

!cross = !kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16>
func.func @layer_of_another_type(%c: !cross, %i: index) {
  // expected-error@+2 {{'kvcache.layer' op inferred type(s) '!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>' are incompatible with return type(s) of operation '!kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16>'}}
  // expected-error@+1 {{'kvcache.layer' op failed to infer returned types}}
  %0 = "kvcache.layer"(%c, %i) : (!cross, index) -> !cross
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @no_side_number(%c: !kv) {
  // expected-error@+1 {{'kvcache.side' op requires attribute 'side'}}
  %0 = "kvcache.side"(%c) : (!kv) -> !kv
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @short_side_number(%c: !kv) {
  // expected-error@+1 {{'kvcache.side' op attribute 'side' failed to satisfy constraint: 64-bit signless integer attribute}}
  %0 = "kvcache.side"(%c) <{side = 0 : i32}> : (!kv) -> !kv
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @side_of_another_type(%c: !kv) {
  // expected-error@+2 {{'kvcache.side' op inferred type(s) '!kvcache.cache<?B x 16N x 8H x 128D x bf16>' are incompatible with return type(s) of operation '!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>'}}
  // expected-error@+1 {{'kvcache.side' op failed to infer returned types}}
  %0 = "kvcache.side"(%c) <{side = 0 : i64}> : (!kv) -> !kv
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @no_count_of_heads(%c: !kv) {
  // expected-error@+1 {{'kvcache.heads' op requires attribute 'count'}}
  %0 = "kvcache.heads"(%c) <{first = 0 : i64}> : (!kv) -> !kv
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
func.func @least_first_head(%c: !kv) {
  // expected-error@+2 {{'kvcache.heads' op heads_c1: some of the heads 0 to 7 are expected, got 9223372036854775807 starting at -9223372036854775808}}
  // expected-error@+1 {{'kvcache.heads' op failed to infer returned types}}
  %0 = "kvcache.heads"(%c) <{first = -9223372036854775808 : i64, count = 9223372036854775807 : i64}> : (!kv) -> !kv
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @names_are_numbers(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op attribute 'axes' failed to satisfy constraint: string array attribute}}
  %0 = "kvcache.reshape"(%c) <{axes = [1, 2]}> : (!k) -> memref<?x1024xf32, strided<[1024, 1], offset: ?>>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @no_names(%c: !k) {
  // expected-error@+1 {{'kvcache.reshape' op reshape_c2: the dimensions are expected to be named by [B, N, D] in some sequence, got []}}
  %0 = "kvcache.reshape"(%c) <{axes = []}> : (!k) -> memref<?x1024xf32, strided<[1024, 1], offset: ?>>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @unknown_name(%c: !k) {
  // expected-error@+1 {{'kvcache.storage' op storage_c2: the dimensions are expected to be named by [B, N, D] in some sequence, got [B, N, X]}}
  %0 = "kvcache.storage"(%c) <{axes = ["B", "N", "X"]}> : (!k) -> memref<?x16x64xf32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @storage_is_a_number(%c: !k) {
  // expected-error@+1 {{'kvcache.storage' op storage_c2: the result is expected to have 3 dimensions [B, N, D], got 'memref<f32>'}}
  %0 = "kvcache.storage"(%c) : (!k) -> memref<f32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @dim_of_half_an_axis(%c: !k) {
  // expected-error@+1 {{'kvcache.dim' op dim_c1: an axis of [B, N, D] is expected, got 'D.i'}}
  %0 = "kvcache.dim"(%c) <{axis = "D.i"}> : (!k) -> index
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @dim_of_nothing(%c: !k) {
  // expected-error@+1 {{'kvcache.dim' op dim_c1: an axis of [B, N, D] is expected, got ''}}
  %0 = "kvcache.dim"(%c) <{axis = ""}> : (!k) -> index
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @facts_of_a_tensor(%c: !k) {
  // expected-error@+1 {{'kvcache.has_facts' op has_facts_c1: a cache type is expected, got 'tensor<f32>'}}
  %0 = "kvcache.has_facts"(%c) <{facts = tensor<f32>}> : (!k) -> i1
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @batch_without_a_table(%t: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.make_batch' op operand #2 must be block table, but got 'tensor<?xi32>'}}
  %0 = "kvcache.make_batch"(%t, %t, %t) : (tensor<?xi32>, tensor<?xi32>, tensor<?xi32>) -> !batch
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @positions_twice(%t: tensor<?xi32>, %b: !table) {
  // expected-error@+1 {{'kvcache.make_batch' op operand group starting at #3 requires 0 or 1 element, but found 2}}
  %0 = "kvcache.make_batch"(%t, %t, %b, %t, %t) : (tensor<?xi32>, tensor<?xi32>, !table, tensor<?xi32>, tensor<?xi32>) -> !batch
  return
}

// -----

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
func.func @positions_are_no_buffer(%t: tensor<?xi32>, %b: !table, %p: i32) {
  // expected-error@+1 {{'kvcache.make_batch' op make_batch_c2: positions are expected to be 1-D, of i32 or i64, got 'i32'}}
  %0 = kvcache.make_batch %t, %t, %b positions(%p : i32) : tensor<?xi32>, tensor<?xi32>, !table
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @new_positions_are_no_buffer(%t: tensor<?xi32>, %b: !batch, %p: none) {
  // expected-error@+1 {{'kvcache.with_rows' op with_rows_c2: positions are expected to be 1-D, of i32 or i64, got 'none'}}
  %0 = kvcache.with_rows %b, %t, %p : !batch, tensor<?xi32>, none
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @starts_without_rank(%t: memref<*xi32>, %b: !batch) {
  // expected-error@+1 {{'kvcache.with_rows' op operand #1 must be ranked tensor of any type values or memref of any type values, but got 'memref<*xi32>'}}
  %0 = "kvcache.with_rows"(%b, %t, %t) : (!batch, memref<*xi32>, memref<*xi32>) -> !batch
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @batch_of_another_type(%t: tensor<?xi32>, %b: !batch) {
  // expected-error@+2 {{'kvcache.with_rows' op inferred type(s) '!kvcache.batch<?R x ?M x i32, tokens = 16, positions = i32>' are incompatible with return type(s) of operation '!kvcache.batch<?R x ?M x i32, tokens = 16>'}}
  // expected-error@+1 {{'kvcache.with_rows' op failed to infer returned types}}
  %0 = "kvcache.with_rows"(%b, %t, %t) : (!batch, tensor<?xi32>, tensor<?xi32>) -> !batch
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @no_destination(%b: !batch) {
  // expected-error@+1 {{'kvcache.slot_mapping' op expected 2 or more operands, but found 1}}
  "kvcache.slot_mapping"(%b) : (!batch) -> ()
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @no_result(%b: !batch, %o: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.slot_mapping' op expected the number of tensor results (0) to be equal to the number of output tensors (1)}}
  "kvcache.slot_mapping"(%b, %o) : (!batch, tensor<?xi64>) -> ()
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @result_of_a_memref(%b: !batch, %o: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.slot_mapping' op expected the number of tensor results (1) to be equal to the number of output tensors (0)}}
  %0 = "kvcache.slot_mapping"(%b, %o) : (!batch, memref<?xi64>) -> tensor<?xi64>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @result_of_another_type(%b: !batch, %o: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.slot_mapping' op expected type of operand #1 ('tensor<?xi64>') to match type of corresponding result ('tensor<?xi32>')}}
  %0 = "kvcache.slot_mapping"(%b, %o) : (!batch, tensor<?xi64>) -> tensor<?xi32>
  return
}

// -----

func.func @no_ratio(%t: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op requires attribute 'ratio'}}
  %0 = "kvcache.map_blocks"(%t, %t) : (tensor<?xi32>, tensor<?xi32>) -> tensor<?xi32>
  return
}

// -----

func.func @least_ratio(%t: tensor<?xi32>) {
  // expected-error@+1 {{'kvcache.map_blocks' op map_blocks_c2: the ratio is expected to be from 1 to 2^20, got -9223372036854775808}}
  %0 = "kvcache.map_blocks"(%t, %t) <{ratio = -9223372036854775808 : i64}> : (tensor<?xi32>, tensor<?xi32>) -> tensor<?xi32>
  return
}
