// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/IR/CacheAccess.h"

#include "kvcache/IR/KVCache.h"
#include "kvcache/IR/Sources.h"

using namespace mlir;
using namespace kvcache;

#include "kvcache/IR/KVCacheInterfaces.cpp.inc"

std::optional<CacheUse> kvcache::cacheUseOf(OpOperand &operand) {
  if (auto access = dyn_cast<CacheAccessOpInterface>(operand.getOwner()))
    for (const CacheUse &use : access.getCacheUses())
      if (use.operand == &operand)
        return use;
  return std::nullopt;
}

bool kvcache::hasFlops(Operation *op) {
  auto access = dyn_cast<CacheAccessOpInterface>(op);
  return access && llvm::any_of(access.getCacheUses(), [](const CacheUse &use) {
           return use.flops > 0;
         });
}

Value kvcache::copiedCache(Operation *op) {
  auto access = dyn_cast<CacheAccessOpInterface>(op);
  if (!access)
    return {};
  Value source;
  bool isCopy = false;
  for (const CacheUse &use : access.getCacheUses()) {
    if (use.indexedBy != IndexedBy::Nothing)
      return {};
    isCopy |= use.isWritten;
    if (use.isRead)
      source = use.operand->get();
  }
  return isCopy ? source : Value();
}

Value BatchLists::get(BatchMember member) const {
  switch (member) {
  case BatchMember::Starts:
    return starts;
  case BatchMember::Lengths:
    return lengths;
  case BatchMember::Table:
    return table;
  case BatchMember::Positions:
    return positions;
  }
  llvm_unreachable("a batch has no other members");
}

BatchLists kvcache::listsOf(TypedValue<BatchType> batch) {
  BatchLists lists;
  Value origin = furthestSource(batch, [&](Value value) -> Value {
    auto with = value.getDefiningOp<WithRowsOp>();
    if (!with)
      return {};
    if (!lists.starts) {
      lists.starts = with.getStarts();
      lists.positions = with.getPositions();
    }
    return with.getBatch();
  });
  auto make = origin.getDefiningOp<MakeBatchOp>();
  if (!make) {
    lists.rest = cast<TypedValue<BatchType>>(origin);
    return lists;
  }
  lists.lengths = make.getLengths();
  lists.table = make.getTable();
  if (!lists.starts) {
    lists.starts = make.getStarts();
    lists.positions = make.getPositions();
  }
  return lists;
}
