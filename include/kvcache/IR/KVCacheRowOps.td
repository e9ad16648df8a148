// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operations that compute rows on the way to a cache, or those of a query, and
// the one that joins them into a launch.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_ROWOPS_TD
#define KVCACHE_IR_ROWOPS_TD

include "kvcache/IR/KVCacheTypes.td"

def KVCache_NormalizeOp : KVCache_IntoOp<"normalize", "out", [], [
    KVCache_HasRowsApart,
    KVCache_RowStepOpInterface]> {
  let summary = "RMS norm of each head of rows";
  let description = [{
    Divides the channels of each head by their root mean square:

    ```
    for t in 0 .. T-1, h in heads:
      r = 1 / sqrt((sum over d of x[t, h, d]^2) / D + epsilon)
      out[t, h, d] = (x[t, h, d] * r) * weight[d]
    ```

    Everything is computed in f32, and each result is rounded once to the format
    of the destination. The sequence of the sum is the target's choice, and a
    GPU's `r` is within two units of its last place. Without `weight` the last
    factor is absent; with `plus_one` it is `weight[d] + 1`. The destination is
    the memory of the rows, or does not overlap it.

    Constraints:
      * `normalize_c1` rows and destination are `[T, H, D]` or `[T, D]` of a
        plain format, with constant and equal H and D, both at least 1
      * `normalize_c2` the weight is `[D]` of f16, bf16 or f32
      * `normalize_c3` rows have contiguous inner dimensions, the weight is
        contiguous, and memrefs are in the default memory space
      * `normalize_c4` buffers are all tensors or all memrefs
      * `normalize_c5` `epsilon` is finite and not negative
      * `normalize_c6` `plus_one` is only there with a weight

    Examples:

    ```mlir
    kvcache.normalize %key by %weight into %out epsilon 1.0e-06
      : memref<?x8x128xbf16> by memref<128xbf16> into memref<?x8x128xbf16>
    kvcache.normalize %key by %weight into %out epsilon 1.0e-06 plus_one
      : memref<?x8x128xbf16> by memref<128xbf16> into memref<?x8x128xbf16>
    %out = kvcache.normalize %value into %empty epsilon 1.0e-06
      : tensor<?x8x128xbf16> into tensor<?x8x128xbf16>
    ```
  }];
  let arguments = (ins KVCache_Buffer:$rows, Optional<KVCache_Buffer>:$weight,
                       KVCache_Buffer:$out, F32Attr:$epsilon,
                       UnitAttr:$plusOne);
  let assemblyFormat = [{
    $rows (`by` $weight^)? `into` $out `epsilon` $epsilon
    (`plus_one` $plusOne^)? attr-dict
    `:` type($rows) (`by` type($weight)^)? `into` type($out)
  }];
}

def KVCache_RotateOp : KVCache_IntoOp<"rotate", "out", ["getIndexUses"], [
    KVCache_HasRowsApart,
    KVCache_RowStepOpInterface]> {
  let summary = "rotary embedding of rows";
  let description = [{
    Turns pairs of channels of each head by the angle of the row's position.
    `table` has R columns, R / 2 cosines and then as many sines. The first R
    channels are turned; the rest are copied.

    ```
    for t in 0 .. T-1, h in heads, i in 0 .. R/2-1:
      p = positions[t]
      (a, b) = (i, i + R/2)               or (2i, 2i + 1) with `interleaved`
      out[t, h, a] = x[t, h, a] * table[p, i] - x[t, h, b] * table[p, R/2 + i]
      out[t, h, b] = x[t, h, b] * table[p, i] + x[t, h, a] * table[p, R/2 + i]
    ```

    Everything is computed in f32, rounded to nearest after each product and
    sum, and each result is rounded once to the format of the destination. So
    the same bits come out on every target. Without positions, row t has row t
    of the table. A row whose position is not one of the table, such as that of
    padding, is converted without being turned. The destination is the memory of
    the rows, or does not overlap it.

    Constraints:
      * `rotate_c1` rows and destination are `[T, H, D]` or `[T, D]` of a plain
        format, with constant and equal H and D, both at least 1
      * `rotate_c2` the table is `[P, R]` of f16, bf16 or f32, where R is
        constant, even, at least 2 and at most D
      * `rotate_c3` positions are 1-D, of i32 or i64, as many as rows if both
        numbers are constant
      * `rotate_c4` rows have contiguous inner dimensions, the table has
        contiguous rows, positions are contiguous, and memrefs are in the
        default memory space
      * `rotate_c5` buffers are all tensors or all memrefs

    Examples:

    ```mlir
    kvcache.rotate %key by %table at %positions into %out
      : memref<?x8x128xbf16> by memref<?x128xf32> at memref<?xi32>
      into memref<?x8x128xbf16>
    kvcache.rotate %query by %table into %query interleaved
      : memref<?x32x128xbf16> by memref<?x64xf32> into memref<?x32x128xbf16>
    ```
  }];
  let arguments = (ins KVCache_Buffer:$rows, KVCache_Buffer:$table,
                       Optional<KVCache_Buffer>:$positions, KVCache_Buffer:$out,
                       UnitAttr:$interleaved);
  let assemblyFormat = [{
    $rows `by` $table (`at` $positions^)? `into` $out
    (`interleaved` $interleaved^)? attr-dict
    `:` type($rows) `by` type($table) (`at` type($positions)^)?
    `into` type($out)
  }];
  let extraClassDeclaration = intoDeclaration # [{
    /// R.
    int64_t getNumRotated() {
      return ::llvm::cast<::mlir::ShapedType>(getTable().getType())
          .getDimSize(1);
    }
  }];
}

def KVCache_FuseOp : KVCache_Op<"fuse", [
    NoRegionArguments, NoTerminator, RecursiveMemoryEffects, SingleBlock]> {
  let summary = "operations on rows that are one launch";
  let description = [{
    Runs the operations inside as if one after the other. A GPU runs them in one
    launch, and what goes through a buffer allocated inside stays in registers.
    A CPU runs them one after the other. `kvcache-fuse-rows` makes it.

    The memory that an operation writes is not accessed by another one, but for
    buffers that are allocated inside. Of two values it is not known whether
    they are the same memory: that is for the one who makes it to know.

    Constraints:
      * `fuse_c1` inside are steps (`normalize`, `rotate`), writes (`index_copy`,
        `scatter`), `memref.alloc` and casts of these, all on memrefs
      * `fuse_c2` each buffer that is allocated inside is written by one step,
        and read once, as rows of a later operation
      * `fuse_c3` steps that one operation reads the results of rotate the same
        channels in the same way; a cache that it writes has one scale for the
        channels of a head, no other head's if it is computed, or none
      * `fuse_c4` what one operation writes, but such a buffer, is no operand of
        another one, but that a step may write the rows that the steps before
        it begin with

    Example:

    ```mlir
    kvcache.fuse {
      %turned = memref.alloc(%t) : memref<?x8x128xbf16>
      kvcache.rotate %key by %table at %positions into %turned
        : memref<?x8x128xbf16> by memref<?x128xf32> at memref<?xi32>
        into memref<?x8x128xbf16>
      kvcache.index_copy %turned, %value into %cache at %slots
        : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !kv at !slots
      kvcache.rotate %query by %table at %positions into %out
        : memref<?x32x128xbf16> by memref<?x128xf32> at memref<?xi32>
        into memref<?x32x128xbf16>
    }
    ```
  }];
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$body attr-dict";
  let hasRegionVerifier = 1;
}

#endif // KVCACHE_IR_ROWOPS_TD
