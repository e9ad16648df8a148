// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "RuntimeCalls.h"

using namespace mlir;
using namespace kvcache;

Operation *kvcache::symbolScope(Operation *op) {
  // In an operation that nobody knows no name is found, whatever is declared.
  Operation *nearest = SymbolTable::getNearestSymbolTable(op);
  return nearest ? nearest : op->getParentOfType<ModuleOp>();
}

Block::iterator kvcache::endOfModule(Block &body) {
  return body.mightHaveTerminator() ? Block::iterator(body.back()) : body.end();
}

func::CallOp kvcache::emitRuntimeCall(OpBuilder &builder, Location loc,
                                      Operation *op, StringRef name,
                                      ValueRange operands, TypeRange results) {
  Operation *scope = symbolScope(op);
  if (!SymbolTable::lookupSymbolIn(scope, name)) {
    auto declare = OpBuilder::atBlockBegin(&scope->getRegion(0).front());
    auto type = builder.getFunctionType(operands.getTypes(), results);
    func::FuncOp::create(declare, loc, name, type).setPrivate();
  }
  return func::CallOp::create(builder, loc, name, results, operands);
}

void kvcache::emitReport(OpBuilder &builder, Location loc, Operation *op,
                         StringRef name, ValueRange operands) {
  emitRuntimeCall(builder, loc, op, name, operands);
}

Value kvcache::emitQuery(OpBuilder &builder, Location loc, Operation *op,
                         StringRef name, ValueRange operands) {
  return emitRuntimeCall(builder, loc, op, name, operands,
                         builder.getIndexType())
      .getResult(0);
}

LLVM::LLVMFuncOp kvcache::getRuntimeFunction(ModuleOp module,
                                             SymbolTable &symbols,
                                             Operation *op, StringRef name,
                                             LLVM::LLVMFunctionType type) {
  if (Operation *found = symbols.lookup(name)) {
    auto function = dyn_cast<LLVM::LLVMFuncOp>(found);
    if (function && function.getFunctionType() == type)
      return function;
    op->emitOpError() << "expected '" << name
                      << "' of the runtime to be a function of type " << type;
    return {};
  }
  auto builder = OpBuilder::atBlockBegin(module.getBody());
  auto function =
      LLVM::LLVMFuncOp::create(builder, module.getLoc(), name, type);
  symbols.insert(function);
  return function;
}

LogicalResult kvcache::checkRuntimeCalls(ModuleOp module) {
  SymbolTableCollection symbols;
  WalkResult walk = module.walk([&](func::CallOp call) {
    if (!call.getCallee().starts_with("kvrt_"))
      return WalkResult::advance();
    Operation *found =
        symbols.lookupNearestSymbolFrom(call, call.getCalleeAttr());
    auto function = dyn_cast_or_null<func::FuncOp>(found);
    if (function && function.getFunctionType() == call.getCalleeType())
      return WalkResult::advance();
    InFlightDiagnostic error = call.emitError()
                               << "expected '" << call.getCallee()
                               << "' of the runtime to be a function of type "
                               << call.getCalleeType() << ", got ";
    if (function)
      error << function.getFunctionType();
    else if (found)
      error << "'" << found->getName() << "'";
    else
      error << "no such name in '" << call->getParentOp()->getName() << "'";
    return WalkResult::interrupt();
  });
  return failure(walk.wasInterrupted());
}
