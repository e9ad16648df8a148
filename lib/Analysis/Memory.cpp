// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Analysis/Memory.h"

#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/SmallPtrSet.h"

using namespace mlir;
using namespace kvcache;

/// What it gives refers to the memory of its operands and to no other.
static bool isView(Operation *op) {
  return isa<ViewLikeOpInterface, memref::TransposeOp>(op) ||
         op->hasTrait<MakesIndexValue>();
}

/// A batch refers to several memories.
static bool makesBatch(Operation *op) {
  return op->hasTrait<MakesIndexValue>() &&
         isa<BatchType>(op->getResult(0).getType());
}

Value kvcache::rootOf(Value reference) {
  // Where code is not reachable views may form a ring.
  llvm::SmallPtrSet<Value, 8> seen;
  while (seen.insert(reference).second) {
    Operation *def = reference.getDefiningOp();
    if (!def || !isView(def) || makesBatch(def))
      break;
    auto view = dyn_cast<ViewLikeOpInterface>(def);
    reference = view ? view.getViewSource() : def->getOperand(0);
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

/// A number, or several: no way to a buffer.
static bool isNumber(Type type) {
  bool isOne = !isa<ShapedType>(type) || isa<VectorType>(type);
  return isOne && getElementTypeOrSelf(type).isIntOrIndexOrFloat();
}

/// Whether an operation only reads or writes what one of its operands refers
/// to, and keeps no reference to it.
static bool onlyAccesses(OpOperand &use) {
  Operation *user = use.getOwner();
  if (isa_and_present<KVCacheDialect>(user->getDialect()))
    return llvm::all_of(user->getResultTypes(), [](Type type) {
      return isNumber(type) || isa<TensorType>(type);
    });
  auto effects = dyn_cast<MemoryEffectOpInterface>(user);
  bool isPlain = !user->hasTrait<OpTrait::IsTerminator>() &&
                 (!user->getNumRegions() || isa<linalg::LinalgOp>(user));
  if (!effects || !isPlain || !llvm::all_of(user->getResultTypes(), isNumber))
    return false;
  SmallVector<MemoryEffects::EffectInstance> found;
  effects.getEffects(found);
  if (found.empty()) // such as an extent, but an address is a way back
    return !isa<memref::ExtractAlignedPointerAsIndexOp>(user);
  return llvm::any_of(found, [&](const MemoryEffects::EffectInstance &effect) {
    return effect.getValue() == use.get();
  });
}

bool kvcache::collectReferences(Value buffer,
                                SmallVectorImpl<Value> &references) {
  llvm::SmallSetVector<Value, 8> found;
  found.insert(buffer);
  bool isAll = true;
  for (unsigned i = 0; i < found.size(); ++i)
    for (OpOperand &use : found[i].getUses()) {
      Operation *user = use.getOwner();
      if (!isView(user)) {
        isAll &= onlyAccesses(use);
        continue;
      }
      for (Value result : user->getResults())
        if (!isNumber(result.getType()))
          found.insert(result);
    }
  llvm::append_range(references, found);
  return isAll;
}

bool kvcache::escapes(Value buffer) {
  SmallVector<Value> references;
  return !collectReferences(buffer, references);
}

static BlockArgument argumentOfFunction(Value root) {
  auto argument = dyn_cast<BlockArgument>(root);
  bool isOfFunction =
      argument && argument.getOwner()->isEntryBlock() &&
      isa_and_present<FunctionOpInterface>(argument.getOwner()->getParentOp());
  return isOfFunction ? argument : BlockArgument();
}

static bool isNoAlias(BlockArgument argument) {
  auto function = cast<FunctionOpInterface>(argument.getOwner()->getParentOp());
  return bool(function.getArgAttr(argument.getArgNumber(),
                                  KVCacheDialect::kNoAliasAttr));
}

/// Whether two roots are known to be different memory.
static bool areApart(Value a, Value b) {
  if (a == b)
    return false;
  if (isa<TensorType>(a.getType()) || isa<TensorType>(b.getType()))
    return true;
  BlockArgument x = argumentOfFunction(a), y = argumentOfFunction(b);
  if (x && y)
    return isNoAlias(x) || isNoAlias(y);
  auto isApartFrom = [](Value buffer, Value other, bool isKnown) {
    return isLocal(buffer) && (isKnown || isLocal(other) || !escapes(buffer));
  };
  return isApartFrom(a, b, bool(y)) || isApartFrom(b, a, bool(x));
}

/// A batch that was made of buffers refers to each of them.
static void addRoots(Value reference, SmallVectorImpl<Value> &roots,
                     llvm::SmallPtrSetImpl<Value> &seen) {
  Value root = rootOf(reference);
  if (!seen.insert(root).second)
    return;
  Operation *def = root.getDefiningOp();
  if (!def || !makesBatch(def)) {
    roots.push_back(root);
    return;
  }
  for (Value member : def->getOperands())
    addRoots(member, roots, seen);
}

static SmallVector<Value> rootsOf(Value reference) {
  SmallVector<Value> roots;
  llvm::SmallPtrSet<Value, 8> seen;
  addRoots(reference, roots, seen);
  return roots;
}

bool kvcache::mayShareMemory(Value a, Value b) {
  SmallVector<Value> left = rootsOf(a), right = rootsOf(b);
  return llvm::any_of(left, [&](Value l) {
    return llvm::any_of(right, [&](Value r) { return !areApart(l, r); });
  });
}

bool kvcache::mayOverlap(Value a, Value b) {
  Type x = elementOf(a), y = elementOf(b);
  // A list of bytes may be anything.
  auto isContents = [](Type type) { return type && isa<FloatType>(type); };
  auto isEntry = [](Type type) {
    return type && (type.isInteger(32) || type.isInteger(64) || type.isIndex());
  };
  if ((isContents(x) && isEntry(y)) || (isContents(y) && isEntry(x)))
    return false;
  return mayShareMemory(a, b);
}

Operation *kvcache::findWriter(Operation *op, Value memory) {
  Operation *writer = nullptr;
  op->walk([&](Operation *inner) {
    if (inner->hasTrait<OnlyReports>())
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
