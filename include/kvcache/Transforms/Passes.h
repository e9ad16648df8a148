// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Passes from kvcache IR to kvcache IR.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_TRANSFORMS_PASSES_H
#define KVCACHE_TRANSFORMS_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace mlir {
class RewritePatternSet;
} // namespace mlir

namespace kvcache {

/// The suffix that turns the name of a function into that of its workspace
/// function.
inline constexpr llvm::StringLiteral kWorkspaceSizeSuffix = ".workspace_size";

#define GEN_PASS_DECL
#include "kvcache/Transforms/Passes.h.inc"

/// Folds views of memrefs with the definitions of the memrefs: transpositions,
/// casts, memrefs and flattened rows of caches. `kvcache-fold-permutes` starts
/// with them.
void populateFoldViewPatterns(mlir::RewritePatternSet &patterns);

/// Folds a `relayout` to a local buffer that is only read: readers use the
/// source, if nothing may write it before they read.
void populateFoldRelayoutPatterns(mlir::RewritePatternSet &patterns);

/// Gives operations on caches a variant for each fact that changes their code.
/// A variant is not looked at again: where a driver visits it once more, it
/// says that facts are tested already.
void populateSpecializePageStridePatterns(
    mlir::RewritePatternSet &patterns,
    const SpecializePageStrideOptions &options);

#define GEN_PASS_REGISTRATION
#include "kvcache/Transforms/Passes.h.inc"

} // namespace kvcache

#endif // KVCACHE_TRANSFORMS_PASSES_H
