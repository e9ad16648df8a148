// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Analysis/SymbolUsers.h"

using namespace mlir;
using namespace kvcache;

SymbolUsers::SymbolUsers(Operation *program) {
  program->walk([&](Operation *table) {
    if (!table->hasTrait<OpTrait::SymbolTable>())
      return;
    // A table's region, as a table itself hides what is in it. Each walk stops
    // at the tables within.
    std::optional<SymbolTable::UseRange> uses =
        SymbolTable::getSymbolUses(&table->getRegion(0));
    if (!uses) {
      known = false;
      return;
    }
    for (SymbolTable::SymbolUse use : *uses) {
      SymbolRefAttr name = use.getSymbolRef();
      users[name.getRootReference()].push_back(use.getUser());
      for (FlatSymbolRefAttr nested : name.getNestedReferences())
        users[nested.getAttr()].push_back(use.getUser());
    }
  });
}

std::optional<ArrayRef<Operation *>>
SymbolUsers::of(func::FuncOp function) const {
  if (!known)
    return std::nullopt;
  auto found = users.find(function.getSymNameAttr());
  if (found == users.end())
    return ArrayRef<Operation *>();
  return ArrayRef<Operation *>(found->second);
}

bool kvcache::hasKnownCallers(func::FuncOp function, const SymbolUsers &users) {
  if (function.isExternal() || !function.isPrivate())
    return false;
  std::optional<ArrayRef<Operation *>> all = users.of(function);
  return all && llvm::all_of(*all, llvm::IsaPred<func::CallOp>);
}
