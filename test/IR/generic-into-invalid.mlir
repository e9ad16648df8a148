// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the pretty form cannot say: operations in destination style.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @no_rows(%b: !batch, %i: tensor<?xi32>, %v: tensor<1xi32>) {
  // expected-error@+1 {{'kvcache.select_rows' op select_rows_c2: one operand of rows or more is expected, got 0}}
  %0:2 = "kvcache.select_rows"(%b, %i, %v, %i, %i) <{operandSegmentSizes = array<i32: 0, 1, 1, 1, 2>}> : (!batch, tensor<?xi32>, tensor<1xi32>, tensor<?xi32>, tensor<?xi32>) -> (tensor<?xi32>, tensor<?xi32>)
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @too_few_segments(%b: !batch, %i: tensor<?xi32>, %v: tensor<1xi32>) {
  // expected-error@+1 {{invalid properties {operandSegmentSizes = array<i32: 1, 1, 1, 2>} for op kvcache.select_rows: size mismatch in attribute conversion: 4 vs 5}}
  %0:2 = "kvcache.select_rows"(%b, %i, %v, %i, %i) <{operandSegmentSizes = array<i32: 1, 1, 1, 2>}> : (!batch, tensor<?xi32>, tensor<1xi32>, tensor<?xi32>, tensor<?xi32>) -> (tensor<?xi32>, tensor<?xi32>)
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @segments_too_large(%b: !batch, %i: tensor<?xi32>, %v: tensor<1xi32>) {
  // expected-error@+1 {{'kvcache.select_rows' op operand count (5) does not match with the total size (6) specified in attribute 'operandSegmentSizes'}}
  %0:2 = "kvcache.select_rows"(%b, %i, %v, %i, %i) <{operandSegmentSizes = array<i32: 0, 1, 1, 1, 3>}> : (!batch, tensor<?xi32>, tensor<1xi32>, tensor<?xi32>, tensor<?xi32>) -> (tensor<?xi32>, tensor<?xi32>)
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @negative_segment(%b: !batch, %i: tensor<?xi32>, %v: tensor<1xi32>) {
  // expected-error@+1 {{'kvcache.select_rows' op 'operandSegmentSizes' attribute cannot have negative elements}}
  %0:2 = "kvcache.select_rows"(%b, %i, %v, %i, %i) <{operandSegmentSizes = array<i32: -1, 2, 1, 1, 2>}> : (!batch, tensor<?xi32>, tensor<1xi32>, tensor<?xi32>, tensor<?xi32>) -> (tensor<?xi32>, tensor<?xi32>)
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @cache_axes_of_numbers(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op attention_c12: a list of names for each of the 1 caches is expected, got [1]}}
  "kvcache.attention"(%q, %c, %b, %q) <{operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1>, cacheAxes = [1]}> : (memref<?x32x128xbf16>, !kv, !batch, memref<?x32x128xbf16>) -> ()
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @cache_axes_of_no_array(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op attention_c12: a list of names for each of the 1 caches is expected, got ["S"]}}
  "kvcache.attention"(%q, %c, %b, %q) <{operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1>, cacheAxes = ["S"]}> : (memref<?x32x128xbf16>, !kv, !batch, memref<?x32x128xbf16>) -> ()
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @too_many_cache_axes(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op attention_c12: a list of names for each of the 1 caches is expected, got [[], []]}}
  "kvcache.attention"(%q, %c, %b, %q) <{operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1>, cacheAxes = [[], []]}> : (memref<?x32x128xbf16>, !kv, !batch, memref<?x32x128xbf16>) -> ()
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @no_array_of_cache_axes(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch) {
  // expected-error@+1 {{invalid properties {cacheAxes = "S", operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1>} for op kvcache.attention: Invalid attribute `cacheAxes` in property conversion: "S"}}
  "kvcache.attention"(%q, %c, %b, %q) <{operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1>, cacheAxes = "S"}> : (memref<?x32x128xbf16>, !kv, !batch, memref<?x32x128xbf16>) -> ()
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @double_softcap(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op attribute 'softcap' failed to satisfy constraint: 32-bit float attribute}}
  "kvcache.attention"(%q, %c, %b, %q) <{operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1>, softcap = 1.0 : f64}> : (memref<?x32x128xbf16>, !kv, !batch, memref<?x32x128xbf16>) -> ()
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @least_window(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op attention_c9: the window is expected to be at least 1, got -9223372036854775808}}
  "kvcache.attention"(%q, %c, %b, %q) <{operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1>, window = -9223372036854775808 : i64}> : (memref<?x32x128xbf16>, !kv, !batch, memref<?x32x128xbf16>) -> ()
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @causal_is_a_number(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch) {
  // expected-error@+1 {{invalid properties {causal = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1>} for op kvcache.attention: Invalid attribute `causal` in property conversion: 1 : i64}}
  "kvcache.attention"(%q, %c, %b, %q) <{operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1>, causal = 1}> : (memref<?x32x128xbf16>, !kv, !batch, memref<?x32x128xbf16>) -> ()
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @output_is_alibi(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op attention_c5: one or two destinations are expected, got 0}}
  "kvcache.attention"(%q, %c, %b, %q) <{operandSegmentSizes = array<i32: 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0>}> : (memref<?x32x128xbf16>, !kv, !batch, memref<?x32x128xbf16>) -> ()
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @cache_axes_are_mixed(%q: tensor<?x32x128xbf16>, %c: tensor<2x?x16x8x128xbf16>, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op attention_c12: a list of names for each of the 1 caches is expected, got [["S", "B", 3, "H", "D"]]}}
  %0 = "kvcache.attention"(%q, %c, %b, %q) <{operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1>, cacheAxes = [["S", "B", 3, "H", "D"]]}> : (tensor<?x32x128xbf16>, tensor<2x?x16x8x128xbf16>, !batch, tensor<?x32x128xbf16>) -> tensor<?x32x128xbf16>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @no_caches(%q: memref<?x32x128xbf16>, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op attention_c1: one cache with two sides, or two caches without sides are expected, got 0 caches}}
  "kvcache.attention"(%q, %b, %q) <{operandSegmentSizes = array<i32: 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1>}> : (memref<?x32x128xbf16>, !batch, memref<?x32x128xbf16>) -> ()
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @cache_without_rank(%q: tensor<?x32x128xbf16>, %c: tensor<*xbf16>, %b: !batch) {
  // expected-error@+1 {{'kvcache.attention' op operand #1 must be variadic of cache or ranked tensor of any type values, but got 'tensor<*xbf16>'}}
  %0 = "kvcache.attention"(%q, %c, %b, %q) <{operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1>}> : (tensor<?x32x128xbf16>, tensor<*xbf16>, !batch, tensor<?x32x128xbf16>) -> tensor<?x32x128xbf16>
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @only_slots(%s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op expected 2 or more operands, but found 1}}
  "kvcache.index_copy"(%s) <{operandSegmentSizes = array<i32: 0, 0, 0, 1>}> : (!slots) -> ()
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @axes_of_arrays(%r: memref<?x64xf32>, %c: !k, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op attribute 'axes' failed to satisfy constraint: string array attribute}}
  "kvcache.index_copy"(%r, %c, %s) <{operandSegmentSizes = array<i32: 1, 1, 0, 1>, axes = [["B"]]}> : (memref<?x64xf32>, !k, !slots) -> ()
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @no_axes_of_a_reference(%r: memref<?x64xf32>, %c: !k, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: no dimension names are expected for a reference, whose type has them, got []}}
  "kvcache.index_copy"(%r, %c, %s) <{operandSegmentSizes = array<i32: 1, 1, 0, 1>, axes = []}> : (memref<?x64xf32>, !k, !slots) -> ()
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @pool_is_a_number(%r: tensor<?x64xf32>, %c: tensor<f32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: layout_c2: a cache is expected to have the axes B, N and D, got [] without B}}
  %0 = "kvcache.index_copy"(%r, %c, %s) <{operandSegmentSizes = array<i32: 1, 1, 0, 1>, axes = []}> : (tensor<?x64xf32>, tensor<f32>, !slots) -> tensor<f32>
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @empty_axis_name(%r: tensor<?x64xf32>, %c: tensor<?x16x64xf32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: an axis L, S, B, N, H or D is expected, got ""}}
  %0 = "kvcache.index_copy"(%r, %c, %s) <{operandSegmentSizes = array<i32: 1, 1, 0, 1>, axes = ["B", "N", ""]}> : (tensor<?x64xf32>, tensor<?x16x64xf32>, !slots) -> tensor<?x16x64xf32>
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @pool_too_large(%r: tensor<?x2xf32>, %c: tensor<1099511627776x4096x2xf32>, %s: !slots) {
  // expected-error@+1 {{'kvcache.index_copy' op index_copy_c9: layout_c5: the axes up to B are expected to span at most 2^52 elements, got more with extent 1099511627776}}
  %0 = "kvcache.index_copy"(%r, %c, %s) <{operandSegmentSizes = array<i32: 1, 1, 0, 1>, axes = ["B", "N", "D"]}> : (tensor<?x2xf32>, tensor<1099511627776x4096x2xf32>, !slots) -> tensor<1099511627776x4096x2xf32>
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @no_padding(%r: memref<?x64xf32>, %c: !k, %b: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op requires attribute 'pad'}}
  "kvcache.scatter"(%r, %c, %b, %b) <{operandSegmentSizes = array<i32: 1, 1, 0, 1, 1>}> : (memref<?x64xf32>, !k, memref<?xi64>, memref<?xi64>) -> ()
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @padding_is_a_number(%r: memref<?x64xf32>, %c: !k, %b: memref<?xi64>) {
  // expected-error@+1 {{invalid properties {operandSegmentSizes = array<i32: 1, 1, 0, 1, 1>, pad = 7 : i32} for op kvcache.scatter: Invalid attribute `pad` in property conversion: 7 : i32}}
  "kvcache.scatter"(%r, %c, %b, %b) <{operandSegmentSizes = array<i32: 1, 1, 0, 1, 1>, pad = 7 : i32}> : (memref<?x64xf32>, !k, memref<?xi64>, memref<?xi64>) -> ()
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @scatter_of_no_rows(%c: !k, %b: memref<?xi64>) {
  // expected-error@+1 {{'kvcache.scatter' op scatter_c1: 1 operands of rows are expected, one per side of the cache, got 0}}
  "kvcache.scatter"(%c, %b, %b) <{operandSegmentSizes = array<i32: 0, 1, 0, 1, 1>, pad = #kvcache<padding none>}> : (!k, memref<?xi64>, memref<?xi64>) -> ()
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @gather_to_nothing(%c: !kv, %s: !slots) {
  // expected-error@+1 {{'kvcache.gather' op gather_c1: 2 operands of rows are expected, one per side of the cache, got 0}}
  "kvcache.gather"(%c, %s) <{operandSegmentSizes = array<i32: 1, 0, 1, 0>}> : (!kv, !slots) -> ()
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @relayout_names_are_numbers(%c: !k) {
  // expected-error@+1 {{'kvcache.relayout' op attribute 'destAxes' failed to satisfy constraint: string array attribute}}
  "kvcache.relayout"(%c, %c) <{operandSegmentSizes = array<i32: 1, 0, 1, 0>, sourceAxes = [], destAxes = [0]}> : (!k, !k) -> ()
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 64D x f32>
func.func @pairs_without_rank(%c: !k, %p: memref<*xi64>) {
  // expected-error@+1 {{'kvcache.copy_blocks' op operand #1 must be ranked tensor of any type values or memref of any type values, but got 'memref<*xi64>'}}
  kvcache.copy_blocks %c at %p : !k at memref<*xi64>
  return
}

// -----

func.func @merge_to_nothing(%a: tensor<?x2x8xf16>, %l: tensor<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: one or two destinations are expected, got 0}}
  "kvcache.merge_states"(%a, %a, %l, %l) <{operandSegmentSizes = array<i32: 2, 2, 0>}> : (tensor<?x2x8xf16>, tensor<?x2x8xf16>, tensor<?x2xf32>, tensor<?x2xf32>) -> ()
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @groups_without_lengths(%q: memref<?x32x128xbf16>, %c: !kv, %b: !batch, %g: memref<?xi32>) {
  // expected-error@+1 {{'kvcache.attention' op attention_c14: groups and lengths of prefixes are expected, got one of both}}
  "kvcache.attention"(%q, %c, %b, %g, %q) <{operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1>}> : (memref<?x32x128xbf16>, !kv, !batch, memref<?xi32>, memref<?x32x128xbf16>) -> ()
  return
}
