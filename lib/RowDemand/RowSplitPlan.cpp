// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "RowSplitter.h"

#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::rowdemand;

/// Additions and multiplications of a contraction for one row; 0 if they are
/// not known.
static uint64_t flopsOfRow(linalg::LinalgOp op, const RowAxes &axes) {
  if (!linalg::isaContractionOpInterface(op) || axes.results.empty())
    return 0;
  unsigned row = op.getMatchingIndexingMap(op.getDpsInitOperand(0))
                     .getDimPosition(axes.results[0]);
  uint64_t flops = 2;
  for (auto [dim, range] : llvm::enumerate(op.getStaticLoopRanges())) {
    if (dim == row)
      continue;
    if (ShapedType::isDynamic(range))
      return 0;
    flops = llvm::SaturatingMultiply(flops, uint64_t(range));
  }
  return flops;
}

/// What a model compiler describes may be its products, for all that is known.
static bool isOfOtherDialect(Operation *op) {
  return isa<RowDemandOpInterface>(op) &&
         !isa<KVCacheDialect, linalg::LinalgDialect, scf::SCFDialect,
              tensor::TensorDialect>(op->getDialect());
}

bool rowdemand::isCompute(Operation *op) {
  if (auto structured = dyn_cast<linalg::LinalgOp>(op))
    return structured.getNumReductionLoops() > 0;
  return hasFlops(op) || isOfOtherDialect(op);
}

SplitPlan::SplitPlan(FunctionOpInterface function,
                     const RowDemandAnalysis &analysis, unsigned set,
                     const RowDemandAnalysis::Outputs &outputsOfFunction) {
  auto isOurs = [&](Value value) {
    const RowDemand &demand = analysis.getDemand(value);
    return demand.isRows() && demand.set == set;
  };
  function->walk([&](Operation *op) {
    bool isMade = false;
    for (Value result : op->getResults())
      if (isOurs(result) && analysis.isRestricted(result)) {
        restricted[result] = analysis.getDemand(result).axis;
        isMade = true;
      }
    // Of other results somebody may ask for an extent.
    if (const RowAxes *axes = isMade ? analysis.getAxes(op) : nullptr)
      for (auto [result, axis] :
           llvm::zip_equal(op->getResults(), axes->results))
        if (axis >= 0)
          restricted[result] = axis;
    if (auto loop = dyn_cast<scf::ForOp>(op))
      for (auto [result, argument] :
           llvm::zip_equal(loop.getResults(), loop.getRegionIterArgs()))
        if (restricted.contains(result))
          restricted[argument] = restricted[result];
  });
  auto need = [&](Value value, int64_t axis) {
    if (!restricted.contains(value))
      frontier.insert({value, axis});
  };
  const RowSet &rows = analysis.getSets()[set];
  function->walk<WalkOrder::PreOrder>([&](Operation *op) {
    for (Value result : op->getResults())
      if (restricted.contains(result) &&
          (operations.empty() || operations.back() != op))
        operations.push_back(op);
    bool isRestricted = !operations.empty() && operations.back() == op;
    auto needAsResults = [&](ValueRange values, ValueRange results) {
      for (auto [value, result] : llvm::zip_equal(values, results))
        if (restricted.contains(result))
          need(value, restricted[result]);
    };
    if (auto loop = dyn_cast<scf::ForOp>(op))
      needAsResults(loop.getInitArgs(), loop.getResults());
    if (isa<scf::YieldOp>(op) &&
        isa<scf::IfOp, scf::ForOp>(op->getParentOp()) &&
        llvm::any_of(op->getParentOp()->getResults(),
                     [&](Value v) { return restricted.contains(v); })) {
      operations.push_back(op);
      needAsResults(op->getOperands(), op->getParentOp()->getResults());
    }
    if (auto dim = dyn_cast<tensor::DimOp>(op))
      if (restricted.contains(dim.getSource()))
        extents.push_back(op);
    if (op->hasTrait<OpTrait::ReturnLike>() && op->getParentOp() == function)
      for (OpOperand &operand : op->getOpOperands())
        if (auto given = outputsOfFunction.find(operand.getOperandNumber());
            given != outputsOfFunction.end() && given->second.second == rows &&
            restricted.contains(operand.get()))
          outputs.push_back({&operand, given->second.first});

    const RowAxes *axes = isRestricted ? analysis.getAxes(op) : nullptr;
    if (axes) {
      for (auto [use, axis] : axes->uses)
        need(use->get(), axis);
      for (Value operand : op->getOperands())
        if (isa<BatchType>(operand.getType())) {
          batches.insert(operand);
          ++attentions;
        }
      if (auto structured = dyn_cast<linalg::LinalgOp>(op))
        flops = llvm::SaturatingAdd(flops, flopsOfRow(structured, *axes));
      computes += isCompute(op);
      return;
    }
    if (!isRestricted)
      for (const RowGather &gather : getRowGathers(op))
        if (gather.rows == rows && restricted.contains(gather.source->get()))
          gathers.push_back({op, gather});
  });
}
