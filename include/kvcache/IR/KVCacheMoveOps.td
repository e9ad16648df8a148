// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operations that move the elements of caches: rows in and out, blocks between
// places, and zeros into blocks. Nothing else in the dialect moves data.
//
// If the cache is a tensor, the operation returns the updated tensor. Its
// dimensions are the axes of the cache, which are named in brackets, and its
// elements are packed in this sequence. Bufferization turns this into a `view`
// of the buffer and the operation on a reference.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_MOVEOPS_TD
#define KVCACHE_IR_MOVEOPS_TD

include "kvcache/IR/KVCacheTypes.td"

/// An operation with one cache that may be a tensor.
class KVCache_CacheIntoOp<string mnemonic, string dest, string scales = "">
    : KVCache_IntoOp<mnemonic, dest, [
          "getCacheUses", "getIndexUses", "keepsDestination", "dropAxisNames"], [
          AttrSizedOperandSegments], scales> {
  let extraClassDeclaration = intoDeclaration # [{
    /// The type of the cache, even if it is a tensor.
    ::kvcache::CacheType getCacheType();
  }];
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

def KVCache_IndexCopyOp : KVCache_CacheIntoOp<"index_copy", "cache", "scales"> {
  let summary = "write rows to the slots of a cache";
  let description = [{
    Writes one row per token, for each side of the cache:

    ```
    for t in 0 .. T-1, s in sides, h in heads, d in channels:
      if slots[t] is not skipped:
        cache[S = s, B = slots[t] / N, N = slots[t] % N, H = h, D = d]
          = rows[s][t, h, d]
    ```

    There is one row operand per side, key before value, each a tensor or memref
    `[T, H, D]` (`[T, D]` if the cache has no head axis) whose inner dimensions
    are contiguous; rows may be apart. Of several rows for one slot, the last
    one is kept on a CPU, and on a GPU each element comes from one of them.
    Skipped rows are not written anywhere. Rows of another format than that of
    the cache are converted (`!kvcache.cache`). The rows must not overlap the
    part of the cache that is written. `schedule` overrides how a GPU kernel
    distributes the work; it never changes the result.

    *Scaled rows.* If the stride of B is known to be `scale` times that of N,
    with a constant scale above N, slots may have `scale` rows per block. Slot
    `b * scale + n` is then token n of block b, its row begins at `slot *
    stride(N)`, and no division is needed. A slot with `n >= N` is in the gap
    after a block, where other layers have their rows, and is skipped.

    *Contents with scales.* The scale of some elements of a row is the largest
    magnitude among them, at least 2^-60 and at most the largest f32, divided by
    the largest number of the format; the elements are multiplied by the inverse
    quotient and rounded to nearest, ties to even. A NaN stays one, or becomes 0
    in i8. Where several rows are for one slot, a GPU may combine values of one
    with a scale of another: a caller lists such a slot once.

    `scales` are there after `kvcache-split-parts`, for a cache of stored values.

    Constraints:
      * `index_copy_c1` there is one row operand per side of the cache
      * `index_copy_c2` rows have the row shape of the cache, one format, and as
        many rows as slots if both numbers are constant
      * `index_copy_c3` the block size of the slots is that of the cache, or the
        scale of its rows
      * `index_copy_c4` the inner dimensions of a row are contiguous
      * `index_copy_c5` the cache is a single layer
      * `index_copy_c6` rows are all tensors or all memrefs, tensors if the
        cache is a tensor
      * `index_copy_c7` rows in memory are in the default memory space
      * `index_copy_c8` the cache may be written
      * `index_copy_c9` the dimensions of the cache are named if and only if it
        is a tensor, and the names are the axes of a cache
      * `index_copy_c10` scales are given for stored values alone; they are a
        cache of f32 with the same axes, of the same extents or 1, whose D
        divides that of the cache, and they may be written

    Examples:

    ```mlir
    kvcache.index_copy %key, %value into %cache at %slots
      : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !kv at !slots
    %next = kvcache.index_copy %key, %value into %pool[B, S, N, H, D] at %slots
      : tensor<?x8x128xbf16>, tensor<?x8x128xbf16>
      into tensor<?x2x16x8x128xbf16> at !slots
    ```
  }];
  let arguments = (ins
      Variadic<KVCache_Buffer>:$rows, KVCache_CacheOrTensor:$cache,
      Optional<KVCache_AnyCache>:$scales, KVCache_AnySlots:$slots,
      OptionalAttr<StrArrayAttr>:$axes,
      OptionalAttr<KVCache_CopyScheduleAttr>:$schedule);
  let assemblyFormat = [{
    $rows `into` $cache (`` custom<AxisList>($axes)^)?
    (`scales` `(` $scales^ `:` type($scales) `)`)? `at` $slots
    (`schedule` $schedule^)? attr-dict
    `:` type($rows) `into` type($cache) `at` type($slots)
  }];
}

def KVCache_ScatterOp : KVCache_CacheIntoOp<"scatter", "cache", "scales"> {
  let summary = "write rows to blocks and offsets of a cache";
  let description = [{
    Like `index_copy`, with a block and an offset for each row instead of a
    slot:

    ```
    for t in 0 .. T-1, s in sides, h in heads, d in channels:
      if (blocks[t], offsets[t]) is not skipped:
        cache[S = s, B = blocks[t], N = offsets[t], H = h, D = d]
          = rows[s][t, h, d]
    ```

    `pad` defines padding entries, as in `!kvcache.slots`: with `skip_negative`,
    entries whose block or offset is negative; with `skip_out_of_range`, also
    those past the last block or past the end of the block; with `none`, there
    are none. An invalid entry is an error of the caller; it is skipped.

    Constraints:
      * `scatter_c1` there is one row operand per side of the cache
      * `scatter_c2` rows have the row shape of the cache, one format, and as
        many rows as blocks if both numbers are constant
      * `scatter_c3` blocks and offsets are 1-D, of i32 or i64, with equal
        lengths if both are constant
      * `scatter_c4` rows have contiguous inner dimensions, and memrefs are in
        the default memory space
      * `scatter_c5` the cache is a single layer
      * `scatter_c6` buffers are all tensors or all memrefs, tensors if the
        cache is a tensor
      * `scatter_c7` the cache may be written
      * `scatter_c8` `pad` is not `sink`
      * `scatter_c9` the dimensions of the cache are named if and only if it is
        a tensor, and the names are the axes of a cache
      * `scatter_c10` scales are those of `index_copy`

    Example:

    ```mlir
    kvcache.scatter %key, %value into %cache at %blocks, %offsets
      pad = skip_negative
      : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !kv
      at memref<?xi64>, memref<?xi64>
    ```
  }];
  let arguments = (ins
      Variadic<KVCache_Buffer>:$rows, KVCache_CacheOrTensor:$cache,
      Optional<KVCache_AnyCache>:$scales,
      KVCache_Buffer:$blocks, KVCache_Buffer:$offsets,
      OptionalAttr<StrArrayAttr>:$axes, KVCache_PaddingAttr:$pad,
      OptionalAttr<KVCache_CopyScheduleAttr>:$schedule);
  let assemblyFormat = [{
    $rows `into` $cache (`` custom<AxisList>($axes)^)?
    (`scales` `(` $scales^ `:` type($scales) `)`)? `at` $blocks `,` $offsets
    `pad` `=` `` $pad (`schedule` $schedule^)? attr-dict
    `:` type($rows) `into` type($cache) `at` type($blocks) `,` type($offsets)
  }];
}

def KVCache_GatherOp : KVCache_CacheIntoOp<"gather", "outs"> {
  let summary = "read rows from the slots of a cache";
  let description = [{
    The inverse of `index_copy`:

    ```
    for t in 0 .. T-1, s in sides, h in heads, d in channels:
      if slots[t] is in the cache:
        outs[s][t, h, d]
          = cache[S = s, B = slots[t] / N, N = slots[t] % N, H = h, D = d]
      else:
    outs[s][t] is unchanged, or 0 with `zero`
    ```

    An element of contents with scales is `scale * stored`, rounded to the format
    of the destination. `scales` are there after `kvcache-split-parts`.

    Constraints:
      * `gather_c1` there is one destination per side of the cache
      * `gather_c2` destinations have the row shape of the cache, one format,
        and as many rows as slots if both numbers are constant
      * `gather_c3` the block size of the slots is that of the cache
      * `gather_c4` destinations have contiguous inner dimensions, and memrefs
        are in the default memory space
      * `gather_c5` the cache is a single layer
      * `gather_c6` destinations are all tensors or all memrefs, tensors if the
        cache is a tensor
      * `gather_c7` the dimensions of the cache are named if and only if it is a
        tensor, and the names are the axes of a cache
      * `gather_c8` scales are those of `index_copy`, but need not be writable

    Example:

    ```mlir
    kvcache.gather %cache at %slots zero into %key, %value
      : !kv at !slots into memref<?x8x128xbf16>, memref<?x8x128xbf16>
    ```
  }];
  let arguments = (ins
      KVCache_CacheOrTensor:$cache, Optional<KVCache_AnyCache>:$scales,
      KVCache_AnySlots:$slots,
      Variadic<KVCache_Buffer>:$outs, OptionalAttr<StrArrayAttr>:$axes,
      UnitAttr:$zero, OptionalAttr<KVCache_CopyScheduleAttr>:$schedule);
  let assemblyFormat = [{
    $cache (`` custom<AxisList>($axes)^)?
    (`scales` `(` $scales^ `:` type($scales) `)`)? `at` $slots (`zero` $zero^)?
    `into` $outs (`schedule` $schedule^)? attr-dict
    `:` type($cache) `at` type($slots) `into` type($outs)
  }];
}

//===----------------------------------------------------------------------===//
// Blocks
//===----------------------------------------------------------------------===//

def KVCache_RelayoutOp : KVCache_IntoOp<"relayout", "dest", [
    "getCacheUses", "keepsDestination", "dropAxisNames"], [
    AttrSizedOperandSegments], "destScales"> {
  let summary = "copy a cache to one with another layout";
  let description = [{
    Copies every element to the element with the same indices, converted to the
    format of the destination (`!kvcache.cache`). Orders, strides and splits of
    axes may differ. If one cache has fewer blocks, the blocks that
    both have are copied; others are unchanged.

    The two caches must not overlap.

    Between caches of one format, bits are copied, and their scales. Otherwise
    elements are read as `gather` does and written as `index_copy` does.
    `source_scales` and `dest_scales` are there after `kvcache-split-parts`.

    Constraints:
      * `relayout_c1` both caches have the same axes, with equal extents if both
        are known
      * `relayout_c2` the destination may be written
      * `relayout_c3` the dimensions of the caches are named if and only if they
        are tensors, and the names are the axes of a cache
      * `relayout_c4` the caches are both tensors or both references
      * `relayout_c5` scales are those of `index_copy`; there may be none if both
        caches have the same format

    Examples:

    ```mlir
    kvcache.relayout %nhd into %hnd : !kv_nhd into !kv_hnd
    %r = kvcache.relayout %a[S, B, N, H, D] into %b[S, B, H, N, D]
      : tensor<2x?x16x8x128xf32> into tensor<2x?x8x16x128xbf16>
    ```
  }];
  let arguments = (ins
      KVCache_CacheOrTensor:$source, Optional<KVCache_AnyCache>:$sourceScales,
      KVCache_CacheOrTensor:$dest, Optional<KVCache_AnyCache>:$destScales,
      OptionalAttr<StrArrayAttr>:$sourceAxes,
      OptionalAttr<StrArrayAttr>:$destAxes);
  let assemblyFormat = [{
    $source (`` custom<AxisList>($sourceAxes)^)?
    (`source_scales` `(` $sourceScales^ `:` type($sourceScales) `)`)?
    `into` $dest (`` custom<AxisList>($destAxes)^)?
    (`dest_scales` `(` $destScales^ `:` type($destScales) `)`)? attr-dict
    `:` type($source) `into` type($dest)
  }];
  let extraClassDeclaration = intoDeclaration # [{
    /// The types of the caches, even if they are tensors.
    ::kvcache::CacheType getSourceType();
    ::kvcache::CacheType getDestType();
  }];
}

def KVCache_CopyBlocksOp : KVCache_Op<"copy_blocks", [
    KVCache_Accesses<["getCacheUses", "getIndexUses"]>,
    DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "copy blocks to other blocks of the same cache";
  let description = [{
    For each pair, copies all layers and sides of a block to another:

    ```
    for p in 0 .. P-1:
      if 0 <= pairs[p, 0] < B and 0 <= pairs[p, 1] < B:
        cache[B = pairs[p, 1]] = cache[B = pairs[p, 0]]
    ```

    Other pairs are skipped: pairs with a negative number are padding; pairs
    with a block past the last one are an error of the caller. On a CPU, pairs
    are copied in sequence. On a GPU they are copied concurrently: a block
    should be the destination of one pair only, and not also the source of
    another; otherwise each of its elements has a value that some order of the
    pairs would give.

    Constraints:
      * `copy_blocks_c1` pairs are a matrix of two columns of i32 or i64
      * `copy_blocks_c2` the cache may be written
      * `copy_blocks_c3` memrefs are contiguous and in the default memory space

    Example:

    ```mlir
    kvcache.copy_blocks %cache at %pairs : !kv at memref<?x2xi64>
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$cache, KVCache_Buffer:$pairs);
  let assemblyFormat = [{
    $cache `at` $pairs attr-dict `:` type($cache) `at` type($pairs)
  }];
  let hasVerifier = 1;
}

def KVCache_ClearBlocksOp : KVCache_Op<"clear_blocks", [
    KVCache_Accesses<["getCacheUses", "getIndexUses"]>,
    DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "set blocks of a cache to zero";
  let description = [{
    For each entry of a list, sets all layers and sides of a block to zero:

    ```
    for k in 0 .. K-1:
      if 0 <= blocks[k] < B:
        cache[B = blocks[k]] = 0
    ```

    Other entries are skipped: negative ones are padding; those past the last
    block are an error of the caller. A block may be listed more than once.

    Engines clear the null block, which a table names where a sequence has no
    other, and blocks of state before they are reused for another sequence.
    Memory between the elements of a block, where strides leave gaps, is not
    changed.

    Constraints:
      * `clear_blocks_c1` blocks are 1-D, of i32 or i64
      * `clear_blocks_c2` the cache may be written
      * `clear_blocks_c3` memrefs are contiguous and in the default memory space

    Example:

    ```mlir
    kvcache.clear_blocks %cache at %blocks : !kv at memref<?xi64>
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$cache, KVCache_Buffer:$blocks);
  let assemblyFormat = [{
    $cache `at` $blocks attr-dict `:` type($cache) `at` type($blocks)
  }];
  let hasVerifier = 1;
}

def KVCache_TransferOp : KVCache_Op<"transfer", [
    KVCache_Accesses<["getCacheUses", "getIndexUses"]>,
    DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "move chunks of tokens from one pool to another";
  let description = [{
    Copies chunks of tokens, with all their layers, sides, heads and channels. A
    chunk has n tokens, the smaller of the two block sizes; in a pool with block
    size N, chunk `c` is in block `c / (N / n)`.

    ```
    for p in 0 .. P-1:
      (from, to) = pairs[p, 0 .. 1], (first, count) = pairs[p, 2 .. 3] or (0, n)
      if both chunks exist:
        for i in 0 .. n-1:
          if first <= i < first + count:
            dest[token i of chunk to] = source[token i of chunk from]
          else if `zero`:
            dest[token i of chunk to] = 0
    ```

    Other pairs are skipped: pairs with a negative chunk are padding; pairs with
    a chunk past the last one are an error of the caller. Different block sizes,
    a partial first or last chunk and a zeroed tail are thus expressed as
    entries of the table, a subset of the heads as a view (`heads`) of either
    pool. The pools may be in different memory spaces and have different orders.
    They must not overlap; a chunk of the destination should be listed once.

    Between host and device, a GPU moves long runs with its copy engine if the
    pairs are in host memory (an argument with `kvcache.host`), and everything
    else with a kernel that reads and writes pinned memory (docs/transfers.md).

    Constraints:
      * `transfer_c1` both caches have the same axes, with equal extents except
        for blocks and tokens
      * `transfer_c2` one block size is a multiple of the other
      * `transfer_c3` the element types agree, but for where scales lie
      * `transfer_c4` the destination may be written
      * `transfer_c5` pairs are a matrix of two or four columns of i32 or i64
      * `transfer_c6` memrefs are contiguous and in the default memory space

    Example:

    ```mlir
    kvcache.transfer %pool to %staging at %pairs zero
      : !kv to !kv_host at memref<?x4xi64>
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$source, KVCache_AnyCache:$dest,
                       KVCache_Buffer:$pairs, UnitAttr:$zero);
  let assemblyFormat = [{
    $source `to` $dest `at` $pairs (`zero` $zero^)? attr-dict
    `:` type($source) `to` type($dest) `at` type($pairs)
  }];
  let hasVerifier = 1;
}

#endif // KVCACHE_IR_MOVEOPS_TD
