// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of merge_states.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

func.func @parts_are_matrices(%a: memref<?x16xf16>, %la: memref<?x2xf32>, %b: memref<?x2x8xf16>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: splits are expected to be [T, H, D] of f16, bf16 or f32, H and D constant, got 'memref<?x16xf16>'}}
  kvcache.merge_states %a, %la with %b, %lb into %o0, %o1
    : memref<?x16xf16>, memref<?x2xf32> with memref<?x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>, memref<?x2xf32>
  return
}

// -----

func.func @parts_are_numbers(%a: memref<f16>, %la: memref<?x2xf32>, %b: memref<?x2x8xf16>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: splits are expected to be [T, H, D] of f16, bf16 or f32, H and D constant, got 'memref<f16>'}}
  kvcache.merge_states %a, %la with %b, %lb into %o0, %o1
    : memref<f16>, memref<?x2xf32> with memref<?x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>, memref<?x2xf32>
  return
}

// -----

func.func @parts_of_unknown_heads(%a: memref<?x?x8xf16>, %la: memref<?x2xf32>, %b: memref<?x2x8xf16>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: splits are expected to be [T, H, D] of f16, bf16 or f32, H and D constant, got 'memref<?x?x8xf16>'}}
  kvcache.merge_states %a, %la with %b, %lb into %o0, %o1
    : memref<?x?x8xf16>, memref<?x2xf32> with memref<?x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>, memref<?x2xf32>
  return
}

// -----

func.func @parts_of_integers(%a: memref<?x2x8xi32>, %la: memref<?x2xf32>, %b: memref<?x2x8xf16>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: splits are expected to be [T, H, D] of f16, bf16 or f32, H and D constant, got 'memref<?x2x8xi32>'}}
  kvcache.merge_states %a, %la with %b, %lb into %o0, %o1
    : memref<?x2x8xi32>, memref<?x2xf32> with memref<?x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>, memref<?x2xf32>
  return
}

// -----

func.func @second_part_of_other_type(%a: memref<?x2x8xf16>, %la: memref<?x2xf32>, %b: memref<?x2x8xf32>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: split #1 is expected to be ?x2x8xf16, got 'memref<?x2x8xf32>'}}
  kvcache.merge_states %a, %la with %b, %lb into %o0, %o1
    : memref<?x2x8xf16>, memref<?x2xf32> with memref<?x2x8xf32>, memref<?x2xf32> into memref<?x2x8xf16>, memref<?x2xf32>
  return
}

// -----

func.func @second_part_of_other_rows(%a: memref<4x2x8xf16>, %la: memref<?x2xf32>, %b: memref<5x2x8xf16>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: split #1 is expected to be 4x2x8xf16, got 'memref<5x2x8xf16>'}}
  kvcache.merge_states %a, %la with %b, %lb into %o0, %o1
    : memref<4x2x8xf16>, memref<?x2xf32> with memref<5x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>, memref<?x2xf32>
  return
}

// -----

func.func @merged_to_other_type(%a: memref<?x2x8xf16>, %la: memref<?x2xf32>, %b: memref<?x2x8xf16>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: the first destination is expected to be ?x2x8xf16, got 'memref<?x2x8xf32>'}}
  kvcache.merge_states %a, %la with %b, %lb into %o0
    : memref<?x2x8xf16>, memref<?x2xf32> with memref<?x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf32>
  return
}

// -----

func.func @first_lse_of_other_type(%a: memref<?x2x8xf16>, %la: memref<?x2xf16>, %b: memref<?x2x8xf16>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: lse #0 is expected to be ?x2xf32, got 'memref<?x2xf16>'}}
  kvcache.merge_states %a, %la with %b, %lb into %o0, %o1
    : memref<?x2x8xf16>, memref<?x2xf16> with memref<?x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>, memref<?x2xf32>
  return
}

// -----

func.func @second_lse_of_other_shape(%a: memref<?x2x8xf16>, %la: memref<?x2xf32>, %b: memref<?x2x8xf16>, %lb: memref<?x4xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: lse #1 is expected to be ?x2xf32, got 'memref<?x4xf32>'}}
  kvcache.merge_states %a, %la with %b, %lb into %o0, %o1
    : memref<?x2x8xf16>, memref<?x2xf32> with memref<?x2x8xf16>, memref<?x4xf32> into memref<?x2x8xf16>, memref<?x2xf32>
  return
}

// -----

func.func @merged_lse_of_other_rank(%a: memref<?x2x8xf16>, %la: memref<?x2xf32>, %b: memref<?x2x8xf16>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: the second destination is expected to be ?x2xf32, got 'memref<?xf32>'}}
  kvcache.merge_states %a, %la with %b, %lb into %o0, %o1
    : memref<?x2x8xf16>, memref<?x2xf32> with memref<?x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>, memref<?xf32>
  return
}

// -----

func.func @merged_to_three(%a: memref<?x2x8xf16>, %la: memref<?x2xf32>, %b: memref<?x2x8xf16>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?x2xf32>, %o2: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: one or two destinations are expected, got 3}}
  kvcache.merge_states %a, %la with %b, %lb into %o0, %o1, %o2
    : memref<?x2x8xf16>, memref<?x2xf32> with memref<?x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>, memref<?x2xf32>, memref<?x2xf32>
  return
}

// -----

func.func @part_with_gaps(%a: memref<?x2x8xf16>, %la: memref<?x2xf32>, %b: memref<?x2x8xf16, strided<[32, 16, 1]>>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c2: contiguous inner dimensions are expected, got 'memref<?x2x8xf16, strided<[32, 16, 1]>>'}}
  kvcache.merge_states %a, %la with %b, %lb into %o0, %o1
    : memref<?x2x8xf16>, memref<?x2xf32> with memref<?x2x8xf16, strided<[32, 16, 1]>>, memref<?x2xf32> into memref<?x2x8xf16>, memref<?x2xf32>
  return
}

// -----

func.func @lse_in_space(%a: memref<?x2x8xf16>, %la: memref<?x2xf32, 1>, %b: memref<?x2x8xf16>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c2: a memref in the default memory space is expected, got 'memref<?x2xf32, 1>'}}
  kvcache.merge_states %a, %la with %b, %lb into %o0, %o1
    : memref<?x2x8xf16>, memref<?x2xf32, 1> with memref<?x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>, memref<?x2xf32>
  return
}

// -----

func.func @parts_of_both_forms(%a: tensor<?x2x8xf16>, %la: memref<?x2xf32>, %b: memref<?x2x8xf16>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c3: buffers are expected to be all tensors or all memrefs, got 'tensor<?x2x8xf16>' and 'memref<?x2xf32>'}}
  kvcache.merge_states %a, %la with %b, %lb into %o0, %o1
    : tensor<?x2x8xf16>, memref<?x2xf32> with memref<?x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>, memref<?x2xf32>
  return
}

// -----

func.func @merged_to_another_form(%a: memref<?x2x8xf16>, %la: memref<?x2xf32>, %b: memref<?x2x8xf16>, %lb: memref<?x2xf32>, %o0: memref<?x2x8xf16>, %o1: tensor<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c3: buffers are expected to be all tensors or all memrefs, got 'tensor<?x2xf32>' and 'memref<?x2x8xf16>'}}
  %0 = kvcache.merge_states %a, %la with %b, %lb into %o0, %o1
    : memref<?x2x8xf16>, memref<?x2xf32> with memref<?x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>, tensor<?x2xf32>
  return
}

// -----

func.func @one_split(%a: memref<?x2x8xf16>, %la: memref<?x2xf32>, %o0: memref<?x2x8xf16>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c4: from 2 to 64 splits are expected, each with its lse, got 1 splits and 1 lse}}
  kvcache.merge_states %a, %la into %o0 : memref<?x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>
  return
}

// -----

func.func @an_lse_is_missing(%a: memref<?x2x8xf16>, %la: memref<?x2xf32>, %o0: memref<?x2x8xf16>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c4: from 2 to 64 splits are expected, each with its lse, got 3 splits and 2 lse}}
  "kvcache.merge_states"(%a, %a, %a, %la, %la, %o0) <{operandSegmentSizes = array<i32: 3, 2, 1>}>
    : (memref<?x2x8xf16>, memref<?x2x8xf16>, memref<?x2x8xf16>, memref<?x2xf32>, memref<?x2xf32>, memref<?x2x8xf16>) -> ()
  return
}

// -----

func.func @third_split_of_other_heads(%a: memref<?x2x8xf16>, %l: memref<?x2xf32>, %c: memref<?x4x8xf16>, %o0: memref<?x2x8xf16>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: split #2 is expected to be ?x2x8xf16, got 'memref<?x4x8xf16>'}}
  kvcache.merge_states %a, %l with %a, %l with %c, %l into %o0
    : memref<?x2x8xf16>, memref<?x2xf32> with memref<?x2x8xf16>, memref<?x2xf32> with memref<?x4x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>
  return
}

// -----

func.func @heads_are_first_in_no_lse(%a: memref<?x2x8xf16>, %l: memref<?x2xf32>, %o0: memref<?x2x8xf16>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: lse #0 is expected to be 2x?xf32, got 'memref<?x2xf32>'}}
  kvcache.merge_states %a, %l with %a, %l into %o0 heads_first
    : memref<?x2x8xf16>, memref<?x2xf32> with memref<?x2x8xf16>, memref<?x2xf32> into memref<?x2x8xf16>
  return
}

// -----

func.func @heads_are_first_in_one_lse(%a: memref<?x2x8xf16>, %l: memref<2x?xf32>, %o0: memref<?x2x8xf16>, %o1: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: the second destination is expected to be 2x?xf32, got 'memref<?x2xf32>'}}
  kvcache.merge_states %a, %l with %a, %l into %o0, %o1 heads_first
    : memref<?x2x8xf16>, memref<2x?xf32> with memref<?x2x8xf16>, memref<2x?xf32> into memref<?x2x8xf16>, memref<?x2xf32>
  return
}

// -----

func.func @lse_of_other_rows(%a: memref<4x2x8xf16>, %l: memref<2x5xf32>, %o0: memref<4x2x8xf16>) {
  // expected-error@+1 {{'kvcache.merge_states' op merge_states_c1: lse #0 is expected to be 2x4xf32, got 'memref<2x5xf32>'}}
  kvcache.merge_states %a, %l with %a, %l into %o0 heads_first
    : memref<4x2x8xf16>, memref<2x5xf32> with memref<4x2x8xf16>, memref<2x5xf32> into memref<4x2x8xf16>
  return
}
