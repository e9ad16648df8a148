// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_TARGET_PARSE_H
#define KVCACHE_TARGET_PARSE_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/Support/Error.h"

namespace llvm {
class MemoryBuffer;
class SourceMgr;
class raw_ostream;
} // namespace llvm

namespace kvcache::target {

/// Parses the program in the main buffer of `sources`, text or bytecode.
/// Arguments of functions get their names in the text as attributes. Null after
/// a diagnostic.
mlir::OwningOpRef<mlir::ModuleOp> parseProgram(mlir::MLIRContext &context,
                                               llvm::SourceMgr &sources);

/// Parses a program, which diagnostics quote while `use` runs. Returns its
/// result, or 1 after a diagnostic of the parser.
int withProgram(const mlir::DialectRegistry &registry,
                std::unique_ptr<llvm::MemoryBuffer> program,
                llvm::raw_ostream &messages,
                llvm::function_ref<int(mlir::ModuleOp)> use);

/// Parses the program in a file, `-` for the standard input. Diagnostics quote
/// the file while `use` runs, whose result is returned, or 1 after a diagnostic
/// of the parser. An error if the file cannot be read.
llvm::Expected<int> withProgram(const mlir::DialectRegistry &registry,
                                llvm::StringRef path,
                                llvm::function_ref<int(mlir::ModuleOp)> use);

} // namespace kvcache::target

#endif // KVCACHE_TARGET_PARSE_H
