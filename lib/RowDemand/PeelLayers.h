// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Peels the last iteration of a loop over layers.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_ROWDEMAND_PEELLAYERS_H
#define KVCACHE_LIB_ROWDEMAND_PEELLAYERS_H

#include "kvcache/RowDemand/RowDemand.h"

namespace kvcache::rowdemand {

/// Peels the last iteration of each loop for which only some rows of a result
/// but all rows of the carried value are needed, if the operation that computes
/// the result could run on some rows, and the loop is not in `peeled`, the
/// remainders of loops that were peeled before. Returns whether there was one.
bool peelLayers(mlir::RewriterBase &rewriter,
                mlir::FunctionOpInterface function,
                const RowDemandAnalysis &analysis,
                llvm::DenseSet<mlir::Operation *> &peeled);

} // namespace kvcache::rowdemand

#endif // KVCACHE_LIB_ROWDEMAND_PEELLAYERS_H
