// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One function per family of operations.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_KVCACHETOLOOPS_PATTERNS_H
#define KVCACHE_LIB_CONVERSION_KVCACHETOLOOPS_PATTERNS_H

#include <cstdint>

namespace mlir {
class RewritePatternSet;
class TypeConverter;
} // namespace mlir

namespace kvcache {
/// `lanes`: of a vector register of the target, in f32.
void populateAttentionToLoops(mlir::TypeConverter &converter,
                              mlir::RewritePatternSet &patterns, int64_t lanes);
void populateBlockOpsToLoops(mlir::TypeConverter &converter,
                             mlir::RewritePatternSet &patterns);
void populateIndexOpsToLoops(mlir::TypeConverter &converter,
                             mlir::RewritePatternSet &patterns);
void populateMergeStatesToLoops(mlir::TypeConverter &converter,
                                mlir::RewritePatternSet &patterns);
void populateRowOpsToLoops(mlir::TypeConverter &converter,
                           mlir::RewritePatternSet &patterns);
} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_KVCACHETOLOOPS_PATTERNS_H
