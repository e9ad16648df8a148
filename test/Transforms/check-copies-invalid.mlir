// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-bufferize --split-input-file --verify-diagnostics

// What reviewers of a cross-layer pool were afraid of: the view of a framework
// is permuted and reshaped, which copies, and the rows go to the copy.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

func.func @permute_reshape_write(%pool: memref<?x8x16x128xbf16>, %rows: memref<?x8x128xbf16>,
                                 %slots: memref<?xi64>) {
  %c0 = arith.constant 0 : index
  %n = memref.dim %pool, %c0 : memref<?x8x16x128xbf16>
  %t = arith.constant 16 : index
  %slots_of_pool = arith.muli %n, %t : index
  %buffer = memref.alloc(%n) : memref<?x16x8x128xbf16>
  %nhd = memref.transpose %pool (b, h, n, d) -> (b, n, h, d) : memref<?x8x16x128xbf16> to memref<?x16x8x128xbf16, strided<[16384, 128, 2048, 1]>>
  // expected-note@+1 {{the copy is made here; view the original as a cache instead (kvcache.view with the names of its dimensions), or copy back with kvcache.relayout}}
  memref.copy %nhd, %buffer : memref<?x16x8x128xbf16, strided<[16384, 128, 2048, 1]>> to memref<?x16x8x128xbf16>
  %flat = memref.collapse_shape %buffer [[0, 1], [2], [3]] : memref<?x16x8x128xbf16> into memref<?x8x128xbf16>
  %again = memref.expand_shape %flat [[0, 1], [2], [3]] output_shape [%n, 16, 8, 128] : memref<?x8x128xbf16> into memref<?x16x8x128xbf16>
  %cache = kvcache.view %again : memref<?x16x8x128xbf16> to !kv
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  // expected-error@+1 {{'kvcache.index_copy' op the written rows are lost: the cache is a copy of another buffer, of 32768 bytes for each index of dimension 0, and the copy is never read}}
  kvcache.index_copy %rows into %cache at %where : memref<?x8x128xbf16> into !kv at !slots
  return
}

// -----

// The same with tensors: what a functional program makes of it.

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

func.func @permute_write_forget(%pool: tensor<?x8x16x128xbf16>, %rows: tensor<?x8x128xbf16>,
                                %slots: tensor<?xi64>) -> tensor<?x8x16x128xbf16> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %pool, %c0 : tensor<?x8x16x128xbf16>
  %empty = tensor.empty(%n) : tensor<?x16x8x128xbf16>
  // expected-note@+1 {{the pool is a copy made here, so writes do not reach the original; name the dimensions of the original in brackets instead of moving its elements}}
  %copy = "linalg.transpose"(%pool, %empty) <{permutation = array<i64: 0, 2, 1, 3>}> ({
  ^bb0(%x: bf16, %y: bf16):
    linalg.yield %x : bf16
  }) : (tensor<?x8x16x128xbf16>, tensor<?x16x8x128xbf16>) -> tensor<?x16x8x128xbf16>
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  // expected-error@+1 {{'kvcache.index_copy' op the written rows are lost: the updated pool is expected to be returned or read, but the result is unused}}
  %next = kvcache.index_copy %rows into %copy[B, N, H, D] at %where
    : tensor<?x8x128xbf16> into tensor<?x16x8x128xbf16> at !slots
  return %pool : tensor<?x8x16x128xbf16>
}

// -----

// Two readers of a pool: attention over the contents before the write.

!pool = tensor<?x2x16x8x128xbf16>
!rows = tensor<?x8x128xbf16>
!heads = tensor<?x32x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

func.func @pool_two_readers(%pool: !pool, %query: !heads, %out: !heads, %key: !rows, %value: !rows,
                            %slots: tensor<?xi64>, %starts: tensor<?xi32>,
                            %lengths: tensor<?xi32>, %blocks: tensor<?x?xi32>) -> (!pool, !heads) {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table : tensor<?xi32>, tensor<?xi32>, !table
  // expected-error@+2 {{'memref.copy' op copies a pool, 65536 bytes for each block, on each call: expected an update in place, which takes a pool that the caller donates and whose old contents are not read afterwards}}
  // expected-note@+1 {{an intended copy is written as kvcache.relayout or memref.copy in the input, or allowed with 'allow-pool-copies'}}
  %next = kvcache.index_copy %key, %value into %pool[B, S, N, H, D] at %where
    : !rows, !rows into !pool at !slots
  // expected-note@+1 {{the old contents are used here, after the update}}
  %o = kvcache.attention %query over %pool[B, S, N, H, D] in %batch into %out causal
    : !heads over !pool in !batch into !heads
  return %next, %o : !pool, !heads
}

// -----

// One pool in two forms: whether the tensor has the row depends on where it is
// copied.

!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!pool = tensor<?x16x8x128xbf16>
!rows = tensor<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

func.func @two_forms(%pool: !pool, %rows: !rows, %out: !rows, %slots: tensor<?xi64>) -> !rows {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %memref = bufferization.to_buffer %pool : !pool to memref<?x16x8x128xbf16>
  %cache = kvcache.view %memref : memref<?x16x8x128xbf16> to !kv
  // expected-note@+1 {{written here}}
  kvcache.index_copy %rows into %cache at %where : !rows into !kv at !slots
  // expected-error@+1 {{'kvcache.gather' op reads a pool as a tensor after it was written through a reference to its buffer: expected only one of the two forms, as the tensor holds the contents before or after the write, depending on where it is copied}}
  %r = kvcache.gather %pool[B, N, H, D] at %where into %out : !pool at !slots into !rows
  return %r : !rows
}

// -----

// A destination whose old contents are read later: there is a buffer of the size
// of the pool for the cleared one, which the program does not have.

!pool = tensor<?x16x8x128xbf16>
!rows = tensor<?x8x128xbf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

func.func @cleared_and_old(%pool: !pool, %rows: !rows, %slots: tensor<?xi64>, %a: !rows, %b: !rows) -> (!rows, !rows) {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %zero = arith.constant 0.0 : bf16
  // expected-error@+2 {{'memref.alloc' op allocates a pool, 32768 bytes for each block, on each call, for the result of 'linalg.fill': expected an update in place, which takes a pool that the caller donates and whose old contents are not read afterwards}}
  // expected-note@+1 {{an intended buffer is written as tensor.empty or memref.alloc in the input, or allowed with 'allow-pool-copies'}}
  %cleared = linalg.fill ins(%zero : bf16) outs(%pool : !pool) -> !pool
  %next = kvcache.index_copy %rows into %cleared[B, N, H, D] at %where : !rows into !pool at !slots
  %new = kvcache.gather %next[B, N, H, D] at %where into %a : !pool at !slots into !rows
  %old = kvcache.gather %pool[B, N, H, D] at %where into %b : !pool at !slots into !rows
  return %new, %old : !rows, !rows
}

// -----

// The same for arithmetic on a whole pool.

!pool = tensor<4x16x8x128xf32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!rows = tensor<?x8x128xf32>

func.func @scaled_and_old(%pool: !pool, %scales: !pool, %slots: tensor<?xi64>, %a: !rows, %b: !rows) -> (!rows, !rows) {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  // expected-error@+2 {{'memref.alloc' op allocates a pool, 262144 bytes, on each call, for the result of 'arith.mulf'}}
  // expected-note@+1 {{an intended buffer is written as tensor.empty or memref.alloc in the input, or allowed with 'allow-pool-copies'}}
  %scaled = arith.mulf %pool, %scales : !pool
  %new = kvcache.gather %scaled[B, N, H, D] at %where into %a : !pool at !slots into !rows
  %old = kvcache.gather %pool[B, N, H, D] at %where into %b : !pool at !slots into !rows
  %keep = kvcache.gather %scales[B, N, H, D] at %where into %new : !pool at !slots into !rows
  return %keep, %old : !rows, !rows
}
