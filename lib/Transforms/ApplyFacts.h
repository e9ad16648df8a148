// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_LIB_TRANSFORMS_APPLYFACTS_H
#define KVCACHE_LIB_TRANSFORMS_APPLYFACTS_H

#include "mlir/IR/BuiltinOps.h"

namespace kvcache {

/// Gives each cache value of a module the most precise type known to hold,
/// including arguments and results of private functions and of regions. Where a
/// value flows into one with fewer facts, a cast drops facts. Returns the
/// number of values whose type changed.
unsigned applyStrideFacts(mlir::ModuleOp module);

} // namespace kvcache

#endif // KVCACHE_LIB_TRANSFORMS_APPLYFACTS_H
