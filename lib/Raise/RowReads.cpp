// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "RowRaiser.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/Sequence.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

/// A tensor with other extents in the same row-major sequence.
static Value reshapeTo(OpBuilder &builder, Location loc, Value value,
                       RankedTensorType to) {
  auto from = cast<RankedTensorType>(value.getType());
  if (from == to)
    return value;
  if (auto groups = getReassociationIndicesForReshape(from, to)) {
    if (from.getRank() > to.getRank())
      return tensor::CollapseShapeOp::create(builder, loc, to, value, *groups);
    if (from.getRank() < to.getRank())
      return tensor::ExpandShapeOp::create(builder, loc, to, value, *groups);
  }
  auto all = [](int64_t rank) {
    return SmallVector<ReassociationIndices>{
        llvm::to_vector<2>(llvm::seq<int64_t>(rank))};
  };
  auto flat =
      RankedTensorType::get({from.getNumElements()}, from.getElementType());
  if (from.getRank() > 1)
    value = tensor::CollapseShapeOp::create(builder, loc, flat, value,
                                            all(from.getRank()));
  return tensor::ExpandShapeOp::create(builder, loc, to, value,
                                       all(to.getRank()));
}

/// Replaces what is read. Reshapes of another dialect become reshapes of
/// `flat`, which is what the rows are made of.
void RowRaiser::replaceReshapes(Value result, Value flat) {
  for (Operation *user : llvm::to_vector(result.getUsers())) {
    if (user->getName().getStringRef() != "stablehlo.reshape")
      continue;
    auto to = cast<RankedTensorType>(user->getResult(0).getType());
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPoint(user);
    user->getResult(0).replaceAllUsesWith(reshapeTo(builder, loc, flat, to));
    raised.erased.push_back(user);
  }
  bool isUsed = llvm::any_of(result.getUsers(), [&](Operation *user) {
    return !llvm::is_contained(raised.erased, user);
  });
  if (isUsed)
    result.replaceUsesWithIf(
        reshapeTo(builder, loc, flat, cast<RankedTensorType>(result.getType())),
        [&](OpOperand &use) {
          return !llvm::is_contained(raised.erased, use.getOwner());
        });
}

Raised RowRaiser::read() {
  if (failed(check()))
    return raised;
  auto result = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  if (!result || !result.hasStaticShape() || !listType.hasStaticShape()) {
    (void)refuse("the result is expected to have constant extents");
    return raised;
  }
  // Whole blocks, or rows.
  SmallVector<int64_t> windows = windowDims();
  bool isPair = access.poolDims.size() == 2;
  bool isBlocks = !isPair && windows.size() == 3;
  if (windows.empty() || (windows.size() > 2 && !isBlocks)) {
    (void)refuse("expected blocks, or rows of heads and channels, got " +
                 Twine(windows.size()) + " dimensions for each index");
    return raised;
  }
  SmallVector<char> axes(poolType.getRank());
  axes[access.poolDims[0]] = isPair || isBlocks ? 'B' : kRows;
  if (isPair)
    axes[access.poolDims[1]] = 'N';
  StringRef names = isBlocks ? "NHD" : windows.size() == 2 ? "HD" : "D";
  for (auto [dim, name] : llvm::zip_equal(windows, names))
    axes[dim] = name;
  if (failed(namePool(axes)))
    return raised;

  SmallVector<int64_t> shape;
  for (int64_t dim = 0; dim < listType.getRank(); ++dim)
    if (!access.columnDim || dim != *access.columnDim)
      shape.push_back(listType.getDimSize(dim));
  ElementTracer tracer(loc, shape, access.indices);
  SmallVector<Value> numbers;
  if (failed(traceColumns(tracer, shape.size(), numbers)))
    return raised;
  bool isClamped = access.outOfRange == OutOfRange::Clamped;
  if (!isClamped && access.outOfRange != OutOfRange::Undefined) {
    (void)refuse("the result for an index outside the pool is unknown");
    return raised;
  }
  if (isClamped)
    for (auto [number, dim] : llvm::zip_equal(numbers, access.poolDims))
      if (failed(clamp(tracer, number, poolType.getDimSize(dim))))
        return raised;
  Value number = asListElement(tracer, numbers[0]);
  if (isPair) {
    if (!isClamped) {
      (void)refuse("block and offset are not known to be in range");
      return raised;
    }
    // Both are in range, so the slot is too, in 64 bits.
    OpBuilder &b = tracer.scalars();
    auto wide = [&](Value value) -> Value {
      value = asListElement(tracer, value);
      if (value.getType().isInteger(64))
        return value;
      return arith::ExtSIOp::create(b, loc, b.getI64Type(), value);
    };
    Value tokens =
        arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(pool.tokens()));
    Value first = arith::MulIOp::create(b, loc, wide(numbers[0]), tokens);
    number = arith::AddIOp::create(b, loc, first, wide(numbers[1]));
  }
  Value list = tracer.makeLists(builder, number)[0];
  if (shape.size() != 1) {
    auto type = cast<RankedTensorType>(list.getType());
    list = reshapeTo(
        builder, loc, list,
        RankedTensorType::get({type.getNumElements()}, type.getElementType()));
  }
  if (isBlocks) {
    int64_t tokens = pool.tokens();
    auto type = cast<RankedTensorType>(list.getType());
    Value empty = tensor::EmptyOp::create(
        builder, loc, {type.getNumElements() * tokens}, builder.getI64Type());
    list = BlockSlotsOp::create(builder, loc, TypeRange(empty.getType()), list,
                                builder.getI64IntegerAttr(tokens), empty)
               ->getResult(0);
  }
  Value slots = MakeSlotsOp::create(
      builder, loc, slotsOf(list.getType(), pool.tokens(), Padding::none),
      list);
  SmallVector<int64_t> flat = {
      cast<RankedTensorType>(list.getType()).getDimSize(0)};
  llvm::append_range(flat, pool.cache.getRowShape());
  // The rows lie in a buffer of the shape that is used, so that it can be the
  // caller's.
  auto flatType = RankedTensorType::get(flat, poolType.getElementType());
  RankedTensorType used = result;
  if (op->getResult(0).hasOneUse()) {
    Operation *user = *op->getResult(0).user_begin();
    if (user->getName().getStringRef() == "stablehlo.reshape")
      used = cast<RankedTensorType>(user->getResult(0).getType());
  }
  Value empty = reshapeTo(builder, loc,
                          tensor::EmptyOp::create(builder, loc, used.getShape(),
                                                  used.getElementType()),
                          flatType);
  // All slots are in the pool, so all rows are written: `zero` says that what
  // was there before is not read.
  raised.op =
      GatherOp::create(builder, loc, TypeRange(empty.getType()), basePool(),
                       /*scales=*/Value(), slots, ValueRange(empty), pool.axes,
                       /*zero=*/true, CopyScheduleAttr());
  raised.text =
      "raised to gather: rows_per_block = " + std::to_string(pool.tokens()) +
      (isClamped ? ", indices outside are clamped" : "");
  replaceReshapes(op->getResult(0), raised.op->getResult(0));
  raised.erased.push_back(op);
  return raised;
}

Raised raise::raiseRead(Operation *op, const RowAccess &access) {
  return RowRaiser(op, access).read();
}
