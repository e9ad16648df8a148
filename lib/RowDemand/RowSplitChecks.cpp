// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Whether a plan can be carried out.
//
//===----------------------------------------------------------------------===//

#include "RowSplitter.h"

#include "kvcache/Analysis/Extents.h"
#include "kvcache/Analysis/Memory.h"
#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::rowdemand;

/// What may change a batch that is made of memrefs from a point on, and before
/// an operation there or behind it.
static Operation *findWriterFrom(Operation *point, Operation *op, Value batch) {
  if (point == op)
    return nullptr;
  if (Operation *writer = findWriter(point, batch))
    return writer;
  return point->isAncestor(op) ? nullptr : findWriterBetween(point, op, batch);
}

/// What asks for the number of all rows where it is not known.
Operation *RowSplitter::findUnknownCount() {
  // Operations of linalg and tensor never do.
  auto mayAsk = [](Operation *op) {
    return isa<RowDemandOpInterface>(op) &&
           !isa<linalg::LinalgDialect, tensor::TensorDialect>(op->getDialect());
  };
  for (Operation *op : plan.operations)
    if (mayAsk(op) && !isFrontierKnown(op))
      return op;
  for (auto [op, gather] : plan.gathers) {
    // With one result that is read, nothing is left of a selection.
    bool isReplaced =
        isa<SelectRowsOp>(op) && llvm::count_if(op->getResults(), [](Value v) {
                                   return !v.use_empty();
                                 }) == 1;
    if (mayAsk(op) && !isReplaced && !isFrontierKnown(op))
      return op;
  }
  for (auto [operand, axis] : plan.outputs)
    if (!isFrontierKnown(operand->getOwner()))
      return operand->getOwner();
  return nullptr;
}

/// Loops and branches are taken apart, and what a loop carries gets another
/// type: nobody may be left who reads the old values. Whatever nobody needs is
/// gone, but for what a loop or a branch gives and nobody reads.
Operation *RowSplitter::findOtherReader() {
  llvm::SmallPtrSet<OpOperand *, 32> replaced;
  llvm::DenseMap<Operation *, Operation *> remade;
  SmallVector<Value> worklist;
  auto addPairs = [&](auto operands, ValueRange results) {
    for (auto [operand, result] : llvm::zip_equal(operands, results))
      if (plan.restricted.contains(result))
        replaced.insert(&operand);
  };
  for (Operation *op : plan.operations) {
    if (isa<scf::YieldOp>(op)) {
      addPairs(MutableOperandRange(op), op->getParentOp()->getResults());
      continue;
    }
    if (auto loop = dyn_cast<scf::ForOp>(op)) {
      addPairs(loop.getInitArgsMutable(), loop.getResults());
      llvm::append_range(worklist, loop.getRegionIterArgs());
    }
    if (isa<scf::ForOp, scf::IfOp>(op)) {
      llvm::append_range(worklist, op->getResults());
      continue;
    }
    for (auto [use, axis] : analysis.getAxes(op)->uses) {
      replaced.insert(use);
      remade[use->getOwner()] = op;
    }
  }
  for (auto [op, gather] : plan.gathers)
    replaced.insert(gather.source);
  for (auto [operand, axis] : plan.outputs)
    replaced.insert(operand);
  llvm::SmallPtrSet<Value, 32> seen;
  while (!worklist.empty()) {
    Value value = worklist.pop_back_val();
    if (!plan.restricted.contains(value) || !seen.insert(value).second)
      continue;
    for (OpOperand &use : value.getUses()) {
      Operation *user = use.getOwner();
      if (isa<tensor::DimOp>(user))
        continue;
      if (!replaced.contains(&use))
        return user;
      // The old operation goes if nobody reads it, either.
      if (Operation *op = remade.lookup(user))
        llvm::append_range(worklist, op->getResults());
    }
  }
  return nullptr;
}

bool RowSplitter::isPossible(int64_t minRows, std::string &why) {
  llvm::raw_string_ostream os(why);
  Operation *point = firstUse();
  if (!point || plan.frontier.empty()) {
    os << "reads rows that are not computed from others";
    return false;
  }
  if (!canMoveBefore(set.indices, point) || !canMoveBefore(set.valid, point)) {
    os << "names rows that are not known before '" << point->getName() << "'";
    return false;
  }
  for (Operation *op : plan.operations)
    if (Operation *ancestor = point->getBlock()->findAncestorOpInBlock(*op);
        !isGenerator(op) && (!ancestor || ancestor->isBeforeInBlock(point))) {
      os << "needs '" << op->getName() << "', which is not after '"
         << point->getName() << "' in the same block";
      return false;
    }
  for (Operation *op : plan.operations)
    for (Value operand : op->getOperands())
      if (Operation *writer = isa<BatchType>(operand.getType())
                                  ? findWriterFrom(point, op, operand)
                                  : nullptr) {
        os << "needs positions of the batch of '" << op->getName()
           << "' before '" << writer->getName() << "', which may change them";
        return false;
      }
  if (Operation *reader = findOtherReader()) {
    os << "would leave '" << reader->getName()
       << "', which is unused, without the rows that it reads";
    return false;
  }
  if (Operation *op = findUnknownCount()) {
    os << "reads rows whose number is unknown at '" << op->getName() << "'";
    return false;
  }
  for (Operation *op : plan.extents) {
    auto dim = cast<tensor::DimOp>(op);
    int64_t number = *dimOf(dim);
    Extent extent = extentOf(dim.getSource(), number);
    bool isRow = number == plan.restricted.lookup(dim.getSource());
    if (extent.origin && plan.restricted.contains(extent.origin) && isRow &&
        !isFrontierKnown(op)) {
      os << "reads rows whose number is unknown at '" << op->getName() << "'";
      return false;
    }
  }
  Extent some = extentOf(set.indices, 0);
  for (auto [value, axis] : plan.frontier) {
    auto type = cast<RankedTensorType>(value.getType());
    SmallVector<int64_t> shape(type.getShape());
    shape[axis] = cast<RankedTensorType>(set.indices.getType()).getDimSize(0);
    Type rows = type.clone(shape);
    if (findUnbounded({type, rows, set.indices.getType()})) {
      os << "selects from " << type
         << ": extents of at most 2^40 and at most 2^54 elements are expected";
      return false;
    }
    Extent all = extentOf(value, axis);
    if (!some.origin && !all.origin && some.number >= all.number) {
      os << "names " << some.number << " rows of " << all.number
         << ", which is not fewer";
      return false;
    }
    if (!all.origin && all.number < minRows) {
      os << "names rows of " << all.number
         << ", fewer than min-rows = " << minRows;
      return false;
    }
  }
  return true;
}
