// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Transposes and reshapes between a pool that a program holds and the one that
// an operation sees. The axes of a cache are named, so the operation can be
// said of the former:
//
//   [B, H, N, D] --transpose--> [B, N, H, D] --collapse--> [rows, H, D]
//
// and what the program does to get back from the result vanishes.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_RAISE_POOLCHAIN_H
#define KVCACHE_LIB_RAISE_POOLCHAIN_H

#include "mlir/IR/Builders.h"

namespace kvcache::raise {

/// The name of a dimension that numbers the rows of all blocks; else one is B,
/// N, H or D.
inline constexpr char kRows = 'R';

struct PoolChain {
  mlir::Value base;
  /// One name for each dimension of the base.
  llvm::SmallVector<char> axes;
  /// What makes the pool of the base, first to last.
  llvm::SmallVector<mlir::Operation *> ops;

  /// Follows a pool with these names of dimensions to where it comes from.
  static PoolChain follow(mlir::Value pool, llvm::ArrayRef<char> axes);

  /// The bytes of copies that `ops` make as they stand, 0 if they only reshape.
  uint64_t copiedBytes(size_t count) const;
};

/// What has been done to `value` on the way from another tensor, if it is a
/// transpose: dimension `i` of the result is `permutation[i]` of the operand.
std::optional<llvm::SmallVector<int64_t>> permutationOf(mlir::Operation *op);

/// Replaces a pool that `chain.ops` lead to by what they make of `updated`, the
/// new base. Users that lead back vanish, and are given in `erased` to be
/// erased; the bytes of pools that are still copied are the result.
uint64_t replacePool(mlir::OpBuilder &builder, mlir::Value old,
                     const PoolChain &chain, mlir::Value updated,
                     llvm::SmallVectorImpl<mlir::Operation *> &erased);

} // namespace kvcache::raise

#endif // KVCACHE_LIB_RAISE_POOLCHAIN_H
