// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What kvcache-split-layer-groups tells about a function.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_TRANSFORMS_SPLITREMARKS_H
#define KVCACHE_TRANSFORMS_SPLITREMARKS_H

#include "RowSplitter.h"

namespace kvcache {

/// Says what runs on selected rows, and which operations need all rows of what
/// is selected from.
void remarkSplit(const SplitPlan &plan, const RowDemandAnalysis &analysis);

/// Says why nothing runs on the rows of a set only: `why`, or the operations
/// that need all rows of what is read by name.
void remarkNoSplit(mlir::FunctionOpInterface function,
                   const RowDemandAnalysis &analysis, unsigned set,
                   llvm::StringRef why);

/// Says why the groups of a function are no functions of their own.
void remarkNoOutline(mlir::FunctionOpInterface function, llvm::StringRef why);

} // namespace kvcache

#endif // KVCACHE_TRANSFORMS_SPLITREMARKS_H
