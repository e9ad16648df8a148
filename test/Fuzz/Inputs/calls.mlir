// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The library that the target `call` calls: each operation with lists whose
// entries anybody may have written, small so that a call is quick.

!pool = !kvcache.cache<2S x ?B x 4N x 2H x 8D x f32, strides = [B = ? mult 16]>
!heads = !kvcache.cache<2S x ?B x 4N x 2H x 8D x bf16, order = [B, S, H, N, D], align = 4>
!layers = !kvcache.cache<3L x 2S x ?B x 4N x 2H x 8D x f32>
!layer = !kvcache.cache<2S x ?B x 4N x 2H x 8D x f32>
!part = !kvcache.cache<2S x ?B x 4N x 2H x 8D x f32, strides = [S = ? mult 16, B = ? mult 16]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>
!narrow = !kvcache.slots<?T x i32, rows_per_block = 4, pad = none>
!sink = !kvcache.slots<?T x i64, rows_per_block = 4, pad = sink(0)>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 4>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 4>
!placed = !kvcache.batch<?R x ?M x i32, tokens = 4, positions = i64>
!rows = memref<?x2x8xf32>
!loose = memref<?x2x8xf32, strided<[?, 8, 1], offset: ?>>

func.func @index_copy(%pool: !pool, %slots: memref<?xi64>, %key: !rows,
                      %value: !rows) {
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  kvcache.index_copy %key, %value into %pool at %where
    : !rows, !rows into !pool at !slots
  return
}

func.func @index_copy_narrow(%pool: !pool, %slots: memref<?xi32>, %key: !loose,
                             %value: !loose) {
  %where = kvcache.make_slots %slots : memref<?xi32> to !narrow
  kvcache.index_copy %key, %value into %pool at %where
    : !loose, !loose into !pool at !narrow
  return
}

func.func @index_copy_sink(%pool: !heads, %slots: memref<?xi64>,
                           %key: memref<?x2x8xbf16>, %value: memref<?x2x8xbf16>) {
  %where = kvcache.make_slots %slots : memref<?xi64> to !sink
  kvcache.index_copy %key, %value into %pool at %where
    : memref<?x2x8xbf16>, memref<?x2x8xbf16> into !heads at !sink
  return
}

func.func @gather(%pool: !pool, %slots: memref<?xi64>, %key: !loose,
                  %value: !loose) {
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  kvcache.gather %pool at %where zero into %key, %value
    : !pool at !slots into !loose, !loose
  return
}

func.func @scatter(%pool: !pool, %blocks: memref<?xi64>, %offsets: memref<?xi32>,
                   %key: !rows, %value: !rows) {
  kvcache.scatter %key, %value into %pool at %blocks, %offsets
    pad = skip_out_of_range
    : !rows, !rows into !pool at memref<?xi64>, memref<?xi32>
  return
}

func.func @copy_blocks(%pool: !heads, %pairs: memref<?x2xi64>) {
  kvcache.copy_blocks %pool at %pairs : !heads at memref<?x2xi64>
  return
}

func.func @clear_blocks(%pool: !heads, %blocks: memref<?xi32>) {
  kvcache.clear_blocks %pool at %blocks : !heads at memref<?xi32>
  return
}

func.func @transfer(%from: !pool, %to: !pool, %pairs: memref<?x2xi32>) {
  kvcache.transfer %from to %to at %pairs zero
    : !pool to !pool at memref<?x2xi32>
  return
}

func.func @layer(%pool: !layers, %index: index, %slots: memref<?xi64>,
                 %key: !rows, %value: !rows) {
  %layer = kvcache.layer %pool[%index] : !layers
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  kvcache.index_copy %key, %value into %layer at %where
    : !rows, !rows into !layer at !slots
  return
}

func.func @subpool(%pool: !pool, %first: index, %count: index,
                   %slots: memref<?xi64>, %key: !rows, %value: !rows) {
  %part = kvcache.subpool %pool[%first, %count] : !pool
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  kvcache.index_copy %key, %value into %part at %where
    : !rows, !rows into !part at !slots
  return
}

func.func @bytes(%memory: memref<?xi8>, %offset: index, %blocks: index,
                 %stride: index, %slots: memref<?xi64>, %key: !rows,
                 %value: !rows) {
  %pool = kvcache.view %memory offset(%offset) extents(B = %blocks)
    strides(B = %stride) : memref<?xi8> to !pool
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  kvcache.index_copy %key, %value into %pool at %where
    : !rows, !rows into !pool at !slots
  return
}

func.func @slot_mapping(%starts: memref<?xi32>, %lengths: memref<?xi32>,
                        %blocks: memref<?x?xi32, strided<[?, 1], offset: ?>>,
                        %slots: memref<?xi64>) {
  %table = kvcache.make_block_table %blocks
    : memref<?x?xi32, strided<[?, 1], offset: ?>> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    : memref<?xi32>, memref<?xi32>, !table
  kvcache.slot_mapping %batch into %slots : !batch into memref<?xi64>
  return
}

func.func @expand(%blocks: memref<?xi64>, %mapped: memref<?xi64>,
                  %slots: memref<?xi64>) {
  kvcache.map_blocks %blocks by 3 into %mapped : memref<?xi64> into memref<?xi64>
  kvcache.block_slots %blocks of 4 into %slots : memref<?xi64> into memref<?xi64>
  return
}

func.func @select_rows(%starts: memref<?xi32>, %lengths: memref<?xi32>,
                       %blocks: memref<?x?xi32>, %x: memref<?x5xf32>,
                       %indices: memref<?xi32>, %count: memref<1xi32>,
                       %out: memref<?x5xf32>, %out_starts: memref<?xi32>,
                       %positions: memref<?xi64>) {
  %table = kvcache.make_block_table %blocks : memref<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    : memref<?xi32>, memref<?xi32>, !table
  kvcache.select_rows %x of %batch at %indices, %count
    into %out, %out_starts, %positions
    : memref<?x5xf32> of !batch at memref<?xi32>, memref<1xi32>
    into memref<?x5xf32>, memref<?xi32>, memref<?xi64>
  return
}

func.func @attention(%query: memref<?x4x8xf32>, %pool: !pool,
                     %starts: memref<?xi32>, %lengths: memref<?xi32>,
                     %blocks: memref<?x?xi32>, %out: memref<?x4x8xf32>,
                     %lse: memref<?x4xf32>) {
  %table = kvcache.make_block_table %blocks : memref<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    : memref<?xi32>, memref<?xi32>, !table
  kvcache.attention %query over %pool in %batch into %out, %lse causal window 5
    : memref<?x4x8xf32> over !pool in !batch
    into memref<?x4x8xf32>, memref<?x4xf32>
  return
}

func.func @attention_placed(%query: memref<?x2x8xbf16>, %pool: !heads,
                            %starts: memref<?xi32>, %lengths: memref<?xi32>,
                            %blocks: memref<?x?xi32>, %positions: memref<?xi64>,
                            %out: memref<?x2x8xbf16>) {
  %table = kvcache.make_block_table %blocks : memref<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    positions(%positions : memref<?xi64>)
    : memref<?xi32>, memref<?xi32>, !table
  kvcache.attention %query over %pool in %batch into %out causal
    : memref<?x2x8xbf16> over !heads in !placed into memref<?x2x8xbf16>
  return
}

func.func @attention_masked(%query: memref<?x4x8xf32>, %pool: !pool,
                            %starts: memref<?xi32>, %lengths: memref<?xi32>,
                            %blocks: memref<?x?xi32>,
                            %mask: memref<?x?xi32, strided<[?, 1]>>,
                            %out: memref<?x4x8xf32>) {
  %table = kvcache.make_block_table %blocks : memref<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    : memref<?xi32>, memref<?xi32>, !table
  kvcache.attention %query over %pool in %batch
    mask(%mask : memref<?x?xi32, strided<[?, 1]>>) into %out causal
    : memref<?x4x8xf32> over !pool in !batch into memref<?x4x8xf32>
  return
}

func.func @attention_of_prefixes(%query: memref<?x4x8xf32>, %pool: !pool,
                                 %starts: memref<?xi32>, %lengths: memref<?xi32>,
                                 %blocks: memref<?x?xi32>,
                                 %groups: memref<?xi32>, %tokens: memref<?xi64>,
                                 %out: memref<?x4x8xf32>) {
  %table = kvcache.make_block_table %blocks : memref<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    : memref<?xi32>, memref<?xi32>, !table
  kvcache.attention %query over %pool in %batch
    prefixes(%groups, %tokens : memref<?xi32>, memref<?xi64>) into %out causal
    : memref<?x4x8xf32> over !pool in !batch into memref<?x4x8xf32>
  return
}

// Slots that are made of a tensor that changes are kept in the workspace.
func.func @workspace(%pool: !pool, %slots: tensor<?xi64>,
                     %key: tensor<?x2x8xf32>, %value: tensor<?x2x8xf32>,
                     %i: index) {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %slots, %c0 : tensor<?xi64>
  %ok = arith.cmpi ult, %i, %n : index
  %minus = arith.constant -1 : i64
  %before = kvcache.make_slots %slots : tensor<?xi64> to !slots
  %changed = scf.if %ok -> tensor<?xi64> {
    %new = tensor.insert %minus into %slots[%i] : tensor<?xi64>
    scf.yield %new : tensor<?xi64>
  } else {
    scf.yield %slots : tensor<?xi64>
  }
  %after = kvcache.make_slots %changed : tensor<?xi64> to !slots
  kvcache.index_copy %key, %value into %pool at %before
    : tensor<?x2x8xf32>, tensor<?x2x8xf32> into !pool at !slots
  kvcache.index_copy %key, %value into %pool at %after
    : tensor<?x2x8xf32>, tensor<?x2x8xf32> into !pool at !slots
  return
}

func.func @csr_table(%indptr: memref<?xi32>, %indices: memref<?xi32>,
                     %last: memref<?xi32>, %pages: memref<?x?xi32>,
                     %lengths: memref<?xi32>) {
  kvcache.csr_table %indptr, %indices last(%last of 4) into %pages, %lengths
    : memref<?xi32>, memref<?xi32>, memref<?xi32>
    into memref<?x?xi32>, memref<?xi32>
  return
}

func.func @attention_around(%query: memref<?x4x8xf32, strided<[?, ?, 1]>>,
                            %pool: !pool, %starts: memref<?xi32>,
                            %lengths: memref<?xi32>, %blocks: memref<?x?xi32>,
                            %positions: memref<?xi64>, %out: memref<?x4x8xf32>,
                            %lse: memref<4x?xf32>) {
  %table = kvcache.make_block_table %blocks : memref<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    positions(%positions : memref<?xi64>)
    : memref<?xi32>, memref<?xi32>, !table
  %scale = arith.constant 5.0e-01 : f32
  kvcache.attention %query over %pool in %batch value_scale(%scale)
    into %out, %lse heads_first window 3 window_right 2
    : memref<?x4x8xf32, strided<[?, ?, 1]>> over !pool in !placed
    into memref<?x4x8xf32>, memref<4x?xf32>
  kvcache.merge_states %out, %lse with %out, %lse with %out, %lse into %out, %lse
    heads_first
    : memref<?x4x8xf32>, memref<4x?xf32> with memref<?x4x8xf32>, memref<4x?xf32>
    with memref<?x4x8xf32>, memref<4x?xf32>
    into memref<?x4x8xf32>, memref<4x?xf32>
  return
}

func.func @rotate(%x: !loose, %table: memref<?x6xf32, strided<[?, 1], offset: ?>>,
                  %positions: memref<?xi64>, %weight: memref<8xbf16>,
                  %y: memref<?x2x8xf8E4M3FN>) {
  kvcache.rotate %x by %table at %positions into %y
    : !loose by memref<?x6xf32, strided<[?, 1], offset: ?>> at memref<?xi64>
    into memref<?x2x8xf8E4M3FN>
  kvcache.normalize %x by %weight into %x epsilon 1.0e-06 plus_one
    : !loose by memref<8xbf16> into !loose
  return
}

// What is between is kept in the workspace.
func.func @insert_rotated(%pool: !pool, %slots: memref<?xi64>, %key: !rows,
                          %value: !rows, %table: memref<?x8xbf16>,
                          %positions: memref<?xi32>) {
  %c0 = arith.constant 0 : index
  %n = memref.dim %key, %c0 : !rows
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  kvcache.fuse {
    %normal = memref.alloc(%n) : !rows
    %turned = memref.alloc(%n) : !rows
    kvcache.normalize %key into %normal epsilon 0.0 : !rows into !rows
    kvcache.rotate %normal by %table at %positions into %turned interleaved
      : !rows by memref<?x8xbf16> at memref<?xi32> into !rows
    kvcache.index_copy %turned, %value into %pool at %where
      : !rows, !rows into !pool at !slots
  }
  return
}
