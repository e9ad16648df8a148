// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_TRANSFORMS_KNOWNREGIONS_H
#define KVCACHE_TRANSFORMS_KNOWNREGIONS_H

#include "mlir/IR/Dialect.h"
#include "mlir/IR/Operation.h"

namespace kvcache {

/// Refuses an operation with a region of a dialect that is not loaded. It may
/// name functions in ways that nobody knows; upstream's inliner asks which ones
/// it uses, and does not expect that this has no answer.
inline llvm::LogicalResult checkRegionIsKnown(mlir::Operation *op) {
  if (op->getDialect() || op->getNumRegions() == 0)
    return mlir::success();
  return op->emitOpError()
         << "has a region and is of a dialect that is not loaded: it is "
            "expected to be raised or lowered before";
}

} // namespace kvcache

#endif // KVCACHE_TRANSFORMS_KNOWNREGIONS_H
