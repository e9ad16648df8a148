// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The parts of a function that run on all rows and on selected rows, as
// functions.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_ROWDEMAND_OUTLINELAYERGROUPS_H
#define KVCACHE_LIB_ROWDEMAND_OUTLINELAYERGROUPS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/SetVector.h"

#include <string>

namespace kvcache::rowdemand {

/// Moves what does not depend on the selections to `NAME_group0`, the
/// selections to `NAME_select`, and what depends on them to `NAME_group1`.
/// Fails, and says why, if an effect of the first would come before one of the
/// second that it came after.
bool outlineLayerGroups(mlir::func::FuncOp function,
                        const llvm::SetVector<mlir::Operation *> &selections,
                        std::string &why);

} // namespace kvcache::rowdemand

#endif // KVCACHE_LIB_ROWDEMAND_OUTLINELAYERGROUPS_H
