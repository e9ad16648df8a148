// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A loop over layers as one over all but the last layer, and the last one.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_ROWDEMAND_PEELLAYERS_H
#define KVCACHE_LIB_ROWDEMAND_PEELLAYERS_H

#include "kvcache/RowDemand/RowDemand.h"

namespace kvcache::rowdemand {

/// Peels the last iteration of each loop of which some rows of a result are
/// needed and all rows of what it carries, if the operation that gives the
/// result could run on some rows, and the loop is none of `peeled`, the rests
/// of loops that were peeled before. Says whether there was one.
bool peelLayers(mlir::RewriterBase &rewriter,
                mlir::FunctionOpInterface function,
                const RowDemandAnalysis &analysis,
                llvm::DenseSet<mlir::Operation *> &peeled);

} // namespace kvcache::rowdemand

#endif // KVCACHE_LIB_ROWDEMAND_PEELLAYERS_H
