// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_TRANSFORMS_KNOWNREGIONS_H
#define KVCACHE_TRANSFORMS_KNOWNREGIONS_H

#include "mlir/IR/Dialect.h"
#include "mlir/IR/Operation.h"

namespace kvcache {

/// Rejects an operation with a region from a dialect that is not loaded. It may
/// reference functions in unknown ways; upstream's inliner queries its symbol
/// uses, and does not handle that they are unknown.
inline llvm::LogicalResult checkRegionIsKnown(mlir::Operation *op) {
  if (op->getDialect() || op->getNumRegions() == 0)
    return mlir::success();
  return op->emitOpError()
         << "has a region and belongs to a dialect that is not loaded: it is "
            "expected to be raised or lowered first";
}

} // namespace kvcache

#endif // KVCACHE_TRANSFORMS_KNOWNREGIONS_H
