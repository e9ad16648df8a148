// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One layer of a model as a functional host says it: the pool is a tensor that
// goes in, is donated, and comes out updated. Compiled, it is updated where it
// lies, and nothing of the size of the pool is allocated or copied:
//
//   kv-compile functional_host.mlir -o libfunctional_host.so
//
// docs/hosts.md explains it line by line.

// Any number of blocks of 2 sides, 16 tokens and 8 heads of 128 channels. The
// dimensions of a tensor have no names; each operation says them in brackets.
!pool  = tensor<?x2x16x8x128xbf16>
!rows  = tensor<?x8x128xbf16>
!heads = tensor<?x32x128xbf16>
!list  = tensor<?xi32>

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// What a host outlines stays a function until `inline`: it takes a tensor and
// gives a tensor.
func.func private @insert(%pool: !pool, %key: !rows, %value: !rows,
                          %batch: !batch) -> !pool {
  %c0 = arith.constant 0 : index
  %tokens = tensor.dim %key, %c0 : !rows
  %empty = tensor.empty(%tokens) : tensor<?xi64>
  %numbers = kvcache.slot_mapping %batch into %empty
    : !batch into tensor<?xi64>
  %slots = kvcache.make_slots %numbers : tensor<?xi64> to !slots
  %next = kvcache.index_copy %key, %value into %pool[B, S, N, H, D] at %slots
    : !rows, !rows into !pool at !slots
  return %next : !pool
}

func.func @layer(%pool: !pool, %query: !heads, %key: !rows, %value: !rows,
                 %starts: !list, %lengths: !list, %blocks: tensor<?x?xi32>)
    -> (!pool, !heads) {
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    : !list, !list, !table
  %next = func.call @insert(%pool, %key, %value, %batch)
    : (!pool, !rows, !rows, !batch) -> !pool
  %c0 = arith.constant 0 : index
  %tokens = tensor.dim %query, %c0 : !heads
  %empty = tensor.empty(%tokens) : !heads
  %out = kvcache.attention %query over %next[B, S, N, H, D] in %batch
    into %empty causal : !heads over !pool in !batch into !heads
  return %next, %out : !pool, !heads
}
