// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Calls of functions of the run time. What is called is declared where its name
// is looked up: in the module that is nearest to the call, which need not be
// the one that a pass runs on.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_COMMON_RUNTIMECALLS_H
#define KVCACHE_LIB_CONVERSION_COMMON_RUNTIMECALLS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/SymbolTable.h"

namespace kvcache {

/// The operation whose symbols this one may name.
mlir::Operation *symbolScope(mlir::Operation *op);

/// Where more is put at the end of a module. The last operation may be one that
/// has to stay the last one: a module takes what ends the blocks of others.
mlir::Block::iterator endOfModule(mlir::Block &body);

/// Calls a function of the run time in the place of an operation.
mlir::func::CallOp emitRuntimeCall(mlir::OpBuilder &builder, mlir::Location loc,
                                   mlir::Operation *op, llvm::StringRef name,
                                   mlir::ValueRange operands,
                                   mlir::TypeRange results = {});

/// Calls one that makes the call of the entry function fail.
void emitReport(mlir::OpBuilder &builder, mlir::Location loc,
                mlir::Operation *op, llvm::StringRef name,
                mlir::ValueRange operands);

/// Calls one that gives an index.
mlir::Value emitQuery(mlir::OpBuilder &builder, mlir::Location loc,
                      mlir::Operation *op, llvm::StringRef name,
                      mlir::ValueRange operands);

/// The same function where everything is LLVM's already: declared in a module,
/// or found there. Null, after an error of `op`, if something else has the
/// name.
mlir::LLVM::LLVMFuncOp getRuntimeFunction(mlir::ModuleOp module,
                                          mlir::SymbolTable &symbols,
                                          mlir::Operation *op,
                                          llvm::StringRef name,
                                          mlir::LLVM::LLVMFunctionType type);

/// An error where the name of a function of the run time, or of a text, was
/// taken by something else, or cannot be found: the names are fixed, so that
/// nothing else can be called.
llvm::LogicalResult checkRuntimeCalls(mlir::ModuleOp module);

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_COMMON_RUNTIMECALLS_H
