// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the host side of both attention kernels shares.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ATTENTION_H
#define KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ATTENTION_H

#include "../RowShape.h"
#include "AttentionKernel.h"

namespace kvcache {

/// One side of the caches of an op, taken apart.
struct AttentionCache {
  AttentionCache(mlir::OpBuilder &builder, mlir::Location loc, CacheType type,
                 mlir::Value memref, bool isSecondSide);
  /// As parameters of a kernel.
  AttentionSide parameters(KernelOperands &operands) const;
  AxisStrides axis(KernelOperands &operands, AxisKind kind) const;

  CacheParts parts;
  mlir::Value offset; ///< of the side, in elements
};

/// The lowered operands of an op, and how many rows all of them have.
struct AttentionOperands {
  AttentionOperands(mlir::OpBuilder &builder, mlir::Location loc,
                    AttentionOp op, llvm::ArrayRef<mlir::ValueRange> operands);

  AttentionCache keys, values;
  BatchParts batch;
  mlir::Value query, out, lse, alibi, sinks;
  mlir::Value rows, blocks;
};

/// Attention of any types and layouts: a block of threads for each row and
/// query head.
void emitAttentionRows(mlir::OpBuilder &builder, AttentionOp op,
                       const AttentionTraits &traits,
                       const AttentionOperands &operands);

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ATTENTION_H
