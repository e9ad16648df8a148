// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Remarks on what a pass did and what it declined. Passes that emit them are
// module passes, so that remarks come in the order of the IR.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_TRANSFORMS_REMARKS_H
#define KVCACHE_LIB_TRANSFORMS_REMARKS_H

#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/Remarks.h"
#include "llvm/ADT/Twine.h"

namespace kvcache {

/// `name` is that of the pass, without `kvcache-`.
inline void remarkDone(mlir::Operation *op, llvm::StringRef name,
                       const llvm::Twine &text) {
  auto options = mlir::remark::RemarkOpts::name(name).category("kvcache");
  mlir::remark::passed(op->getLoc(), options) << text.str();
}

inline void remarkDeclined(mlir::Operation *op, llvm::StringRef name,
                           const llvm::Twine &text) {
  auto options = mlir::remark::RemarkOpts::name(name).category("kvcache");
  mlir::remark::missed(op->getLoc(), options) << text.str();
}

/// A remark, and the reason for whoever drives the pattern.
inline mlir::LogicalResult declineMatch(mlir::RewriterBase &rewriter,
                                        mlir::Operation *op,
                                        llvm::StringRef name,
                                        const llvm::Twine &why) {
  remarkDeclined(op, name, why);
  return rewriter.notifyMatchFailure(op, why);
}

} // namespace kvcache

#endif // KVCACHE_LIB_TRANSFORMS_REMARKS_H
