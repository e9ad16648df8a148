// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A constant index of a layer may be out of range where no call comes, as after
// a loop was unrolled. It is checked as any other, and warned of.
//
// RUN: kv-opt %s --convert-kvcache-to-loops --verify-diagnostics --split-input-file | FileCheck %s

!cross = !kvcache.cache<4L x 2S x ?B x 16N x 8H x 128D x bf16>
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @past_the_last(
// CHECK: call @kvrt_report_layer(
func.func @past_the_last(%c: !cross, %slots: memref<?x2xi64>) {
  %i = arith.constant 4 : index
  // expected-warning @+1 {{the index 4 is not one of 4 layers: a call that executes this operation fails}}
  %l = kvcache.layer %c[%i] : !cross
  kvcache.copy_blocks %l at %slots : !kv at memref<?x2xi64>
  return
}

// -----

!any = !kvcache.cache<?L x 2S x ?B x 16N x 8H x 128D x bf16>
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>

// CHECK-LABEL: func.func @before_the_first(
// CHECK: call @kvrt_report_layer(
func.func @before_the_first(%c: !any, %slots: memref<?x2xi64>) {
  %i = arith.constant -1 : index
  // expected-warning @+1 {{the index -1 is not one of the layers: a call that executes this operation fails}}
  %l = kvcache.layer %c[%i] : !any
  kvcache.copy_blocks %l at %slots : !kv at memref<?x2xi64>
  return
}

// -----

!any = !kvcache.cache<?L x 2S x ?B x 16N x 8H x 128D x bf16>
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>

// How many there are is known only at run time.

// CHECK-LABEL: func.func @one_of_some(
// CHECK: call @kvrt_report_layer(
func.func @one_of_some(%c: !any, %slots: memref<?x2xi64>) {
  %i = arith.constant 1 : index
  %l = kvcache.layer %c[%i] : !any
  kvcache.copy_blocks %l at %slots : !kv at memref<?x2xi64>
  return
}
