// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Analysis/Origins.h"

#include "kvcache/Analysis/SymbolUsers.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"

using namespace mlir;
using namespace kvcache;

/// The function that is called, if it is in the program.
static func::FuncOp calleeOf(func::CallOp call) {
  auto callee = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
      call, call.getCalleeAttr());
  return callee && !callee.isExternal() ? callee : func::FuncOp();
}

TensorOrigins::TensorOrigins(ModuleOp module, bool arithmeticOverwrites)
    : arithmeticOverwrites(arithmeticOverwrites) {
  SymbolUsers users(module);
  for (auto function : module.getOps<func::FuncOp>())
    if (hasKnownCallers(function, users))
      known.insert(function);
  module.walk([&](func::CallOp call) {
    if (func::FuncOp callee = calleeOf(call))
      callsOf[callee].push_back(call);
  });
}

void TensorOrigins::add(Value value) {
  if (isa<TensorType>(value.getType()) && seen.insert(value).second)
    worklist.push_back(value);
}

void TensorOrigins::addAll(ValueRange values) {
  for (Value value : values)
    add(value);
}

/// What an operation takes, and what its regions end with.
void TensorOrigins::addAllOf(Operation *op) {
  addAll(op->getOperands());
  for (Region &region : op->getRegions())
    for (Block &block : region)
      if (block.mightHaveTerminator())
        addAll(block.getTerminator()->getOperands());
}

/// All that may come in: what another block ends with, what a loop or a branch
/// around it takes and gives, what callers hand over.
void TensorOrigins::addArgument(BlockArgument argument) {
  Block *block = argument.getOwner();
  Operation *parent = block->getParentOp();
  for (Block *before : block->getPredecessors())
    addAll(before->getTerminator()->getOperands());
  if (!block->isEntryBlock() || !parent)
    return;
  if (auto function = dyn_cast<func::FuncOp>(parent)) {
    if (!known.contains(function))
      found.push_back(argument);
    for (func::CallOp call : callsOf.lookup(function))
      add(call.getOperand(argument.getArgNumber()));
    return;
  }
  if (auto loop = dyn_cast<scf::ForOp>(parent)) {
    if (!arithmeticOverwrites)
      return;
    if (OpOperand *init = loop.getTiedLoopInit(argument)) {
      add(init->get());
      add(loop.getTiedLoopYieldedValue(argument)->get());
    }
    return;
  }
  addAllOf(parent);
}

void TensorOrigins::addResult(OpResult result) {
  Operation *op = result.getOwner();
  if (auto into = dyn_cast<DestinationStyleOpInterface>(op)) {
    if (OpOperand *init = into.getTiedOpOperand(result))
      add(init->get());
    return;
  }
  if (OpTrait::hasElementwiseMappableTraits(op) && !arithmeticOverwrites)
    return;
  auto call = dyn_cast<func::CallOp>(op);
  if (func::FuncOp callee = call ? calleeOf(call) : func::FuncOp()) {
    for (auto exit : callee.getBody().getOps<func::ReturnOp>())
      add(exit.getOperand(result.getResultNumber()));
    return;
  }
  if (auto loop = dyn_cast<scf::ForOp>(op)) {
    add(loop.getTiedLoopRegionIterArg(result));
    return;
  }
  addAllOf(op);
}

SmallVector<BlockArgument> TensorOrigins::argumentsOf(Value tensor) {
  seen.clear();
  found.clear();
  add(tensor);
  while (!worklist.empty()) {
    Value value = worklist.pop_back_val();
    if (auto argument = dyn_cast<BlockArgument>(value))
      addArgument(argument);
    else
      addResult(cast<OpResult>(value));
  }
  return std::exchange(found, {});
}
