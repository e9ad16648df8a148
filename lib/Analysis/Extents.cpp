// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Analysis/Extents.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvcache;

/// Where code is not reachable, values may be made of themselves.
static constexpr unsigned kMostSteps = 10000;

std::optional<int64_t> kvcache::dimBefore(ArrayRef<ReassociationIndices> groups,
                                          ArrayRef<int64_t> grouped,
                                          int64_t dim, bool fromGroup) {
  // Groups are counted, since the verifier of the tensor dialect compares the
  // numbers in them in 32 bits only.
  int64_t first = 0, end = 0;
  for (auto [number, group] : llvm::enumerate(groups)) {
    first = end;
    end += group.size();
    if (fromGroup ? int64_t(number) != dim : dim < first || dim >= end)
      continue;
    std::optional<int64_t> wide;
    for (int64_t member = first; member < end; ++member)
      if (grouped[member] != 1 || group.size() == 1) {
        if (wide)
          return std::nullopt;
        wide = member;
      }
    if (fromGroup)
      return wide;
    return wide == dim ? std::optional<int64_t>(number) : std::nullopt;
  }
  return std::nullopt;
}

/// The tensor and dimension that an extent was taken over from.
static std::pair<Value, int64_t> before(OpResult result, int64_t dim) {
  using Place = std::pair<Value, int64_t>;
  auto reshaped = [](Value source, std::optional<int64_t> from) {
    return from ? Place(source, *from) : Place();
  };
  Operation *op = result.getOwner();
  if (auto dst = dyn_cast<DestinationStyleOpInterface>(op)) {
    OpOperand *init = dst.getTiedOpOperand(result);
    return init ? Place(init->get(), dim) : Place();
  }
  if (op->hasTrait<OpTrait::Elementwise>()) {
    for (Value operand : op->getOperands())
      if (isa<RankedTensorType>(operand.getType()))
        return {operand, dim};
    return {};
  }
  return llvm::TypeSwitch<Operation *, Place>(op)
      .Case([&](tensor::CastOp cast) {
        return isa<RankedTensorType>(cast.getSource().getType())
                   ? Place(cast.getSource(), dim)
                   : Place();
      })
      .Case([&](tensor::InsertSliceOp insert) {
        return Place(insert.getDest(), dim);
      })
      .Case([&](tensor::CollapseShapeOp collapse) {
        return reshaped(collapse.getSrc(), dimBefore(collapse, dim));
      })
      .Case([&](tensor::ExpandShapeOp expand) {
        return reshaped(expand.getSrc(), dimBefore(expand, dim));
      })
      .Default([](Operation *) { return Place(); });
}

std::optional<int64_t> kvcache::dimOf(tensor::DimOp op) {
  auto type = dyn_cast<RankedTensorType>(op.getSource().getType());
  std::optional<int64_t> dim = op.getConstantIndex();
  bool isThere = type && dim && *dim >= 0 && *dim < type.getRank();
  return isThere ? dim : std::nullopt;
}

static Extent follow(OpFoldResult size, unsigned &steps);

static Extent follow(Value tensor, int64_t dim, unsigned &steps) {
  for (; steps > 0; --steps) {
    auto type = cast<RankedTensorType>(tensor.getType());
    if (!type.isDynamicDim(dim))
      return {Value(), type.getDimSize(dim)};
    auto result = dyn_cast<OpResult>(tensor);
    if (!result)
      return {tensor, dim};
    if (auto empty = dyn_cast<tensor::EmptyOp>(result.getOwner()))
      return follow(OpFoldResult(empty.getDynamicSize(dim)), --steps);
    if (auto slice = dyn_cast<tensor::ExtractSliceOp>(result.getOwner())) {
      llvm::SmallBitVector dropped = slice.getDroppedDims();
      int64_t kept = -1;
      for (auto [i, size] : llvm::enumerate(slice.getMixedSizes()))
        if (!dropped.test(i) && ++kept == dim)
          return follow(size, --steps);
      return {tensor, dim};
    }
    auto [source, from] = before(result, dim);
    if (!source)
      return {tensor, dim};
    tensor = source;
    dim = from;
  }
  return {tensor, dim};
}

static Extent follow(OpFoldResult size, unsigned &steps) {
  if (std::optional<int64_t> constant = getConstantIntValue(size))
    return {Value(), *constant};
  Value value = cast<Value>(size);
  auto of = value.getDefiningOp<tensor::DimOp>();
  std::optional<int64_t> dim = of ? dimOf(of) : std::nullopt;
  if (!dim)
    return {value, -1};
  return follow(of.getSource(), *dim, steps);
}

Extent kvcache::extentOf(Value tensor, int64_t dim) {
  unsigned steps = kMostSteps;
  return follow(tensor, dim, steps);
}

Extent kvcache::extentOf(OpFoldResult size) {
  unsigned steps = kMostSteps;
  return follow(size, steps);
}

OpFoldResult kvcache::materializeExtent(OpBuilder &builder, Location loc,
                                        const Extent &extent) {
  if (!extent.origin)
    return builder.getIndexAttr(extent.number);
  if (extent.number < 0)
    return extent.origin;
  return tensor::DimOp::create(builder, loc, extent.origin, extent.number)
      .getResult();
}
