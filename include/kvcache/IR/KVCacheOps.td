// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_IR_OPS_TD
#define KVCACHE_IR_OPS_TD

include "kvcache/IR/KVCacheViewOps.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

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
      * `index_copy_c8` the cache may be written

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
