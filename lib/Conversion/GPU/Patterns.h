// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One function per file of this folder.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_PATTERNS_H
#define KVCACHE_LIB_CONVERSION_GPU_PATTERNS_H

#include "kvcache/IR/KVCache.h"

namespace mlir {
class ModuleOp;
class RewritePatternSet;
class TypeConverter;
} // namespace mlir

namespace kvcache {
/// Runs between host and device of at least `copyEngineBytes` are left to the
/// copy engine.
void populateBlockOpsToGPU(mlir::TypeConverter &converter,
                           mlir::RewritePatternSet &patterns,
                           int64_t copyEngineBytes);
void populateAttentionToGPU(mlir::TypeConverter &converter,
                            mlir::RewritePatternSet &patterns, TargetAttr gpu);
/// One buffer for the parts of results of all attentions of a function.
void allocateAttentionParts(mlir::ModuleOp module, TargetAttr gpu);
void populateChecksToGPU(mlir::TypeConverter &converter,
                         mlir::RewritePatternSet &patterns);
void populateIndexOpsToGPU(mlir::TypeConverter &converter,
                           mlir::RewritePatternSet &patterns);
void populateMergeStatesToGPU(mlir::TypeConverter &converter,
                              mlir::RewritePatternSet &patterns);
void populateRowOpsToGPU(mlir::TypeConverter &converter,
                         mlir::RewritePatternSet &patterns);
void populateRowStepsToGPU(mlir::TypeConverter &converter,
                           mlir::RewritePatternSet &patterns);
void populateSelectRowsToGPU(mlir::TypeConverter &converter,
                             mlir::RewritePatternSet &patterns);
} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_PATTERNS_H
