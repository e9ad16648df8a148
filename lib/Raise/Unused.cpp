// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Removal of operations whose users have been raised.
//
//===----------------------------------------------------------------------===//

#include "Elements.h"
#include "Foreign.h"

#include "kvcache/Interfaces/Raise.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

/// Which functions are known to be; those that are looked at are not yet, as
/// they may call each other.
using KnownFunctions = llvm::DenseMap<Operation *, bool>;

static bool isErasable(Operation *op, KnownFunctions &known) {
  if (op->hasTrait<OpTrait::IsTerminator>() || isa<FunctionOpInterface>(op))
    return false;
  if (isMemoryEffectFree(op) || stablehlo::isPure(op))
    return true;
  if (auto call = dyn_cast<func::CallOp>(op)) {
    auto callee = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
        call, call.getCalleeAttr());
    if (!callee || !callee.getBody().hasOneBlock())
      return false;
    auto [place, isNew] = known.insert({callee, false});
    if (!isNew)
      return place->second;
    bool isPure = llvm::all_of(
        callee.front().without_terminator(),
        [&](Operation &inner) { return ::isErasable(&inner, known); });
    return known[callee] = isPure;
  }
  auto *raising =
      op->getDialect()
          ? op->getDialect()->getRegisteredInterface<RaiseInterface>()
          : nullptr;
  return raising && raising->isErasable(op);
}

bool raise::isErasable(Operation *op) {
  KnownFunctions known;
  return ::isErasable(op, known);
}

void raise::addSources(Operation *op, llvm::SetVector<Operation *> &sources) {
  op->walk([&](Operation *inner) {
    for (Value operand : inner->getOperands()) {
      Operation *before = operand.getDefiningOp();
      if (before && !op->isAncestor(before))
        sources.insert(before);
    }
  });
}

void raise::eraseUnused(SmallVector<Operation *> worklist) {
  llvm::SetVector<Operation *> pending(worklist.begin(), worklist.end());
  while (!pending.empty()) {
    Operation *op = pending.pop_back_val();
    if (!op->use_empty() || !raise::isErasable(op))
      continue;
    addSources(op, pending);
    op->erase();
  }
}
