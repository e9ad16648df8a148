// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "FunctionSet.h"

using namespace mlir;
using namespace kvcache;

func::FuncOp FunctionSet::getOrInsert(func::FuncOp function) {
  llvm::hash_code hash = hash_value(function.getFunctionType());
  function.getBody().walk<WalkOrder::PreOrder>([&](Operation *op) {
    hash =
        llvm::hash_combine(hash, OperationEquivalence::computeHash(
                                     op, OperationEquivalence::ignoreHashValue,
                                     OperationEquivalence::ignoreHashValue,
                                     OperationEquivalence::IgnoreLocations));
  });
  SmallVector<func::FuncOp, 1> &candidates = byHash[hash];
  for (func::FuncOp candidate : candidates)
    if (candidate.getFunctionType() == function.getFunctionType() &&
        OperationEquivalence::isRegionEquivalentTo(
            &candidate.getBody(), &function.getBody(),
            OperationEquivalence::IgnoreLocations))
      return candidate;
  candidates.push_back(function);
  return function;
}
