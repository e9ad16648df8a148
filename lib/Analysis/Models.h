// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The interfaces that operations get from here.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ANALYSIS_MODELS_H
#define KVCACHE_ANALYSIS_MODELS_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace kvcache {

void registerTensorRowModels(mlir::DialectRegistry &registry);
void registerKVCacheRowModels(mlir::DialectRegistry &registry);

} // namespace kvcache

#endif // KVCACHE_ANALYSIS_MODELS_H
