// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One function per family of operations.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_CPU_PATTERNS_H
#define KVCACHE_LIB_CONVERSION_CPU_PATTERNS_H

#include "kvcache/IR/KVCache.h"

namespace mlir {
class ModuleOp;
class RewritePatternSet;
class TypeConverter;
} // namespace mlir

namespace kvcache::cpu {
void populateAttentionToLoops(mlir::TypeConverter &converter,
                              mlir::RewritePatternSet &patterns,
                              TargetAttr cpu);
void populateBlockOpsToLoops(mlir::TypeConverter &converter,
                             mlir::RewritePatternSet &patterns);
void populateChecksToLoops(mlir::TypeConverter &converter,
                           mlir::RewritePatternSet &patterns);
/// What a checked operation allocates, and what its size is computed from, is
/// wanted whether it runs or not: outside of its branch, a loop over layers can
/// do with one buffer.
void hoistFromCheckedBranches(mlir::ModuleOp module);
void populateIndexOpsToLoops(mlir::TypeConverter &converter,
                             mlir::RewritePatternSet &patterns);
void populateMergeStatesToLoops(mlir::TypeConverter &converter,
                                mlir::RewritePatternSet &patterns);
void populateRowOpsToLoops(mlir::TypeConverter &converter,
                           mlir::RewritePatternSet &patterns);
void populateRowStepsToLoops(mlir::TypeConverter &converter,
                             mlir::RewritePatternSet &patterns);
} // namespace kvcache::cpu

#endif // KVCACHE_LIB_CONVERSION_CPU_PATTERNS_H
