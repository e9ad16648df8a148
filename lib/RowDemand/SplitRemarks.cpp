// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "SplitRemarks.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Remarks.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::rowdemand;

static remark::RemarkOpts named(StringRef name) {
  return remark::RemarkOpts::name(name).category("kvcache");
}

/// The operation that needs all rows of a value, and why; null for a value that
/// nothing could be done about, such as an argument.
static std::pair<Operation *, std::string>
reason(Value value, const RowDemandAnalysis &analysis) {
  const RowDemand &demand = analysis.getDemand(value);
  if (demand.isAll())
    return {demand.by, demand.why};
  Operation *op = value.getDefiningOp();
  StringRef why = op ? analysis.whyNot(op) : StringRef();
  return {why.empty() ? nullptr : op, why.str()};
}

namespace {
/// Operations and what is said about them, once each.
using Reasons = llvm::MapVector<Operation *, std::string>;
} // namespace

/// In the sequence of the IR.
template <typename Emit> static void emitInOrder(Reasons &reasons, Emit emit) {
  if (reasons.empty())
    return;
  Operation *function = reasons.begin()->first;
  while (!isa<FunctionOpInterface>(function))
    function = function->getParentOp();
  function->walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (auto found = reasons.find(op); found != reasons.end())
      emit(op, found->second);
  });
}

void SplitRemarks::split(const SplitPlan &plan,
                         const RowDemandAnalysis &analysis) {
  Reasons reasons;
  for (auto [value, axis] : plan.frontier)
    if (auto [op, why] = reason(value, analysis); op)
      reasons.insert({op, why});
  emitInOrder(reasons, [](Operation *op, StringRef why) {
    remark::analysis(op->getLoc(), named("row-demand"))
        << llvm::formatv("all rows are needed up to here: '{0}' {1}",
                         op->getName(), why)
               .str();
  });
  std::string text =
      llvm::formatv("{0} operations run on selected rows only, {1} of them "
                    "attention",
                    plan.operations.size(), plan.attentions);
  if (plan.flops)
    text +=
        llvm::formatv(", {0} FLOPs of contractions for each row", plan.flops);
  remark::passed(plan.operations.front()->getLoc(), named("split-layer-groups"))
      << text;
}

void SplitRemarks::noSplit(const RowDemandAnalysis &analysis, unsigned set,
                           StringRef why) {
  Reasons reasons;
  function->walk([&](Operation *op) {
    for (const RowGather &gather : getRowGathers(op)) {
      if (!(gather.rows == analysis.getSets()[set]))
        continue;
      Value source = gather.source->get();
      // Nobody expects less of what the function is given.
      if (isa<BlockArgument>(source))
        continue;
      if (!why.empty()) {
        reasons.insert({op, why.str()});
        continue;
      }
      if (auto [by, reasonOf] = reason(source, analysis); by)
        reasons.insert({by, reasonOf});
      else
        reasons.insert(
            {op, "reads rows that no contraction or attention produces"});
    }
  });
  emitInOrder(reasons, [&](Operation *op, StringRef why) { missed(op, why); });
}

/// Whether rows of a value are made apart from each other, and a contraction or
/// an attention is among what makes them.
static bool isWorth(Value value, int64_t axis,
                    llvm::DenseSet<std::pair<Value, int64_t>> &seen) {
  auto result = dyn_cast<OpResult>(value);
  if (!result || !seen.insert({value, axis}).second)
    return false;
  Operation *op = result.getOwner();
  std::string why;
  FailureOr<RowAxes> axes = getRowAxes(op, result.getResultNumber(), axis, why);
  if (failed(axes))
    return false;
  return isCompute(op) || llvm::any_of(axes->uses, [&](auto use) {
           return isWorth(use.first->get(), use.second, seen);
         });
}

void SplitRemarks::partialReads(const RowDemandAnalysis &analysis) {
  function->walk([&](Operation *op) {
    // The body of an operation belongs to it.
    if (isa<linalg::LinalgOp>(op->getParentOp()))
      return;
    for (const PartialRead &read : getPartialReads(op)) {
      Value source = read.source->get();
      auto isRead = [&](Operation *user) {
        return op->isAncestor(user) || isa<tensor::DimOp>(user);
      };
      llvm::DenseSet<std::pair<Value, int64_t>> seen;
      if (analysis.getDemand(source).isAll() &&
          llvm::all_of(source.getUsers(), isRead) &&
          isWorth(source, read.axis, seen))
        return missed(op, read.why);
    }
  });
}

void SplitRemarks::missed(Operation *op, StringRef why) {
  std::string text = llvm::formatv(
      "nothing runs on selected rows only: '{0}' {1}", op->getName(), why);
  auto key = StringAttr::get(op->getContext(), text);
  if (said.insert({op->getLoc(), key}).second)
    remark::missed(op->getLoc(), named("split-layer-groups")) << text;
}

void SplitRemarks::noOutline(StringRef why) {
  remark::missed(function.getLoc(), named("outline-layer-groups"))
      << llvm::formatv("the groups stay in one function: {0}", why).str();
}
