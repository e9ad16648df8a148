// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The operations and attributes allowed in a program. Nothing else reaches code
// generation, so that the calls and exports of a library are known in advance.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_TARGET_ADMISSION_H
#define KVCACHE_LIB_TARGET_ADMISSION_H

#include "mlir/IR/BuiltinOps.h"

namespace kvcache::target {

/// Rejects names and attributes that would have another meaning further down:
/// symbols that the compiler makes itself, attributes addressed to LLVM.
mlir::LogicalResult admitNames(mlir::ModuleOp module);

/// Rejects operations of a bufferized program that are not lowered, or are
/// lowered to calls of functions that no library has.
mlir::LogicalResult admitOperations(mlir::ModuleOp module, bool isGpu);

} // namespace kvcache::target

#endif // KVCACHE_LIB_TARGET_ADMISSION_H
