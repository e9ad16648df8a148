// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the host side of both attention kernels shares.
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

/// The lowered operands of an op, and how many rows all of them have.
struct AttentionOperands {
  AttentionOperands(CodeBuilder &emit, AttentionOp op,
                    const LoweredOperands &in);

  CacheValue keys, values; ///< sides
  BatchValue batch;
  mlir::Value query, out, lse, alibi, sinks, mask, valueScale;
  mlir::Value prefixGroups, prefixLengths;
  mlir::Value rows, blocks;
};

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
