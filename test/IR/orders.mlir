// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s --split-input-file | FileCheck %s
// RUN: kv-opt %s --split-input-file | kv-opt --split-input-file | FileCheck %s
//
// Each order by its name: the order that is printed, and the strides that
// follow from it, read off the type by folding.
// RUN: kv-opt %s --split-input-file --canonicalize \
// RUN:   | FileCheck %s --check-prefix=STRIDE

// CHECK: !kvcache.cache<2S x 100B x 16N x 8H x 128D x bf16>
// STRIDE-LABEL: func.func @nhd(
// STRIDE-DAG: arith.constant 1638400 : index
// STRIDE-DAG: arith.constant 16384 : index
// STRIDE-DAG: arith.constant 1024 : index
// STRIDE-DAG: arith.constant 128 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<2S x 100B x 16N x 8H x 128D x bf16, order = nhd>
func.func @nhd(%cache: !kv) -> (index, index, index, index, index) {
  %s = kvcache.stride %cache[S] : !kv
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %d = kvcache.stride %cache[D] : !kv
  return %s, %b, %n, %h, %d : index, index, index, index, index
}

// -----

// CHECK: !kvcache.cache<2S x 100B x 16N x 8H x 128D x bf16, order = [S, B, H, N, D]>
// STRIDE-LABEL: func.func @hnd(
// STRIDE-DAG: arith.constant 1638400 : index
// STRIDE-DAG: arith.constant 16384 : index
// STRIDE-DAG: arith.constant 128 : index
// STRIDE-DAG: arith.constant 2048 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<2S x 100B x 16N x 8H x 128D x bf16, order = hnd>
func.func @hnd(%cache: !kv) -> (index, index, index, index, index) {
  %s = kvcache.stride %cache[S] : !kv
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %d = kvcache.stride %cache[D] : !kv
  return %s, %b, %n, %h, %d : index, index, index, index, index
}

// -----

// CHECK: !kvcache.cache<2S x 100B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D]>
// STRIDE-LABEL: func.func @paired_nhd(
// STRIDE-DAG: arith.constant 16384 : index
// STRIDE-DAG: arith.constant 32768 : index
// STRIDE-DAG: arith.constant 1024 : index
// STRIDE-DAG: arith.constant 128 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<2S x 100B x 16N x 8H x 128D x bf16, order = paired_nhd>
func.func @paired_nhd(%cache: !kv) -> (index, index, index, index, index) {
  %s = kvcache.stride %cache[S] : !kv
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %d = kvcache.stride %cache[D] : !kv
  return %s, %b, %n, %h, %d : index, index, index, index, index
}

// -----

// CHECK: !kvcache.cache<2S x 100B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D]>
// STRIDE-LABEL: func.func @paired_hnd(
// STRIDE-DAG: arith.constant 16384 : index
// STRIDE-DAG: arith.constant 32768 : index
// STRIDE-DAG: arith.constant 128 : index
// STRIDE-DAG: arith.constant 2048 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<2S x 100B x 16N x 8H x 128D x bf16, order = paired_hnd>
func.func @paired_hnd(%cache: !kv) -> (index, index, index, index, index) {
  %s = kvcache.stride %cache[S] : !kv
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %d = kvcache.stride %cache[D] : !kv
  return %s, %b, %n, %h, %d : index, index, index, index, index
}

// -----

// CHECK: !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = [B, L, S, N, H, D]>
// STRIDE-LABEL: func.func @cross_layer_nhd(
// STRIDE-DAG: arith.constant 32768 : index
// STRIDE-DAG: arith.constant 16384 : index
// STRIDE-DAG: arith.constant 1048576 : index
// STRIDE-DAG: arith.constant 1024 : index
// STRIDE-DAG: arith.constant 128 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = cross_layer_nhd>
func.func @cross_layer_nhd(%cache: !kv) -> (index, index, index, index, index, index) {
  %l = kvcache.stride %cache[L] : !kv
  %s = kvcache.stride %cache[S] : !kv
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %d = kvcache.stride %cache[D] : !kv
  return %l, %s, %b, %n, %h, %d : index, index, index, index, index, index
}

// -----

// CHECK: !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = [B, H, L, S, N, D]>
// STRIDE-LABEL: func.func @cross_layer_hnd(
// STRIDE-DAG: arith.constant 4096 : index
// STRIDE-DAG: arith.constant 2048 : index
// STRIDE-DAG: arith.constant 1048576 : index
// STRIDE-DAG: arith.constant 128 : index
// STRIDE-DAG: arith.constant 131072 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = cross_layer_hnd>
func.func @cross_layer_hnd(%cache: !kv) -> (index, index, index, index, index, index) {
  %l = kvcache.stride %cache[L] : !kv
  %s = kvcache.stride %cache[S] : !kv
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %d = kvcache.stride %cache[D] : !kv
  return %l, %s, %b, %n, %h, %d : index, index, index, index, index, index
}

// -----

// CHECK: !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = [L, B, H, N, S, D]>
// STRIDE-LABEL: func.func @LBHNC(
// STRIDE-DAG: arith.constant 3276800 : index
// STRIDE-DAG: arith.constant 128 : index
// STRIDE-DAG: arith.constant 32768 : index
// STRIDE-DAG: arith.constant 256 : index
// STRIDE-DAG: arith.constant 4096 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = LBHNC>
func.func @LBHNC(%cache: !kv) -> (index, index, index, index, index, index) {
  %l = kvcache.stride %cache[L] : !kv
  %s = kvcache.stride %cache[S] : !kv
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %d = kvcache.stride %cache[D] : !kv
  return %l, %s, %b, %n, %h, %d : index, index, index, index, index, index
}

// -----

// CHECK: !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = [L, B, N, H, S, D]>
// STRIDE-LABEL: func.func @LBNHC(
// STRIDE-DAG: arith.constant 3276800 : index
// STRIDE-DAG: arith.constant 128 : index
// STRIDE-DAG: arith.constant 32768 : index
// STRIDE-DAG: arith.constant 2048 : index
// STRIDE-DAG: arith.constant 256 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = LBNHC>
func.func @LBNHC(%cache: !kv) -> (index, index, index, index, index, index) {
  %l = kvcache.stride %cache[L] : !kv
  %s = kvcache.stride %cache[S] : !kv
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %d = kvcache.stride %cache[D] : !kv
  return %l, %s, %b, %n, %h, %d : index, index, index, index, index, index
}

// -----

// CHECK: !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = [L, H, B, N, S, D]>
// STRIDE-LABEL: func.func @LHBNC(
// STRIDE-DAG: arith.constant 3276800 : index
// STRIDE-DAG: arith.constant 128 : index
// STRIDE-DAG: arith.constant 4096 : index
// STRIDE-DAG: arith.constant 256 : index
// STRIDE-DAG: arith.constant 409600 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = LHBNC>
func.func @LHBNC(%cache: !kv) -> (index, index, index, index, index, index) {
  %l = kvcache.stride %cache[L] : !kv
  %s = kvcache.stride %cache[S] : !kv
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %d = kvcache.stride %cache[D] : !kv
  return %l, %s, %b, %n, %h, %d : index, index, index, index, index, index
}

// -----

// CHECK: !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = [B, L, H, N, S, D]>
// STRIDE-LABEL: func.func @BLHNC(
// STRIDE-DAG: arith.constant 32768 : index
// STRIDE-DAG: arith.constant 128 : index
// STRIDE-DAG: arith.constant 1048576 : index
// STRIDE-DAG: arith.constant 256 : index
// STRIDE-DAG: arith.constant 4096 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = BLHNC>
func.func @BLHNC(%cache: !kv) -> (index, index, index, index, index, index) {
  %l = kvcache.stride %cache[L] : !kv
  %s = kvcache.stride %cache[S] : !kv
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %d = kvcache.stride %cache[D] : !kv
  return %l, %s, %b, %n, %h, %d : index, index, index, index, index, index
}

// -----

// CHECK: !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = [B, L, N, H, S, D]>
// STRIDE-LABEL: func.func @BLNHC(
// STRIDE-DAG: arith.constant 32768 : index
// STRIDE-DAG: arith.constant 128 : index
// STRIDE-DAG: arith.constant 1048576 : index
// STRIDE-DAG: arith.constant 2048 : index
// STRIDE-DAG: arith.constant 256 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = BLNHC>
func.func @BLNHC(%cache: !kv) -> (index, index, index, index, index, index) {
  %l = kvcache.stride %cache[L] : !kv
  %s = kvcache.stride %cache[S] : !kv
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %d = kvcache.stride %cache[D] : !kv
  return %l, %s, %b, %n, %h, %d : index, index, index, index, index, index
}

// -----

// CHECK: !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = [B, H, L, N, S, D]>
// STRIDE-LABEL: func.func @BHLNC(
// STRIDE-DAG: arith.constant 4096 : index
// STRIDE-DAG: arith.constant 128 : index
// STRIDE-DAG: arith.constant 1048576 : index
// STRIDE-DAG: arith.constant 256 : index
// STRIDE-DAG: arith.constant 131072 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<32L x 2S x 100B x 16N x 8H x 128D x bf16, order = BHLNC>
func.func @BHLNC(%cache: !kv) -> (index, index, index, index, index, index) {
  %l = kvcache.stride %cache[L] : !kv
  %s = kvcache.stride %cache[S] : !kv
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %d = kvcache.stride %cache[D] : !kv
  return %l, %s, %b, %n, %h, %d : index, index, index, index, index, index
}

// -----

// CHECK: !kvcache.cache<100B x 16N x 8H x 16D.o x 8D.i x bf16, order = [B, H, D.o, N, D.i]>
// STRIDE-LABEL: func.func @x_packed_key(
// STRIDE-DAG: arith.constant 16384 : index
// STRIDE-DAG: arith.constant 2048 : index
// STRIDE-DAG: arith.constant 128 : index
// STRIDE-DAG: arith.constant 8 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<100B x 16N x 8H x 16D.o x 8D.i x bf16, order = x_packed_key>
func.func @x_packed_key(%cache: !kv) -> (index, index, index, index, index) {
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %o = kvcache.stride %cache[D.o] : !kv
  %i = kvcache.stride %cache[D.i] : !kv
  return %b, %n, %h, %o, %i : index, index, index, index, index
}

// -----

// CHECK: !kvcache.cache<100B x 16N x 8H x 128D x bf16, order = [B, H, D, N]>
// STRIDE-LABEL: func.func @x_packed_value(
// STRIDE-DAG: arith.constant 16384 : index
// STRIDE-DAG: arith.constant 2048 : index
// STRIDE-DAG: arith.constant 16 : index
// STRIDE-DAG: arith.constant 1 : index
!kv = !kvcache.cache<100B x 16N x 8H x 128D x bf16, order = x_packed_value>
func.func @x_packed_value(%cache: !kv) -> (index, index, index, index) {
  %b = kvcache.stride %cache[B] : !kv
  %n = kvcache.stride %cache[N] : !kv
  %h = kvcache.stride %cache[H] : !kv
  %d = kvcache.stride %cache[D] : !kv
  return %b, %n, %h, %d : index, index, index, index
}
