// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One attention layer of a serving step: the keys and values of the new tokens
// go to their slots in the pool, then each query reads what its request has in
// it. The batch is ragged: one request decodes a token, another one brings a
// piece of its prompt, a third one has nothing to do.
//
//   kv-compile paged_decode.mlir -o libpaged_decode.so    a library for the CPU
//   ./dev demo                                            runs and checks it
//
// Sizes: 4 layers, 2 sides (keys, values), any number of blocks of 16 tokens,
// 8 KV heads of 64 channels. 32 query heads share them, four by four.

// The pool of the engine. The order says that all layers of a block lie side by
// side, [B, L, S, N, H, D] in memory, so that one copy moves a whole block.
// Another layout is another type here and in `!layer`, and nothing else.
!pool = !kvcache.cache<4L x 2S x ?B x 16N x 8H x 64D x bf16,
                       order = cross_layer_nhd>

// One layer of it, which `layer` gives: its blocks are 4 times as far apart as
// one layer needs.
!layer = !kvcache.cache<2S x ?B x 16N x 8H x 64D x bf16,
                        order = [B, S, N, H, D], strides = [B = 65536]>

// R requests with up to M blocks each, and the slots of T new tokens. A
// negative slot is padding: it is skipped.
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// Activations: one row per new token.
!query = tensor<?x32x64xbf16>
!rows  = tensor<?x8x64xbf16>

// The arguments are called so in messages, in the C header and in the manifest.
// The pool is written where it lies. The result is one more argument in C.
func.func @paged_decode(
    %pool: !pool {kvcache.name = "pool"},
    %index: index {kvcache.name = "layer"},
    %query: !query {kvcache.name = "query"},
    %key: !rows {kvcache.name = "key"},
    %value: !rows {kvcache.name = "value"},
    %starts: tensor<?xi32> {kvcache.name = "starts"},
    %lengths: tensor<?xi32> {kvcache.name = "lengths"},
    %blocks: tensor<?x?xi32> {kvcache.name = "block_table"})
    -> (!query {kvcache.name = "out"}) {
  // Which rows are of which request, and where its tokens are.
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    : tensor<?xi32>, tensor<?xi32>, !table

  // The slot of each new token follows from that.
  %c0 = arith.constant 0 : index
  %tokens = tensor.dim %query, %c0 : !query
  %buffer = tensor.empty(%tokens) : tensor<?xi64>
  %numbers = kvcache.slot_mapping %batch into %buffer
    : !batch into tensor<?xi64>
  %slots = kvcache.make_slots %numbers : tensor<?xi64> to !slots

  // No data moves here. An index that the pool does not have is an error.
  %layer = kvcache.layer %pool[%index] : !pool

  // Write, then read: the queries see their own tokens.
  kvcache.index_copy %key, %value into %layer at %slots
    : !rows, !rows into !layer at !slots
  %empty = tensor.empty(%tokens) : !query
  %out = kvcache.attention %query over %layer in %batch into %empty causal
    : !query over !layer in !batch into !query
  return %out : !query
}
