// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Ties.h"

#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Interfaces/LoopLikeInterface.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::target;

namespace {

class Ties {
public:
  explicit Ties(EquateExtents equate) : equate(equate) {}

  using Known = std::optional<ArgumentExtent>;

  /// All are one extent, so each of an argument that one follows from is
  /// checked. Where none does, what is written is bounded by the smallest.
  void same(ArrayRef<Known> extents) {
    Known first;
    for (const Known &extent : extents) {
      if (!extent || extent->isValue)
        continue;
      if (first)
        equate(*first, *extent);
      // The next ones are compared with an argument, if there is one.
      if (!first || !first->of)
        first = extent;
    }
  }

  /// Members of a batch of R requests.
  void members(TypedValue<BatchType> batch) {
    Known requests = extentOfMember(batch, BatchMember::Lengths, 0);
    same({requests, extentOfMember(batch, BatchMember::Table, 0)});
    if (requests)
      same({extentOfMember(batch, BatchMember::Starts, 0),
            plusConstant(*requests, 1)});
  }

  /// An extent as an operation says it.
  static Known known(const OperandExtent &operand) {
    Known extent =
        operand.member
            ? extentOfMember(cast<TypedValue<BatchType>>(operand.value),
                             *operand.member, operand.dim)
            : extentOf(operand.value, operand.dim);
    if (extent && operand.times != 1)
      extent = timesConstant(*extent, operand.times);
    if (extent && operand.plus)
      extent = plusConstant(*extent, operand.plus);
    return extent;
  }

  /// What a cast says of a dynamic extent is relied on behind it.
  void promise(memref::CastOp op) {
    auto to = dyn_cast<MemRefType>(op.getType());
    if (!to || !isa<MemRefType>(op.getSource().getType()))
      return;
    ArgumentExtent constant;
    for (int64_t d = 0; d < to.getRank(); ++d) {
      constant.plus = to.getDimSize(d);
      if (!to.isDynamicDim(d))
        same({extentOf(op.getSource(), d), constant});
    }
  }

  void copy(memref::CopyOp op) {
    auto type = dyn_cast<MemRefType>(op.getTarget().getType());
    if (!type || !isa<MemRefType>(op.getSource().getType()))
      return;
    for (int64_t d = 0; d < type.getRank(); ++d)
      same({extentOf(op.getSource(), d), extentOf(op.getTarget(), d)});
  }

  /// The dimensions of operands that one loop runs over.
  void loops(linalg::LinalgOp op) {
    SmallVector<SmallVector<Known>> extents(op.getNumLoops());
    for (OpOperand &operand : op->getOpOperands()) {
      if (!isa<MemRefType>(operand.get().getType()))
        continue;
      AffineMap map = op.getMatchingIndexingMap(&operand);
      for (auto [d, result] : llvm::enumerate(map.getResults()))
        if (auto loop = dyn_cast<AffineDimExpr>(result))
          extents[loop.getPosition()].push_back(extentOf(operand.get(), d));
    }
    for (ArrayRef<Known> list : extents)
      same(list);
  }

private:
  EquateExtents equate;
};

} // namespace

/// Whether a call that gets to the end of the function comes to the operation,
/// but for loops without an iteration. What no call demands is not asked for.
static bool isReached(Operation *op) {
  Operation *parent = op->getParentOp();
  while (isa<LoopLikeOpInterface>(parent))
    parent = parent->getParentOp();
  auto function = dyn_cast<func::FuncOp>(parent);
  return function && function.getBody().hasOneBlock();
}

void target::tieMembers(Value value, EquateExtents equate) {
  if (auto batch = dyn_cast<TypedValue<BatchType>>(value))
    Ties(equate).members(batch);
}

void target::tieExtents(Operation *op, EquateExtents equate) {
  Ties ties(equate);
  for (Value result : op->getResults())
    tieMembers(result, equate);
  if (auto access = dyn_cast<CacheAccessOpInterface>(op))
    for (const TiedExtents &tied : access.getTiedExtents())
      ties.same(llvm::map_to_vector(tied, Ties::known));
  if (auto cast = dyn_cast<memref::CastOp>(op))
    if (isa<func::FuncOp>(cast->getParentOp()))
      ties.promise(cast);
  if (!isReached(op))
    return;
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](memref::CopyOp o) { ties.copy(o); })
      .Case([&](linalg::LinalgOp o) { ties.loops(o); });
}
