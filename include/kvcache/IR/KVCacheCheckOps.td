// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of the entries of index values, for programs compiled with checks.
// `kvcache-insert-checks` inserts them; programs are not written with them.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_CHECKOPS_TD
#define KVCACHE_IR_CHECKOPS_TD

include "kvcache/IR/KVCacheTypes.td"

/// An operation that checks entries and reports the first invalid one. On a CPU
/// its result is true if the call has had no error so far. On a GPU this is
/// unknown until the device has run the check, so the result is true, and the
/// report comes later (docs/abi.md).
///
/// `user` is the operation that uses the entries; names are those of arguments,
/// empty for a list that is not an argument. With `on_request`, nothing is
/// checked unless the process requests it. With `early`, no operation of the
/// program writes to the lists, so a kernel may read them while earlier
/// operations run.
class KVCache_CheckOp<string mnemonic, list<Trait> traits = []>
    : KVCache_Op<mnemonic, !listconcat([KVCache_OnlyReports], traits)> {
  let results = (outs I1:$passes);
  let hasVerifier = 1;
}

def KVCache_EntryList : AnyTypeOf<[KVCache_AnySlots, AnyMemRef]>;

def KVCache_CheckEntriesOp : KVCache_CheckOp<"check_entries"> {
  let summary = "check that the entries of a list are in a range";
  let description = [{
    ```
    for i in 0 .. count-1, as far as the lists go:
      v = list[i], or list[i, column]
      unless v < 0 and `or_negative`, or unless[i] < 0:
        report v unless 0 <= v < end
    ```

    Constraints:
      * `check_entries_c1` the entries are a slot, a block, an offset, a chunk or a
        position
      * `check_entries_c2` the list is slots, or a list of i32 or i64, or with
        `column` a matrix of i32 or i64 that has this column
      * `check_entries_c3` the elements of the list after `unless` are i32 or
        i64
      * `check_entries_c4` memrefs are contiguous and in the default memory space

    Examples:

    ```mlir
    %a = kvcache.check_entries "slot" in %slots first %n below %end or_negative
      by "index_copy" of "slots" : !slots
    %b = kvcache.check_entries "block" in %pairs column 1 first %n below %end
      or_negative on_request by "copy_blocks" of "pairs" : memref<?x2xi64>
    %c = kvcache.check_entries "block" in %blocks first %n below %end or_negative
      unless %offsets by "scatter" of "blocks" : memref<?xi64>, memref<?xi64>
    ```
  }];
  let arguments = (ins StrAttr:$what, KVCache_EntryList:$list, Index:$count,
                       Index:$end, Optional<AnyMemRef>:$other,
                       OptionalAttr<I64Attr>:$column, UnitAttr:$orNegative,
                       UnitAttr:$onRequest, UnitAttr:$early, StrAttr:$user,
                       StrAttr:$argument);
  let assemblyFormat = [{
    $what `in` $list (`column` $column^)? `first` $count `below` $end
    (`or_negative` $orNegative^)? (`unless` $other^)?
    (`on_request` $onRequest^)? (`early` $early^)? `by` $user `of` $argument
    attr-dict `:` type($list) (`,` type($other)^)?
  }];
}

def KVCache_CheckBatchOp : KVCache_CheckOp<"check_batch"> {
  let summary = "check the entries of a batch";
  let description = [{
    Given the number of rows of the activations, reports

      * a start that is below the previous one (for the first, below 0) or above
        the number of rows
      * a length that is below 0, or below the number of query rows if there are
        no positions, or above the capacity of the table
      * a position of a query row that is below -1 or not below the length
      * with `blocks`, an entry of the table that is not from 0 to `blocks` - 1,
        for a token that a query row sees; `causal`, `window` and `window_right`
        are those of `attention`

    The first start need not be 0: rows before it are in no request. Entries
    that no row sees are not checked, such as those of tokens that a window has
    passed.

    Constraints:
      * `check_batch_c1` there is a name for each member of the batch
      * `check_batch_c2` `window` is at least 1, and `window_right` is from 0 to
        2^40 and not given with `causal`

    Examples:

    ```mlir
    %a = kvcache.check_batch %batch rows %n by "slot_mapping"
      of ["b.starts", "b.lengths", "b.table"] : !batch
    %b = kvcache.check_batch %batch rows %n blocks %end causal window 4096 early
      by "attention" of ["b.starts", "b.lengths", "b.table"] : !batch
    ```
  }];
  let arguments = (ins KVCache_AnyBatch:$batch, Index:$rows,
                       Optional<Index>:$blocks, UnitAttr:$causal,
                       OptionalAttr<I64Attr>:$window,
                       OptionalAttr<I64Attr>:$windowRight, UnitAttr:$onRequest,
                       UnitAttr:$early, StrAttr:$user, StrArrayAttr:$members);
  let assemblyFormat = [{
    $batch `rows` $rows (`blocks` $blocks^)? (`causal` $causal^)?
    (`window` $window^)? (`window_right` $windowRight^)?
    (`on_request` $onRequest^)? (`early` $early^)?
    `by` $user `of` $members attr-dict `:` type($batch)
  }];
  let extraClassDeclaration = [{
    /// How far ahead of its position a row sees keys; none: all of them.
    std::optional<int64_t> getAhead();
  }];
}

def KVCache_CheckSelectionOp : KVCache_CheckOp<"check_selection"> {
  let summary = "check the indices of select_rows";
  let description = [{
    Reports an index that is below the previous one, or is not a row of a
    request of the batch:

    ```
    for i in 0 .. min(valid[0], count)-1, as far as the list goes:
      report indices[i] unless
        max(starts[0], indices[i - 1]) <= indices[i] < starts[R]
    ```

    Constraints:
      * `check_selection_c1` indices are a list of i32 or i64, and `valid` is
        such a list with one entry
      * `check_selection_c2` memrefs are contiguous and in the default memory
        space

    Example:

    ```mlir
    %a = kvcache.check_selection %indices, %valid first %n of %batch rows %t
      by "select_rows" of "indices" : memref<?xi32>, memref<1xi32>, !batch
    ```
  }];
  let arguments = (ins AnyMemRef:$indices, AnyMemRef:$valid, Index:$count,
                       KVCache_AnyBatch:$batch, Index:$rows,
                       UnitAttr:$onRequest, UnitAttr:$early, StrAttr:$user,
                       StrAttr:$argument);
  let assemblyFormat = [{
    $indices `,` $valid `first` $count `of` $batch `rows` $rows
    (`on_request` $onRequest^)? (`early` $early^)? `by` $user `of` $argument
    attr-dict `:` type($indices) `,` type($valid) `,` type($batch)
  }];
}

#endif // KVCACHE_IR_CHECKOPS_TD
