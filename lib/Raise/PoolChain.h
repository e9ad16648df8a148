// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Transposes and reshapes between the pool of a program and the one that an
// operation uses. The axes of a cache are named, so the operation can be
// applied to the former:
//
//   [B, H, N, D] --transpose--> [B, N, H, D] --collapse--> [rows, H, D]
//
// and the inverse operations on the result disappear.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_RAISE_POOLCHAIN_H
#define KVCACHE_LIB_RAISE_POOLCHAIN_H

#include "mlir/IR/Builders.h"

namespace kvcache::raise {

/// The name of a dimension that numbers the rows of all blocks; other names are
/// B, N, H and D.
inline constexpr char kRows = 'R';

struct PoolChain {
  mlir::Value base;
  /// One name for each dimension of the base.
  llvm::SmallVector<char> axes;
  /// The operations that make the pool from the base, first to last.
  llvm::SmallVector<mlir::Operation *> ops;

  /// Follows a pool with these dimension names to its source.
  static PoolChain follow(mlir::Value pool, llvm::ArrayRef<char> axes);

  /// The size in bytes of the copies that `ops` make, 0 if they only reshape.
  uint64_t copiedBytes(size_t count) const;
};

/// The permutation that made `value` from another tensor, if it is a transpose:
/// dimension `i` of the result is `permutation[i]` of the operand.
std::optional<llvm::SmallVector<int64_t>> permutationOf(mlir::Operation *op);

/// Replaces the pool at the end of `chain.ops` by the result of applying them
/// to `updated`, the new base. Users that invert the chain are bypassed, and
/// returned in `erased` to be erased. Returns the size in bytes of pools that
/// are still copied.
uint64_t replacePool(mlir::OpBuilder &builder, mlir::Value old,
                     const PoolChain &chain, mlir::Value updated,
                     llvm::SmallVectorImpl<mlir::Operation *> &erased);

} // namespace kvcache::raise

#endif // KVCACHE_LIB_RAISE_POOLCHAIN_H
