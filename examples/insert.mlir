// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The smallest useful program: write the new keys and values of one layer to
// the slots that the scheduler of an engine gave them.
//
//   kv-compile insert.mlir -o libinsert.so                    for the CPU
//   kv-compile insert.mlir --target=sm_90a -o libinsert.so    for a GPU
//
// Sizes: 2 sides (keys, values), any number of blocks, 16 tokens in a block,
// 8 KV heads of 128 channels.

// One layer of a buffer that holds 4 layers. All layers of a block lie side by
// side, so that one copy moves the block of every layer. To a single layer this
// is an order and one inflated stride: from block to block it is 4 times as far
// as one layer needs, 4 * 2 * 16 * 8 * 128 elements.
!layer = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16,
                        order = [B, S, N, H, D], strides = [B = 131072]>

// Slot s is token s % 16 of block s / 16. Tokens with a negative slot are
// padding: they are skipped.
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// One row per token.
!rows = tensor<?x8x128xbf16>

// The names of the arguments are those of messages, header and manifest.
func.func @insert(%bytes: memref<?xi8>, %layer_offset: index, %blocks: index,
                  %slots: tensor<?xi64>, %key: !rows, %value: !rows) {
  // No data moves: the bytes are seen as a cache. That the view stays inside of
  // them is checked in each call.
  %cache = kvcache.view %bytes offset(%layer_offset) extents(B = %blocks)
    : memref<?xi8> to !layer
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  kvcache.index_copy %key, %value into %cache at %where
    : !rows, !rows into !layer at !slots
  return
}
