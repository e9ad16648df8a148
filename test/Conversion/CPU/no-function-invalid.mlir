// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --convert-kvcache-to-loops --verify-diagnostics --split-input-file
// RUN: kv-opt %s --convert-kvcache-to-gpu --verify-diagnostics --split-input-file

// The body of a module is a graph: values may be made of themselves, and nothing
// says when an operation runs.
// expected-error @+1 {{'kvcache.cast' op is expected to be in a function}}
%a = kvcache.cast %b : !kvcache.cache<?B x 16N x 64D x f32> to !kvcache.cache<?B x 16N x 64D x f32>
%b = kvcache.cast %a : !kvcache.cache<?B x 16N x 64D x f32> to !kvcache.cache<?B x 16N x 64D x f32>

// -----

// A function around the module does not help: kernels take memory that the
// function has, which is no value of the module.
func.func @around() {
  builtin.module {
    // expected-error @+1 {{'kvcache.cast' op is expected to be in a function}}
    %c = kvcache.cast %d : !kvcache.cache<?B x 16N x 64D x f32> to !kvcache.cache<?B x 16N x 64D x f32>
    %d = kvcache.cast %c : !kvcache.cache<?B x 16N x 64D x f32> to !kvcache.cache<?B x 16N x 64D x f32>
  }
  return
}
