// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Analysis/WriterIndex.h"

#include "kvcache/Analysis/Memory.h"

#include "mlir/IR/Block.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace kvcache;

const WriterIndex::Writers &WriterIndex::writersIn(Block *block, Value memory) {
  auto [found, isNew] = writers.try_emplace({block, memory});
  if (isNew)
    for (Operation &op : *block)
      if (findWriter(&op, memory))
        found->second.push_back(&op);
  return found->second;
}

Operation *WriterIndex::findBetween(Operation *from, Operation *to,
                                    Value memory) {
  Operation *end = from->getBlock()->findAncestorOpInBlock(*to);
  if (!end || !from->isBeforeInBlock(end))
    return from;
  const Writers &all = writersIn(from->getBlock(), memory);
  auto first = llvm::partition_point(
      all, [&](Operation *op) { return !from->isBeforeInBlock(op); });
  if (first == all.end() || end->isBeforeInBlock(*first) ||
      (*first == end && end == to))
    return nullptr;
  return findWriter(*first, memory);
}
