// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Rows.h"

#include "Elements.h"
#include "PoolChain.h"
#include "SlotProof.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/ReshapeOpsUtils.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/Sequence.h"

using namespace mlir;
using namespace kvcache;

static int64_t toExtent(int64_t extent) {
  return ShapedType::isDynamic(extent) ? kRunTime : extent;
}

SlotsType kvcache::slotsOf(Type list, int64_t tokens, Padding pad) {
  auto type = cast<ShapedType>(list);
  return SlotsType::get(list.getContext(), toExtent(type.getDimSize(0)),
                        cast<IntegerType>(type.getElementType()), tokens, pad,
                        /*sink=*/0);
}

std::string kvcache::describe(Padding pad) {
  return "pad = " + stringifyPadding(pad).str();
}

namespace {

/// What a pool is, once it is known which dimension is which.
struct Pool {
  PoolChain chain;
  /// The base, with a dimension for the tokens of a block.
  RankedTensorType type;
  SmallVector<ReassociationIndices> groups; ///< to it; none if it is the base
  ArrayAttr axes;
  CacheType cache;

  int64_t tokens() const { return cache.getLayout().extent(AxisKind::Token); }
  int64_t blocks() const { return cache.getLayout().extent(AxisKind::Block); }
  /// How many rows all blocks have; kRunTime if it is not known.
  int64_t rows() const {
    return blocks() == kRunTime ? kRunTime : blocks() * tokens();
  }
};

class RowRaiser {
public:
  RowRaiser(Operation *op, const RowAccess &access)
      : op(op), access(access), loc(op->getLoc()), builder(op),
        poolType(dyn_cast<RankedTensorType>(access.pool.getType())),
        listType(dyn_cast<RankedTensorType>(access.indices.getType())) {}

  Raised write(const RaiseFacts &facts);
  Raised read();

private:
  /// Says what is missing.
  LogicalResult refuse(const Twine &text) {
    raised.text = text.str();
    return failure();
  }
  LogicalResult check();
  LogicalResult namePool(ArrayRef<char> axes);
  SmallVector<int64_t> windowDims() const;
  Value basePool();
  Value collapsed(Value pool);
  LogicalResult checkRows(int64_t &count);
  Value inner(Value rows);
  LogicalResult traceColumns(ElementTracer &tracer, int64_t rank,
                             SmallVectorImpl<Value> &columns);
  LogicalResult clamp(ElementTracer &tracer, Value &number, int64_t extent);
  Value asListElement(ElementTracer &tracer, Value number);
  Value withCount(Value list, int64_t count);
  void writeSlots(ElementTracer &tracer, Value slot, Padding pad, Value rows,
                  int64_t count);
  void replaceReshapes(Value result, Value flat);

  Operation *op;
  const RowAccess &access;
  Location loc;
  OpBuilder builder;
  RankedTensorType poolType, listType;
  Pool pool;
  Raised raised;
};

} // namespace

//===----------------------------------------------------------------------===//
// The pool
//===----------------------------------------------------------------------===//

LogicalResult RowRaiser::check() {
  if (!poolType || !listType)
    return refuse("the pool and the list of numbers are expected to be tensors "
                  "of known rank");
  Type number = listType.getElementType();
  if (!number.isIndex() &&
      !(number.isSignlessInteger() && !number.isInteger(1)))
    return refuse("the numbers are expected to be signless integers");
  size_t columns = access.poolDims.size();
  if (columns != 1 && columns != 2)
    return refuse("one number for each row, or a block and an offset, are "
                  "expected; there are " +
                  Twine(columns));
  for (int64_t dim : access.poolDims)
    if (dim < 0 || dim >= poolType.getRank())
      return refuse("the pool has no dimension " + Twine(dim));
  if (columns == 2 && access.poolDims[0] == access.poolDims[1])
    return refuse("both numbers are of one dimension of the pool");
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
    return refuse("the pool is no cache: " + why);
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
        "the numbers are expected to be one list, got a list of rank " +
        Twine(numLists));
  count = rows.getDimSize(0);
  int64_t listDim = access.columnDim && *access.columnDim == 0 ? 1 : 0;
  int64_t listed = listType.getDimSize(listDim);
  if (ShapedType::isDynamic(count))
    count = listed;
  else if (!ShapedType::isDynamic(listed) && listed != count)
    return refuse("there are " + Twine(listed) + " numbers for " +
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
      return refuse("the numbers are no integers");
    columns.push_back(number);
  }
  return success();
}

/// Moves a number to the nearest one below `extent`.
LogicalResult RowRaiser::clamp(ElementTracer &tracer, Value &number,
                               int64_t extent) {
  if (ShapedType::isDynamic(extent) || extent < 1)
    return refuse("numbers outside are moved to the last one, and the extent "
                  "of the pool is not a constant");
  OpBuilder &b = tracer.scalars();
  Type type = number.getType();
  unsigned width = type.isIndex() ? 64 : type.getIntOrFloatBitWidth();
  if (width < 64 && extent - 1 >= int64_t(1) << (width - 1))
    return refuse("the numbers have too few bits for the pool");
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
  raised.op =
      IndexCopyOp::create(builder, loc, TypeRange(pool.type), ValueRange(rows),
                          basePool(), slots, pool.axes, CopyScheduleAttr());
  raised.text = "raised to index_copy: rows_per_block = " +
                std::to_string(pool.tokens()) + ", " + describe(pad);
}

Raised RowRaiser::write(const RaiseFacts &facts) {
  int64_t count = 0;
  if (failed(check()) || failed(checkRows(count)))
    return raised;
  if (access.repeated == Repeated::LastWins && !facts.lastRowWins) {
    (void)refuse("rows of one slot are written in sequence, and it is not said "
                 "that there are none or that the last row wins "
                 "(last-row-wins)");
    return raised;
  }
  SmallVector<int64_t> windows = windowDims();
  if (windows.empty() || windows.size() > 2) {
    (void)refuse("rows of channels, or of heads and channels, are expected; "
                 "they have " +
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
      Value slot = question.slot;
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
      raised.op = ScatterOp::create(
          builder, loc, TypeRange(pool.type), ValueRange(rows), basePool(),
          lists[0], lists[1], pool.axes, pad, CopyScheduleAttr());
      raised.text = "raised to scatter, " + describe(pad) +
                    "; not to index_copy: " + answer.why;
    }
    }
  }
  raised.pool = pool.chain.base;
  Value updated = collapsed(raised.op->getResult(0));
  int64_t bytes = replacePool(builder, op->getResult(0), pool.chain, updated,
                              raised.erased);
  if (bytes)
    raised.text += "; a user of the transposed pool keeps a copy of " +
                   std::to_string(bytes) + " bytes";
  raised.erased.push_back(op);
  return raised;
}

//===----------------------------------------------------------------------===//
// Reads
//===----------------------------------------------------------------------===//

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
    (void)refuse("the extents of what is read are expected to be constants");
    return raised;
  }
  // Whole blocks, or rows.
  SmallVector<int64_t> windows = windowDims();
  bool isPair = access.poolDims.size() == 2;
  bool isBlocks = !isPair && windows.size() == 3;
  if (windows.empty() || (windows.size() > 2 && !isBlocks)) {
    (void)refuse("blocks, or rows of heads and channels, are expected; what is "
                 "read has " +
                 Twine(windows.size()) + " dimensions for each number");
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
    (void)refuse("what is read for a number outside of the pool is not known");
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
  raised.op = GatherOp::create(builder, loc, TypeRange(empty.getType()),
                               basePool(), slots, ValueRange(empty), pool.axes,
                               /*zero=*/true, CopyScheduleAttr());
  raised.text =
      "raised to gather: rows_per_block = " + std::to_string(pool.tokens()) +
      (isClamped ? ", numbers outside are moved to the nearest inside" : "");
  replaceReshapes(op->getResult(0), raised.op->getResult(0));
  raised.erased.push_back(op);
  return raised;
}

Raised kvcache::raiseWrite(Operation *op, const RowAccess &access,
                           const RaiseFacts &facts) {
  return RowRaiser(op, access).write(facts);
}

Raised kvcache::raiseRead(Operation *op, const RowAccess &access) {
  return RowRaiser(op, access).read();
}
