// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows of operations of tensor, and of linalg operations that are not a
// LinalgOp.
//
//===----------------------------------------------------------------------===//

#include "Models.h"

#include "kvcache/Analysis/Extents.h"
#include "kvcache/Interfaces/RowDemand.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::rowdemand;

namespace {

/// The result and one operand have the same rows.
RowAxes alike(OpOperand &operand, int64_t from, int64_t axis) {
  return {{{&operand, from}}, {axis}};
}

struct EmptyRows
    : RowDemandOpInterface::ExternalModel<EmptyRows, tensor::EmptyOp> {
  FailureOr<RowAxes> getRowAxes(Operation *, unsigned, int64_t axis,
                                std::string &) const {
    return RowAxes{{}, {axis}};
  }
  SmallVector<Value> createForRows(Operation *op, OpBuilder &builder,
                                   const RowAxes &axes,
                                   RowSelection &selection) const {
    auto empty = cast<tensor::EmptyOp>(op);
    SmallVector<OpFoldResult> sizes = empty.getMixedSizes();
    sizes[axes.results[0]] = selection.getCount();
    return {tensor::EmptyOp::create(builder, op->getLoc(), sizes,
                                    empty.getType().getElementType(),
                                    empty.getType().getEncoding())};
  }
};

struct CastRows
    : RowDemandOpInterface::ExternalModel<CastRows, tensor::CastOp> {
  FailureOr<RowAxes> getRowAxes(Operation *op, unsigned, int64_t axis,
                                std::string &why) const {
    if (isa<RankedTensorType>(op->getOperand(0).getType()))
      return alike(op->getOpOperand(0), axis, axis);
    why = "casts a tensor of unknown rank";
    return failure();
  }
};

/// The numbers of the dimensions of a source that a slice keeps.
template <typename Slice> int64_t sourceDim(Slice slice, int64_t dim) {
  llvm::SmallBitVector dropped = slice.getDroppedDims();
  int64_t kept = -1;
  for (unsigned i = 0; i < dropped.size(); ++i)
    if (!dropped.test(i) && ++kept == dim)
      return i;
  llvm_unreachable("a dimension of a slice is one of its source");
}

/// Whether a slice has all rows, in their sequence.
template <typename Slice>
bool hasAllRows(Slice slice, Value whole, int64_t dim, std::string &why) {
  bool all = isConstantIntValue(slice.getMixedOffsets()[dim], 0) &&
             isConstantIntValue(slice.getMixedStrides()[dim], 1) &&
             extentOf(slice.getMixedSizes()[dim]) == extentOf(whole, dim);
  if (!all)
    why = "takes some of the rows, or is not known to take all";
  return all;
}

struct ExtractSliceRows
    : RowDemandOpInterface::ExternalModel<ExtractSliceRows,
                                          tensor::ExtractSliceOp> {
  FailureOr<RowAxes> getRowAxes(Operation *op, unsigned, int64_t axis,
                                std::string &why) const {
    auto slice = cast<tensor::ExtractSliceOp>(op);
    int64_t from = sourceDim(slice, axis);
    if (!hasAllRows(slice, slice.getSource(), from, why))
      return failure();
    return alike(slice.getSourceMutable(), from, axis);
  }
  SmallVector<Value> createForRows(Operation *op, OpBuilder &builder,
                                   const RowAxes &axes,
                                   RowSelection &selection) const {
    auto slice = cast<tensor::ExtractSliceOp>(op);
    auto [use, from] = axes.uses[0];
    SmallVector<OpFoldResult> sizes = slice.getMixedSizes();
    sizes[from] = selection.getCount();
    return {tensor::ExtractSliceOp::create(
        builder, op->getLoc(),
        typeForRows(slice.getType(), axes.results[0], selection.getCount()),
        selection.getRows(*use, from), slice.getMixedOffsets(), sizes,
        slice.getMixedStrides())};
  }
};

struct InsertSliceRows
    : RowDemandOpInterface::ExternalModel<InsertSliceRows,
                                          tensor::InsertSliceOp> {
  FailureOr<RowAxes> getRowAxes(Operation *op, unsigned, int64_t axis,
                                std::string &why) const {
    auto insert = cast<tensor::InsertSliceOp>(op);
    if (!hasAllRows(insert, insert.getDest(), axis, why))
      return failure();
    RowAxes axes = alike(insert.getDestMutable(), axis, axis);
    llvm::SmallBitVector dropped = insert.getDroppedDims();
    if (dropped.test(axis)) {
      why = "inserts a tensor that has no rows";
      return failure();
    }
    int64_t from = 0;
    for (int64_t i = 0; i < axis; ++i)
      from += !dropped.test(i);
    axes.uses.push_back({&insert.getSourceMutable(), from});
    return axes;
  }
  SmallVector<Value> createForRows(Operation *op, OpBuilder &builder,
                                   const RowAxes &axes,
                                   RowSelection &selection) const {
    auto insert = cast<tensor::InsertSliceOp>(op);
    SmallVector<OpFoldResult> sizes = insert.getMixedSizes();
    sizes[axes.results[0]] = selection.getCount();
    Value dest = selection.getRows(*axes.uses[0].first, axes.uses[0].second);
    Value source = selection.getRows(*axes.uses[1].first, axes.uses[1].second);
    return {tensor::InsertSliceOp::create(builder, op->getLoc(), source, dest,
                                          insert.getMixedOffsets(), sizes,
                                          insert.getMixedStrides())};
  }
};

struct ConcatRows
    : RowDemandOpInterface::ExternalModel<ConcatRows, tensor::ConcatOp> {
  FailureOr<RowAxes> getRowAxes(Operation *op, unsigned, int64_t axis,
                                std::string &why) const {
    if (int64_t(cast<tensor::ConcatOp>(op).getDim()) == axis) {
      why = "concatenates rows";
      return failure();
    }
    RowAxes axes{{}, {axis}};
    for (OpOperand &operand : op->getOpOperands())
      axes.uses.push_back({&operand, axis});
    return axes;
  }
};

struct PadRows : RowDemandOpInterface::ExternalModel<PadRows, tensor::PadOp> {
  FailureOr<RowAxes> getRowAxes(Operation *op, unsigned, int64_t axis,
                                std::string &why) const {
    auto pad = cast<tensor::PadOp>(op);
    if (!isConstantIntValue(pad.getMixedLowPad()[axis], 0) ||
        !isConstantIntValue(pad.getMixedHighPad()[axis], 0)) {
      why = "adds rows";
      return failure();
    }
    if (!pad.getConstantPaddingValue()) {
      why = "pads with a value that may depend on the row";
      return failure();
    }
    return alike(pad.getSourceMutable(), axis, axis);
  }
};

struct CollapseRows
    : RowDemandOpInterface::ExternalModel<CollapseRows,
                                          tensor::CollapseShapeOp> {
  FailureOr<RowAxes> getRowAxes(Operation *op, unsigned, int64_t axis,
                                std::string &why) const {
    auto collapse = cast<tensor::CollapseShapeOp>(op);
    std::optional<int64_t> from = dimBefore(collapse, axis);
    if (!from) {
      why = "merges the dimension of rows with others";
      return failure();
    }
    return alike(collapse.getSrcMutable(), *from, axis);
  }
};

struct ExpandRows
    : RowDemandOpInterface::ExternalModel<ExpandRows, tensor::ExpandShapeOp> {
  FailureOr<RowAxes> getRowAxes(Operation *op, unsigned, int64_t axis,
                                std::string &why) const {
    auto expand = cast<tensor::ExpandShapeOp>(op);
    if (std::optional<int64_t> from = dimBefore(expand, axis))
      return alike(expand.getSrcMutable(), *from, axis);
    why = "divides the dimension of rows";
    return failure();
  }
  SmallVector<Value> createForRows(Operation *op, OpBuilder &builder,
                                   const RowAxes &axes,
                                   RowSelection &selection) const {
    auto expand = cast<tensor::ExpandShapeOp>(op);
    SmallVector<OpFoldResult> shape =
        getMixedValues(expand.getStaticOutputShape(), expand.getOutputShape(),
                       builder.getContext());
    int64_t axis = axes.results[0];
    shape[axis] = selection.getCount();
    return {tensor::ExpandShapeOp::create(
        builder, op->getLoc(),
        typeForRows(expand.getType(), axis, selection.getCount()),
        selection.getRows(*axes.uses[0].first, axes.uses[0].second),
        expand.getReassociationIndices(), shape)};
  }
};

struct ReshapeRows
    : RowDemandOpInterface::ExternalModel<ReshapeRows, tensor::ReshapeOp> {
  FailureOr<RowAxes> getRowAxes(Operation *, unsigned, int64_t,
                                std::string &why) const {
    why = "is a reshape whose effect on rows is unknown";
    return failure();
  }
};

struct SoftmaxRows
    : RowDemandOpInterface::ExternalModel<SoftmaxRows, linalg::SoftmaxOp> {
  FailureOr<RowAxes> getRowAxes(Operation *op, unsigned, int64_t axis,
                                std::string &why) const {
    if (int64_t(cast<linalg::SoftmaxOp>(op).getDimension()) == axis) {
      why = "combines rows";
      return failure();
    }
    RowAxes axes{{}, {axis}};
    for (OpOperand &operand : op->getOpOperands())
      axes.uses.push_back({&operand, axis});
    return axes;
  }
};

} // namespace

SmallVector<PartialRead> rowdemand::getTensorPartialReads(Operation *op) {
  constexpr StringLiteral kPart =
      "reads some of the rows: expected a gather of rows named by a list";
  SmallVector<PartialRead> reads;
  if (auto slice = dyn_cast<tensor::ExtractSliceOp>(op)) {
    std::string why;
    for (int64_t dim = 0; dim < slice.getSourceType().getRank(); ++dim)
      if (!hasAllRows(slice, slice.getSource(), dim, why))
        reads.push_back({&slice.getSourceMutable(), dim, kPart});
  } else if (auto extract = dyn_cast<tensor::ExtractOp>(op)) {
    for (int64_t dim = 0; dim < extract.getTensor().getType().getRank(); ++dim)
      reads.push_back({&extract.getTensorMutable(), dim, kPart});
  } else if (auto gather = dyn_cast<tensor::GatherOp>(op)) {
    for (int64_t dim : gather.getGatherDims())
      reads.push_back({&gather->getOpOperand(0), dim, kPart});
  }
  return reads;
}

void rowdemand::registerTensorRowModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, tensor::TensorDialect *) {
    tensor::CastOp::attachInterface<CastRows>(*context);
    tensor::CollapseShapeOp::attachInterface<CollapseRows>(*context);
    tensor::ConcatOp::attachInterface<ConcatRows>(*context);
    tensor::EmptyOp::attachInterface<EmptyRows>(*context);
    tensor::ExpandShapeOp::attachInterface<ExpandRows>(*context);
    tensor::ExtractSliceOp::attachInterface<ExtractSliceRows>(*context);
    tensor::InsertSliceOp::attachInterface<InsertSliceRows>(*context);
    tensor::PadOp::attachInterface<PadRows>(*context);
    tensor::ReshapeOp::attachInterface<ReshapeRows>(*context);
  });
  registry.addExtension(+[](MLIRContext *context, linalg::LinalgDialect *) {
    linalg::SoftmaxOp::attachInterface<SoftmaxRows>(*context);
  });
}
