// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Outlines the parts of a function that run on all rows and on selected rows.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_ROWDEMAND_OUTLINELAYERGROUPS_H
#define KVCACHE_LIB_ROWDEMAND_OUTLINELAYERGROUPS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/SetVector.h"

#include <string>

namespace kvcache::rowdemand {

/// Moves operations that do not depend on the selections to `NAME_group0`, the
/// selections to `NAME_select`, and operations that depend on them to
/// `NAME_group1`. Fails with a reason if effects of the first and the last
/// would be reordered.
bool outlineLayerGroups(mlir::func::FuncOp function,
                        const llvm::SetVector<mlir::Operation *> &selections,
                        std::string &why);

} // namespace kvcache::rowdemand

#endif // KVCACHE_LIB_ROWDEMAND_OUTLINELAYERGROUPS_H
