// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Analysis/Memory.h"

#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "llvm/ADT/SmallPtrSet.h"

using namespace mlir;
using namespace kvcache;

Value kvcache::rootOf(Value reference) {
  // Where code is not reachable views may form a ring.
  llvm::SmallPtrSet<Value, 8> seen;
  while (seen.insert(reference).second) {
    Operation *def = reference.getDefiningOp();
    if (auto view = dyn_cast_or_null<ViewLikeOpInterface>(def))
      reference = view.getViewSource();
    else if (isa_and_present<MakeSlotsOp, MakeBlockTableOp, FlattenOp,
                             memref::TransposeOp>(def))
      reference = def->getOperand(0);
    else
      break;
  }
  return reference;
}

bool kvcache::isLocal(Value root) {
  return isa_and_present<memref::AllocOp, memref::AllocaOp>(
      root.getDefiningOp());
}

/// The elements of memory; null if they are not known.
static Type elementOf(Value reference) {
  if (auto cache = dyn_cast<CacheType>(reference.getType()))
    return cache.getElementType();
  if (auto memref = dyn_cast<BaseMemRefType>(reference.getType()))
    return memref.getElementType();
  if (isa<SlotsType, BlockTableType, BatchType>(reference.getType()))
    return IntegerType::get(reference.getContext(), 64);
  return {};
}

static bool isNoAlias(Value root) {
  auto argument = dyn_cast<BlockArgument>(root);
  auto function = argument ? dyn_cast_or_null<FunctionOpInterface>(
                                 argument.getOwner()->getParentOp())
                           : FunctionOpInterface();
  return function && argument.getOwner()->isEntryBlock() &&
         function.getArgAttr(argument.getArgNumber(),
                             KVCacheDialect::kNoAliasAttr);
}

/// A batch that was made of buffers refers to each of them.
static void addRoots(Value reference, SmallVectorImpl<Value> &roots) {
  Value root = rootOf(reference);
  Operation *def = root.getDefiningOp();
  if (isa_and_present<MakeBatchOp, WithRowsOp>(def)) {
    for (Value member : def->getOperands())
      addRoots(member, roots);
    return;
  }
  roots.push_back(root);
}

bool kvcache::mayOverlap(Value a, Value b) {
  Type x = elementOf(a), y = elementOf(b);
  // A list of bytes may be anything.
  auto isNumber = [](Type type) { return type && isa<FloatType>(type); };
  auto isEntry = [](Type type) {
    return type && (type.isInteger(32) || type.isInteger(64) || type.isIndex());
  };
  if ((isNumber(x) && isEntry(y)) || (isNumber(y) && isEntry(x)))
    return false;
  SmallVector<Value> left, right;
  addRoots(a, left);
  addRoots(b, right);
  for (Value l : left)
    for (Value r : right) {
      if (l == r)
        return true;
      if (!isLocal(l) && !isLocal(r) && !isNoAlias(l) && !isNoAlias(r))
        return true;
    }
  return false;
}

Operation *kvcache::findWriter(Operation *op, Value memory) {
  Operation *writer = nullptr;
  op->walk([&](Operation *inner) {
    if (isa<TraceOp>(inner))
      return WalkResult::advance();
    auto effects = dyn_cast<MemoryEffectOpInterface>(inner);
    if (!effects) {
      bool knowsInside = inner->hasTrait<OpTrait::HasRecursiveMemoryEffects>();
      if (!knowsInside && !inner->hasTrait<OpTrait::IsTerminator>())
        writer = inner;
      return writer ? WalkResult::interrupt() : WalkResult::advance();
    }
    SmallVector<MemoryEffects::EffectInstance> found;
    effects.getEffects(found);
    for (const MemoryEffects::EffectInstance &effect : found) {
      if (!isa<MemoryEffects::Write, MemoryEffects::Free>(effect.getEffect()))
        continue;
      Value target = effect.getValue();
      if (!target || mayOverlap(target, memory))
        writer = inner;
    }
    return writer ? WalkResult::interrupt() : WalkResult::advance();
  });
  return writer;
}

Operation *kvcache::findWriterBetween(Operation *from, Operation *to,
                                      Value memory) {
  Operation *end = from->getBlock()->findAncestorOpInBlock(*to);
  if (!end || !from->isBeforeInBlock(end))
    return from;
  for (Operation *op = from->getNextNode(); op != end; op = op->getNextNode())
    if (Operation *writer = findWriter(op, memory))
      return writer;
  return end == to ? nullptr : findWriter(end, memory);
}
