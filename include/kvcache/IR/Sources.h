// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Walks from a value to what it is made of. Where code is not reachable, and in
// regions that are graphs, values may be made of themselves, so each such walk
// has to end by itself.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_SOURCES_H
#define KVCACHE_IR_SOURCES_H

#include "mlir/IR/Value.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace kvcache {

/// The end of a chain of sources, where `sourceOf` gives null. The value itself
/// where the chain is a ring, which has no end.
mlir::Value
furthestSource(mlir::Value value,
               llvm::function_ref<mlir::Value(mlir::Value)> sourceOf);

} // namespace kvcache

#endif // KVCACHE_IR_SOURCES_H
