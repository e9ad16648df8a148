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

using namespace mlir;
using namespace kvcache;

namespace {

/// The axes of an operation whose results and some of whose operands all have
/// rows as their first dimension.
FailureOr<RowAxes> leadingAxes(Operation *op, int64_t axis, std::string &why,
                               ArrayRef<MutableOperandRange> operands) {
  if (axis != 0) {
    why = "has its rows in the first dimension only";
    return failure();
  }
  RowAxes axes{{}, SmallVector<int64_t>(op->getNumResults(), 0)};
  for (const MutableOperandRange &range : operands)
    for (OpOperand &operand : MutableOperandRange(range))
      axes.uses.push_back({&operand, 0});
  return axes;
}

/// What a batch is made from; null if it is an argument.
MakeBatchOp originOf(Value batch) {
  Value origin = furthestSource(batch, [](Value value) -> Value {
    auto other = value.getDefiningOp<WithRowsOp>();
    return other ? other.getBatch() : Value();
  });
  return origin.getDefiningOp<MakeBatchOp>();
}

struct AttentionRows
    : RowDemandOpInterface::ExternalModel<AttentionRows, AttentionOp> {
  FailureOr<RowAxes> getRowAxes(Operation *op, unsigned, int64_t axis,
                                std::string &why) const {
    auto attention = cast<AttentionOp>(op);
    BatchType batch = attention.getBatch().getType();
    if (batch.getNumRequests() == kRunTime && !originOf(attention.getBatch())) {
      why = "has a batch of which it is not known how many requests it has";
      return failure();
    }
    return leadingAxes(op, axis, why,
                       {MutableOperandRange(attention.getQueryMutable()),
                        attention.getOutsMutable()});
  }
  SmallVector<Value> createForRows(Operation *op, OpBuilder &builder,
                                   const RowAxes &axes,
                                   RowSelection &selection) const {
    Value batch =
        selection.getDescription(builder, cast<AttentionOp>(op).getBatch());
    SmallVector<Value> results = cloneForRows(builder, op, axes, selection);
    auto copy = cast<AttentionOp>(results.front().getDefiningOp());
    copy.getBatchMutable().assign(batch);
    return results;
  }
};

struct MergeStatesRows
    : RowDemandOpInterface::ExternalModel<MergeStatesRows, MergeStatesOp> {
  FailureOr<RowAxes> getRowAxes(Operation *op, unsigned, int64_t axis,
                                std::string &why) const {
    return leadingAxes(op, axis, why,
                       {MutableOperandRange(op, 0, op->getNumOperands())});
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

} // namespace

void kvcache::registerKVCacheRowModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, KVCacheDialect *) {
    AttentionOp::attachInterface<AttentionRows>(*context);
    MergeStatesOp::attachInterface<MergeStatesRows>(*context);
    SelectRowsOp::attachInterface<SelectRowsRows>(*context);
  });
}
