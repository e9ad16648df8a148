// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Transforms/Passes.h"

#include "kvcache/Analysis/Origins.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/TypeUtilities.h"

namespace kvcache {
#define GEN_PASS_DEF_KEEPARGUMENTS
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

/// The operation on scalars in a linalg.generic that writes tensors of its own.
static void writeToEmpty(Operation *op) {
  OpBuilder builder(op);
  Value like = *llvm::find_if(op->getOperands(), [](Value operand) {
    return isa<RankedTensorType>(operand.getType());
  });
  Location loc = op->getLoc();
  auto rank =
      static_cast<unsigned>(cast<RankedTensorType>(like.getType()).getRank());
  AffineMap each = builder.getMultiDimIdentityMap(rank);
  AffineMap same = AffineMap::get(rank, 0, {}, op->getContext());
  SmallVector<AffineMap> maps;
  for (Value operand : op->getOperands())
    maps.push_back(isa<RankedTensorType>(operand.getType()) ? each : same);
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(builder, loc, like);
  SmallVector<Value> outs;
  for (Type type : op->getResultTypes()) {
    auto tensor = cast<RankedTensorType>(type);
    Value empty = tensor::EmptyOp::create(
        builder, loc, sizes, tensor.getElementType(), tensor.getEncoding());
    // What is known of the extents of operands may differ.
    if (empty.getType() != type)
      empty = tensor::CastOp::create(builder, loc, type, empty);
    outs.push_back(empty);
    maps.push_back(each);
  }
  SmallVector<utils::IteratorType> loops(rank, utils::IteratorType::parallel);
  auto generic = linalg::GenericOp::create(
      builder, loc, op->getResultTypes(), op->getOperands(), outs, maps, loops,
      [&](OpBuilder &body, Location, ValueRange elements) {
        OperationState state(loc, op->getName());
        state.addOperands(elements.take_front(op->getNumOperands()));
        for (Type type : op->getResultTypes())
          state.addTypes(getElementTypeOrSelf(type));
        state.addAttributes(op->getAttrs());
        linalg::YieldOp::create(body, loc, body.create(state)->getResults());
      });
  op->replaceAllUsesWith(generic);
  op->erase();
}

namespace {
struct KeepArguments : kvcache::impl::KeepArgumentsBase<KeepArguments> {
  void runOnOperation() override {
    SmallVector<Operation *> found;
    TensorOrigins origins(getOperation(), /*arithmeticOverwrites=*/false);
    getOperation().walk([&](Operation *op) {
      if (!OpTrait::hasElementwiseMappableTraits(op) ||
          op->getNumRegions() != 0 ||
          !llvm::all_of(op->getResultTypes(), llvm::IsaPred<RankedTensorType>))
        return;
      // The first operand of the type of the result is what is overwritten.
      auto overwritten = llvm::find_if(op->getOperands(), [&](Value operand) {
        return llvm::is_contained(op->getResultTypes(), operand.getType());
      });
      if (overwritten != op->operand_end() &&
          !origins.argumentsOf(*overwritten).empty())
        found.push_back(op);
    });
    for (Operation *op : found)
      writeToEmpty(op);
  }
};
} // namespace
