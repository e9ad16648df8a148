// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One function per family of operations.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_CPU_PATTERNS_H
#define KVCACHE_LIB_CONVERSION_CPU_PATTERNS_H

#include <cstdint>

namespace mlir {
class ModuleOp;
class RewritePatternSet;
class TypeConverter;
} // namespace mlir

namespace kvcache {
/// What code for attention is chosen by.
struct CpuFeatures {
  int64_t lanes;    ///< of a vector register, in f32
  bool hasBF16Dots; ///< products of pairs of bf16, added up in f32
};

void populateAttentionToLoops(mlir::TypeConverter &converter,
                              mlir::RewritePatternSet &patterns,
                              const CpuFeatures &cpu);
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
} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_CPU_PATTERNS_H
