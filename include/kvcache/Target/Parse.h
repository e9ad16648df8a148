// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_TARGET_PARSE_H
#define KVCACHE_TARGET_PARSE_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace llvm {
class SourceMgr;
} // namespace llvm

namespace kvcache::target {

/// Parses the program in the main buffer of `sources`, text or bytecode.
/// Arguments of functions get their names in the text as attributes. Null after
/// a diagnostic.
mlir::OwningOpRef<mlir::ModuleOp> parseProgram(mlir::MLIRContext &context,
                                               llvm::SourceMgr &sources);

} // namespace kvcache::target

#endif // KVCACHE_TARGET_PARSE_H
