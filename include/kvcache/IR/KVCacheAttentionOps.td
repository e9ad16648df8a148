// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_IR_ATTENTIONOPS_TD
#define KVCACHE_IR_ATTENTIONOPS_TD

include "kvcache/IR/KVCacheTypes.td"

def KVCache_AttentionOp : KVCache_IntoOp<"attention", "outs", [
    "getCacheUses", "getIndexUses", "dropAxisNames"], [
    AttrSizedOperandSegments, KVCache_HasRowsApart]> {
  let summary = "attention of query rows over the tokens in a paged cache";
  let description = [{
    For each row `t` of a request `r` of the batch, at position `p`, and each
    query head `h`, computes attention over the keys `j` in `0 .. lengths[r] -
    1` that the row sees:

    ```
    g    = h / (Hq / H)
    x[j] = scale * sum over d of query[t, h, d] * K[r, j, g, d]
    x[j] = softcap * tanh(x[j] / softcap)                  with softcap
    x[j] = x[j] + alibi[h] * (j - p)                       with alibi
    m    = max over j of x[j], and sinks[h]                with sinks
    l    = sum over j of exp(x[j] - m), + exp(sinks[h] - m)
    out[t, h, d] = sum over j of exp(x[j] - m) * V[r, j, g, d] / l
    out[t, h, d] = value_scale * out[t, h, d]              with value_scale
    lse[t, h]    = m + log(l)                              if requested
    ```

    `K[r, j]` is token `j % N` of block `table[r, j / N]`, of layer and side of
    the cache. A key is seen if its block is in the cache, and

      * with `causal`, if `j <= p`
      * with `window` w, if `j > p - w`
      * with `window_right` w, if `j <= p + w`; `causal` is `window_right 0`
      * with `mask`, if it lies before the request's own rows, or its bit in the
        words of row `t` is set

    A mask has one row of words for each query row, and says which of the
    request's *own rows* it sees: of a request with n query rows, these are the
    keys `lengths[r] - n` and up, and bit i (bit `i % 32` of word `i / 32`)
    stands for key `lengths[r] - n + i`. A row that has no such word does not
    see the key; bits of keys that do not exist have no effect. All conditions
    must hold: a tree of speculated tokens, parents before children, is `causal`
    with a mask, which keeps the range of keys of each row short, and spans that
    see both ways are a mask alone.

    `scale` defaults to `1 / sqrt(D)`. A row that sees no key, including a row
    in no request, gives 0, and an lse of minus infinity (`sinks[h]` with
    sinks). Contents of the cache that no row sees never reach the result, even
    if they are NaN or infinite.

    With `heads_first`, the lse is `lse[h, t]`. The heads of the query may have
    any stride, those of the output are contiguous.

    `prefixes` says which requests begin with the same blocks, so that a target
    can read these once for all of them: requests `groups[i]` to `groups[i + 1]
    - 1` of the batch have the same first `lengths[i]` tokens, in the same
    blocks of the table, and these tokens come before those of all their query
    rows. The result is the same without it, but for rounding. Where the
    promise does not hold, or starts are not in order, rows of these requests
    have any values. Groups that are not in order, or go beyond the requests,
    count as none at all.

    With `batch_invariant`, the bits of a row depend on its own request alone,
    whatever else is in the batch: on its query rows, its length and the contents
    of its keys. Keys are split at places that follow from these, so small
    batches take longer. Prefixes are not used then.

    There is one cache with both sides, or one of keys and one of values, which
    may have different layouts and different D. Accumulators are f32, and the
    order of summation depends only on extents, lengths and the kernel, never on
    strides. On a GPU, which kernel many rows have follows from the layout too.

    Constraints:
      * `attention_c1` one cache with two sides, or two caches without sides
      * `attention_c2` each cache is a single layer, and caches have the same
        heads and block size
      * `attention_c3` the query is `[T, Hq, D]` with a constant Hq and the D of
        the keys
      * `attention_c4` Hq is a multiple of the number of heads of the cache, and
        not 0
      * `attention_c5` the first destination is `[T, Hq, D]` with the D of the
        values; the second, if any, is `[T, Hq]` of f32, or `[Hq, T]` with
        `heads_first`, which needs it
      * `attention_c6` the elements of query and output are f16, bf16 or f32
      * `attention_c7` the block size of the batch is that of the caches
      * `attention_c8` alibi slopes and sinks are `[Hq]` of f32
      * `attention_c9` `window` is at least 1, `window_right` is from 0 to 2^40
        and not given with `causal`, softcap is positive, and scale and softcap
        are finite
      * `attention_c10` memrefs have contiguous inner dimensions, the query
        contiguous channels, and are in the default memory space
      * `attention_c11` buffers are all tensors or all memrefs, tensors if a
        cache is a tensor
      * `attention_c12` the dimensions of a cache are named if and only if it is
        a tensor, and the names are the axes of a cache
      * `attention_c13` the mask is `[T, W]` of i32
      * `attention_c14` groups and lengths of prefixes are 1-D, of i32 or i64,
        with one group more than lengths, and contiguous
      * `attention_c15` scales are those of `index_copy`, but need not be
        writable, for each cache of stored values; the channels of a token and a
        head share one

    Examples:

    ```mlir
    kvcache.attention %q over %cache in %batch into %out causal
      : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
    %o, %l = kvcache.attention %q over %k, %v in %batch into %o0, %l0
      causal window 4096 softcap 3.0e+01 scale 1.25e-01
      : tensor<?x32x128xbf16> over !k, !v in !batch
      into tensor<?x32x128xbf16>, tensor<?x32xf32>
    kvcache.attention %q over %cache in %batch value_scale(%s)
      into %out, %lse heads_first window 128 window_right 16
      : memref<?x32x128xbf16, strided<[?, ?, 1]>> over !kv in !batch
      into memref<?x32x128xbf16>, memref<32x?xf32>
    kvcache.attention %q over %cache in %batch into %out batch_invariant causal
      : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
    kvcache.attention %q over %cache in %batch mask(%m : memref<?x?xi32>)
      into %out causal
      : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
    kvcache.attention %q over %cache in %batch
      prefixes(%groups, %tokens : memref<?xi32>, memref<?xi32>)
      into %out causal
      : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
    ```
  }];
  let arguments = (ins
      KVCache_Buffer:$query, Variadic<KVCache_CacheOrTensor>:$caches,
      Variadic<KVCache_AnyCache>:$scales, KVCache_AnyBatch:$batch, Optional<KVCache_Buffer>:$alibi,
      Optional<KVCache_Buffer>:$sinks, Optional<KVCache_Buffer>:$mask,
      Optional<F32>:$valueScale, Optional<KVCache_Buffer>:$prefixGroups,
      Optional<KVCache_Buffer>:$prefixLengths, Variadic<KVCache_Buffer>:$outs,
      DefaultValuedOptionalAttr<ArrayAttr, "{}">:$cacheAxes,
      UnitAttr:$headsFirst, UnitAttr:$batchInvariant, UnitAttr:$causal,
      OptionalAttr<I64Attr>:$window,
      OptionalAttr<I64Attr>:$windowRight,
      OptionalAttr<F32Attr>:$softcap, OptionalAttr<F32Attr>:$scale);
  let assemblyFormat = [{
    $query `over` custom<CacheList>($caches, $cacheAxes)
    (`scales` `(` $scales^ `:` type($scales) `)`)? `in` $batch
    (`alibi` `(` $alibi^ `:` type($alibi) `)`)?
    (`sinks` `(` $sinks^ `:` type($sinks) `)`)?
    (`mask` `(` $mask^ `:` type($mask) `)`)?
    (`value_scale` `(` $valueScale^ `)`)?
    (`prefixes` `(` $prefixGroups^ `,` $prefixLengths `:` type($prefixGroups)
      `,` type($prefixLengths) `)`)?
    `into` $outs (`heads_first` $headsFirst^)?
    (`batch_invariant` $batchInvariant^)? (`causal` $causal^)?
    (`window` $window^)? (`window_right` $windowRight^)?
    (`softcap` $softcap^)? (`scale` $scale^)? attr-dict
    `:` type($query) `over` type($caches) `in` type($batch) `into` type($outs)
  }];
  let extraClassDeclaration = intoDeclaration # [{
    /// The type of a cache operand, even if it is a tensor.
    ::kvcache::CacheType getCacheType(unsigned i);
    /// The type of the cache that keys and values are read from.
    ::kvcache::CacheType getKeyType() { return getCacheType(0); }
    ::kvcache::CacheType getValueType() {
      return getCacheType(getCaches().size() - 1);
    }
    /// The scales of a cache; null if it has none.
    ::mlir::Value getScalesOf(unsigned i);
    /// The scale, or its default.
    double getScaleValue();
    /// How far ahead of its position a row sees keys; none: all of them.
    std::optional<int64_t> getAhead();
    ::mlir::Value getOut() { return getOuts().front(); }
    /// Null if not requested.
    ::mlir::Value getLse() {
      return getOuts().size() > 1 ? getOuts()[1] : ::mlir::Value();
    }
  }];
}

def KVCache_MergeStatesOp : KVCache_IntoOp<"merge_states", "outs", [], [
    AttrSizedOperandSegments, KVCache_HasRowsApart]> {
  let summary = "merge attention results over splits of the keys";
  let description = [{
    Merges the results of attention over two or more disjoint sets of keys into
    the result over all of them. For splits `i`, with `m = max over i of
    lse[i]`:

    ```
    w[i]         = exp(lse[i][t, h] - m)
    out[t, h, d] = (sum over i of w[i] * x[i][t, h, d]) / (sum over i of w[i])
    lse[t, h]    = m + log(sum over i of w[i])             if requested
    ```

    If an lse is minus or plus infinity, that split had no keys, and is ignored;
    if all are, the result is 0 and its lse minus infinity. Sinks must be
    applied in only one of the splits. With `heads_first`, every lse is
    `lse[h, t]`.

    Constraints:
      * `merge_states_c1` all splits and the first destination are `[T, H, D]`
        of the same element type, f16, bf16 or f32, with constant H and D; their
        lse and the second destination, if any, are `[T, H]` of f32, or
        `[H, T]` with `heads_first`
      * `merge_states_c2` memrefs have contiguous inner dimensions and are in
        the default memory space
      * `merge_states_c3` buffers are all tensors or all memrefs
      * `merge_states_c4` there are from 2 to 64 splits, each with its lse

    Examples:

    ```mlir
    kvcache.merge_states %a, %lse_a with %b, %lse_b into %out, %lse
      : memref<?x32x128xbf16>, memref<?x32xf32>
      with memref<?x32x128xbf16>, memref<?x32xf32>
      into memref<?x32x128xbf16>, memref<?x32xf32>
    kvcache.merge_states %a, %lse_a with %b, %lse_b with %c, %lse_c
      into %out heads_first
      : memref<?x32x128xbf16>, memref<32x?xf32>
      with memref<?x32x128xbf16>, memref<32x?xf32>
      with memref<?x32x128xbf16>, memref<32x?xf32>
      into memref<?x32x128xbf16>
    ```
  }];
  let arguments = (ins Variadic<KVCache_Buffer>:$splits,
                       Variadic<KVCache_Buffer>:$lses,
                       Variadic<KVCache_Buffer>:$outs, UnitAttr:$headsFirst);
  let assemblyFormat = [{
    custom<Splits>($splits, $lses) `into` $outs (`heads_first` $headsFirst^)?
    attr-dict `:` custom<SplitTypes>(type($splits), type($lses))
    `into` type($outs)
  }];
  let extraClassDeclaration = intoDeclaration # [{
    static constexpr unsigned kMostSplits = 64;
    ::mlir::Value getOut() { return getOuts().front(); }
    /// Null if not requested.
    ::mlir::Value getLse() {
      return getOuts().size() > 1 ? getOuts()[1] : ::mlir::Value();
    }
  }];
}

#endif // KVCACHE_IR_ATTENTIONOPS_TD
