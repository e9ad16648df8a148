// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// All layers of a block side by side, so that one copy moves a block. The
// framework sees the pool permuted to its logical order; a reshape of that would
// copy, and the rows would be lost in the copy. Here it is a view, or an error.
//
//   kv-opt cross_layer.mlir --kvcache-optimize
//
// docs/cross-layer.md shows what comes out.

!pool  = !kvcache.cache<4L x 2S x ?B x 16N x 8H x 128D x bf16,
                        order = cross_layer_nhd>
!layer = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16,
                        order = [B, S, N, H, D], strides = [B = 131072]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!rows  = tensor<?x8x128xbf16>

func.func @insert(%memory: memref<?x4x2x16x8x128xbf16>, %index: index,
                  %key: !rows, %value: !rows, %slots: tensor<?xi64>) {
  // L, S, B, N, H, D, as the model sees it.
  %logical = memref.transpose %memory (b, l, s, n, h, d) -> (l, s, b, n, h, d)
    : memref<?x4x2x16x8x128xbf16>
    to memref<4x2x?x16x8x128xbf16, strided<[32768, 16384, 131072, 1024, 128, 1]>>
  %pool = kvcache.view %logical
    : memref<4x2x?x16x8x128xbf16, strided<[32768, 16384, 131072, 1024, 128, 1]>>
    to !pool
  %layer = kvcache.layer %pool[%index] : !pool
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  kvcache.index_copy %key, %value into %layer at %where
    : !rows, !rows into !layer at !slots
  return
}
