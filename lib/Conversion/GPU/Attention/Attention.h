// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the host side of the attention kernels shares.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ATTENTION_H
#define KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ATTENTION_H

#include "../RowShape.h"
#include "AttentionKernel.h"
#include "PromptKernel.h"
#include "WarpKernel.h"

namespace kvcache {

/// A side of the caches of an op as parameters of a kernel.
AttentionSide sideParameters(KernelOperands &operands, const CacheValue &cache);
AttentionScales scaleParameters(KernelOperands &operands,
                                const CacheValue &scales);

/// The lowered operands of an op, and how many rows all of them have.
struct AttentionOperands {
  AttentionOperands(CodeBuilder &emit, AttentionOp op,
                    const LoweredOperands &in);

  CacheValue keys, values; ///< sides
  std::optional<CacheValue> keyScales, valueScales;
  BatchValue batch;
  mlir::Value query, out, lse, alibi, sinks, mask, valueScale;
  mlir::Value prefixGroups, prefixLengths;
  mlir::Value rows, blocks;
};

// AttentionMaps.cpp
/// Of a side of a cache: (channel, token, part of the channels, head, block);
/// boxes have some tokens and parts, of which `inner` channels lie side by
/// side.
mlir::Value emitTokenMap(CodeBuilder &emit, mlir::Operation *op,
                         const CacheValue &cache, int64_t inner, int64_t tokens,
                         int64_t parts);
/// Of a side whose boxes have all parts of eight tokens side by side: a map has
/// no more than five dimensions, so heads are one with parts or with tokens.
mlir::Value emitGroupMap(CodeBuilder &emit, mlir::Operation *op,
                         const CacheValue &cache, HeadNeighbor neighbor,
                         int64_t tokens);
/// Of the query: (channel, head, row); boxes have some rows of a group.
mlir::Value emitQueryMap(CodeBuilder &emit, mlir::Operation *op,
                         mlir::Value query, const AttentionTraits &traits,
                         mlir::Value rows, int64_t boxRows);

/// Most channels of a head: each lane of a warp has its share of them in
/// registers, and each warp a row of values in shared memory.
inline constexpr int64_t kMostRowChannels = 1024;

/// Attention of any types and layouts: a block of threads for each row and
/// query head.
void emitAttentionRows(CodeBuilder &emit, AttentionOp op,
                       const AttentionTraits &traits,
                       const AttentionOperands &operands);

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ATTENTION_H
