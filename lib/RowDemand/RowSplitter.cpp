// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "RowSplitter.h"

#include "kvcache/IR/KVCache.h"
#include "kvcache/IR/Sources.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::rowdemand;

RowSplitter::RowSplitter(RewriterBase &rewriter, FunctionOpInterface function,
                         const RowDemandAnalysis &analysis, unsigned set,
                         SplitPlan &plan)
    : rewriter(rewriter), function(function), analysis(analysis),
      set(analysis.getSets()[set]), plan(plan), dominance(function) {}

//===----------------------------------------------------------------------===//
// Where
//===----------------------------------------------------------------------===//

/// Whether a value is made of no rows: an empty tensor, or one that is filled.
/// It is made anew for each use, as it may stand before the indices are known.
bool RowSplitter::isGenerator(Value value) const {
  Operation *op = value.getDefiningOp();
  const RowAxes *axes = op ? analysis.getAxes(op) : nullptr;
  return axes && plan.restricted.contains(value) &&
         (axes->uses.empty() || isa<linalg::FillOp>(op)) &&
         llvm::all_of(axes->uses,
                      [&](auto use) { return isGenerator(use.first->get()); });
}

bool RowSplitter::isGenerator(Operation *op) const {
  return op->getNumResults() && llvm::all_of(op->getResults(), [&](Value v) {
           return isGenerator(v);
         });
}

/// The outermost operation around `point` before which the values are known.
Operation *RowSplitter::outermost(Operation *point, ArrayRef<Value> values) {
  while (point->getParentOp() != function) {
    Operation *parent = point->getParentOp();
    if (llvm::any_of(values, [&](Value value) {
          return value &&
                 parent->isAncestor(value.getParentRegion()->getParentOp());
        }))
      break;
    point = parent;
  }
  return point;
}

/// Where the first selection is needed.
Operation *RowSplitter::firstUse() {
  for (Operation *op : plan.operations)
    if (!isGenerator(op))
      return outermost(op, {set.indices, set.valid});
  return nullptr;
}

/// Whether something that is selected from is there, which says how many rows
/// there are in all.
bool RowSplitter::isFrontierKnown(Operation *point) {
  return llvm::any_of(plan.frontier, [&](auto pair) {
    return dominance.properlyDominates(pair.first, point);
  });
}

bool RowSplitter::canMoveBefore(Value value, Operation *point) {
  if (!value || dominance.properlyDominates(value, point))
    return true;
  Operation *op = value.getDefiningOp();
  return op && op != point && op->getBlock() == point->getBlock() &&
         op->getNumRegions() == 0 && isMemoryEffectFree(op) &&
         !plan.restricted.contains(value) &&
         llvm::all_of(op->getOperands(), [&](Value operand) {
           return canMoveBefore(operand, point);
         });
}

bool RowSplitter::moveBefore(Value value, Operation *point) {
  if (!canMoveBefore(value, point))
    return false;
  if (!value || dominance.properlyDominates(value, point))
    return true;
  Operation *op = value.getDefiningOp();
  for (Value operand : op->getOperands())
    moveBefore(operand, point);
  rewriter.moveOpBefore(op, point);
  return true;
}

//===----------------------------------------------------------------------===//
// Selections
//===----------------------------------------------------------------------===//

void RowSplitter::prepare(Operation *point) {
  moveBefore(set.indices, point);
  moveBefore(set.valid, point);
  OpBuilder b(point);
  Location loc = set.indices.getLoc();
  auto type = cast<RankedTensorType>(set.indices.getType());
  if (type.isDynamicDim(0))
    count = tensor::DimOp::create(b, loc, set.indices, 0).getResult();
  else
    count = b.getIndexAttr(type.getDimSize(0));
  if (set.valid) {
    Value zero = arith::ConstantIndexOp::create(b, loc, 0);
    Value number = tensor::ExtractOp::create(b, loc, set.valid, zero);
    valid = arith::IndexCastOp::create(b, loc, b.getIndexType(), number);
  }
  // An operation that reads the list entry by entry has no number of valid
  // ones.
  made.push_back({set.indices, Value()});
}

Value RowSplitter::getRowNumber(OpBuilder &b, Location loc, Value i) {
  Value number = tensor::ExtractOp::create(b, loc, set.indices, i);
  if (!number.getType().isIndex())
    number = arith::IndexCastOp::create(b, loc, b.getIndexType(), number);
  if (!valid)
    return number;
  Value counts =
      arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, i, valid);
  Value zero = arith::ConstantIndexOp::create(b, loc, 0);
  return arith::SelectOp::create(b, loc, counts, number, zero);
}

/// The rows of a value, whatever its dimension of rows is.
Value RowSplitter::gatherRows(Value value, int64_t axis) {
  Location loc = value.getLoc();
  auto type = cast<RankedTensorType>(value.getType());
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(rewriter, loc, value);
  sizes[axis] = count;
  Value empty =
      tensor::EmptyOp::create(rewriter, loc, sizes, type.getElementType());
  SmallVector<utils::IteratorType> loops(type.getRank(),
                                         utils::IteratorType::parallel);
  auto gather = linalg::GenericOp::create(
      rewriter, loc, empty.getType(), ValueRange(), empty,
      rewriter.getMultiDimIdentityMap(type.getRank()), loops,
      [&](OpBuilder &b, Location loc, ValueRange) {
        SmallVector<Value> indices;
        for (int64_t dim = 0; dim < type.getRank(); ++dim)
          indices.push_back(linalg::IndexOp::create(b, loc, dim));
        Value row = indices[axis];
        auto read = [&](OpBuilder &b, Location loc) -> Value {
          indices[axis] = getRowNumber(b, loc, row);
          return tensor::ExtractOp::create(b, loc, value, indices);
        };
        if (!valid) {
          linalg::YieldOp::create(b, loc, read(b, loc));
          return;
        }
        // There may be no row at all that padding could read.
        Value counts = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt,
                                             row, valid);
        auto branch = scf::IfOp::create(
            b, loc, counts,
            [&](OpBuilder &b, Location loc) {
              scf::YieldOp::create(b, loc, read(b, loc));
            },
            [&](OpBuilder &b, Location loc) {
              Value zero = arith::ConstantOp::create(
                  b, loc, b.getZeroAttr(type.getElementType()));
              scf::YieldOp::create(b, loc, zero);
            });
        linalg::YieldOp::create(b, loc, branch.getResult(0));
      });
  return gather.getResult(0);
}

/// Selects what is at the frontier and known before `point`, in one operation
/// where that can.
void RowSplitter::selectAt(Operation *point) {
  SmallVector<std::pair<Value, int64_t>> now;
  // What is known further outside may also be read outside of this region.
  for (auto pair : plan.frontier)
    if (!selected.contains(pair) &&
        dominance.properlyDominates(pair.first, point) &&
        outermost(point, {pair.first, set.indices, set.valid}) == point)
      now.push_back(pair);
  Value batch;
  for (Value candidate : plan.batches)
    if (moveBefore(candidate, point)) {
      batch = candidate;
      break;
    }
  auto canSelect = [](std::pair<Value, int64_t> pair) {
    ArrayRef<int64_t> shape =
        cast<RankedTensorType>(pair.first.getType()).getShape();
    return pair.second == 0 && !ShapedType::isDynamicShape(shape.drop_front());
  };
  if (batch && llvm::any_of(now, canSelect)) {
    SmallVector<Value> values;
    for (auto pair : now)
      if (canSelect(pair))
        values.push_back(pair.first);
    selectOf(batch, point, values);
  }
  OpBuilder::InsertionGuard guard(rewriter);
  rewriter.setInsertionPoint(point);
  for (auto pair : now)
    if (!selected.contains(pair)) {
      selected[pair] = gatherRows(pair.first, pair.second);
      selections.push_back(selected[pair].getDefiningOp());
    }
}

/// What a batch is made from; null if it is not known here.
static MakeBatchOp originOf(Value batch) {
  Value origin = furthestSource(batch, [](Value value) -> Value {
    auto other = value.getDefiningOp<WithRowsOp>();
    return other ? other.getBatch() : Value();
  });
  return origin.getDefiningOp<MakeBatchOp>();
}

RowSplitter::Description &RowSplitter::selectOf(Value batch, Operation *point,
                                                ArrayRef<Value> values) {
  OpBuilder::InsertionGuard guard(rewriter);
  rewriter.setInsertionPoint(point);
  Location loc = point->getLoc();
  auto type = cast<BatchType>(batch.getType());
  SmallVector<Value> rows(values), outs;
  // A tensor of which only the number of rows matters.
  if (rows.empty())
    rows.push_back(tensor::EmptyOp::create(
        rewriter, loc, {getWholeCount(rewriter)}, rewriter.getI32Type()));
  for (Value value : rows) {
    SmallVector<OpFoldResult> sizes =
        tensor::getMixedSizes(rewriter, loc, value);
    sizes[0] = count;
    outs.push_back(tensor::EmptyOp::create(
        rewriter, loc, sizes, getElementTypeOrSelf(value.getType())));
  }
  OpFoldResult requests = rewriter.getIndexAttr(type.getNumRequests() + 1);
  if (type.getNumRequests() == kRunTime) {
    Value starts = originOf(batch).getStarts();
    requests = isa<MemRefType>(starts.getType())
                   ? memref::getMixedSize(rewriter, loc, starts, 0)
                   : tensor::getMixedSize(rewriter, loc, starts, 0);
  }
  IntegerType positions =
      type.hasPositions() ? type.getPositionType() : type.getElementType();
  outs.push_back(tensor::EmptyOp::create(rewriter, loc, {requests},
                                         type.getElementType()));
  outs.push_back(tensor::EmptyOp::create(rewriter, loc, {count}, positions));

  // Indices and their number as the operation takes them.
  Value indices = set.indices, number = set.valid;
  auto indexType = cast<RankedTensorType>(indices.getType());
  Type element = indexType.getElementType();
  if (!element.isInteger(32) && !element.isInteger(64)) {
    Type wide = indexType.clone(rewriter.getI64Type());
    indices =
        element.isIndex()
            ? arith::IndexCastOp::create(rewriter, loc, wide, indices)
                  .getResult()
            : arith::ExtSIOp::create(rewriter, loc, wide, indices).getResult();
    element = rewriter.getI64Type();
  }
  if (!number) {
    Value all = getValueOrCreateConstantIndexOp(rewriter, loc, count);
    all = arith::IndexCastOp::create(rewriter, loc, element, all);
    number = tensor::FromElementsOp::create(rewriter, loc, all);
  }
  auto select =
      SelectRowsOp::create(rewriter, loc, rows, batch, indices, number, outs);
  selections.push_back(select);
  made.push_back({indices, number});
  for (auto [value, row] : llvm::zip(values, select->getResults()))
    selected[{value, 0}] = row;
  Value starts = select->getResults().take_back(2)[0];
  Value where = select->getResults().back();
  Value with = WithRowsOp::create(rewriter, loc, batch, starts, where);
  descriptions.push_back({batch, with, starts, where});
  return descriptions.back();
}

Value RowSplitter::getDescription(OpBuilder &, Value batch) {
  OpBuilder::InsertionGuard guard(rewriter);
  auto isKnown = [&](const Description &description) {
    return dominance.properlyDominates(description.rows, current);
  };
  for (const Description &description : descriptions)
    if (description.whole == batch && isKnown(description))
      return description.rows;
  Operation *point = outermost(current, {batch, set.indices, set.valid});
  // Batches that differ in their blocks only have the same rows.
  auto ours = batch.getDefiningOp<MakeBatchOp>();
  for (const Description &description : descriptions) {
    auto other = description.whole.getDefiningOp<MakeBatchOp>();
    if (!ours || !other || !isKnown(description) ||
        ours.getStarts() != other.getStarts() ||
        ours.getLengths() != other.getLengths() ||
        ours.getPositions() != other.getPositions())
      continue;
    // A length is at most what the table has room for.
    BlockTableType a = ours.getTable().getType(),
                   b = other.getTable().getType();
    // 2^40 times 2^40 at most.
    auto room = [](BlockTableType table) {
      return __int128(table.getMaxBlocks()) * table.getTokens();
    };
    bool sameRoom = a.getMaxBlocks() != kRunTime &&
                    b.getMaxBlocks() != kRunTime && room(a) == room(b);
    if (!ours.getPositions() && !sameRoom)
      continue;
    if (!dominance.properlyDominates(description.rows, point))
      point = current;
    rewriter.setInsertionPoint(point);
    Value starts = description.starts, positions = description.positions;
    Value with =
        WithRowsOp::create(rewriter, batch.getLoc(), batch, starts, positions);
    descriptions.push_back({batch, with, starts, positions});
    return with;
  }
  // Only values that are known here can say how many rows there are.
  if (!isFrontierKnown(point))
    point = current;
  return selectOf(batch, point, {}).rows;
}
