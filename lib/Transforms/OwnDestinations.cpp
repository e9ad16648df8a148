// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// CSE merges equal tensors, including those that operations write into. Two
// operations then share one buffer if the first result is dead before the
// second is computed, which is desirable. But to find out which of a thousand
// operations can do so, bufferization compares each with all others; and a
// tensor that is filled once for a thousand operations is copied for all but
// one.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Transforms/Passes.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/MapVector.h"

namespace kvcache {
#define GEN_PASS_DEF_OWNDESTINATIONS
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;

namespace {

bool isDestination(OpOperand &use) {
  auto into = dyn_cast<DestinationStyleOpInterface>(use.getOwner());
  return into && into.isDpsInit(&use);
}

/// The operations that write into a tensor, by block, in their sequence.
llvm::MapVector<Block *, SmallVector<OpOperand *>>
destinationsOf(Value tensor) {
  llvm::MapVector<Block *, SmallVector<OpOperand *>> byBlock;
  for (OpOperand &use : tensor.getUses())
    if (isDestination(use))
      byBlock[use.getOwner()->getBlock()].push_back(&use);
  for (auto &[block, uses] : byBlock)
    llvm::sort(uses, [](OpOperand *a, OpOperand *b) {
      if (a->getOwner() == b->getOwner())
        return a->getOperandNumber() < b->getOperandNumber();
      return a->getOwner()->isBeforeInBlock(b->getOwner());
    });
  return byBlock;
}

struct OwnDestinations : kvcache::impl::OwnDestinationsBase<OwnDestinations> {
  using OwnDestinationsBase::OwnDestinationsBase;

  void runOnOperation() override {
    if (share < 1) {
      emitError(UnknownLoc::get(&getContext()))
          << "'share' is expected to be 1 or more, got " << Twine(share);
      return signalPassFailure();
    }
    SmallVector<linalg::FillOp> fills;
    SmallVector<tensor::EmptyOp> empties;
    getOperation().walk([&](Operation *op) {
      auto fill = dyn_cast<linalg::FillOp>(op);
      if (fill && fill.hasPureTensorSemantics() &&
          fill.getDpsInits()[0].getDefiningOp<tensor::EmptyOp>())
        fills.push_back(fill);
      if (auto empty = dyn_cast<tensor::EmptyOp>(op))
        empties.push_back(empty);
    });
    for (linalg::FillOp fill : fills)
      fillAgain(fill);
    for (tensor::EmptyOp empty : empties)
      shareAmongFew(empty);
  }

private:
  /// Before each operation: filling again costs less than a copy.
  static void fillAgain(linalg::FillOp fill) {
    Value filled = fill->getResult(0);
    if (filled.hasOneUse())
      return;
    for (auto &[block, uses] : destinationsOf(filled))
      for (OpOperand *use : uses) {
        OpBuilder builder(use->getOwner());
        use->set(builder.clone(*fill)->getResult(0));
      }
    if (filled.use_empty())
      fill.erase();
  }

  /// Beside the tensor, and not in a loop, where it would be a buffer for each
  /// iteration.
  void shareAmongFew(tensor::EmptyOp empty) {
    OpBuilder builder(empty);
    unsigned number = 0;
    Value shared = empty;
    for (auto &[block, uses] : destinationsOf(empty))
      for (OpOperand *use : uses) {
        if (number && number % share == 0)
          shared = builder.clone(*empty)->getResult(0);
        ++number;
        use->set(shared);
      }
  }
};

} // namespace
