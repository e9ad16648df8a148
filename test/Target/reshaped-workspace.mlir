// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// A buffer with the extents of a reshape of another buffer has a bound.
//
// RUN: kv-compile %s -o %t.so

!kv = !kvcache.cache<2S x ?B x 16N x 2H x 8D x f32>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!rows = tensor<?x4x8xf32>
func.func @f(%x: tensor<?x32xf32>, %w: tensor<32x32xf32>,
             %starts: tensor<?xi32>, %lengths: tensor<?xi32>,
             %blocks: tensor<?x?xi32>, %pool: !kv) -> !rows {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x32xf32>
  %q0 = tensor.empty(%t) : tensor<?x32xf32>
  %q1 = linalg.fill ins(%zero : f32) outs(%q0 : tensor<?x32xf32>)
    -> tensor<?x32xf32>
  %q = linalg.matmul ins(%x, %w : tensor<?x32xf32>, tensor<32x32xf32>)
    outs(%q1 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %query = tensor.expand_shape %q [[0], [1, 2]] output_shape [%t, 4, 8]
    : tensor<?x32xf32> into !rows
  %n = tensor.dim %query, %c0 : !rows
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    : tensor<?xi32>, tensor<?xi32>, !table
  %a0 = tensor.empty(%n) : !rows
  %a = kvcache.attention %query over %pool in %batch into %a0 causal
    : !rows over !kv in !batch into !rows
  %b0 = tensor.empty(%n) : !rows
  %b = kvcache.attention %a over %pool in %batch into %b0 causal
    : !rows over !kv in !batch into !rows
  return %b : !rows
}
