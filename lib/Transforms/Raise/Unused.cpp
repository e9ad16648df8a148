// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What is not needed any more once what used it is raised.
//
//===----------------------------------------------------------------------===//

#include "Elements.h"
#include "Foreign.h"

#include "kvcache/Interfaces/Raise.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace kvcache;

/// `depth` ends at functions that call each other.
static bool isErasable(Operation *op, unsigned depth) {
  if (op->hasTrait<OpTrait::IsTerminator>() || isa<FunctionOpInterface>(op))
    return false;
  if (isMemoryEffectFree(op) || stablehlo::isPure(op))
    return true;
  if (auto call = dyn_cast<func::CallOp>(op)) {
    auto callee = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
        call, call.getCalleeAttr());
    return depth > 0 && callee && callee.getBody().hasOneBlock() &&
           llvm::all_of(callee.front().without_terminator(),
                        [&](Operation &inner) {
                          return ::isErasable(&inner, depth - 1);
                        });
  }
  auto *raising =
      op->getDialect()
          ? op->getDialect()->getRegisteredInterface<RaiseInterface>()
          : nullptr;
  return raising && raising->isErasable(op);
}

bool kvcache::isErasable(Operation *op) { return ::isErasable(op, 8); }

void kvcache::addSources(Operation *op, llvm::SetVector<Operation *> &sources) {
  op->walk([&](Operation *inner) {
    for (Value operand : inner->getOperands()) {
      Operation *before = operand.getDefiningOp();
      if (before && !op->isAncestor(before))
        sources.insert(before);
    }
  });
}

void kvcache::eraseUnused(SmallVector<Operation *> worklist) {
  llvm::SetVector<Operation *> pending(worklist.begin(), worklist.end());
  while (!pending.empty()) {
    Operation *op = pending.pop_back_val();
    if (!op->use_empty() || !kvcache::isErasable(op))
      continue;
    addSources(op, pending);
    op->erase();
  }
}
