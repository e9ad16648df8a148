// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Index values: slots, block tables, batches, and the operations that compute
// them. The entries of index values are data; none is trusted beyond its type.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_INDEXOPS_TD
#define KVCACHE_IR_INDEXOPS_TD

include "kvcache/IR/KVCacheTypes.td"

//===----------------------------------------------------------------------===//
// Index values from buffers
//===----------------------------------------------------------------------===//

def KVCache_MakeSlotsOp : KVCache_Op<"make_slots", [
    Pure, KVCache_MakesIndexValue]> {
  let summary = "use a list of integers as slots";
  let description = [{
    Returns the slots listed in a 1-D tensor or memref of integers. For a
    tensor, they are its entries at the point of this operation: a later update
    does not change them. A memref is referenced, and is read when the slots are
    used: its entries may change between two runs of a captured graph.

    Constraints:
      * `make_slots_c1` the source is 1-D, and its element type and length are
        those of the slots
      * `make_slots_c2` a memref source is contiguous
      * `make_slots_c3` a memref source is in the default memory space

    Example:

    ```mlir
    %s = kvcache.make_slots %t : tensor<?xi64>
      to !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
    ```
  }];
  let arguments = (ins KVCache_Buffer:$source);
  let results = (outs KVCache_AnySlots:$result);
  let assemblyFormat = [{
    $source attr-dict `:` type($source) `to` type($result)
  }];
  let hasVerifier = 1;
}

def KVCache_MakeBlockTableOp : KVCache_Op<"make_block_table", [
    Pure, KVCache_MakesIndexValue]> {
  let summary = "use a matrix of integers as a block table";
  let description = [{
    Returns the block table with the entries of a 2-D tensor or memref of
    integers. Tensors and memrefs are treated as in `make_slots`. The rows of a
    memref may be apart.

    Constraints:
      * `make_block_table_c1` the source is 2-D, and its element type and
        extents are those of the table
      * `make_block_table_c2` the entries of a row of a memref source are
        contiguous
      * `make_block_table_c3` a memref source is in the default memory space

    Example:

    ```mlir
    %blocks = kvcache.make_block_table %t : tensor<?x?xi32>
      to !kvcache.block_table<?R x ?M x i32, tokens = 16>
    ```
  }];
  let arguments = (ins KVCache_Buffer:$source);
  let results = (outs KVCache_AnyBlockTable:$result);
  let assemblyFormat = [{
    $source attr-dict `:` type($source) `to` type($result)
  }];
  let hasVerifier = 1;
}

def KVCache_MakeBatchOp : KVCache_Op<"make_batch", [
    Pure, InferTypeOpAdaptor, KVCache_MakesIndexValue]> {
  let summary = "make a ragged batch from query starts, lengths and blocks";
  let description = [{
    Returns the batch with these members; its type follows from theirs. Tensors
    and memrefs are treated as in `make_slots`.

    Constraints:
      * `make_batch_c1` starts and lengths are 1-D and have the element type of
        the table and, if the number of requests R is known, R + 1 and R entries
      * `make_batch_c2` positions are 1-D, of i32 or i64
      * `make_batch_c3` memrefs are contiguous
      * `make_batch_c4` memrefs are in the default memory space

    Examples:

    ```mlir
    %decode = kvcache.make_batch %starts, %lengths, %blocks
      : tensor<?xi32>, tensor<?xi32>, !table
    %some_rows = kvcache.make_batch %starts, %lengths, %blocks
      positions(%p : tensor<?xi64>) : tensor<?xi32>, tensor<?xi32>, !table
    ```
  }];
  let arguments = (ins KVCache_Buffer:$starts, KVCache_Buffer:$lengths,
                       KVCache_AnyBlockTable:$table,
                       Optional<KVCache_Buffer>:$positions);
  let results = (outs KVCache_AnyBatch:$result);
  let assemblyFormat = [{
    $starts `,` $lengths `,` $table
    (`positions` `(` $positions^ `:` type($positions) `)`)? attr-dict
    `:` type($starts) `,` type($lengths) `,` type($table)
  }];
  let hasVerifier = 1;
}

def KVCache_WithRowsOp : KVCache_Op<"with_rows", [
    Pure, InferTypeOpAdaptor, KVCache_MakesIndexValue]> {
  let summary = "the same requests with other query rows";
  let description = [{
    Returns the batch with the lengths and the blocks of `batch`, and other
    query rows with their positions, such as those from `select_rows`. Tensors
    and memrefs are treated as in `make_slots`.

    A batch whose query rows need not be the last tokens of their request always
    has positions, so `positions` is not optional.

    Constraints:
      * `with_rows_c1` starts are 1-D and have the element type of the batch,
        and R + 1 entries if R is known
      * `with_rows_c2` positions are 1-D, of i32 or i64
      * `with_rows_c3` memrefs are contiguous
      * `with_rows_c4` memrefs are in the default memory space

    Example:

    ```mlir
    %sampled = kvcache.with_rows %batch, %starts, %positions
      : !batch, tensor<?xi32>, tensor<?xi64>
    ```
  }];
  let arguments = (ins KVCache_AnyBatch:$batch, KVCache_Buffer:$starts,
                       KVCache_Buffer:$positions);
  let results = (outs KVCache_AnyBatch:$result);
  let assemblyFormat = [{
    $batch `,` $starts `,` $positions attr-dict
    `:` type($batch) `,` type($starts) `,` type($positions)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Index computation
//===----------------------------------------------------------------------===//

def KVCache_SlotMappingOp : KVCache_IntoOp<"slot_mapping", "out", [
    "getIndexUses"]> {
  let summary = "compute the slots of the query rows of a batch";
  let description = [{
    Writes the slot of each query row, where N is the block size of the batch:

    ```
    for t in 0 .. T-1:
      if row t is of request r, at position p with 0 <= p < lengths[r],
          and table[r, p / N] >= 0:
        out[t] = table[r, p / N] * N + p % N
      else:
        out[t] = -1, or sink * N + t % N if there is a sink
    ```

    A block with a slot that does not fit in an element of the destination is
    treated as missing, and such a sink gives -1.

    Constraints:
      * `slot_mapping_c1` the destination is 1-D, of i32 or i64
      * `slot_mapping_c2` a memref is contiguous and in the default memory space

    Examples:

    ```mlir
    %s = kvcache.slot_mapping %batch into %out : !batch into tensor<?xi64>
    %t = kvcache.slot_mapping %batch sink(%b) into %out : !batch into tensor<?xi64>
    ```
  }];
  let arguments = (ins KVCache_AnyBatch:$batch, Optional<Index>:$sink,
                       KVCache_Buffer:$out);
  let assemblyFormat = [{
    $batch (`sink` `(` $sink^ `)`)? `into` $out attr-dict
    `:` type($batch) `into` type($out)
  }];
}

def KVCache_MapBlocksOp : KVCache_IntoOp<"map_blocks", "out"> {
  let summary = "convert the blocks of a block manager to those of a kernel";
  let description = [{
    A block manager may allocate blocks with `ratio` times as many tokens as the
    blocks that a kernel reads. For a list, or for each row of a matrix:

    ```
    for j in 0 .. M-1, i in 0 .. ratio-1:
      out[j * ratio + i] = blocks[j] < 0 ? -1 : blocks[j] * ratio + i
    ```

    If one of the parts of a block does not fit in an element of the
    destination, all of them are -1.

    Constraints:
      * `map_blocks_c1` the source is a list or a matrix of i32 or i64, and the
        destination has its element type and rank, the same number of rows, and
        `ratio` times its columns, at most 2^40
      * `map_blocks_c2` the ratio is from 1 to 2^20
      * `map_blocks_c3` memrefs have contiguous rows and are in the default
        memory space
      * `map_blocks_c4` buffers are all tensors or all memrefs

    Example:

    ```mlir
    %t = kvcache.map_blocks %blocks by 4 into %out
      : tensor<?x?xi32> into tensor<?x?xi32>
    ```
  }];
  let arguments = (ins KVCache_Buffer:$blocks, I64Attr:$ratio,
                       KVCache_Buffer:$out);
  let assemblyFormat = [{
    $blocks `by` $ratio `into` $out attr-dict
    `:` type($blocks) `into` type($out)
  }];
}

def KVCache_BlockSlotsOp : KVCache_IntoOp<"block_slots", "out"> {
  let summary = "list all slots of some blocks";
  let description = [{
    Writes the slots of the tokens of each block of a list, for the block size N
    = `tokens`:

    ```
    for k in 0 .. K-1, n in 0 .. N-1:
      out[k * N + n] = blocks[k] < 0 ? -1 : blocks[k] * N + n
    ```

    If one of the slots of a block does not fit in an element of the
    destination, all of them are -1.

    Constraints:
      * `block_slots_c1` blocks are a list of i32 or i64; slots are a list of
        i32 or i64 with `tokens` entries per block, at most 2^40
      * `block_slots_c2` `tokens` is from 1 to 2^40
      * `block_slots_c3` memrefs are contiguous and in the default memory space
      * `block_slots_c4` buffers are all tensors or all memrefs

    Example:

    ```mlir
    %s = kvcache.block_slots %blocks of 16 into %out
      : tensor<?xi32> into tensor<?xi64>
    ```
  }];
  let arguments = (ins KVCache_Buffer:$blocks, I64Attr:$tokens,
                       KVCache_Buffer:$out);
  let assemblyFormat = [{
    $blocks `of` $tokens `into` $out attr-dict
    `:` type($blocks) `into` type($out)
  }];
}

def KVCache_CsrTableOp : KVCache_IntoOp<"csr_table", "outs", [], [
    AttrSizedOperandSegments]> {
  let summary = "make a table of lists of pages in CSR form";
  let description = [{
    The blocks of request `r` are `indices[indptr[r] .. indptr[r + 1] - 1]`, as
    FlashInfer has them. Writes the table that says the same, so that
    `make_block_table` and `make_batch` can use it, and on request the lengths
    that follow from how many tokens the last block of each request holds:

    ```
    for r in 0 .. R-1:
      first = indptr[r], end = indptr[r + 1]
      for j in 0 .. M-1:
        table[r, j] = first + j < end ? indices[first + j] : -1
      lengths[r] = first < end ? (end - first - 1) * N + last[r] : 0
    ```

    Entries of `indptr` count as at least 0 and at most the extent of `indices`,
    those of `last` as at least 1 and at most N. Blocks past the M columns of
    the table are left out, but count for lengths: checks of entries find such a
    request. A length that does not fit in an element of the destination is 0.

    Constraints:
      * `csr_table_c1` `indptr` and `indices` are 1-D and the table is 2-D, all
        of i32 or all of i64; if R is known, `indptr` has R + 1 entries
      * `csr_table_c2` `last`, N from 1 to 2^40, and the lengths are given
        together; `last` and lengths are 1-D with R entries of the same type
      * `csr_table_c3` memrefs are contiguous, but for the rows of the table,
        and in the default memory space
      * `csr_table_c4` buffers are all tensors or all memrefs

    Examples:

    ```mlir
    kvcache.csr_table %indptr, %indices into %table
      : memref<?xi32>, memref<?xi32> into memref<?x?xi32>
    %t, %n = kvcache.csr_table %indptr, %indices last(%last of 16)
      into %table, %lengths : tensor<?xi32>, tensor<?xi32>, tensor<?xi32>
      into tensor<?x?xi32>, tensor<?xi32>
    ```
  }];
  let arguments = (ins KVCache_Buffer:$indptr, KVCache_Buffer:$indices,
                       Optional<KVCache_Buffer>:$last,
                       Variadic<KVCache_Buffer>:$outs,
                       OptionalAttr<I64Attr>:$tokens);
  let assemblyFormat = [{
    $indptr `,` $indices (`last` `(` $last^ `of` $tokens `)`)? `into` $outs
    attr-dict `:` type($indptr) `,` type($indices) (`,` type($last)^)?
    `into` type($outs)
  }];
  let extraClassDeclaration = intoDeclaration # [{
    ::mlir::Value getTable() { return getOuts().front(); }
    /// Null if not requested.
    ::mlir::Value getLengths() {
      return getOuts().size() > 1 ? getOuts()[1] : ::mlir::Value();
    }
  }];
}

def KVCache_SelectRowsOp : KVCache_IntoOp<"select_rows", "outs", [
    "getIndexUses"], [AttrSizedOperandSegments]> {
  let summary = "select query rows of a batch, with their positions";
  let description = [{
    Gathers rows of activations, and the starts and positions from which
    `with_rows` makes a batch of them. The first `n = min(valid[0], S)` of the S
    entries of `indices` are used; the rest is padding.

    ```
    for i in 0 .. n-1:
      out[k][i]     = rows[k][indices[i]]                   for each k
      positions[i]  = the position of row indices[i] of the batch, clamped
                      to the range of an element
    for i in n .. S-1:
      out[k][i]     = 0
      positions[i]  = -1
    starts[0] = 0, and starts[r + 1] - starts[r] =
      the number of i in 0 .. n-1 for which row indices[i] is of request r
    ```

    The valid indices must not decrease and must name rows of requests.
    Otherwise all of `starts` are 0; on a CPU the call fails, while on a GPU it
    has already returned, and all rows are padding.

    Constraints:
      * `select_rows_c1` indices are 1-D, of i32 or i64; `valid` has one entry
        of that type
      * `select_rows_c2` there is at least one row operand; the destinations of
        the rows are followed by the starts, 1-D with the element type of the
        batch and R + 1 entries if R is known, and the positions, 1-D of i32 or
        i64 and as long as the indices
      * `select_rows_c3` rows have constant inner extents; each destination of
        rows has their element type and inner extents, and the leading extent of
        the indices if both are known
      * `select_rows_c4` memrefs have contiguous inner dimensions and are in the
        default memory space
      * `select_rows_c5` buffers are all tensors or all memrefs

    Example:

    ```mlir
    %y, %starts, %positions = kvcache.select_rows %x of %batch at %indices, %n
      into %y0, %starts0, %positions0
      : tensor<?x64xf32> of !batch at tensor<?xi32>, tensor<1xi32>
      into tensor<?x64xf32>, tensor<?xi32>, tensor<?xi64>
    ```
  }];
  let arguments = (ins Variadic<KVCache_Buffer>:$rows,
                       KVCache_AnyBatch:$batch, KVCache_Buffer:$indices,
                       KVCache_Buffer:$valid, Variadic<KVCache_Buffer>:$outs);
  let assemblyFormat = [{
    $rows `of` $batch `at` $indices `,` $valid `into` $outs attr-dict
    `:` type($rows) `of` type($batch) `at` type($indices) `,` type($valid)
    `into` type($outs)
  }];
  let extraClassDeclaration = intoDeclaration # [{
    ::mlir::Value getStartsOut() { return getOuts()[getOuts().size() - 2]; }
    ::mlir::Value getPositionsOut() { return getOuts().back(); }
    ::mlir::OperandRange getRowOuts() { return getOuts().drop_back(2); }
  }];
}

#endif // KVCACHE_IR_INDEXOPS_TD
