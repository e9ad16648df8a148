// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// External models of interfaces, implemented in this library.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_ROWDEMAND_MODELS_H
#define KVCACHE_LIB_ROWDEMAND_MODELS_H

#include "kvcache/RowDemand/RowDemand.h"

namespace kvcache::rowdemand {

void registerTensorRowModels(mlir::DialectRegistry &registry);
void registerKVCacheRowModels(mlir::DialectRegistry &registry);
llvm::SmallVector<PartialRead> getTensorPartialReads(mlir::Operation *op);

} // namespace kvcache::rowdemand

#endif // KVCACHE_LIB_ROWDEMAND_MODELS_H
