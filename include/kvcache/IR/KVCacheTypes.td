// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_IR_TYPES_TD
#define KVCACHE_IR_TYPES_TD

include "kvcache/IR/KVCacheBase.td"

def KVCache_MemorySpace : I32Enum<"MemorySpace", "memory space of a cache", [
    I32EnumCase<"device", 0>,
    I32EnumCase<"host", 1>]> {
  let cppNamespace = "::kvcache";
}

def KVCache_Access : I32Enum<"Access", "access through a cache reference", [
    I32EnumCase<"write", 0>,
    I32EnumCase<"read", 1>]> {
  let cppNamespace = "::kvcache";
}

def KVCache_Padding : I32Enum<"Padding", "padding of a slot list", [
    I32EnumCase<"none", 0>,
    I32EnumCase<"skip_negative", 1>,
    I32EnumCase<"skip_out_of_range", 2>,
    I32EnumCase<"sink", 3>]> {
  let cppNamespace = "::kvcache";
}

def KVCache_PaddingAttr
    : EnumAttr<KVCache_Dialect, KVCache_Padding, "padding">;

def KVCache_CopyScheduleAttr : AttrDef<KVCache_Dialect, "CopySchedule"> {
  let mnemonic = "copy_schedule";
  let summary = "work distribution of a GPU kernel that moves rows";
  let description = [{
    Determines the kernel of a write or a copy of rows; without it, the target
    has a default.

      * `threads`: threads per block, which covers whole rows or a part of one
      * `rows`: rows of each side that a thread has in flight
      * `streaming`: loads and stores are marked as streaming (data is not used
        again)

    Constraints:
      * `copy_schedule_c1` `threads` is a multiple of 32 from 32 to 1024, and
        `rows` is from 1 to 16

    Example:

    ```mlir
    kvcache.index_copy %key, %value into %cache at %slots
      schedule <threads = 128, rows = 2, streaming = false>
      : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !kv at !slots
    ```
  }];
  let parameters = (ins "int64_t":$threads, "int64_t":$rows,
                        "bool":$streaming);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

class KVCache_Type<string name, string typeMnemonic>
    : TypeDef<KVCache_Dialect, name> {
  let mnemonic = typeMnemonic;
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

/// Layouts are plain values of fixed size: they are stored in the type.
def KVCache_LayoutParameter
    : TypeParameter<"::kvcache::Layout", "axes, order, strides, alignment",
                    "const ::kvcache::Layout &">;

class KVCache_FormatType<string name, string typeMnemonic>
    : TypeDef<KVCache_Dialect, name,
              [DeclareTypeInterfaceMethods<KVCache_FormatTypeInterface>]> {
  let mnemonic = typeMnemonic;
  let genVerifyDecl = 1;
}

def KVCache_ScaledType : KVCache_FormatType<"Scaled", "scaled"> {
  let summary = "a format of stored values with scales";
  let description = [{
    ```
    scaled ::= `!kvcache.scaled` `<` (float | `i8`) `x` `f32`
               (`,` `per` `=` `[` group (`,` group)* `]`)?
               (`,` `strides` `=` `[` fact (`,` fact)* `]`)? `>`
    group  ::= (`L` | `S` | `B` | `N` | `H` | `D`) (`/` integer)?
    ```

    An element of a cache with this format is `scale * stored`. `per` lists the
    axes whose indices have scales of their own, in the sequence of a listing;
    the other axes share one. `D / 64` stands for one scale per 64 adjacent
    channels. The values of scales are data: computed when a row is written if
    each token has its own, and *given* if all blocks and tokens share them. Given
    scales are read, and written by nothing here.

    The cache has two *parts*, the stored values and the scales. The second one
    has the axes of the cache in the same order, those that are not in `per`
    with extent 1, and D with as many scales as a row of channels has. It is
    packed, but for `strides`, which are facts as in `!kvcache.cache` that count
    scales, and read-only if they are given. A slice of the cache is a slice of
    both.

    Constraints:
      * `scaled_c1` stored values are i8 or floats of 8 bits, and scales are f32
      * `scaled_c2` `per` lists axes once each, in the sequence L S B N H D, and
        only D has groups, of at least 1
      * `scaled_c3` `per` has both B and N, or neither
      * `scaled_c4` strides are between 1 and 2^40, and each is given once

    Example:

    ```mlir
    // One scale for each token and head.
    !kvcache.cache<2S x ?B x 16N x 8H x 128D
                   x !kvcache.scaled<f8E4M3FN x f32, per = [S, B, N, H]>>
    // At the end of the rows: 128 bytes, and 4 of the scale.
    !kvcache.cache<?B x 16N x 8H x 128D
                   x !kvcache.scaled<i8 x f32, per = [B, N, H], strides = [H = 33]>,
                   strides = [H = 132], align = 4>
    // Given, one of the keys and one of the values of each head; and one for all.
    !kvcache.cache<2S x ?B x 16N x 8H x 128D
                   x !kvcache.scaled<f8E4M3FN x f32, per = [S, H]>>
    !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32>>
    ```
  }];
  let parameters = (ins "::mlir::Type":$stored, "::mlir::Type":$scale,
                        ArrayRefParameter<"::kvcache::ScaleAxis">:$per,
                        ArrayRefParameter<"::kvcache::ScaleStride">:$strides);
  let hasCustomAssemblyFormat = 1;
  let extraClassDeclaration = [{
    /// The channels that share a scale, of so many.
    int64_t getGroup(int64_t channels) const;
    /// All blocks and tokens share scales: they are not computed.
    bool isGiven() const;
    /// The same format, but for where scales lie.
    bool isSameFormat(::kvcache::ScaledType other) const;
  }];
}

def KVCache_StoredType : KVCache_FormatType<"Stored", "stored"> {
  let summary = "the stored values of a format with scales";
  let description = [{
    ```
    stored ::= `!kvcache.stored` `<` (float | `i8`) `>`
    ```

    The format of the first part of a cache with scales. What they stand for is
    known together with the scales: an operation that converts elements of such
    a cache has the cache of scales beside it. All others move bits.

    Constraints:
      * `stored_c1` stored values are i8 or floats of 8 bits
  }];
  let parameters = (ins "::mlir::Type":$stored);
  let assemblyFormat = "`<` $stored `>`";
}

def KVCache_CacheType : KVCache_Type<"Cache", "cache"> {
  let summary = "a reference to a paged cache with a known layout";
  let description = [{
    ```
    cache  ::= `!kvcache.cache` `<` axis (`x` axis)* `x` element-type
               (`,` `order` `=` (`[` letter (`,` letter)* `]` | name))?
               (`,` `strides` `=` `[` fact (`,` fact)* `]`)?
               (`,` `align` `=` integer)? (`,` `space` `=` `host`)?
               (`,` `access` `=` `read`)? `>`
    axis   ::= (integer | `?`) letter
    letter ::= (`L` | `S` | `B` | `N` | `H` | `D`) (`.o` | `.i`)?
    fact   ::= letter `=` (integer | `?` (`mult` integer)?)
    ```

    The axes are L layer, S side (0 key, 1 value), B block, N token in the
    block, H KV head, D channel, listed in this sequence. B, N and D are always
    present. H and D can be split into an outer and an inner part, as in `D.o`
    and `D.i`. `order` gives the memory order from slowest to fastest axis; the
    default is the listed sequence. `strides` gives facts about strides that do
    not follow from the order: a constant, or a run-time value (`?`), possibly a
    multiple of a constant. All counts are in elements.

    Common orders have names, which may be written instead of the letters:
    `nhd`, `hnd`, `paired_nhd`, `paired_hnd`, `cross_layer_nhd`,
    `cross_layer_hnd`, `LBHNC`, `LBNHC`, `LHBNC`, `BLHNC`, `BLNHC`, `BHLNC`,
    `x_packed_key`, `x_packed_value`. Axes that a cache lacks are omitted.

    `align` is the alignment of the base in bytes; the default is 16. `space` is
    the memory space: the memory of the target, or pinned host memory.

    `access = read` makes a read-only reference: a layer that uses the cache of
    another one declares this in its type, and a write to it is an error. A
    writable reference can be cast to a read-only one, but not back.

    The element type is the *format* of the contents: f16, bf16, f32, f8E4M3FN,
    f8E5M2, or one with scales (`!kvcache.scaled`). A number becomes an element of another format by rounding to
    nearest, ties to even. f8E4M3FN and f8E5M2 have no room for larger numbers
    than 448 and 57344: such a number, or an infinity, becomes the largest finite
    one of its sign. A NaN stays a NaN.

    Extents and `x` are separated by blanks, as `0x16N` would be a hexadecimal
    number.

    Constraints:
      * `layout_c1` each axis is listed once, in the sequence L S B N H D
      * `layout_c2` B, N and D are present
      * `layout_c3` extents are between 1 and 2^40
      * `layout_c4` the order is a permutation of the axes
      * `layout_c5` strides are between 1 and 2^40, and no axis overlaps the
        faster ones
      * `layout_c6` the alignment is a power of two of at most 4096
      * `cache_c1` the element type is a format: f16, bf16, f32, f8E4M3FN or
        f8E5M2, `!kvcache.scaled` or `!kvcache.stored`
      * `cache_c2` the extents of S, N, H and D are constants, and S is 1 or 2
      * `cache_c3` the alignment is at least the size of an element
      * `cache_c4` only H and D are split into two parts
      * `cache_c5` scales are of axes of the cache, of L and S if it has them,
        and a group divides D; their strides are of axes that have scales, and
        scales do not overlap each other

    Examples:

    ```mlir
    // Keys and values of one layer, each packed, tokens before heads.
    !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
    // One buffer for all layers; a block of all layers is one run.
    !kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16, order = [B, L, S, N, H, D]>
    // The block stride is known only at run time.
    !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = ? mult 16]>
    ```
  }];
  let parameters = (ins KVCache_LayoutParameter:$layout,
                        "::mlir::Type":$elementType,
                        "::kvcache::MemorySpace":$space,
                        "::kvcache::Access":$access);
  let extraClassDeclaration = [{
    /// The alignment of the base if the type does not give one.
    static constexpr int64_t kDefaultAlign = 16;

    /// The type of a cache operand: its own, or that of a tensor whose packed
    /// dimensions are the named axes. Null if it is not a cache, with the
    /// reason in `why`.
    static CacheType of(::mlir::Type type, ::mlir::ArrayAttr axes,
                        std::string &why);

    int64_t getElementBytes() const;
    /// The number of row tensors that a write of one token takes: one per
    /// side, or one if the cache has no side axis.
    int64_t getNumSides() const;
    /// The shape of the part of a row that one token writes, [H, D] or [D].
    ::llvm::SmallVector<int64_t> getRowShape() const;
    /// The elements of its memory.
    ::mlir::Type getMemoryType() const;
    /// The memref that the cache is lowered to: its dimensions are the axes as
    /// listed. Of one with scales, that of its stored values.
    ::mlir::MemRefType getMemRefType() const;

    /// The format of a cache with scales; null of others.
    ::kvcache::ScaledType getScaled() const;
    /// The caches that are the parts of one with scales.
    CacheType getStoredPart() const;
    CacheType getScalesPart() const;
    /// Of the scales of a cache that is written: they are given.
    bool areGiven() const { return getAccess() == Access::read; }
    CacheType withAccess(::kvcache::Access access) const;
    /// The same with parts of these layouts.
    CacheType withParts(const ::kvcache::Layout &stored,
                        const ::kvcache::Layout &scales) const;
  }];
}

def KVCache_SlotsType : KVCache_Type<"Slots", "slots"> {
  let summary = "the rows of a cache for a list of tokens";
  let description = [{
    ```
    slots   ::= `!kvcache.slots` `<` (integer | `?`) `T` `x` (`i32` | `i64`) `,`
                `rows_per_block` `=` integer `,` `pad` `=` padding `>`
    padding ::= `none` | `skip_negative` | `skip_out_of_range`
                | `sink` `(` (integer | `?`) `)`
    ```

    Slot `s` is token `s % rows_per_block` of block `s / rows_per_block`, where
    `rows_per_block` is the block size. Slots are signed. The form of padding
    entries, and their effect, are part of the type:

    | `pad`               | padding entries        | effect                 |
    |---------------------|------------------------|------------------------|
    | `skip_negative`     | negative               | skipped                |
    | `skip_out_of_range` | negative, or past the last block | skipped      |
    | `sink(b)`           | in block `b`, without live tokens | written normally |
    | `none`              | there are none         |                        |

    The sink is a constant, or known only at run time (`?`). An engine that
    reserves slot 0 of a cache with blocks of one token uses `sink(0)`.

    An entry that is neither padding nor in the cache is an error of the caller.
    It is skipped, and never causes an access outside the cache.

    Constraints:
      * `slots_c1` the element type is i32 or i64
      * `slots_c2` the number of tokens is a run-time value or not negative
      * `slots_c3` `rows_per_block` is between 1 and 2^40
      * `slots_c4` the sink is `?` or from 0 to 2^40

    Examples:

    ```mlir
    !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
    !kvcache.slots<?T x i32, rows_per_block = 128, pad = sink(0)>
    ```
  }];
  let parameters = (ins "int64_t":$count, "::mlir::IntegerType":$elementType,
                        "int64_t":$rowsPerBlock, "::kvcache::Padding":$pad,
                        "int64_t":$sink);
  let extraClassDeclaration = [{
    ::mlir::MemRefType getMemRefType() const;
  }];
}

def KVCache_BlockTableType : KVCache_Type<"BlockTable", "block_table"> {
  let summary = "the blocks that hold the tokens of each request";
  let description = [{
    ```
    block_table ::= `!kvcache.block_table` `<` (integer | `?`) `R` `x`
                    (integer | `?`) `M` `x` (`i32` | `i64`) `,`
                    `tokens` `=` integer `>`
    ```

    One row for each of R requests: entry `[r, j]` is the number of the block
    that holds the tokens `j * tokens` to `(j + 1) * tokens - 1` of request `r`,
    where `tokens` is the block size. Entries after the last token of a request
    are padding of any value and are never used. A used entry that names no
    block of the cache is an error of the caller; its tokens are then missing:
    nothing is read or written for them.

    Constraints:
      * `block_table_c1` the element type is i32 or i64
      * `block_table_c2` the counts are run-time values or from 0 to 2^40
      * `block_table_c3` `tokens` is from 1 to 2^40

    Example:

    ```mlir
    !kvcache.block_table<?R x ?M x i32, tokens = 16>
    ```
  }];
  let parameters = (ins "int64_t":$numRequests, "int64_t":$maxBlocks,
                        "::mlir::IntegerType":$elementType, "int64_t":$tokens);
  let extraClassDeclaration = [{
    ::mlir::MemRefType getMemRefType() const;
  }];
}

def KVCache_BatchType : KVCache_Type<"Batch", "batch"> {
  let summary = "requests of different lengths, their query rows and blocks";
  let description = [{
    ```
    batch ::= `!kvcache.batch` `<` (integer | `?`) `R` `x`
              (integer | `?`) `M` `x` (`i32` | `i64`) `,`
              `tokens` `=` integer
              (`,` `positions` `=` (`i32` | `i64`))? `>`
    ```

    A ragged batch of R requests:

      * `starts[0 .. R]`: the query rows of request `r` are the rows
        `starts[r]` to `starts[r + 1] - 1` of an activation
      * `lengths[r]`: the number of tokens of request `r` in the cache,
        including those of its query rows
      * `table[r, j]`: its blocks, as in `block_table`
      * `positions[t]`: the position in its request of the token of query row
        `t`

    Without `positions` the query rows are the last tokens of their request: row
    `t` of request `r` is token `lengths[r] - (starts[r + 1] - t)`. Rows for
    which this does not hold need positions.

    Entries are not trusted: a length is clamped to at most `M * tokens`, a
    start to at least the previous start and at most the number of rows, and
    negative values to 0. Rows in no request are padding.

    Constraints:
      * `batch_c1` the element types are i32 or i64
      * `batch_c2` the counts are run-time values or from 0 to 2^40
      * `batch_c3` `tokens` is from 1 to 2^40

    Examples:

    ```mlir
    !kvcache.batch<?R x ?M x i32, tokens = 16>
    !kvcache.batch<?R x ?M x i32, tokens = 16, positions = i64>
    ```
  }];
  let parameters = (ins "int64_t":$numRequests, "int64_t":$maxBlocks,
                        "::mlir::IntegerType":$elementType, "int64_t":$tokens,
                        "::mlir::IntegerType":$positionType);
  let extraClassDeclaration = [{
    bool hasPositions() const { return static_cast<bool>(getPositionType()); }
    /// The type of the table of the batch.
    ::kvcache::BlockTableType getTableType() const;
    /// The memrefs that the batch is lowered to: starts, lengths, table, and
    /// positions if it has them.
    ::llvm::SmallVector<::mlir::MemRefType> getMemRefTypes() const;
    /// Their names, as in the description.
    ::llvm::ArrayRef<::llvm::StringRef> getMemberNames() const;
  }];
}

// Operand and result constraints. They are not the types themselves, which
// would be printed without their name.
def KVCache_AnyCache
    : Type<CPred<"::llvm::isa<::kvcache::CacheType>($_self)">, "cache",
           "::kvcache::CacheType">;
def KVCache_AnySlots
    : Type<CPred<"::llvm::isa<::kvcache::SlotsType>($_self)">, "slots",
           "::kvcache::SlotsType">;
def KVCache_AnyBlockTable
    : Type<CPred<"::llvm::isa<::kvcache::BlockTableType>($_self)">,
           "block table", "::kvcache::BlockTableType">;
def KVCache_AnyBatch
    : Type<CPred<"::llvm::isa<::kvcache::BatchType>($_self)">, "batch",
           "::kvcache::BatchType">;

/// A tensor, or a memref once the program is bufferized.
def KVCache_Buffer : AnyTypeOf<[AnyRankedTensor, AnyMemRef]>;
/// A reference to a cache or, for functional hosts, the pool as a tensor.
def KVCache_CacheOrTensor : AnyTypeOf<[KVCache_AnyCache, AnyRankedTensor]>;

#endif // KVCACHE_IR_TYPES_TD
