// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operations that compute rows, and their launch.
//
//===----------------------------------------------------------------------===//

#include "BufferOps.h"

#include "kvcache/IR/RowSteps.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace kvcache;

/// `[T, H, D]` or `[T, D]`, and a destination of the same shape.
static LogicalResult verifyRows(Operation *op, StringRef label, Value rows,
                                Value out) {
  auto type = cast<ShapedType>(rows.getType());
  ArrayRef<int64_t> shape = type.getShape();
  bool isRows = shape.size() == 2 || shape.size() == 3;
  for (size_t i = 1; isRows && i < shape.size(); ++i)
    isRows = !ShapedType::isDynamic(shape[i]) && shape[i] >= 1;
  if (!isRows)
    return op->emitOpError() << label
                             << ": rows are expected to be [T, H, D] or [T, "
                                "D], H and D constant and at least 1, got "
                             << type;
  for (Value buffer : {rows, out})
    if (failed(verifyRowElement(
            op, label, cast<ShapedType>(buffer.getType()).getElementType())))
      return failure();
  return verifyShape(op, label, "the destination is", out.getType(), shape,
                     Type());
}

//===----------------------------------------------------------------------===//
// NormalizeOp
//===----------------------------------------------------------------------===//

LogicalResult NormalizeOp::verify() {
  if (failed(verifyRows(*this, "normalize_c1", getRows(), getOut())))
    return failure();
  SmallVector<Value> rows = {getRows(), getOut()};
  SmallVector<Value> all = rows;
  int64_t channels = cast<ShapedType>(getRows().getType()).getShape().back();
  if (getWeight()) {
    auto type = cast<ShapedType>(getWeight().getType());
    if (!isComputeType(type.getElementType()) || type.getRank() != 1 ||
        type.getDimSize(0) != channels)
      return emitOpError() << "normalize_c2: the weight is expected to be ["
                           << channels << "] of f16, bf16 or f32, got " << type;
    if (failed(
            verifyMemory(*this, "normalize_c3", getWeight(), Contiguity::All)))
      return failure();
    all.push_back(getWeight());
  }
  if (failed(verifyMemory(*this, "normalize_c3", rows, Contiguity::Inner)) ||
      failed(verifyOneForm(*this, "normalize_c4", all)))
    return failure();
  if (!getEpsilon().isFinite() || getEpsilon().isNegative())
    return emitOpError() << "normalize_c5: 'epsilon' is expected to be finite "
                            "and not negative, got "
                         << getEpsilonAttr();
  if (getPlusOne() && !getWeight())
    return emitOpError()
           << "normalize_c6: a weight is expected with 'plus_one', got none";
  return success();
}

SmallVector<TiedExtents> NormalizeOp::getTiedExtents() {
  return {leadingExtents({getRows(), getOut()})};
}

//===----------------------------------------------------------------------===//
// RotateOp
//===----------------------------------------------------------------------===//

LogicalResult RotateOp::verify() {
  if (failed(verifyRows(*this, "rotate_c1", getRows(), getOut())))
    return failure();
  auto rows = cast<ShapedType>(getRows().getType());
  auto table = cast<ShapedType>(getTable().getType());
  int64_t channels = rows.getShape().back();
  int64_t turned = table.getRank() == 2 ? table.getDimSize(1) : 0;
  if (!isComputeType(table.getElementType()) || turned < 2 || turned % 2 ||
      turned > channels)
    return emitOpError()
           << "rotate_c2: the table is expected to be [P, R] of f16, bf16 or "
              "f32, R constant, even and from 2 to "
           << channels << ", got " << table;
  SmallVector<Value> all = {getRows(), getTable(), getOut()};
  if (Value positions = getPositions()) {
    if (failed(verifyIndices(*this, "rotate_c3", "positions are",
                             positions.getType(), 1)))
      return failure();
    int64_t count = cast<ShapedType>(positions.getType()).getDimSize(0);
    if (!ShapedType::isDynamic(count) && !rows.isDynamicDim(0) &&
        count != rows.getDimSize(0))
      return emitOpError() << "rotate_c3: as many positions as rows are "
                              "expected, got "
                           << positions.getType() << " and " << rows;
    if (failed(verifyMemory(*this, "rotate_c4", positions, Contiguity::All)))
      return failure();
    all.push_back(positions);
  }
  SmallVector<Value> byRow = {getRows(), getTable(), getOut()};
  if (failed(verifyMemory(*this, "rotate_c4", byRow, Contiguity::Inner)))
    return failure();
  return verifyOneForm(*this, "rotate_c5", all);
}

/// Without positions the table has a row for each.
SmallVector<TiedExtents> RotateOp::getTiedExtents() {
  Value angles = getPositions() ? getPositions() : getTable();
  return {leadingExtents({getRows(), angles, getOut()})};
}

IndexUses RotateOp::getIndexUses() {
  if (!getPositions())
    return {};
  EntryUse use;
  use.what = "position";
  use.list = getPositions();
  use.counted = {getRows()};
  use.within = getTable();
  use.orNegative = true;
  return {{}, {use}};
}

//===----------------------------------------------------------------------===//
// FuseOp
//===----------------------------------------------------------------------===//

OperandRange kvcache::rowsOf(Operation *op) {
  if (isa<RowStepOpInterface>(op))
    return op->getOperands().take_front();
  if (auto write = dyn_cast<IndexCopyOp>(op))
    return write.getRows();
  if (auto write = dyn_cast<ScatterOp>(op))
    return write.getRows();
  return op->getOperands().take_front(0);
}

memref::AllocOp kvcache::allocOf(Value buffer) {
  auto cast = buffer.getDefiningOp<memref::CastOp>();
  if (cast && cast.getSource().hasOneUse())
    buffer = cast.getSource();
  return buffer.getDefiningOp<memref::AllocOp>();
}

/// What is used of an allocation: the cast that it has, or itself.
static Value bufferOf(memref::AllocOp alloc) {
  Value buffer = alloc.getResult();
  auto cast = buffer.hasOneUse()
                  ? dyn_cast<memref::CastOp>(*buffer.user_begin())
                  : memref::CastOp();
  return cast ? cast.getResult() : buffer;
}

RowStepOpInterface kvcache::stepInto(Value buffer) {
  if (!allocOf(buffer))
    return {};
  RowStepOpInterface writer;
  Operation *reader = nullptr;
  unsigned uses = 0;
  for (OpOperand &use : buffer.getUses()) {
    ++uses;
    auto step = dyn_cast<RowStepOpInterface>(use.getOwner());
    if (step && step.getOut() == buffer)
      writer = step;
    if (llvm::is_contained(rowsOf(use.getOwner()), buffer))
      reader = use.getOwner();
  }
  bool isStep = uses == 2 && writer && reader && writer != reader &&
                writer->getBlock() == reader->getBlock() &&
                writer->isBeforeInBlock(reader);
  return isStep ? writer : RowStepOpInterface();
}

RowSteps kvcache::stepsBefore(Value rows) {
  RowSteps steps;
  while (RowStepOpInterface step = stepInto(rows)) {
    steps.push_back(step);
    rows = step.getRows();
  }
  std::reverse(steps.begin(), steps.end());
  return steps;
}

/// The scales of a write, as an operand or part of its cache; null
/// without any.
static CacheType scalesOf(Operation *op) {
  auto typeOf = [](auto write) {
    if (Value scales = write.getScales())
      return cast<CacheType>(scales.getType());
    auto cache = dyn_cast<CacheType>(write.getCache().getType());
    return cache && cache.getScaled() ? cache.getScalesPart() : CacheType();
  };
  if (auto write = dyn_cast<IndexCopyOp>(op))
    return typeOf(write);
  if (auto write = dyn_cast<ScatterOp>(op))
    return typeOf(write);
  return {};
}

/// What a rotation does with which channels.
static std::string describe(RotateOp op) {
  return std::to_string(op.getNumRotated()) +
         (op.getInterleaved() ? " interleaved" : "");
}

std::string kvcache::whyNotFused(Operation *op) {
  RowSteps steps;
  for (Value rows : rowsOf(op))
    llvm::append_range(steps, stepsBefore(rows));
  if (steps.empty())
    return "";
  if (auto step = dyn_cast<RowStepOpInterface>(op))
    steps.push_back(step);
  RotateOp first;
  for (Operation *step : steps) {
    auto rotate = dyn_cast<RotateOp>(step);
    if (!first)
      first = rotate;
    if (rotate && (rotate.getNumRotated() != first.getNumRotated() ||
                   rotate.getInterleaved() != first.getInterleaved()))
      return "rotations of the same channels are expected, got " +
             describe(first) + " and " + describe(rotate);
  }
  CacheType scales = scalesOf(op);
  if (!scales)
    return "";
  ArrayRef<int64_t> shape =
      cast<ShapedType>(steps.front().getRows().getType()).getShape();
  int64_t heads = shape.size() == 3 ? shape[1] : 1;
  const Layout &layout = scales.getLayout();
  int64_t scaled = layout.extent(AxisKind::Head);
  int64_t groups = layout.extent(AxisKind::Channel);
  if (scales.areGiven())
    scaled = heads;
  if (scaled != heads || groups != 1)
    return "one scale for each head is expected, got " +
           std::to_string(scaled * groups) + " for " + std::to_string(heads);
  return "";
}

/// What an operation inside of a `fuse` writes.
static SmallVector<Value, 2> writtenBy(Operation *op) {
  if (auto step = dyn_cast<RowStepOpInterface>(op))
    return {step.getOut()};
  SmallVector<Value, 2> written;
  auto add = [&](auto write) {
    written.push_back(write.getCache());
    Value scales = write.getScales();
    if (scales && !cast<CacheType>(scales.getType()).areGiven())
      written.push_back(scales);
  };
  if (auto write = dyn_cast<IndexCopyOp>(op))
    add(write);
  if (auto write = dyn_cast<ScatterOp>(op))
    add(write);
  return written;
}

LogicalResult FuseOp::verifyRegions() {
  auto isInside = [&](Value buffer) {
    memref::AllocOp alloc = allocOf(buffer);
    return alloc && alloc->getParentOp() == *this;
  };
  // The rows that the steps before begin with.
  auto isInPlace = [](Operation *last, Operation *first) {
    auto step = dyn_cast<RowStepOpInterface>(last);
    RowSteps steps = step ? stepsBefore(step.getRows()) : RowSteps();
    return !steps.empty() && first == steps.front() &&
           steps.front().getRows() == step.getOut() &&
           llvm::count(first->getOperands(), step.getOut()) == 1;
  };
  for (Operation &op : getBody().front()) {
    bool isOfRows = isa<RowStepOpInterface, IndexCopyOp, ScatterOp>(op) &&
                    op.getNumResults() == 0;
    auto cast = dyn_cast<memref::CastOp>(op);
    if (!isOfRows && !isa<memref::AllocOp>(op) &&
        !(cast && isInside(cast.getResult())))
      return emitOpError() << "fuse_c1: steps and writes of rows on memrefs, "
                              "and 'memref.alloc', are expected inside, got '"
                           << op.getName() << "'";
    auto alloc = dyn_cast<memref::AllocOp>(op);
    if (alloc && !stepInto(bufferOf(alloc)))
      return emitOpError() << "fuse_c2: a buffer that is allocated inside is "
                              "expected to be written by one step and then "
                              "read once, as rows, got other uses of "
                           << op.getResult(0).getType();
    std::string why = whyNotFused(&op);
    if (!why.empty())
      return emitOpError() << "fuse_c3: where steps come before '"
                           << op.getName() << "', " << why;
    for (Value written : writtenBy(&op))
      if (!isInside(written))
        for (Operation *user : written.getUsers())
          if (user != &op && user->getParentOp() == *this &&
              !isInPlace(&op, user))
            return emitOpError()
                   << "fuse_c4: what '" << op.getName() << "' writes is "
                   << "expected to be no operand of another operation, got "
                   << "that of '" << user->getName() << "'";
  }
  return success();
}
