// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_IR_OPS_TD
#define KVCACHE_IR_OPS_TD

include "kvcache/IR/KVCacheTypes.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/ViewLikeInterface.td"

//===----------------------------------------------------------------------===//
// Views: no data moves
//===----------------------------------------------------------------------===//

def KVCache_ViewOp : KVCache_Op<"view", [
    Pure, AttrSizedOperandSegments,
    DeclareOpInterfaceMethods<ViewLikeOpInterface>]> {
  let summary = "see a buffer as a cache";
  let description = [{
    Gives a cache that refers to the elements of a buffer. Two forms:

    *A memref of elements.* Its dimensions are the axes of the cache as listed,
    or as named in brackets. Extents agree, and the strides of the memref agree
    with the layout wherever both are known.

    *A memref of bytes* (`memref<?xi8>`). The first element lies at the byte
    `offset`, 0 when it is left out. `extents` gives the extents, and `strides`
    the strides, that the type leaves to run time; the layout decides the rest.

    What the type of the cache promises and the type of the memref does not say
    (strides, the alignment of the base, the size of the byte buffer) is a
    precondition. Where the source is an argument of a public function the entry
    function checks it; a byte view checks its bounds and its alignment each
    time, and one that fails the check has no blocks and makes the call fail.

    Constraints:
      * `view_c1` the element types agree, or the source is `memref<?xi8>`
      * `view_c2` the source has one dimension per axis, each axis named once
      * `view_c3` extents agree
      * `view_c4` known strides agree with the layout
      * `view_c5` `offset`, `extents` and `strides` belong to the byte form
      * `view_c6` `extents` and `strides` name exactly what the type leaves to
        run time
      * `view_c7` the number of blocks of a view of bytes is a run-time value
      * `view_c8` the source is in the default memory space

    Examples:

    ```mlir
    %a = kvcache.view %pool : memref<2x?x16x8x128xbf16> to !kv
    %b = kvcache.view %pool[B, S, N, H, D] : memref<?x2x16x8x128xbf16> to !kv_bs
    %c = kvcache.view %bytes offset(%o) extents(B = %n) : memref<?xi8> to !kv
    ```
  }];
  let arguments = (ins AnyMemRef:$source, Optional<Index>:$offset,
                       Variadic<Index>:$extents, Variadic<Index>:$strides,
                       OptionalAttr<StrArrayAttr>:$axes,
                       DefaultValuedOptionalAttr<StrArrayAttr, "{}">:$extentAxes,
                       DefaultValuedOptionalAttr<StrArrayAttr, "{}">:$strideAxes);
  let results = (outs KVCache_AnyCache:$result);
  let assemblyFormat = [{
    $source (`` custom<AxisList>($axes)^)? (`offset` `(` $offset^ `)`)?
    (`extents` `(` custom<AxisOperands>($extents, $extentAxes)^ `)`)?
    (`strides` `(` custom<AxisOperands>($strides, $strideAxes)^ `)`)?
    attr-dict `:` type($source) `to` type($result)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// A view of raw bytes.
    bool isByteView();
    /// The dimension of the source that holds the axis listed at `i`.
    unsigned sourceDim(unsigned i);
  }];
}

//===----------------------------------------------------------------------===//
// Index values
//===----------------------------------------------------------------------===//

def KVCache_MakeSlotsOp : KVCache_Op<"make_slots", [Pure]> {
  let summary = "use a list of numbers as slots";
  let description = [{
    Gives the slots that a 1-D tensor or memref of integers names. The entries
    of a tensor are those at the point of this operation: a later update does
    not change them. A memref is referred to, and is read when the slots are
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
  let arguments = (ins AnyTypeOf<[AnyRankedTensor, AnyMemRef]>:$source);
  let results = (outs KVCache_AnySlots:$result);
  let assemblyFormat = [{
    $source attr-dict `:` type($source) `to` type($result)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Writes
//===----------------------------------------------------------------------===//

def KVCache_IndexCopyOp : KVCache_Op<"index_copy", [
    DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "write rows to the slots of a cache";
  let description = [{
    Writes one row per token, for each side of the cache:

    ```
    for t in 0 .. T-1, s in sides, h in heads, d in channels:
      if slots[t] is not padding:
        cache[S = s, B = slots[t] / N, N = slots[t] % N, H = h, D = d]
          = rows[s][t, h, d]
    ```

    There is one operand of rows per side, key before value, each a tensor or
    memref `[T, H, D]` (`[T, D]` if the cache has no head axis) whose inner
    dimensions are contiguous; the distance between rows is free. Of several
    rows for one slot, the last one stays on a CPU, and on a GPU each element
    comes from one of them. Rows that are skipped are not written anywhere. The
    rows must not lie in the part of the cache that is written. `schedule`
    overrides how a GPU kernel spreads the work; it never changes the result.

    Constraints:
      * `index_copy_c1` one operand of rows per side of the cache
      * `index_copy_c2` rows have the shape and element type of the cache, and
        one length
      * `index_copy_c3` the block size of the slots is that of the cache
      * `index_copy_c4` the inner dimensions of a row are contiguous
      * `index_copy_c5` the cache is one layer
      * `index_copy_c6` rows are all tensors or all memrefs
      * `index_copy_c7` rows in memory are in the default memory space

    Example:

    ```mlir
    kvcache.index_copy %key, %value into %cache at %slots
      : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !kv at !slots
    ```
  }];
  let arguments = (ins
      Variadic<AnyTypeOf<[AnyRankedTensor, AnyMemRef]>>:$rows,
      KVCache_AnyCache:$cache, KVCache_AnySlots:$slots,
      OptionalAttr<KVCache_CopyScheduleAttr>:$schedule);
  let assemblyFormat = [{
    $rows `into` $cache `at` $slots (`schedule` $schedule^)? attr-dict
    `:` type($rows) `into` type($cache) `at` type($slots)
  }];
  let hasVerifier = 1;
}

#endif // KVCACHE_IR_OPS_TD
