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
include "mlir/Interfaces/InferTypeOpInterface.td"
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
      * `storage_c4` each stride that the result says is known by the layout
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
  let extraClassDeclaration = [{
    /// The dimension of the result that holds the axis listed at `i`.
    unsigned resultDim(unsigned i);
  }];
}

def KVCache_LayerOp : KVCache_Op<"layer", [
    Pure, InferTypeOpAdaptor,
    DeclareOpInterfaceMethods<ViewLikeOpInterface>]> {
  let summary = "one layer of a cache of several";
  let description = [{
    The elements of one layer. The strides of the other axes stay what they are
    in the parent and become part of the type of the result, which follows from
    that of the operand.

    The index is a constant or a run-time value. A run-time index that is out of
    range makes the call fail, and the result has no blocks.

    Constraints:
      * `layer_c1` the cache has a layer axis
      * `layer_c2` a constant index is in range
      * `layer_c3` with a run-time index, the number of blocks is a run-time
        value

    Example:

    ```mlir
    %l = kvcache.layer %cache[%i] : !kv_cross
    ```
  }];
  let arguments = (ins KVCache_AnyCache:$cache, Index:$index);
  let results = (outs KVCache_AnyCache:$result);
  let assemblyFormat = "$cache `[` $index `]` attr-dict `:` type($cache)";
  let hasVerifier = 1;
}

def KVCache_SideOp : KVCache_Op<"side", [
    Pure, InferTypeOpAdaptor,
    DeclareOpInterfaceMethods<ViewLikeOpInterface>]> {
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

//===----------------------------------------------------------------------===//
// Facts: the run-time side of the type
//===----------------------------------------------------------------------===//

def KVCache_CastOp : KVCache_Op<"cast", [
    Pure, DeclareOpInterfaceMethods<ViewLikeOpInterface>]> {
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

def KVCache_HasFactsOp : KVCache_Op<"has_facts", [Pure]> {
  let summary = "whether a cache is what a type says";
  let description = [{
    True if the extents, strides and base address of the cache fulfil all that
    `facts` says. A stride of an axis of extent 1 is never used and always
    fulfils it.

    Constraints: those of `cast`, as `has_facts_c1` and `has_facts_c2`.

    Example: see `cast`.
  }];
  let arguments = (ins KVCache_AnyCache:$cache, TypeAttr:$facts);
  let results = (outs I1:$result);
  let assemblyFormat = "$cache attr-dict `:` type($cache) `has` $facts";
  let hasVerifier = 1;
  let hasFolder = 1;
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
