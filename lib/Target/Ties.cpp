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

namespace {

/// Members of a batch, as its type numbers them.
enum Member : unsigned { Starts, Lengths, Table, Positions };

class Ties {
public:
  explicit Ties(EquateExtents equate) : equate(equate) {}

  using Known = std::optional<ArgumentExtent>;

  /// All are one extent, so each of an argument that one follows from is
  /// checked. Where none does, what is written is bounded by the smallest.
  void same(ArrayRef<Known> extents) {
    Known first;
    for (const Known &extent : extents) {
      if (!extent)
        continue;
      if (first)
        equate(*first, *extent);
      // The next ones are compared with an argument, if there is one.
      if (!first || !first->of)
        first = extent;
    }
  }

  static void addLeading(SmallVectorImpl<Known> &list, ValueRange values) {
    for (Value value : values)
      list.push_back(extentOf(value, 0));
  }

  /// Members of a batch of R requests.
  void members(Value batch) {
    Known requests = extentOfMember(batch, Lengths, 0);
    same({requests, extentOfMember(batch, Table, 0)});
    if (requests)
      same({extentOfMember(batch, Starts, 0), plusConstant(*requests, 1)});
  }

  /// A batch may say of each query row where it is.
  static Known rowsOf(TypedValue<BatchType> batch) {
    return batch.getType().hasPositions() ? extentOfMember(batch, Positions, 0)
                                          : Known();
  }

  void rows(ValueRange values, Known more = Known()) {
    SmallVector<Known> list = {more};
    addLeading(list, values);
    same(list);
  }

  void times(Value value, unsigned dim, Value of, int64_t factor) {
    if (Known extent = extentOf(of, dim))
      same({extentOf(value, dim), timesConstant(*extent, factor)});
  }

  void selection(SelectRowsOp op) {
    rows(op.getRows(), rowsOf(op.getBatch()));
    SmallVector<Value> selected(op.getRowOuts());
    selected.append({op.getIndices(), op.getPositionsOut()});
    rows(selected);
    if (Known requests = extentOfMember(op.getBatch(), Lengths, 0))
      same({extentOf(op.getStartsOut(), 0), plusConstant(*requests, 1)});
  }

  void mapping(MapBlocksOp op) {
    unsigned rank = cast<MemRefType>(op.getOut().getType()).getRank();
    if (rank == 2)
      rows({op.getBlocks(), op.getOut()});
    times(op.getOut(), rank - 1, op.getBlocks(), op.getRatio());
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

void kvcache::tieMembers(Value batch, EquateExtents equate) {
  if (isa<BatchType>(batch.getType()))
    Ties(equate).members(batch);
}

void kvcache::tieExtents(Operation *op, EquateExtents equate) {
  Ties ties(equate);
  for (Value result : op->getResults())
    tieMembers(result, equate);
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](IndexCopyOp o) {
        SmallVector<Value> rows(o.getRows());
        rows.push_back(o.getSlots());
        ties.rows(rows);
      })
      .Case([&](ScatterOp o) {
        SmallVector<Value> rows(o.getRows());
        rows.append({o.getBlocks(), o.getOffsets()});
        ties.rows(rows);
      })
      .Case([&](GatherOp o) {
        SmallVector<Value> rows(o.getOuts());
        rows.push_back(o.getSlots());
        ties.rows(rows);
      })
      .Case([&](AttentionOp o) {
        SmallVector<Value> rows(o.getOuts());
        rows.push_back(o.getQuery());
        ties.rows(rows, Ties::rowsOf(o.getBatch()));
      })
      .Case([&](SlotMappingOp o) {
        ties.rows(o.getOut(), Ties::rowsOf(o.getBatch()));
      })
      .Case([&](MergeStatesOp o) { ties.rows(o.getOperands()); })
      .Case([&](SelectRowsOp o) { ties.selection(o); })
      .Case([&](MapBlocksOp o) { ties.mapping(o); })
      .Case([&](BlockSlotsOp o) {
        ties.times(o.getOut(), 0, o.getBlocks(), o.getTokens());
      });
  if (auto cast = dyn_cast<memref::CastOp>(op))
    if (isa<func::FuncOp>(cast->getParentOp()))
      ties.promise(cast);
  if (!isReached(op))
    return;
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](memref::CopyOp o) { ties.copy(o); })
      .Case([&](linalg::LinalgOp o) { ties.loops(o); });
}
