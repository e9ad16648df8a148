// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operations that see memory as a cache, and a cache in another way: no data
// moves. There is no operation that permutes a cache: its axes are named, and
// their order in memory is part of the type. Where axes meet the dimensions of
// a memref, in `view` and `storage`, the names are written.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_VIEWOPS_TD
#define KVCACHE_IR_VIEWOPS_TD

include "kvcache/IR/KVCacheTypes.td"
include "mlir/Interfaces/ViewLikeInterface.td"

//===----------------------------------------------------------------------===//
// Views: no data moves
//===----------------------------------------------------------------------===//

// A view that is checked at run time can make the call fail, so it must not be
// moved to where the program does not go. One that nothing uses may be dropped,
// with its check.

def KVCache_ViewOp : KVCache_Op<"view", [
    NoMemoryEffect, DeclareOpInterfaceMethods<KVCache_ViewCheckOpInterface>,
    DeclareOpInterfaceMethods<ConditionallySpeculatable>,
    AttrSizedOperandSegments,
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
    The stride of an axis of extent 1 is not looked at: it is the least that the
    type allows.

    What the type of the cache promises and the type of the memref does not say
    (strides, the alignment of the base, the size of the byte buffer) is a
    precondition. Where the source is an argument of a public function the entry
    function checks it; a byte view checks its bounds and its alignment each
    time, and one that fails the check has no blocks and makes the call fail.
    Its strides may be any: `has_facts` and `stride` give what they like.

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
      * `view_c9` a function does not return the cache, or a view of it, if it
        allocates the source itself: nobody would own the memory. Values that
        pass through branches or regions are not followed

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
  let hasFolder = 1;
  let extraClassDeclaration = [{
    /// A view of raw bytes.
    bool isByteView();
    /// The dimension of the source that holds the axis listed at `i`.
    unsigned sourceDim(unsigned i);
  }];
}

def KVCache_StorageOp : KVCache_Op<"storage", [
    Pure, DeclareOpInterfaceMethods<ViewLikeOpInterface>]> {
  let summary = "see a cache as a memref";
  let description = [{
    The way back from `view`: a memref of the elements of a cache. Its
    dimensions are the axes as listed, or as named in brackets. Its type may say
    less of the strides than the layout does, but nothing else.

    Constraints:
      * `storage_c1` the element types agree
      * `storage_c2` the result has one dimension per axis, each axis named once
      * `storage_c3` extents agree
      * `storage_c4` each stride that the result says is known by the layout; a
        result without a layout says that its dimensions are packed
      * `storage_c5` the cache may be written, as the memref may be

    Examples:

    ```mlir
    %a = kvcache.storage %cache : !kv to memref<2x?x16x8x128xbf16>
    %b = kvcache.storage %cache[B, S, N, H, D]
      : !kv to memref<?x2x16x8x128xbf16, strided<[16384, ?, 1024, 128, 1], offset: ?>>
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$cache,
                       OptionalAttr<StrArrayAttr>:$axes);
  let results = (outs AnyMemRef:$result);
  let assemblyFormat = [{
    $cache (`` custom<AxisList>($axes)^)? attr-dict
    `:` type($cache) `to` type($result)
  }];
  let hasVerifier = 1;
  let hasFolder = 1;
  let extraClassDeclaration = [{
    /// The dimension of the result that holds the axis listed at `i`.
    unsigned resultDim(unsigned i);
  }];
}

def KVCache_LayerOp : KVCache_Op<"layer", [
    NoMemoryEffect, DeclareOpInterfaceMethods<ConditionallySpeculatable>,
    InferTypeOpAdaptor,
    DeclareOpInterfaceMethods<ViewLikeOpInterface>,
    DeclareOpInterfaceMethods<KVCache_CachePartOpInterface, ["getKept"]>,
    DeclareOpInterfaceMethods<KVCache_ViewCheckOpInterface>]> {
  let summary = "one layer of a cache of several";
  let description = [{
    The elements of one layer. The strides of the other axes stay what they are
    in the parent and become part of the type of the result, which follows from
    that of the operand.

    An index that is out of range makes the call fail, and the result has no
    blocks. A constant that is out of range is no error of the program: the
    operation may be where no call comes. It is warned of when it is lowered.

    Constraints:
      * `layer_c1` the cache has a layer axis
      * `layer_c2` the index is a constant in range, or the number of blocks is a
        run-time value

    Example:

    ```mlir
    %l = kvcache.layer %cache[%i] : !kv_cross
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$cache, Index:$index);
  let results = (outs KVCache_AnyCache:$result);
  let assemblyFormat = "$cache `[` $index `]` attr-dict `:` type($cache)";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The index is a constant in range: nothing is checked at run time.
    bool isKnownInRange();
  }];
}

def KVCache_SideOp : KVCache_Op<"side", [
    Pure, InferTypeOpAdaptor,
    DeclareOpInterfaceMethods<ViewLikeOpInterface>,
    DeclareOpInterfaceMethods<KVCache_CachePartOpInterface>]> {
  let summary = "the keys or the values of a cache";
  let description = [{
    The elements of one side, as a cache without a side axis. The strides of the
    other axes stay what they are in the parent.

    Constraints:
      * `side_c1` the cache has the side: 0 is the key, 1 the value

    Examples:

    ```mlir
    %k = kvcache.side %cache[0] : !kv
    %v = kvcache.side %cache[1] : !kv
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$cache, I64Attr:$side);
  let results = (outs KVCache_AnyCache:$result);
  let assemblyFormat = "$cache `[` $side `]` attr-dict `:` type($cache)";
}

def KVCache_SubpoolOp : KVCache_Op<"subpool", [
    NoMemoryEffect, DeclareOpInterfaceMethods<ConditionallySpeculatable>,
    InferTypeOpAdaptor,
    DeclareOpInterfaceMethods<ViewLikeOpInterface>,
    DeclareOpInterfaceMethods<KVCache_CachePartOpInterface, ["getKept"]>,
    DeclareOpInterfaceMethods<KVCache_ViewCheckOpInterface>]> {
  let summary = "some consecutive blocks of a cache";
  let description = [{
    The blocks `first` to `first + count - 1`, which are then numbered from 0.
    The strides stay what they are in the parent. The range is checked: one that
    leaves the parent makes the call fail, and the result has no blocks.

    Example:

    ```mlir
    %p = kvcache.subpool %cache[%first, %count] : !kv
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$cache, Index:$first, Index:$count);
  let results = (outs KVCache_AnyCache:$result);
  let assemblyFormat = [{
    $cache `[` $first `,` $count `]` attr-dict `:` type($cache)
  }];
}

def KVCache_HeadsOp : KVCache_Op<"heads", [
    Pure, InferTypeOpAdaptor,
    DeclareOpInterfaceMethods<ViewLikeOpInterface>,
    DeclareOpInterfaceMethods<KVCache_CachePartOpInterface, ["getKept"]>]> {
  let summary = "some consecutive heads of a cache";
  let description = [{
    The heads `first` to `first + count - 1`, as one rank of a model that is
    split by heads sees them. The strides stay what they are in the parent.

    Constraints:
      * `heads_c1` the cache has a head axis with all of the heads, and there is
        at least one

    Example:

    ```mlir
    %second = kvcache.heads %cache[4, 4] : !kv  // 4 heads, the first is 4
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$cache, I64Attr:$first, I64Attr:$count);
  let results = (outs KVCache_AnyCache:$result);
  let assemblyFormat = [{
    $cache `[` $first `,` $count `]` attr-dict `:` type($cache)
  }];
}

def KVCache_ReshapeOp : KVCache_Op<"reshape", [
    Pure, DeclareOpInterfaceMethods<ViewLikeOpInterface>]> {
  let summary = "see a cache with other extents";
  let description = [{
    The row-major numbering of the elements of a cache, its axes as listed or as
    named in brackets, is cut into other extents. No data moves: a reshape that
    would have to copy is an error, which names the axes that prevent it.

    *To a memref*, whose type may say less of the strides than is known.

    *To a cache* with another block size, or with heads or channels split
    otherwise. The tokens of the pool keep their sequence, so slot numbers stay
    what they are.

    At most one extent of the result is known at run time only.

    Constraints:
      * `reshape_c1` the element types agree; a cache stays in its space and
        keeps its access
      * `reshape_c2` brackets name each axis once, and belong to a memref result
      * `reshape_c3` the reshape is a view
      * `reshape_c4` each stride and the alignment that the result says are
        known; the offset of a memref is not
      * `reshape_c5` a cache keeps layers, sides, heads and channels, and the
        number of tokens; its number of blocks is a constant if it was one
      * `reshape_c6` a cache that is seen as a memref may be written

    Examples:

    ```mlir
    %rows = kvcache.reshape %k[B, N, H, D]
      : !k to memref<?x1024xbf16, strided<[1024, 1], offset: ?>>
    %fine = kvcache.reshape %cache : !kv_64 to !kv_16
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$cache, OptionalAttr<StrArrayAttr>:$axes);
  let results = (outs AnyTypeOf<[AnyMemRef, KVCache_AnyCache]>:$result);
  let assemblyFormat = [{
    $cache (`` custom<AxisList>($axes)^)? attr-dict
    `:` type($cache) `to` type($result)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The axes in the sequence in which elements are numbered.
    std::vector<::kvcache::Axis> getNumbering();
  }];
}

def KVCache_FlattenOp : KVCache_Op<"flatten", [
    Pure, InferTypeOpAdaptor,
    DeclareOpInterfaceMethods<ViewLikeOpInterface>]> {
  let summary = "the rows of one side of a cache by slot number";
  let description = [{
    A memref `[slots, H, D]`, or `[slots, D]` if the cache has no head axis,
    whose row `b * N + n` is token `n` of block `b`. That takes
    `stride(B) = N * stride(N)`, a fact of the type.

    Constraints:
      * `flatten_c1` the cache has neither layers nor sides
      * `flatten_c2` blocks and tokens are numbered together by one stride
      * `flatten_c3` the cache may be written, as the memref may be

    Example:

    ```mlir
    %rows = kvcache.flatten %k : !k
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$cache);
  let results = (outs AnyMemRef:$result);
  let assemblyFormat = "$cache attr-dict `:` type($cache)";
}

//===----------------------------------------------------------------------===//
// Facts: the run-time side of the type
//===----------------------------------------------------------------------===//

def KVCache_CastOp : KVCache_Op<"cast", [
    Pure, DeclareOpInterfaceMethods<ViewLikeOpInterface>,
    DeclareOpInterfaceMethods<KVCache_CachePartOpInterface>]> {
  let summary = "the same cache under a type that says more, or less";
  let description = [{
    Changes what is known of a cache: extents, strides, alignment. What the type
    of the result says and that of the operand does not is a precondition, which
    `has_facts` tests.

    Constraints:
      * `cast_c1` axes, order, element type and space agree
      * `cast_c2` what both types know agrees
      * `cast_c3` the result of casting a read-only cache is read only

    Example:

    ```mlir
    %ok = kvcache.has_facts %c : !kv_any has !kv
    scf.if %ok {
      %p = kvcache.cast %c : !kv_any to !kv
      ...
    }
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$cache);
  let results = (outs KVCache_AnyCache:$result);
  let assemblyFormat = "$cache attr-dict `:` type($cache) `to` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def KVCache_HasFactsOp : KVCache_Op<"has_facts", [Pure,
    DeclareOpInterfaceMethods<KVCache_ViewCheckOpInterface>]> {
  let summary = "whether a cache is what a type says";
  let description = [{
    True if the extents, strides and base address of the cache fulfil all that
    `facts` says. A stride of an axis of extent 1 is never used and always
    fulfils it; an axis that is compact over it has one that it could have. Of a
    cache without elements, which a view that fails is, too, the result may be
    either.

    Constraints: those of `cast`, as `has_facts_c1` and `has_facts_c2`.

    Example: see `cast`.
  }];
  let arguments = (ins KVCache_AnyCache:$cache, TypeAttr:$facts);
  let results = (outs I1:$result);
  let assemblyFormat = "$cache attr-dict `:` type($cache) `has` $facts";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def KVCache_TraceOp : KVCache_Op<"trace", [KVCache_OnlyReports]> {
  let summary = "say which way a call went";
  let description = [{
    Prints the text, with the name of the function that was called, where the
    program runs with `KVRT_TRACE=1` in its environment; otherwise it does
    nothing. `kvcache-specialize-page-stride` puts one in each variant.

    Example:

    ```mlir
    kvcache.trace "attention: any stride of B"
    ```
  }];
  let arguments = (ins StrAttr:$text);
  let assemblyFormat = "$text attr-dict";
}

class KVCache_AxisQueryOp<string mnemonic, string what>
    : KVCache_Op<mnemonic, [Pure]> {
  let summary = "the " # what # " of an axis";
  let arguments = (ins KVCache_AnyCache:$cache, StrAttr:$axis);
  let results = (outs Index:$result);
  let assemblyFormat =
      "$cache `[` custom<AxisName>($axis) `]` attr-dict `:` type($cache)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def KVCache_DimOp : KVCache_AxisQueryOp<"dim", "extent"> {
  let description = [{
    Constraints:
      * `dim_c1` the cache has the axis

    Example:

    ```mlir
    %blocks = kvcache.dim %cache[B] : !kv
    ```
  }];
}

def KVCache_StrideOp : KVCache_AxisQueryOp<"stride", "stride in elements"> {
  let description = [{
    Constraints:
      * `stride_c1` the cache has the axis

    Example:

    ```mlir
    %step = kvcache.stride %cache[B] : !kv
    ```
  }];
}

#endif // KVCACHE_IR_VIEWOPS_TD
