// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Extents that follow from those of the arguments of a function.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_TARGET_EXTENTS_H
#define KVCACHE_TARGET_EXTENTS_H

#include "kvcache/IR/CacheAccess.h"

#include <optional>

namespace kvcache::target {

/// (times * extent + plus) / over, for a dimension of an argument, or for its
/// value; without an argument, plus / over.
struct ArgumentExtent {
  mlir::Value of; ///< the argument of the function, or null
  unsigned dim = 0;
  unsigned member = 0; ///< of a batch, as its type numbers them
  int64_t times = 0, plus = 0, over = 1;
  bool isValue = false; ///< of an integer, which the entry does not compare
};

/// The formula for an extent of a memref. Nothing if it depends on several
/// arguments, or on data.
std::optional<ArgumentExtent> extentOf(mlir::Value memref, unsigned dim);

/// The same for an index.
std::optional<ArgumentExtent> sizeOf(mlir::OpFoldResult size);

/// The same for a member of a batch.
std::optional<ArgumentExtent> extentOfMember(mlir::TypedValue<BatchType> batch,
                                             BatchMember member, unsigned dim);

std::optional<ArgumentExtent> timesConstant(ArgumentExtent extent,
                                            int64_t factor);
std::optional<ArgumentExtent> plusConstant(ArgumentExtent extent,
                                           int64_t number);

/// extent = times * of + plus: both are dimensions of arguments; `of` has no
/// argument if the extent is a constant.
struct ExtentRule {
  ArgumentExtent extent, of;
  int64_t times, plus;
};

/// The rule on arguments that makes two extents equal; nothing if it is
/// trivial, or cannot be expressed as a rule.
std::optional<ExtentRule> ruleOfEqual(const ArgumentExtent &a,
                                      const ArgumentExtent &b);

} // namespace kvcache::target

#endif // KVCACHE_TARGET_EXTENTS_H
