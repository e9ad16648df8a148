// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "PeelLayers.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::rowdemand;

/// Whether the last iteration of a loop could do with fewer rows than those
/// before it.
static bool isWorthPeeling(scf::ForOp loop, const RowDemandAnalysis &analysis) {
  if (loop.getUnsignedCmp())
    return false;
  for (auto [result, argument, yielded] :
       llvm::zip_equal(loop.getResults(), loop.getRegionIterArgs(),
                       loop.getYieldedValues())) {
    const RowDemand &demand = analysis.getDemand(result);
    auto made = dyn_cast<OpResult>(yielded);
    if (!demand.isRows() || !analysis.getDemand(argument).isAll() || !made ||
        !loop->isProperAncestor(made.getOwner()))
      continue;
    std::string why;
    if (isa<scf::ForOp, scf::IfOp>(made.getOwner()) ||
        succeeded(getRowAxes(made.getOwner(), made.getResultNumber(),
                             demand.axis, why)))
      return true;
  }
  return false;
}

/// The body of a loop once more, for one iteration.
static SmallVector<Value> cloneBody(OpBuilder &builder, scf::ForOp loop,
                                    Value iteration, ValueRange carried) {
  IRMapping mapping;
  mapping.map(loop.getInductionVar(), iteration);
  mapping.map(loop.getRegionIterArgs(), carried);
  for (Operation &op : loop.getBody()->without_terminator())
    builder.clone(op, mapping);
  SmallVector<Value> results;
  for (Value value : loop.getYieldedValues())
    results.push_back(mapping.lookupOrDefault(value));
  return results;
}

static scf::ForOp peelLast(RewriterBase &rewriter, scf::ForOp loop) {
  OpBuilder::InsertionGuard guard(rewriter);
  Location loc = loop.getLoc();
  rewriter.setInsertionPoint(loop);
  Value lower = loop.getLowerBound(), upper = loop.getUpperBound();
  Value step = loop.getStep();
  // The last iteration is at lower + (upper - 1 - lower) / step * step.
  auto one = arith::ConstantOp::create(
      rewriter, loc, rewriter.getIntegerAttr(lower.getType(), 1));
  Value span = rewriter.createOrFold<arith::SubIOp>(
      loc, rewriter.createOrFold<arith::SubIOp>(loc, upper, one), lower);
  Value steps = rewriter.createOrFold<arith::DivSIOp>(loc, span, step);
  Value last = rewriter.createOrFold<arith::AddIOp>(
      loc, lower, rewriter.createOrFold<arith::MulIOp>(loc, steps, step));
  Value isAny = rewriter.createOrFold<arith::CmpIOp>(
      loc, arith::CmpIPredicate::slt, lower, upper);

  // Without an iteration, the loop up to the last one has none either.
  IRMapping none;
  auto before = cast<scf::ForOp>(rewriter.clone(*loop, none));
  rewriter.modifyOpInPlace(before,
                           [&] { before.getUpperBoundMutable().assign(last); });
  SmallVector<Value> results;
  if (matchPattern(isAny, m_One())) {
    results = cloneBody(rewriter, loop, last, before.getResults());
  } else {
    auto branch = scf::IfOp::create(
        rewriter, loc, isAny,
        [&](OpBuilder &b, Location loc) {
          scf::YieldOp::create(b, loc,
                               cloneBody(b, loop, last, before.getResults()));
        },
        [&](OpBuilder &b, Location loc) {
          scf::YieldOp::create(b, loc, before.getResults());
        });
    results = branch.getResults();
  }
  rewriter.replaceOp(loop, results);
  return before;
}

bool rowdemand::peelLayers(RewriterBase &rewriter, FunctionOpInterface function,
                           const RowDemandAnalysis &analysis,
                           llvm::DenseSet<Operation *> &peeled) {
  SmallVector<scf::ForOp> loops;
  // A loop around another one is looked at first; the inner one may be found in
  // the iteration that is peeled.
  function->walk<WalkOrder::PreOrder>([&](scf::ForOp loop) {
    // Once: rows that change their dimension in each iteration would ask for
    // the next one for ever.
    if (peeled.contains(loop) || !isWorthPeeling(loop, analysis))
      return WalkResult::advance();
    loops.push_back(loop);
    return WalkResult::skip();
  });
  for (scf::ForOp loop : loops)
    peeled.insert(peelLast(rewriter, loop));
  return !loops.empty();
}
