// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The last layer of a model, without its norms and its MLP: keys and values of
// all tokens are written, and logits are made of the rows that are sampled.
// docs/row-demand.md follows it through kvcache-split-layer-groups.

!kv    = !kvcache.cache<2S x ?B x 16N x 2H x 16D x f32>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!rows  = tensor<?x2x16xf32>

func.func @last_layer(
    %x: tensor<?x32xf32>, %key: !rows, %value: !rows, %slots: tensor<?xi64>,
    %starts: tensor<?xi32>, %lengths: tensor<?xi32>, %blocks: tensor<?x?xi32>,
    %sampled: tensor<?xi32>, %wq: tensor<32x32xf32>, %head: tensor<32x96xf32>,
    %pool: !kv) -> tensor<?x96xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  kvcache.index_copy %key, %value into %pool at %where
    : !rows, !rows into !kv at !slots

  // The queries, and what they see.
  %t = tensor.dim %x, %c0 : tensor<?x32xf32>
  %q0 = tensor.empty(%t) : tensor<?x32xf32>
  %q1 = linalg.fill ins(%zero : f32) outs(%q0 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %q = linalg.matmul ins(%x, %wq : tensor<?x32xf32>, tensor<32x32xf32>)
    outs(%q1 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %query = tensor.expand_shape %q [[0], [1, 2]] output_shape [%t, 2, 16]
    : tensor<?x32xf32> into !rows
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    : tensor<?xi32>, tensor<?xi32>, !table
  %a0 = tensor.empty(%t) : !rows
  %a = kvcache.attention %query over %pool in %batch into %a0 causal
    : !rows over !kv in !kvcache.batch<?R x ?M x i32, tokens = 16> into !rows
  %y = tensor.collapse_shape %a [[0], [1, 2]] : !rows into tensor<?x32xf32>

  // Of all that, the sampler wants a row for each request.
  %s = tensor.dim %sampled, %c0 : tensor<?xi32>
  %l0 = tensor.empty(%s) : tensor<?x96xf32>
  %y0 = tensor.empty(%s) : tensor<?x32xf32>
  %last = linalg.generic {
      indexing_maps = [affine_map<(i, d) -> (i)>, affine_map<(i, d) -> (i, d)>],
      iterator_types = ["parallel", "parallel"]}
      ins(%sampled : tensor<?xi32>) outs(%y0 : tensor<?x32xf32>) {
  ^bb0(%i: i32, %out: f32):
    %row = arith.index_cast %i : i32 to index
    %d = linalg.index 1 : index
    %v = tensor.extract %y[%row, %d] : tensor<?x32xf32>
    linalg.yield %v : f32
  } -> tensor<?x32xf32>
  %l1 = linalg.fill ins(%zero : f32) outs(%l0 : tensor<?x96xf32>) -> tensor<?x96xf32>
  %logits = linalg.matmul ins(%last, %head : tensor<?x32xf32>, tensor<32x96xf32>)
    outs(%l1 : tensor<?x96xf32>) -> tensor<?x96xf32>
  return %logits : tensor<?x96xf32>
}
