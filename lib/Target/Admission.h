// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a program may be made of. Nothing else gets to code generation, so that
// what a library calls and shows is known before there is one.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_TARGET_ADMISSION_H
#define KVCACHE_LIB_TARGET_ADMISSION_H

#include "mlir/IR/BuiltinOps.h"

namespace kvcache::target {

/// Refuses names and attributes that would mean something else further down:
/// symbols that the compiler makes itself, attributes that speak to LLVM.
mlir::LogicalResult admitNames(mlir::ModuleOp module);

/// Refuses operations of a bufferized program that are not lowered, or are
/// lowered to calls of something that no library has.
mlir::LogicalResult admitOperations(mlir::ModuleOp module, bool isGpu);

} // namespace kvcache::target

#endif // KVCACHE_LIB_TARGET_ADMISSION_H
