// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Transforms/Passes.h"

#include "kvcache/Analysis/Extents.h"

#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotAnalysis.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotModuleBufferize.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

namespace kvcache {
#define GEN_PASS_DEF_COPYCARRIEDTENSORS
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;
using bufferization::OneShotAnalysisState;

namespace {

struct CopyCarriedTensors
    : kvcache::impl::CopyCarriedTensorsBase<CopyCarriedTensors> {
  void runOnOperation() override {
    // What a loop gives lies in the buffer that it began with only after its
    // own copies are made, so inner loops come first.
    llvm::SmallPtrSet<Operation *, 8> done;
    while (hasOther(done)) {
      bufferization::OneShotBufferizationOptions options;
      options.bufferizeFunctionBoundaries = true;
      options.allowReturnAllocsFromLoops = true;
      OneShotAnalysisState state(getOperation(), options);
      if (failed(bufferization::analyzeModuleOp(getOperation(), state)))
        return signalPassFailure();
      SmallVector<scf::ForOp> loops;
      getOperation().walk([&](scf::ForOp loop) {
        bool waits = llvm::any_of(loops, [&](scf::ForOp inner) {
          return loop->isProperAncestor(inner);
        });
        if (waits || !done.insert(loop).second)
          return;
        if (llvm::any_of(
                llvm::seq(loop.getNumRegionIterArgs()),
                [&](unsigned i) { return isElsewhere(loop, i, state); }))
          loops.push_back(loop);
      });
      for (scf::ForOp loop : loops)
        if (failed(copy(loop, state)))
          return signalPassFailure();
    }
  }

private:
  static bool carriesTensors(scf::ForOp loop) {
    return llvm::any_of(loop.getRegionIterArgs(), [](Value carried) {
      return isa<TensorType>(carried.getType());
    });
  }

  bool hasOther(const llvm::SmallPtrSetImpl<Operation *> &done) {
    WalkResult walk = getOperation().walk([&](scf::ForOp loop) {
      return carriesTensors(loop) && !done.contains(loop)
                 ? WalkResult::interrupt()
                 : WalkResult::advance();
    });
    return walk.wasInterrupted();
  }

  /// Whether the next value of what is carried has another buffer.
  static bool isElsewhere(scf::ForOp loop, unsigned number,
                          const OneShotAnalysisState &state) {
    Value carried = loop.getRegionIterArg(number);
    return isa<TensorType>(carried.getType()) &&
           !state.areEquivalentBufferizedValues(
               carried, loop.getYieldedValues()[number]);
  }

  static LogicalResult copy(scf::ForOp loop,
                            const OneShotAnalysisState &state) {
    auto yield = cast<scf::YieldOp>(loop.getBody()->getTerminator());
    OpBuilder builder(yield);
    SmallVector<unsigned> copied;
    for (unsigned i = 0; i < loop.getNumRegionIterArgs(); ++i) {
      if (!isElsewhere(loop, i, state))
        continue;
      if (failed(checkExtents(loop, yield, i)))
        return failure();
      copied.push_back(i);
    }
    // One that is carried already may be overwritten by the copy of another
    // one.
    for (unsigned i : copied) {
      Value next = yield.getOperand(i);
      if (llvm::any_of(loop.getRegionIterArgs(), [&](Value carried) {
            return isa<TensorType>(carried.getType()) &&
                   state.areAliasingBufferizedValues(next, carried);
          }))
        yield.setOperand(i, bufferization::AllocTensorOp::create(
                                builder, yield.getLoc(),
                                cast<RankedTensorType>(next.getType()),
                                ValueRange(), next));
    }
    for (unsigned i : copied)
      yield.setOperand(i, bufferization::MaterializeInDestinationOp::create(
                              builder, yield.getLoc(), yield.getOperand(i),
                              loop.getRegionIterArg(i))
                              .getResult());
    return success();
  }

  /// A buffer holds tensors of its own extents only.
  static LogicalResult checkExtents(scf::ForOp loop, scf::YieldOp yield,
                                    unsigned number) {
    Value carried = loop.getRegionIterArg(number);
    Value next = yield.getOperand(number), init = loop.getInitArgs()[number];
    auto type = dyn_cast<RankedTensorType>(carried.getType());
    if (!type)
      return yield.emitOpError()
             << "operand #" << number << " is expected to be ranked, got "
             << carried.getType();
    for (int64_t dim = 0; dim < type.getRank(); ++dim) {
      Extent extent = extentOf(next, dim);
      if (extent == Extent{carried, dim} || extent == extentOf(init, dim))
        continue;
      return yield.emitOpError()
             << "operand #" << number
             << " is made in a buffer of its own: expected dimension " << dim
             << " to have its extent from before the loop, so that it "
                "can be copied, got one that is not known to be the same; use "
                "it as 'outs' of the operation that makes it";
    }
    return success();
  }
};

} // namespace
