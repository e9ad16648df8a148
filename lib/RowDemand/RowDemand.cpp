// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/RowDemand/RowDemand.h"

#include "LinalgRows.h"
#include "Models.h"
#include "kvcache/Analysis/Extents.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/CallInterfaces.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::rowdemand;

//===----------------------------------------------------------------------===//
// Operations
//===----------------------------------------------------------------------===//

/// Whether fewer rows would do less than all, besides what they give.
static bool doesMore(Operation *op) {
  auto effects = getEffectsRecursively(op);
  return !effects ||
         llvm::any_of(*effects, [](const MemoryEffects::EffectInstance &it) {
           return !isa<MemoryEffects::Read>(it.getEffect());
         });
}

FailureOr<RowAxes> rowdemand::getRowAxes(Operation *op, unsigned result,
                                         int64_t axis, std::string &why) {
  if (auto model = dyn_cast<RowDemandOpInterface>(op))
    return model.getRowAxes(result, axis, why);
  if (doesMore(op)) {
    why = "may write memory for each row";
    return failure();
  }
  if (auto structured = dyn_cast<linalg::LinalgOp>(op))
    return getLinalgRowAxes(structured, result, axis, why);
  if (!op->hasTrait<OpTrait::Elementwise>()) {
    why = "is not known to compute rows independently";
    return failure();
  }
  RowAxes axes{{}, SmallVector<int64_t>(op->getNumResults(), axis)};
  for (OpOperand &operand : op->getOpOperands())
    if (isa<RankedTensorType>(operand.get().getType()))
      axes.uses.push_back({&operand, axis});
  return axes;
}

SmallVector<Value> rowdemand::createForRows(OpBuilder &builder, Operation *op,
                                            const RowAxes &axes,
                                            RowSelection &selection) {
  if (auto model = dyn_cast<RowDemandOpInterface>(op))
    return model.createForRows(builder, axes, selection);
  if (auto structured = dyn_cast<linalg::LinalgOp>(op))
    return createLinalgForRows(builder, structured, axes, selection);
  return cloneForRows(builder, op, axes, selection);
}

SmallVector<RowGather> rowdemand::getRowGathers(Operation *op) {
  if (auto model = dyn_cast<RowDemandOpInterface>(op))
    return model.getRowGathers();
  if (auto structured = dyn_cast<linalg::LinalgOp>(op))
    return getLinalgRowGathers(structured);
  return {};
}

void rowdemand::replaceRowGather(RewriterBase &rewriter, Operation *op,
                                 const RowGather &gather, Value rows,
                                 RowSelection &selection) {
  if (auto model = dyn_cast<RowDemandOpInterface>(op))
    model.replaceRowGather(rewriter, gather, rows, selection);
  else
    replaceLinalgRowGather(rewriter, cast<linalg::LinalgOp>(op), gather, rows);
}

SmallVector<PartialRead> rowdemand::getPartialReads(Operation *op) {
  if (auto structured = dyn_cast<linalg::LinalgOp>(op))
    return getLinalgPartialReads(structured);
  return getTensorPartialReads(op);
}

void rowdemand::registerRowDemandModels(DialectRegistry &registry) {
  registerKVCacheRowModels(registry);
  registerTensorRowModels(registry);
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

static RowDemand all(Operation *by, StringRef why) {
  RowDemand demand;
  demand.kind = RowDemand::Kind::All;
  demand.by = by;
  demand.why = why.str();
  return demand;
}

static RowDemand rows(int64_t axis, unsigned set) {
  RowDemand demand;
  demand.kind = RowDemand::Kind::Rows;
  demand.axis = axis;
  demand.set = set;
  return demand;
}

RowDemandAnalysis::RowDemandAnalysis(FunctionOpInterface function,
                                     const Outputs &outputs)
    : function(function), outputs(outputs) {
  bool changed = true;
  while (changed) {
    changed = false;
    for (Block &block : llvm::reverse(function.getFunctionBody()))
      changed |= visitBlock(block);
  }
}

const RowDemand &RowDemandAnalysis::getDemand(Value value) const {
  static const RowDemand nobody;
  auto found = demands.find(value);
  return found == demands.end() ? nobody : found->second;
}

const RowAxes *RowDemandAnalysis::getAxes(Operation *op) const {
  auto found = axes.find(op);
  return found == axes.end() ? nullptr : &found->second;
}

StringRef RowDemandAnalysis::whyNot(Operation *op) const {
  auto found = refusals.find(op);
  return found == refusals.end() ? StringRef() : StringRef(found->second);
}

bool RowDemandAnalysis::isRestricted(Value value) const {
  if (!getDemand(value).isRows())
    return false;
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    auto loop = dyn_cast<scf::ForOp>(argument.getOwner()->getParentOp());
    return loop && isRestricted(loop.getTiedLoopResult(argument));
  }
  auto result = cast<OpResult>(value);
  if (isa<scf::IfOp>(result.getOwner()))
    return true;
  if (auto loop = dyn_cast<scf::ForOp>(result.getOwner()))
    // The result is divided as what the loop carries is.
    return getDemand(loop.getTiedLoopRegionIterArg(result)).isRows();
  return axes.contains(result.getOwner());
}

unsigned RowDemandAnalysis::numberOf(const RowSet &set) {
  auto found = llvm::find(sets, set);
  if (found == sets.end())
    found = sets.insert(sets.end(), set);
  return found - sets.begin();
}

bool RowDemandAnalysis::join(Value value, const RowDemand &demand,
                             Operation *user) {
  if (!isa<RankedTensorType>(value.getType()) ||
      demand.kind == RowDemand::Kind::None)
    return false;
  RowDemand &now = demands[value];
  if (now.isAll())
    return false;
  if (now.kind == RowDemand::Kind::None) {
    now = demand;
    return true;
  }
  if (demand.isRows() && now.axis == demand.axis && now.set == demand.set)
    return false;
  now = demand.isAll()
            ? demand
            : all(user, demand.set == now.set
                            ? "needs rows along another dimension"
                            : "needs rows that another index value names");
  return true;
}

bool RowDemandAnalysis::visitBlock(Block &block) {
  bool changed = false;
  for (Operation &op : llvm::reverse(block))
    changed |= visit(&op);
  return changed;
}

/// Whether something is known of what the operation does to rows.
static bool isOnRows(Operation *op) {
  return isa<RowDemandOpInterface, linalg::LinalgOp>(op) ||
         op->hasTrait<OpTrait::Elementwise>();
}

RowDemand RowDemandAnalysis::resultDemand(Operation *op) {
  RowDemand demand;
  axes.erase(op);
  for (Value result : op->getResults()) {
    const RowDemand &of = getDemand(result);
    if (of.isAll())
      // An operation that does not deal in rows is the reason itself.
      return isOnRows(op) ? of : all(op, "needs it whole");
  }
  for (OpResult result : op->getResults()) {
    const RowDemand &of = getDemand(result);
    if (!of.isRows())
      continue;
    if (!demand.isRows()) {
      std::string why;
      FailureOr<RowAxes> found =
          getRowAxes(op, result.getResultNumber(), of.axis, why);
      if (failed(found)) {
        refusals[op] = why;
        return all(op, why);
      }
      demand = of;
      axes[op] = std::move(*found);
    }
    if (of.set != demand.set ||
        axes[op].results[result.getResultNumber()] != of.axis) {
      axes.erase(op);
      refusals[op] = "has several results whose needed rows differ";
      return all(op, refusals[op]);
    }
  }
  return demand;
}

bool RowDemandAnalysis::visitReturn(Operation *op) {
  bool changed = false;
  for (OpOperand &operand : op->getOpOperands()) {
    auto given = outputs.find(operand.getOperandNumber());
    RowDemand demand =
        given == outputs.end()
            ? all(op, ("returns it, as output #" +
                       Twine(operand.getOperandNumber()))
                          .str())
            : rows(given->second.first, numberOf(given->second.second));
    changed |= join(operand.get(), demand, op);
  }
  return changed;
}

/// What a branch gives is needed as the result is.
bool RowDemandAnalysis::visitBranches(Operation *op) {
  bool changed = false;
  auto branch = cast<scf::IfOp>(op);
  for (Region &region : op->getRegions()) {
    if (region.empty())
      continue;
    Operation *yield = region.front().getTerminator();
    for (auto [result, operand] :
         llvm::zip_equal(branch.getResults(), yield->getOperands()))
      changed |= join(operand, getDemand(result), yield);
    changed |= visitBlock(region.front());
  }
  return changed;
}

bool RowDemandAnalysis::visitLoop(Operation *op) {
  auto loop = cast<scf::ForOp>(op);
  bool changed = false;
  for (auto [result, argument, operand, init] :
       llvm::zip_equal(loop.getResults(), loop.getRegionIterArgs(),
                       loop.getYieldedValues(), loop.getInitArgs())) {
    // Each iteration gives what the next one takes, the last one the result.
    changed |= join(argument, getDemand(result), op);
    RowDemand demand = getDemand(argument);
    changed |= join(operand, demand, loop.getBody()->getTerminator());
    changed |= join(init, demand, op);
  }
  return changed | visitBlock(*loop.getBody());
}

bool RowDemandAnalysis::visit(Operation *op) {
  if (isa<scf::IfOp>(op))
    return visitBranches(op);
  if (isa<scf::ForOp>(op))
    return visitLoop(op);
  // An extent is known without an element.
  if (auto dim = dyn_cast<tensor::DimOp>(op))
    return !dimOf(dim) &&
           join(dim.getSource(),
                all(op, "queries the extent of an unknown dimension"), op);
  if (isa<scf::YieldOp>(op) && isa<scf::IfOp, scf::ForOp>(op->getParentOp()))
    return false;
  if (op->hasTrait<OpTrait::ReturnLike>() && op->getParentOp() == function)
    return visitReturn(op);

  RowDemand demand = resultDemand(op);
  if (demand.kind == RowDemand::Kind::None) {
    // Demand is that of tensors: a number, a cache or a batch is needed if it
    // is used at all.
    bool isUsed = llvm::any_of(op->getResults(), [](Value result) {
      return !isa<RankedTensorType>(result.getType()) && !result.use_empty();
    });
    if (!isUsed && wouldOpBeTriviallyDead(op))
      return false;
    demand =
        all(op, isUsed                     ? "needs it whole"
                : isa<CallOpInterface>(op) ? "is called with it"
                                           : "writes a value computed from it");
  }
  // By rows, by names, or whole.
  bool changed = false;
  llvm::SmallPtrSet<OpOperand *, 8> divided;
  auto divide = [&](OpOperand *use, int64_t axis, unsigned set) {
    divided.insert(use);
    changed |= join(use->get(), rows(axis, set), op);
  };
  if (demand.isRows()) {
    for (auto [use, axis] : axes[op].uses)
      divide(use, axis, demand.set);
    demand = all(op, "needs it whole");
  } else {
    for (const RowGather &gather : getRowGathers(op))
      divide(gather.source, gather.axis, numberOf(gather.rows));
  }
  op->walk([&](Operation *inner) {
    for (OpOperand &operand : inner->getOpOperands())
      if (!divided.contains(&operand) &&
          (inner == op ||
           !op->isAncestor(operand.get().getParentRegion()->getParentOp())))
        changed |= join(operand.get(), demand, op);
  });
  return changed;
}
