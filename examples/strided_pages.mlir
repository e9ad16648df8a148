// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Blocks that lie as far apart as the call says. The library has code for what
// is common, and code that takes anything; a test in each call chooses.
//
//   kv-compile strided_pages.mlir -o libpages.so
//   KVRT_TRACE=1 kv-run strided_pages.mlir --in pool=random,shape=[9,16,8,128] \
//     --in rows=random --in slots=[3,-1,17]
//
// docs/strided-pages.md shows what comes out.

!any   = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!rows  = tensor<?x8x128xbf16>

func.func @write(%pool: !any, %rows: !rows, %slots: tensor<?xi64>) {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  kvcache.index_copy %rows into %pool at %where : !rows into !any at !slots
  return
}
