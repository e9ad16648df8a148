// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Recreates the operations of a plan one by one. The old ones stay in place
// until nothing reads them.
//
//===----------------------------------------------------------------------===//

#include "RowSplitter.h"

#include "kvcache/Analysis/Extents.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::rowdemand;

Value RowSplitter::getRows(OpOperand &use, int64_t axis) {
  return rowsOf(use.get(), axis);
}

OpFoldResult RowSplitter::getWholeCount(OpBuilder &b) {
  for (auto [value, axis] : plan.frontier)
    if (dominance.properlyDominates(value, current))
      return tensor::getMixedSize(b, value.getLoc(), value, axis);
  llvm_unreachable("rows are made from what is selected from");
}

/// The selected rows of a value, before the operation that is being made.
Value RowSplitter::rowsOf(Value value, int64_t axis) {
  if (Value made = small.lookup(value))
    return made;
  if (plan.restricted.contains(value)) {
    assert(isGenerator(value) && "operations are made in their sequence");
    OpBuilder::InsertionGuard guard(rewriter);
    rewriter.setInsertionPoint(current);
    Operation *op = value.getDefiningOp();
    return createForRows(rewriter, op, *analysis.getAxes(op),
                         *this)[cast<OpResult>(value).getResultNumber()];
  }
  std::pair<Value, int64_t> key(value, axis);
  if (!selected.contains(key))
    selectAt(outermost(current, {value, set.indices, set.valid}));
  assert(selected.contains(key) && "the value is known where it is used");
  return selected[key];
}

void RowSplitter::split() {
  OpBuilder::InsertionGuard guard(rewriter);
  prepare(firstUse());
  llvm::erase_if(plan.extents,
                 [&](Operation *op) { return rewriteExtent(op); });
  for (Operation *op : plan.operations)
    rewrite(op);
  // Extents that are no numbers of rows are those of the selected rows, too.
  for (Operation *op : plan.extents)
    op->setOperand(0, small[op->getOperand(0)]);
  for (auto [op, gather] : plan.gathers) {
    current = op;
    Value rows = rowsOf(gather.source->get(), gather.axis);
    replaceRowGather(rewriter, op, gather, rows, *this);
  }
  llvm::SmallSetVector<Operation *, 4> readers;
  for (auto [op, gather] : plan.gathers)
    readers.insert(op);
  for (Operation *op : llvm::reverse(readers))
    if (isOpTriviallyDead(op))
      rewriter.eraseOp(op);
  for (auto [operand, axis] : plan.outputs)
    rewriteOutput(*operand, axis);
  // What nobody needs may read old values all the same, where it is part of a
  // loop; then these stay.
  for (Operation *op : llvm::reverse(dead))
    if (op->use_empty())
      rewriter.eraseOp(op);
}

void RowSplitter::rewrite(Operation *op) {
  current = op;
  rewriter.setInsertionPoint(op);
  if (isa<scf::IfOp>(op))
    return rewriteBranch(op);
  if (isa<scf::ForOp>(op))
    return rewriteLoop(op);
  if (isa<scf::YieldOp>(op))
    return rewriteYield(op);
  if (isGenerator(op))
    return;
  const RowAxes &axes = *analysis.getAxes(op);
  // What is selected from comes first: it also describes the batch.
  for (auto [use, axis] : axes.uses)
    if (!isGenerator(use->get()))
      rowsOf(use->get(), axis);
  rewriter.setInsertionPoint(op);
  SmallVector<Value> results = createForRows(rewriter, op, axes, *this);
  for (auto [old, made] : llvm::zip_equal(op->getResults(), results))
    if (made)
      small[old] = made;
  dead.push_back(op);
}

/// A new loop or branch gives a value in place of the old one.
void RowSplitter::setMade(Value old, Value made) {
  if (!plan.restricted.contains(old)) {
    rewriter.replaceAllUsesWith(old, made);
    return;
  }
  small[old] = made;
  divided[made] = plan.restricted.lookup(old);
}

void RowSplitter::rewriteBranch(Operation *op) {
  auto branch = cast<scf::IfOp>(op);
  SmallVector<Type> types;
  for (Value result : op->getResults())
    types.push_back(plan.restricted.contains(result)
                        ? typeForRows(result.getType(),
                                      plan.restricted.lookup(result), count)
                        : result.getType());
  auto made = scf::IfOp::create(rewriter, op->getLoc(), types,
                                branch.getCondition(), false, false);
  for (auto [from, to] : llvm::zip_equal(op->getRegions(), made->getRegions()))
    to.takeBody(from);
  made->setDiscardableAttrs(op->getDiscardableAttrDictionary());
  for (auto [old, result] :
       llvm::zip_equal(op->getResults(), made.getResults()))
    setMade(old, result);
  dead.push_back(op);
}

void RowSplitter::rewriteLoop(Operation *op) {
  auto loop = cast<scf::ForOp>(op);
  SmallVector<Value> inits;
  for (auto [result, init] :
       llvm::zip_equal(loop.getResults(), loop.getInitArgs()))
    inits.push_back(plan.restricted.contains(result)
                        ? rowsOf(init, plan.restricted.lookup(result))
                        : init);
  rewriter.setInsertionPoint(op);
  auto made = scf::ForOp::create(rewriter, op->getLoc(), loop.getLowerBound(),
                                 loop.getUpperBound(), loop.getStep(), inits,
                                 nullptr, loop.getUnsignedCmp());
  made.getRegion().takeBody(loop.getRegion());
  made->setDiscardableAttrs(op->getDiscardableAttrDictionary());
  for (auto [old, result, argument] : llvm::zip_equal(
           op->getResults(), made.getResults(), made.getRegionIterArgs())) {
    setMade(old, result);
    if (!plan.restricted.contains(old))
      continue;
    argument.setType(result.getType());
    small[argument] = argument;
  }
  dead.push_back(op);
}

void RowSplitter::rewriteYield(Operation *op) {
  // The operation around it is new already; its results tell the types.
  for (auto [operand, result] :
       llvm::zip_equal(op->getOpOperands(), op->getParentOp()->getResults())) {
    auto found = divided.find(result);
    if (found == divided.end())
      continue;
    Value value = rowsOf(operand.get(), found->second);
    if (value.getType() != result.getType()) {
      rewriter.setInsertionPoint(op);
      value = tensor::CastOp::create(rewriter, op->getLoc(), result.getType(),
                                     value);
    }
    operand.set(value);
  }
}

/// Others may ask how large a value is that is no longer made. Fails for an
/// extent that is to be asked of the new value.
bool RowSplitter::rewriteExtent(Operation *op) {
  auto dim = cast<tensor::DimOp>(op);
  int64_t number = *dimOf(dim);
  Extent extent = extentOf(dim.getSource(), number);
  rewriter.setInsertionPoint(op);
  if (extent.origin && plan.restricted.contains(extent.origin)) {
    if (number != plan.restricted.lookup(dim.getSource()))
      return false;
    auto [value, axis] = *llvm::find_if(plan.frontier, [&](auto pair) {
      return dominance.properlyDominates(pair.first, op);
    });
    rewriter.replaceOpWithNewOp<tensor::DimOp>(op, value, axis);
    return true;
  }
  OpFoldResult size = materializeExtent(rewriter, op->getLoc(), extent);
  rewriter.replaceOp(
      op, getValueOrCreateConstantIndexOp(rewriter, op->getLoc(), size));
  return true;
}

/// The full shape again, for those who want it; rows that nobody needs are 0.
void RowSplitter::rewriteOutput(OpOperand &operand, int64_t axis) {
  Operation *op = operand.getOwner();
  current = op;
  Value rows = rowsOf(operand.get(), axis);
  rewriter.setInsertionPoint(op);
  Location loc = op->getLoc();
  auto type = cast<RankedTensorType>(operand.get().getType());
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(rewriter, loc, rows);
  SmallVector<OpFoldResult> part = sizes;
  auto [source, dim] = *llvm::find_if(plan.frontier, [&](auto pair) {
    return dominance.properlyDominates(pair.first, op);
  });
  sizes[axis] = tensor::getMixedSize(rewriter, loc, source, dim);
  part[axis] = rewriter.getIndexAttr(1);
  Value empty =
      tensor::EmptyOp::create(rewriter, loc, sizes, type.getElementType());
  Value zero = arith::ConstantOp::create(
      rewriter, loc, rewriter.getZeroAttr(type.getElementType()));
  Value full = linalg::FillOp::create(rewriter, loc, zero, empty).getResult(0);
  Value none = arith::ConstantIndexOp::create(rewriter, loc, 0);
  Value step = arith::ConstantIndexOp::create(rewriter, loc, 1);
  Value number = getValueOrCreateConstantIndexOp(rewriter, loc, count);
  if (valid)
    number = arith::MinSIOp::create(rewriter, loc, number, valid);
  auto loop = scf::ForOp::create(
      rewriter, loc, none, number, step, full,
      [&](OpBuilder &b, Location loc, Value i, ValueRange carried) {
        SmallVector<OpFoldResult> zeros(type.getRank(), b.getIndexAttr(0));
        SmallVector<OpFoldResult> ones(type.getRank(), b.getIndexAttr(1));
        SmallVector<OpFoldResult> from = zeros, to = zeros;
        from[axis] = i;
        to[axis] = getRowNumber(b, loc, i);
        Value row =
            tensor::ExtractSliceOp::create(b, loc, rows, from, part, ones);
        Value next = tensor::InsertSliceOp::create(b, loc, row, carried[0], to,
                                                   part, ones);
        scf::YieldOp::create(b, loc, next);
      });
  Value result = loop.getResult(0);
  if (result.getType() != type)
    result = tensor::CastOp::create(rewriter, loc, type, result);
  operand.set(result);
}
