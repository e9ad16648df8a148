// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "RowRaiser.h"

#include "SlotProof.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/Sequence.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

static int64_t toExtent(int64_t extent) {
  return ShapedType::isDynamic(extent) ? kRunTime : extent;
}

SlotsType raise::slotsOf(Type list, int64_t tokens, Padding pad) {
  auto type = cast<ShapedType>(list);
  return SlotsType::get(list.getContext(), toExtent(type.getDimSize(0)),
                        cast<IntegerType>(type.getElementType()), tokens, pad,
                        /*sink=*/0);
}

std::string raise::describe(Padding pad) {
  return "pad = " + stringifyPadding(pad).str();
}

//===----------------------------------------------------------------------===//
// The pool
//===----------------------------------------------------------------------===//

LogicalResult RowRaiser::check() {
  if (!poolType || !listType)
    return refuse("the pool and the list of indices are expected to be tensors "
                  "of known rank");
  // So that what is reshaped is none either.
  if (findUnbounded(op->getOperandTypes(), kMaxExtent) ||
      findUnbounded(op->getResultTypes(), kMaxExtent))
    return refuse("at most 2^40 elements of a tensor are expected");
  Type number = listType.getElementType();
  if (!number.isIndex() &&
      (!number.isSignlessInteger() || number.isInteger(1) ||
       number.getIntOrFloatBitWidth() > 64))
    return refuse(
        "the indices are expected to be signless integers of at most 64 bits");
  size_t columns = access.poolDims.size();
  if (columns != 1 && columns != 2)
    return refuse("expected one index per row, or a block and an offset, got " +
                  Twine(columns));
  for (int64_t dim : access.poolDims)
    if (dim < 0 || dim >= poolType.getRank())
      return refuse("the pool has no dimension " + Twine(dim));
  if (columns == 2 && access.poolDims[0] == access.poolDims[1])
    return refuse("both indices are for the same dimension of the pool");
  if (llvm::is_contained(listType.getShape(), 0))
    return refuse("the list is empty");
  if (access.columnDim &&
      (*access.columnDim < 0 || *access.columnDim >= listType.getRank()))
    return refuse("the list has no dimension " + Twine(*access.columnDim) +
                  " with one entry for each column");
  int64_t listed =
      access.columnDim ? listType.getDimSize(*access.columnDim) : 1;
  if (listed != static_cast<int64_t>(columns))
    return refuse("the list is expected to have " + Twine(columns) +
                  " columns");
  return success();
}

SmallVector<int64_t> RowRaiser::windowDims() const {
  SmallVector<int64_t> dims;
  for (int64_t dim : llvm::seq<int64_t>(poolType.getRank()))
    if (!llvm::is_contained(access.poolDims, dim))
      dims.push_back(dim);
  return dims;
}

LogicalResult RowRaiser::namePool(ArrayRef<char> axes) {
  pool.chain = PoolChain::follow(access.pool, axes);
  auto base = cast<RankedTensorType>(pool.chain.base.getType());
  SmallVector<int64_t> shape;
  SmallVector<Attribute> names;
  for (auto [axis, extent] :
       llvm::zip_equal(pool.chain.axes, base.getShape())) {
    auto first = static_cast<int64_t>(shape.size());
    auto add = [&](char name, int64_t of) {
      shape.push_back(of);
      names.push_back(builder.getStringAttr(StringRef(&name, 1)));
    };
    if (axis == kRows) {
      // Rows without blocks are blocks of one row.
      add('B', extent);
      add('N', 1);
      pool.groups.push_back({first, first + 1});
    } else {
      add(axis, extent);
      pool.groups.push_back({first});
    }
  }
  if (shape.size() == pool.groups.size())
    pool.groups.clear();
  pool.type = RankedTensorType::get(shape, base.getElementType());
  pool.axes = builder.getArrayAttr(names);
  std::string why;
  pool.cache = CacheType::of(pool.type, pool.axes, why);
  if (!pool.cache)
    return refuse("the pool is not a cache: " + why);
  return success();
}

Value RowRaiser::basePool() {
  if (pool.groups.empty())
    return pool.chain.base;
  SmallVector<OpFoldResult> shape;
  for (auto [i, group] : llvm::enumerate(pool.groups)) {
    shape.push_back(tensor::getMixedSize(builder, loc, pool.chain.base, i));
    if (group.size() == 2)
      shape.push_back(builder.getIndexAttr(1));
  }
  return tensor::ExpandShapeOp::create(builder, loc, pool.type, pool.chain.base,
                                       pool.groups, shape);
}

Value RowRaiser::collapsed(Value updated) {
  if (pool.groups.empty())
    return updated;
  return tensor::CollapseShapeOp::create(
      builder, loc, pool.chain.base.getType(), updated, pool.groups);
}

//===----------------------------------------------------------------------===//
// Rows and numbers
//===----------------------------------------------------------------------===//

LogicalResult RowRaiser::checkRows(int64_t &count) {
  auto rows = dyn_cast<RankedTensorType>(access.rows.getType());
  SmallVector<int64_t> dims = windowDims();
  if (!rows || rows.getRank() != 1 + static_cast<int64_t>(dims.size()) ||
      rows.getElementType() != poolType.getElementType())
    return refuse("rows with the inner dimensions and the element type of the "
                  "pool are expected");
  for (auto [i, dim] : llvm::enumerate(dims))
    if (rows.getDimSize(i + 1) != poolType.getDimSize(dim))
      return refuse("whole rows are expected, of " +
                    Twine(poolType.getDimSize(dim)) + " in dimension " +
                    Twine(i + 1) + ", got " + Twine(rows.getDimSize(i + 1)));
  int64_t numLists = listType.getRank() - (access.columnDim ? 1 : 0);
  if (numLists != 1)
    return refuse(
        "the indices are expected to be one list, got a list of rank " +
        Twine(numLists));
  count = rows.getDimSize(0);
  int64_t listDim = access.columnDim && *access.columnDim == 0 ? 1 : 0;
  int64_t listed = listType.getDimSize(listDim);
  if (ShapedType::isDynamic(count))
    count = listed;
  else if (!ShapedType::isDynamic(listed) && listed != count)
    return refuse("there are " + Twine(listed) + " indices for " +
                  Twine(count) + " rows");
  return success();
}

/// The rows with the inner dimensions of the cache, which a flat pool may have
/// as one.
Value RowRaiser::inner(Value rows) {
  auto type = cast<RankedTensorType>(rows.getType());
  SmallVector<int64_t> shape = {type.getDimSize(0)};
  llvm::append_range(shape, pool.cache.getRowShape());
  if (static_cast<int64_t>(shape.size()) == type.getRank())
    return rows;
  return tensor::ExpandShapeOp::create(
      builder, loc, RankedTensorType::get(shape, type.getElementType()), rows,
      ArrayRef<ReassociationIndices>{{0}, {1, 2}});
}

LogicalResult RowRaiser::traceColumns(ElementTracer &tracer, int64_t rank,
                                      SmallVectorImpl<Value> &columns) {
  for (size_t column : llvm::seq(access.poolDims.size())) {
    SmallVector<Coord> at;
    for (int64_t dim = 0; dim < rank; ++dim)
      at.push_back(Coord::loop(dim));
    if (access.columnDim)
      at.insert(at.begin() + *access.columnDim, Coord::at(column));
    Value number = tracer.trace(access.indices, at);
    if (!number)
      return refuse("the indices are not integers");
    columns.push_back(number);
  }
  return success();
}

/// Moves a number to the nearest one below `extent`.
LogicalResult RowRaiser::clamp(ElementTracer &tracer, Value &number,
                               int64_t extent) {
  if (ShapedType::isDynamic(extent) || extent < 1)
    return refuse("indices outside are clamped, and the extent of the pool is "
                  "not a constant");
  OpBuilder &b = tracer.scalars();
  Type type = number.getType();
  unsigned width = type.isIndex() ? 64 : type.getIntOrFloatBitWidth();
  if (width < 64 && extent - 1 >= int64_t(1) << (width - 1))
    return refuse("the indices have too few bits for the pool");
  auto constant = [&](int64_t value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getIntegerAttr(type, value));
  };
  number = b.createOrFold<arith::MaxSIOp>(loc, number, constant(0));
  number = b.createOrFold<arith::MinSIOp>(loc, number, constant(extent - 1));
  return success();
}

/// A number as an element of a list: i32 or i64.
Value RowRaiser::asListElement(ElementTracer &tracer, Value number) {
  OpBuilder &b = tracer.scalars();
  Type type = number.getType();
  if (type.isIndex())
    return arith::IndexCastOp::create(b, loc, b.getI64Type(), number);
  unsigned width = type.getIntOrFloatBitWidth();
  if (width == 32 || width == 64)
    return number;
  return arith::ExtSIOp::create(
      b, loc, width < 32 ? b.getI32Type() : b.getI64Type(), number);
}

/// A list whose length is known where that of the rows is.
Value RowRaiser::withCount(Value list, int64_t count) {
  auto type = cast<RankedTensorType>(list.getType());
  auto wanted = RankedTensorType::get({count}, type.getElementType());
  return type == wanted ? list
                        : tensor::CastOp::create(builder, loc, wanted, list);
}

//===----------------------------------------------------------------------===//
// Writes
//===----------------------------------------------------------------------===//

void RowRaiser::writeSlots(ElementTracer &tracer, Value slot, Padding pad,
                           Value rows, int64_t count) {
  Value list = withCount(
      tracer.makeLists(builder, asListElement(tracer, slot))[0], count);
  SlotsType type = slotsOf(list.getType(), pool.tokens(), pad);
  Value slots = MakeSlotsOp::create(builder, loc, type, list);
  raised.op = IndexCopyOp::create(
      builder, loc, TypeRange(pool.type), ValueRange(rows), basePool(),
      /*scales=*/Value(), slots, pool.axes, CopyScheduleAttr());
  raised.text = "raised to index_copy: rows_per_block = " +
                std::to_string(pool.tokens()) + ", " + describe(pad);
}

Raised RowRaiser::write(const RaiseFacts &facts) {
  int64_t count = 0;
  if (failed(check()) || failed(checkRows(count)))
    return raised;
  if (access.repeated == Repeated::LastWins && !facts.lastRowWins) {
    (void)refuse(
        "rows of one slot are written in sequence, and nothing excludes "
        "duplicates or promises that the last row wins (last-row-wins)");
    return raised;
  }
  SmallVector<int64_t> windows = windowDims();
  if (windows.empty() || windows.size() > 2) {
    (void)refuse("expected rows of channels, or of heads and channels, got " +
                 Twine(windows.size()) + " dimensions");
    return raised;
  }
  bool isPair = access.poolDims.size() == 2;
  SmallVector<char> axes(poolType.getRank());
  axes[access.poolDims[0]] = isPair ? 'B' : kRows;
  if (isPair)
    axes[access.poolDims[1]] = 'N';
  axes[windows.back()] = 'D';
  if (windows.size() == 2)
    axes[windows.front()] = 'H';
  if (failed(namePool(axes)))
    return raised;

  ElementTracer tracer(loc, {count}, access.rows);
  SmallVector<Value> numbers;
  if (failed(traceColumns(tracer, 1, numbers)))
    return raised;
  if (access.outOfRange == OutOfRange::Clamped)
    for (auto [number, dim] : llvm::zip_equal(numbers, access.poolDims))
      if (failed(clamp(tracer, number, poolType.getDimSize(dim))))
        return raised;
  // Rows that the program does not have are none.
  bool skips = access.outOfRange == OutOfRange::Skipped;
  Padding pad = skips ? Padding::skip_out_of_range : Padding::none;
  Value rows = inner(access.rows);

  if (!isPair) {
    writeSlots(tracer, numbers[0], pad, rows, count);
  } else {
    SlotQuestion question;
    question.slot = tracer.onlyLeaf(numbers);
    question.block = numbers[0];
    question.offset = numbers[1];
    question.tokens = pool.tokens();
    question.blocks = pool.blocks();
    question.skipsOutside = skips;
    SlotAnswer answer;
    if (question.slot && numbers[0] != numbers[1])
      answer = proveSlots(question);
    else
      answer.why = "block and offset do not come from one list of slots";
    OpBuilder &b = tracer.scalars();
    switch (answer.kind) {
    case SlotAnswer::Kind::Slot:
      writeSlots(tracer, question.slot, answer.pad, rows, count);
      break;
    case SlotAnswer::Kind::Wrapped: {
      // In a type that has all slots and the number of rows.
      Value slot = asListElement(tracer, question.slot);
      if (slot.getType().isInteger(32) &&
          !llvm::isInt<32>(int64_t(pool.rows())))
        slot = arith::ExtSIOp::create(b, loc, b.getI64Type(), slot);
      auto constant = [&](int64_t value) -> Value {
        return arith::ConstantOp::create(
            b, loc, b.getIntegerAttr(slot.getType(), value));
      };
      Value isNegative = arith::CmpIOp::create(
          b, loc, arith::CmpIPredicate::slt, slot, constant(0));
      Value wrapped =
          arith::AddIOp::create(b, loc, slot, constant(pool.rows()));
      slot = arith::SelectOp::create(b, loc, isNegative, wrapped, slot);
      writeSlots(tracer, slot, answer.pad, rows, count);
      raised.text += "; negative slots count from the end, once";
      break;
    }
    case SlotAnswer::Kind::Unproven: {
      for (Value &number : numbers)
        number = asListElement(tracer, number);
      SmallVector<Value> lists = tracer.makeLists(builder, numbers);
      for (Value &list : lists)
        list = withCount(list, count);
      raised.op = ScatterOp::create(builder, loc, TypeRange(pool.type),
                                    ValueRange(rows), basePool(),
                                    /*scales=*/Value(), lists[0], lists[1],
                                    pool.axes, pad, CopyScheduleAttr());
      raised.text = "raised to scatter, " + describe(pad) +
                    "; not to index_copy: " + answer.why;
    }
    }
  }
  raised.isFunctional = !isa<tensor::ScatterOp>(op);
  Value updated = collapsed(raised.op->getResult(0));
  uint64_t bytes = replacePool(builder, op->getResult(0), pool.chain, updated,
                               raised.erased);
  if (bytes)
    raised.text += "; a user of the transposed pool keeps a copy of " +
                   std::to_string(bytes) + " bytes";
  raised.erased.push_back(op);
  return raised;
}

Raised raise::raiseWrite(Operation *op, const RowAccess &access,
                         const RaiseFacts &facts) {
  return RowRaiser(op, access).write(facts);
}
