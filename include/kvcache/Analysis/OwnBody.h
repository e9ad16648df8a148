// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The operations that belong to a function. A function may contain a module
// with further functions, which have their own arguments and buffers, and are
// not called from outside it.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ANALYSIS_OWNBODY_H
#define KVCACHE_ANALYSIS_OWNBODY_H

#include "mlir/IR/OpDefinition.h"

namespace kvcache {

/// Visits all operations in an operation except those that cannot see its
/// values.
inline mlir::WalkResult
walkOwnBody(mlir::Operation *parent,
            llvm::function_ref<mlir::WalkResult(mlir::Operation *)> visit) {
  return parent->walk<mlir::WalkOrder::PreOrder>([&](mlir::Operation *op) {
    if (op != parent && op->hasTrait<mlir::OpTrait::IsIsolatedFromAbove>())
      return mlir::WalkResult::skip();
    return visit(op);
  });
}

} // namespace kvcache

#endif // KVCACHE_ANALYSIS_OWNBODY_H
