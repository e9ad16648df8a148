// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "PoolChain.h"

#include "Foreign.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/IndexingUtils.h"
#include "mlir/Dialect/Utils/ReshapeOpsUtils.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

/// Nobody has verified an operation that is not registered.
static std::optional<SmallVector<int64_t>> foreignPermutationOf(Operation *op) {
  auto permutation = integersOf(op, "permutation");
  if (!permutation || op->getNumOperands() != 1 || op->getNumResults() != 1)
    return std::nullopt;
  auto from = dyn_cast<RankedTensorType>(op->getOperand(0).getType());
  auto to = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  if (!from || !to || !isPermutationVector(*permutation) ||
      from.getRank() != static_cast<int64_t>(permutation->size()) ||
      applyPermutation(from.getShape(), *permutation) != to.getShape())
    return std::nullopt;
  return permutation;
}

std::optional<SmallVector<int64_t>> raise::permutationOf(Operation *op) {
  if (auto transpose = dyn_cast<linalg::TransposeOp>(op))
    return llvm::to_vector(transpose.getPermutation());
  if (op->getName().getStringRef() == "stablehlo.transpose")
    return foreignPermutationOf(op);
  auto generic = dyn_cast<linalg::GenericOp>(op);
  if (!generic || generic.getNumDpsInputs() != 1 ||
      generic.getNumDpsInits() != 1 || !yieldsArgument(op, 0))
    return std::nullopt;
  SmallVector<AffineMap> maps = generic.getIndexingMapsArray();
  if (!maps[0].isPermutation() || !maps[1].isPermutation())
    return std::nullopt;
  SmallVector<int64_t> permutation;
  for (AffineExpr expr : maps[1].getResults())
    for (unsigned from = 0; from < maps[0].getNumResults(); ++from)
      if (maps[0].getResult(from) == expr)
        permutation.push_back(from);
  return permutation;
}

/// Which dimensions of the operand each dimension of the result numbers
/// together.
static std::optional<SmallVector<ReassociationIndices>>
collapseOf(Operation *op) {
  if (auto collapse = dyn_cast<tensor::CollapseShapeOp>(op))
    return collapse.getReassociationIndices();
  if (op->getName().getStringRef() != "stablehlo.reshape")
    return std::nullopt;
  auto from = cast<RankedTensorType>(op->getOperand(0).getType());
  auto to = cast<RankedTensorType>(op->getResult(0).getType());
  if (from.getRank() <= to.getRank())
    return std::nullopt;
  return getReassociationIndicesForReshape(from, to);
}

/// Names for the dimensions that one was made of; nothing if there are none.
static std::optional<SmallVector<char>> splitAxis(char axis, size_t count,
                                                  ArrayRef<char> axes) {
  if (count == 1)
    return SmallVector<char>{axis};
  if (count == 2 && axis == kRows)
    return SmallVector<char>{'B', 'N'};
  if (count == 2 && axis == 'D' && !llvm::is_contained(axes, 'H'))
    return SmallVector<char>{'H', 'D'};
  return std::nullopt;
}

PoolChain PoolChain::follow(Value pool, ArrayRef<char> axes) {
  PoolChain chain{pool, llvm::to_vector(axes), {}};
  // Where code is not reachable transposes may form a ring.
  llvm::SmallPtrSet<Value, 8> seen;
  while (seen.insert(chain.base).second) {
    Operation *op = chain.base.getDefiningOp();
    if (!op || op->getNumResults() != 1 || op->getNumOperands() == 0 ||
        !isa<RankedTensorType>(op->getOperand(0).getType()))
      break;
    SmallVector<char> before;
    if (auto permutation = permutationOf(op)) {
      before.resize(permutation->size());
      for (auto [to, from] : llvm::enumerate(*permutation))
        before[from] = chain.axes[to];
    } else if (auto groups = collapseOf(op)) {
      bool isNamed = true;
      for (auto [group, axis] : llvm::zip_equal(*groups, chain.axes)) {
        auto names = splitAxis(axis, group.size(), chain.axes);
        isNamed &= names.has_value();
        if (names)
          before.append(*names);
      }
      if (!isNamed)
        break;
    } else {
      break;
    }
    chain.axes = before;
    chain.ops.push_back(op);
    chain.base = op->getOperand(0);
  }
  std::reverse(chain.ops.begin(), chain.ops.end());
  return chain;
}

uint64_t PoolChain::copiedBytes(size_t count) const {
  uint64_t bytes = 0;
  for (Operation *op : ArrayRef(ops).take_front(count)) {
    auto type = cast<RankedTensorType>(op->getResult(0).getType());
    if (!permutationOf(op) || !type.hasStaticShape())
      continue;
    uint64_t copied = type.getElementTypeBitWidth() / 8;
    for (int64_t extent : type.getShape())
      copied = llvm::SaturatingMultiply(copied, uint64_t(extent));
    bytes = llvm::SaturatingAdd(bytes, copied);
  }
  return bytes;
}

/// Whether `back` undoes `op`.
static bool undoes(Operation *back, Operation *op) {
  if (back->getNumResults() != 1 || back->getNumOperands() == 0 ||
      back->getResult(0).getType() != op->getOperand(0).getType())
    return false;
  if (auto permutation = permutationOf(op)) {
    auto inverse = permutationOf(back);
    if (!inverse || inverse->size() != permutation->size())
      return false;
    for (auto [to, from] : llvm::enumerate(*permutation))
      if ((*inverse)[from] != static_cast<int64_t>(to))
        return false;
    return true;
  }
  if (auto collapse = dyn_cast<tensor::CollapseShapeOp>(op))
    if (auto expand = dyn_cast<tensor::ExpandShapeOp>(back))
      return expand.getReassociationIndices() ==
             collapse.getReassociationIndices();
  // A reshape keeps the sequence of elements, so the type says it all.
  auto type = cast<RankedTensorType>(back->getResult(0).getType());
  auto isReshape = [](Operation *o) {
    return isa<tensor::CollapseShapeOp, tensor::ExpandShapeOp>(o) ||
           o->getName().getStringRef() == "stablehlo.reshape";
  };
  return isReshape(back) && isReshape(op) && type.hasStaticShape();
}

namespace {
struct PoolReplacer {
  OpBuilder &builder;
  const PoolChain &chain;
  SmallVectorImpl<Operation *> &erased;
  /// What the first `i` operations make of the new base, once it is asked for.
  SmallVector<Value> made;

  Value get(size_t level) {
    if (made[level])
      return made[level];
    Value before = get(level - 1);
    Operation *op = builder.clone(*chain.ops[level - 1]);
    op->setOperand(0, before);
    return made[level] = op->getResult(0);
  }

  void replace(Value old, size_t level) {
    SmallVector<Operation *> users(old.getUsers());
    for (Operation *user : users) {
      bool isBack = level > 0 && user->getOperand(0) == old &&
                    undoes(user, chain.ops[level - 1]) &&
                    llvm::count(user->getOperands(), old) == 1;
      if (!isBack)
        continue;
      replace(user->getResult(0), level - 1);
      erased.push_back(user);
    }
    bool isUsed = llvm::any_of(old.getUsers(), [&](Operation *user) {
      return !llvm::is_contained(erased, user);
    });
    if (!isUsed)
      return;
    Value now = get(level);
    old.replaceUsesWithIf(now, [&](OpOperand &use) {
      return !llvm::is_contained(erased, use.getOwner());
    });
  }
};
} // namespace

uint64_t raise::replacePool(OpBuilder &builder, Value old,
                            const PoolChain &chain, Value updated,
                            SmallVectorImpl<Operation *> &erased) {
  PoolReplacer replacer{builder, chain, erased,
                        SmallVector<Value>(chain.ops.size() + 1)};
  replacer.made[0] = updated;
  replacer.replace(old, chain.ops.size());
  uint64_t bytes = 0;
  for (size_t level = chain.ops.size(); level > 0; --level)
    if (replacer.made[level] && bytes == 0)
      bytes = chain.copiedBytes(level);
  return bytes;
}
