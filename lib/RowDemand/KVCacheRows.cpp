// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows of the operations of this dialect. Operations that are not here need all
// rows of what they read; those that write a cache do so because the cache is
// read by rows that come later.
//
//===----------------------------------------------------------------------===//

#include "Models.h"

#include "kvcache/IR/KVCache.h"
#include "kvcache/IR/Sources.h"
#include "kvcache/Interfaces/RowDemand.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::rowdemand;

namespace {

/// Operations whose rows are made apart from each other, in the dimensions that
/// they tie.
template <typename Op>
struct RowsApart : RowDemandOpInterface::ExternalModel<RowsApart<Op>, Op> {
  FailureOr<RowAxes> getRowAxes(Operation *op, unsigned result, int64_t axis,
                                std::string &why) const {
    for (const BatchUse &use :
         cast<CacheAccessOpInterface>(op).getIndexUses().batches)
      if (use.isMasked) {
        why = "has a mask, whose bits number all rows of a request";
        return failure();
      }
    for (Value operand : op->getOperands())
      if (auto batch = dyn_cast<TypedValue<BatchType>>(operand))
        if (batch.getType().getNumRequests() == kRunTime &&
            listsOf(batch).rest) {
          why = "has a batch whose number of requests is unknown";
          return failure();
        }
    RowAxes axes{{}, SmallVector<int64_t>(op->getNumResults(), 0)};
    TiedExtents rows = cast<CacheAccessOpInterface>(op).getTiedExtents()[0];
    auto into = cast<DestinationStyleOpInterface>(op);
    for (OpOperand &operand : op->getOpOperands()) {
      auto row = llvm::find_if(rows, [&](const OperandExtent &extent) {
        return !extent.member && extent.value == operand.get();
      });
      if (row == rows.end() || cacheUseOf(operand))
        continue;
      axes.uses.push_back({&operand, row->dim});
      if (into.isDpsInit(&operand) &&
          isa<RankedTensorType>(operand.get().getType()))
        axes.results[into.getTiedOpResult(&operand).getResultNumber()] =
            row->dim;
    }
    if (axes.results[result] != axis) {
      why =
          "has rows only in dimension " + std::to_string(axes.results[result]);
      return failure();
    }
    return axes;
  }

  SmallVector<Value> createForRows(Operation *op, OpBuilder &builder,
                                   const RowAxes &axes,
                                   RowSelection &selection) const {
    SmallVector<std::pair<unsigned, Value>> batches;
    for (OpOperand &operand : op->getOpOperands())
      if (isa<BatchType>(operand.get().getType()))
        batches.push_back({operand.getOperandNumber(),
                           selection.getDescription(builder, operand.get())});
    SmallVector<Value> results = cloneForRows(builder, op, axes, selection);
    for (auto [number, batch] : batches)
      results.front().getDefiningOp()->setOperand(number, batch);
    return results;
  }
};

struct SelectRowsRows
    : RowDemandOpInterface::ExternalModel<SelectRowsRows, SelectRowsOp> {
  SmallVector<RowGather> getRowGathers(Operation *op) const {
    auto select = cast<SelectRowsOp>(op);
    SmallVector<RowGather> gathers;
    for (OpOperand &rows : select.getRowsMutable())
      gathers.push_back(
          {&rows, 0, RowSet{select.getIndices(), select.getValid()}});
    return gathers;
  }

  /// Rows behind the valid ones are 0, whatever was computed from them.
  void replaceRowGather(Operation *op, RewriterBase &rewriter,
                        const RowGather &gather, Value rows,
                        RowSelection &selection) const {
    auto select = cast<SelectRowsOp>(op);
    Location loc = op->getLoc();
    rewriter.setInsertionPoint(op);
    unsigned number = gather.source->getOperandNumber() -
                      select.getRows().getBeginOperandIndex();
    Value valid = validCount(rewriter, loc, select);
    Value init = select.getRowOuts()[number];
    auto type = cast<RankedTensorType>(init.getType());
    if (rows.getType() != type)
      rows = tensor::CastOp::create(rewriter, loc, type, rows);
    AffineMap map = rewriter.getMultiDimIdentityMap(type.getRank());
    SmallVector<utils::IteratorType> loops(type.getRank(),
                                           utils::IteratorType::parallel);
    auto masked = linalg::GenericOp::create(
        rewriter, loc, type, rows, init, ArrayRef<AffineMap>{map, map}, loops,
        [&](OpBuilder &b, Location loc, ValueRange values) {
          Value row = linalg::IndexOp::create(b, loc, 0);
          Value counts = arith::CmpIOp::create(
              b, loc, arith::CmpIPredicate::slt, row, valid);
          Value zero = arith::ConstantOp::create(
              b, loc, b.getZeroAttr(type.getElementType()));
          Value kept = arith::SelectOp::create(b, loc, counts, values[0], zero);
          linalg::YieldOp::create(b, loc, kept);
        });
    rewriter.replaceAllUsesWith(op->getResult(number), masked.getResult(0));
    if (op->use_empty())
      return;
    // Who still wants starts, positions or other rows does not want these, and
    // must not write them to a destination that is the caller's.
    rewriter.setInsertionPoint(op);
    auto source = cast<RankedTensorType>(gather.source->get().getType());
    SmallVector<OpFoldResult> sizes =
        tensor::getMixedSizes(rewriter, loc, init);
    sizes[0] = selection.getWholeCount(rewriter);
    Value none =
        tensor::EmptyOp::create(rewriter, loc, sizes, source.getElementType());
    if (none.getType() != source)
      none = tensor::CastOp::create(rewriter, loc, source, none);
    Value nowhere = tensor::EmptyOp::create(
        rewriter, loc, tensor::getMixedSizes(rewriter, loc, init),
        source.getElementType());
    if (nowhere.getType() != type)
      nowhere = tensor::CastOp::create(rewriter, loc, type, nowhere);
    rewriter.modifyOpInPlace(op, [&] {
      gather.source->set(none);
      select.getOutsMutable()[number].set(nowhere);
    });
  }

private:
  static Value validCount(OpBuilder &b, Location loc, SelectRowsOp select) {
    Value zero = arith::ConstantIndexOp::create(b, loc, 0);
    Value count = tensor::ExtractOp::create(b, loc, select.getValid(), zero);
    return arith::IndexCastOp::create(b, loc, b.getIndexType(), count);
  }
};

template <typename... Ops> void attachRowsApart(MLIRContext *context) {
  auto attach = [&](auto op) {
    using Op = typename decltype(op)::type;
    if constexpr (Op::template hasTrait<HasRowsApart>())
      Op::template attachInterface<RowsApart<Op>>(*context);
  };
  (attach(llvm::type_identity<Ops>()), ...);
}

} // namespace

void rowdemand::registerKVCacheRowModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, KVCacheDialect *) {
    attachRowsApart<
#define GET_OP_LIST
#include "kvcache/IR/KVCacheOps.cpp.inc"
        >(context);
    SelectRowsOp::attachInterface<SelectRowsRows>(*context);
  });
}
