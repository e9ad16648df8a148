// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Walks from a value to its source. In unreachable code and in graph regions,
// values may depend on themselves, so each such walk has to guard against
// cycles.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_SOURCES_H
#define KVCACHE_IR_SOURCES_H

#include "mlir/IR/Value.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace kvcache {

/// The end of a chain of sources, where `sourceOf` returns null. The value
/// itself if the chain is a cycle.
mlir::Value
furthestSource(mlir::Value value,
               llvm::function_ref<mlir::Value(mlir::Value)> sourceOf);

} // namespace kvcache

#endif // KVCACHE_IR_SOURCES_H
