// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operations that view memory as a cache, or a cache in another way; no data
// moves. No operation permutes a cache: its axes are named, and their order in
// memory is part of the type. Where axes are matched with the dimensions of a
// memref, in `view` and `storage`, their names are written.
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
// speculated. An unused view may be dropped together with its check.

def KVCache_ViewOp : KVCache_Op<"view", [
    NoMemoryEffect, DeclareOpInterfaceMethods<KVCache_ViewCheckOpInterface>,
    DeclareOpInterfaceMethods<ConditionallySpeculatable>,
    AttrSizedOperandSegments,
    DeclareOpInterfaceMethods<ViewLikeOpInterface>]> {
  let summary = "view a buffer as a cache";
  let description = [{
    Returns a cache that refers to the elements of a buffer. There are two
    forms:

    *A memref of elements.* Its dimensions are the axes of the cache as listed,
    or as named in brackets. Extents must agree, and the strides of the memref
    must agree with the layout where both are known.

    *A memref of bytes* (`memref<?xi8>`). The first element is at byte `offset`,
    by default 0. `extents` and `strides` give the extents and strides that the
    type leaves to run time; the layout determines the rest. The stride of an
    axis of extent 1 is ignored: the smallest that the type allows is used.

    Facts in the type of the cache that the type of the memref does not contain
    (strides, the alignment of the base, the size of the byte buffer) are
    preconditions. If the source is an argument of a public function, the entry
    function checks them; a byte view checks its bounds and alignment each time,
    and if it fails, it has no blocks and makes the call fail. Its strides are
    then unspecified: `has_facts` and `stride` may return anything.

    Constraints:
      * `view_c1` the element types agree, or the source is `memref<?xi8>`
      * `view_c2` the source has one dimension per axis, each axis named once
      * `view_c3` extents agree
      * `view_c4` known strides agree with the layout
      * `view_c5` only the byte form has `offset`, `extents` and `strides`
      * `view_c6` `extents` and `strides` name exactly the axes that the type
        leaves to run time
      * `view_c7` the number of blocks of a byte view is a run-time value
      * `view_c8` the source is in the default memory space
      * `view_c9` a function does not return the cache, or a view of it, if it
        allocates the source itself: the memory would have no owner. Values that
        pass through branches or regions are not tracked
      * `view_c10` the cache has no scales; `with_scales` makes one that has

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
  let summary = "view a cache as a memref";
  let description = [{
    The inverse of `view`: a memref of the elements of a cache. Its dimensions
    are the axes as listed, or as named in brackets. Its type may contain less
    about the strides than the layout, but must otherwise agree.

    Constraints:
      * `storage_c1` the element types agree
      * `storage_c2` the result has one dimension per axis, each axis named once
      * `storage_c3` extents agree
      * `storage_c4` each stride in the result type is known from the layout; a
        result without a layout has packed dimensions
      * `storage_c5` the cache may be written, as the memref may be
      * `storage_c6` the cache has no scales; `stored` and `scales` are its parts

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
  let summary = "one layer of a cache with several layers";
  let description = [{
    The elements of one layer. The strides of the other axes are those of the
    parent and become part of the result type, which follows from that of the
    operand.

    An index that is out of range makes the call fail, and the result has no
    blocks. A constant that is out of range is not an error in the program,
    since the operation may never be executed; the lowering warns about it.
    With `nearest`, the result is the layer nearest to the index, and nothing
    fails. `kvcache-split-parts` makes this form for scales that all blocks share:
    the stored values beside them have no blocks then.

    Constraints:
      * `layer_c1` the cache has a layer axis
      * `layer_c2` the index is a constant in range, or the number of blocks is a
        run-time value, since the result has no blocks if the index is out of
        range; or the nearest layer is meant
      * `layer_c3` `nearest` is of a constant number of layers

    Example:

    ```mlir
    %l = kvcache.layer %cache[%i] : !kv_cross
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$cache, Index:$index,
                       UnitAttr:$nearest);
  let results = (outs KVCache_AnyCache:$result);
  let assemblyFormat = [{
    $cache `[` $index `]` (`nearest` $nearest^)? attr-dict `:` type($cache)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The index is a constant in range, or the nearest one is meant: nothing
    /// is checked at run time.
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
    other axes are those of the parent.

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
    The blocks `first` to `first + count - 1`, renumbered from 0. The strides
    are those of the parent. The range is checked: if it exceeds the parent, the
    call fails, and the result has no blocks.

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
    The heads `first` to `first + count - 1`, such as those of one rank of a
    model that is split by heads. The strides are those of the parent. If heads
    share a computed scale, a part of them is read-only: its rows do not tell that
    scale.

    Constraints:
      * `heads_c1` the cache has a head axis that contains all of the heads, and
        there is at least one

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
  let summary = "view a cache with other extents";
  let description = [{
    Numbers the elements of a cache in row-major order, with its axes as listed
    or as named in brackets, and divides this numbering into other extents. No
    data moves: a reshape that would have to copy is an error that names the
    axes that prevent it.

    *To a memref*, whose type may contain less about the strides than is known.

    *To a cache* with another block size, or with another split of heads or
    channels. The tokens of the pool keep their sequence, so slot numbers do not
    change. Of a cache with scales both parts are viewed.

    At most one extent of the result is known only at run time.

    Constraints:
      * `reshape_c1` the element types agree; a cache keeps its memory space and
        access
      * `reshape_c2` brackets name each axis once, and only for a memref result
      * `reshape_c3` the reshape is a view
      * `reshape_c4` strides and alignment in the result type are known; the
        offset of a memref is dynamic
      * `reshape_c5` a cache keeps layers, sides, heads and channels, and the
        number of tokens; its number of blocks remains constant if it was
        constant
      * `reshape_c6` a cache that is viewed as a memref may be written
      * `reshape_c7` a cache that is viewed as a memref has no scales; `stored`
        and `scales` are its parts

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
  let summary = "view one side of a cache as rows indexed by slot";
  let description = [{
    A memref `[slots, H, D]`, or `[slots, D]` if the cache has no head axis,
    whose row `b * N + n` is token `n` of block `b`. This requires `stride(B) =
    N * stride(N)`, a fact of the type.

    Constraints:
      * `flatten_c1` the cache has neither layers nor sides
      * `flatten_c2` the layout is flat: blocks and tokens share one stride
      * `flatten_c3` the cache may be written, as the memref may be
      * `flatten_c4` the cache has no scales; `stored` and `scales` are its parts

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
// Parts of a cache with scales
//===----------------------------------------------------------------------===//

def KVCache_WithScalesOp : KVCache_Op<"with_scales", [Pure]> {
  let summary = "a cache with scales, of its two parts";
  let description = [{
    Returns a cache that refers to the stored values and to the scales of its
    elements (`!kvcache.scaled`). Slices, copies and transfers of it are of both.

    `kvcache-split-parts` does the opposite everywhere, before anything else is
    lowered.

    Constraints:
      * `with_scales_c1` the result has scales
      * `with_scales_c2` the operands have the types of its parts

    Example:

    ```mlir
    %cache = kvcache.with_scales %values, %scales : !stored, !scales to !kv
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$stored, KVCache_AnyCache:$scales);
  let results = (outs KVCache_AnyCache:$result);
  let assemblyFormat = [{
    $stored `,` $scales attr-dict `:` type($stored) `,` type($scales)
    `to` type($result)
  }];
  let hasVerifier = 1;
}

class KVCache_CachePartOp<string mnemonic, string what>
    : KVCache_Op<mnemonic, [
          Pure, InferTypeOpAdaptor,
          DeclareOpInterfaceMethods<ViewLikeOpInterface>]> {
  let summary = "the " # what # " of a cache with scales";
  let arguments = (ins KVCache_AnyCache:$cache);
  let results = (outs KVCache_AnyCache:$result);
  let assemblyFormat = "$cache attr-dict `:` type($cache)";
}

def KVCache_StoredOp : KVCache_CachePartOp<"stored", "stored values"> {
  let description = [{
    A cache of the same layout, whose elements are bits (`!kvcache.stored`).

    Constraints:
      * `stored_c2` the cache has scales

    Example:

    ```mlir
    %values = kvcache.stored %cache : !kv
    ```
  }];
}

def KVCache_ScalesOp : KVCache_CachePartOp<"scales", "scales"> {
  let description = [{
    A cache of the scales. Axes whose indices share a scale have extent 1.

    Constraints:
      * `scales_c1` the cache has scales

    Example:

    ```mlir
    %scales = kvcache.scales %cache : !kv
    ```
  }];
}

//===----------------------------------------------------------------------===//
// Facts: the run-time side of the type
//===----------------------------------------------------------------------===//

def KVCache_CastOp : KVCache_Op<"cast", [
    Pure, DeclareOpInterfaceMethods<ViewLikeOpInterface>,
    DeclareOpInterfaceMethods<KVCache_CachePartOpInterface>]> {
  let summary = "the same cache with a type that has more or fewer facts";
  let description = [{
    Changes what is known of a cache: extents, strides, alignment. Facts of the
    result type that the operand type does not imply are preconditions, which
    `has_facts` tests.

    Constraints:
      * `cast_c1` axes, order, element type and space agree
      * `cast_c2` facts that both types have agree
      * `cast_c3` the result of casting a read-only cache is read-only

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
  let summary = "test whether a cache matches a type";
  let description = [{
    True if the extents, strides and base address of the cache satisfy the type
    `facts`. The stride of an axis of extent 1 is never used and always
    satisfies it; an axis that is compact over it may have any stride that it
    could have in the type. For a cache without elements, including a failed
    view, the result may be either.

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
  let summary = "report the path of a call";
  let description = [{
    Prints the text and the name of the called function if the program runs with
    `KVRT_TRACE=1` in its environment; otherwise it does nothing.
    `kvcache-specialize-page-stride` puts one in each variant.

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
