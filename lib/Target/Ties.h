// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which extents must be equal because of how they are used.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_TARGET_TIES_H
#define KVCACHE_LIB_TARGET_TIES_H

#include "kvcache/Target/Extents.h"

#include "mlir/IR/Operation.h"
#include "mlir/Support/LLVM.h"

namespace kvcache::target {

using EquateExtents =
    llvm::function_ref<void(const ArgumentExtent &, const ArgumentExtent &)>;

/// Calls `equate` for extents that an operation requires to be equal, if they
/// follow from those of arguments.
void tieExtents(mlir::Operation *op, EquateExtents equate);

/// The same for the members of a batch; nothing for other values.
void tieMembers(mlir::Value batch, EquateExtents equate);

} // namespace kvcache::target

#endif // KVCACHE_LIB_TARGET_TIES_H
