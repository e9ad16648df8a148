// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// StableHLO, which JAX emits. A scatter drops out-of-range indices, a gather
// clamps them, and of several rows for one place any may be kept. Negative
// indices that count from the end are handled by arithmetic before the
// operation.
//
//===----------------------------------------------------------------------===//

#include "Foreign.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

static std::optional<RowAccess> refuse(std::string &why, const char *text) {
  why = text;
  return std::nullopt;
}

/// 0, 1, .. without those of a list.
static SmallVector<int64_t> others(int64_t rank, ArrayRef<int64_t> dims) {
  SmallVector<int64_t> result;
  for (int64_t i : llvm::seq<int64_t>(rank))
    if (!llvm::is_contained(dims, i))
      result.push_back(i);
  return result;
}

/// The dimension of a list of indices that has the numbers of one row.
static std::optional<int64_t> columnDimOf(Attribute numbers,
                                          RankedTensorType indices) {
  SmallVector<int64_t> given = numbersOf(numbers, "index_vector_dim");
  int64_t dim = given.empty() ? 0 : given[0];
  return dim < indices.getRank() ? std::optional(dim) : std::nullopt;
}

std::optional<RowAccess> stablehlo::describeWrite(Operation *op,
                                                  std::string &why) {
  if (op->getName().getStringRef() != "stablehlo.scatter")
    return std::nullopt;
  if (op->getNumOperands() != 3 || op->getNumResults() != 1)
    return refuse(why, "it updates several tensors at once");
  auto pool = dyn_cast<RankedTensorType>(op->getOperand(0).getType());
  auto indices = dyn_cast<RankedTensorType>(op->getOperand(1).getType());
  auto rows = dyn_cast<RankedTensorType>(op->getOperand(2).getType());
  Attribute numbers = op->getAttr("scatter_dimension_numbers");
  if (!pool || !indices || !rows || !numbers)
    return refuse(why, "its dimension numbers or shapes are not known");
  if (!yieldsArgument(op, 1))
    return refuse(why, "it combines rows with the contents of the pool instead "
                       "of overwriting them");
  if (!numbersOf(numbers, "input_batching_dims").empty())
    return refuse(why, "it has batching dimensions");
  RowAccess access;
  access.pool = op->getOperand(0);
  access.indices = op->getOperand(1);
  access.rows = op->getOperand(2);
  access.poolDims = numbersOf(numbers, "scatter_dims_to_operand_dims");
  SmallVector<int64_t> inserted = numbersOf(numbers, "inserted_window_dims");
  SmallVector<int64_t> sorted = access.poolDims;
  llvm::sort(sorted);
  if (sorted != inserted)
    return refuse(why, "its windows have the scattered dimensions; windows of "
                       "one row are expected");
  access.columnDim = columnDimOf(numbers, indices);
  SmallVector<int64_t> window = numbersOf(numbers, "update_window_dims");
  SmallVector<int64_t> lists = others(rows.getRank(), window);
  if (lists.size() != 1 || lists[0] != 0)
    return refuse(why, "its rows are not one list of rows");
  access.outOfRange = OutOfRange::Skipped;
  access.repeated =
      isSet(op, "unique_indices") ? Repeated::Excluded : Repeated::AnyOrder;
  return access;
}

std::optional<RowAccess> stablehlo::describeRead(Operation *op,
                                                 std::string &why) {
  if (op->getName().getStringRef() != "stablehlo.gather" ||
      op->getNumOperands() != 2)
    return std::nullopt;
  auto pool = dyn_cast<RankedTensorType>(op->getOperand(0).getType());
  auto indices = dyn_cast<RankedTensorType>(op->getOperand(1).getType());
  auto rows = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  Attribute numbers = op->getAttr("dimension_numbers");
  auto sizes = integersOf(op, "slice_sizes");
  if (!pool || !indices || !rows || !numbers || !sizes)
    return refuse(why, "its dimension numbers or shapes are not known");
  if (!numbersOf(numbers, "operand_batching_dims").empty())
    return refuse(why, "it has batching dimensions");
  RowAccess access;
  access.pool = op->getOperand(0);
  access.indices = op->getOperand(1);
  access.poolDims = numbersOf(numbers, "start_index_map");
  SmallVector<int64_t> collapsed = numbersOf(numbers, "collapsed_slice_dims");
  SmallVector<int64_t> sorted = access.poolDims;
  llvm::sort(sorted);
  if (sorted != collapsed)
    return refuse(why, "its slices have the indexed dimensions; slices of one "
                       "row or block are expected");
  if (static_cast<int64_t>(sizes->size()) != pool.getRank())
    return refuse(why, "its slices and the pool differ in rank");
  for (auto [dim, size] : llvm::enumerate(*sizes)) {
    bool isIndexed = llvm::is_contained(access.poolDims, dim);
    if (size != (isIndexed ? 1 : pool.getDimSize(dim)))
      return refuse(why, "its slices do not cover whole rows");
  }
  access.columnDim = columnDimOf(numbers, indices);
  // The dimensions of the list come first, then those of the slices.
  SmallVector<int64_t> offsets = numbersOf(numbers, "offset_dims");
  int64_t listed = rows.getRank() - static_cast<int64_t>(offsets.size());
  for (auto [i, dim] : llvm::enumerate(offsets))
    if (dim != listed + static_cast<int64_t>(i))
      return refuse(why, "the dimensions of its slices are not the last ones");
  access.outOfRange = OutOfRange::Clamped;
  return access;
}

bool stablehlo::isPure(Operation *op) {
  StringRef name = op->getName().getStringRef();
  if (!name.consume_front("stablehlo."))
    return false;
  return llvm::StringSwitch<bool>(name)
      .Cases({"abs", "add", "and", "broadcast_in_dim", "clamp", "compare"},
             true)
      .Cases({"concatenate", "constant", "convert", "divide", "floor"}, true)
      .Cases({"gather", "maximum", "minimum", "multiply", "negate", "not"},
             true)
      .Cases({"or", "remainder", "reshape", "scatter", "select", "sign"}, true)
      .Cases({"shift_left", "shift_right_arithmetic", "shift_right_logical"},
             true)
      .Cases({"subtract", "transpose", "xor"}, true)
      .Default(false);
}

/// Numbers that a division by them is defined for, whatever is divided.
static bool isSafeDivisor(Value value) {
  APInt divisor;
  return matchPattern(value, m_ConstantInt(&divisor)) && !divisor.isZero() &&
         !divisor.isAllOnes();
}

static Value constantOf(OpBuilder &builder, Location loc, Type type,
                        int64_t value) {
  if (isa<FloatType>(type))
    return arith::ConstantOp::create(
        builder, loc, builder.getFloatAttr(type, static_cast<double>(value)));
  return arith::ConstantOp::create(builder, loc,
                                   builder.getIntegerAttr(type, value));
}

namespace {
/// Makes the operation for integers or the one for floats, folded if it can be.
struct Pick {
  OpBuilder &builder;
  Location loc;
  ValueRange operands;

  template <typename IntOp, typename FloatOp> Value of() const {
    if (isa<FloatType>(operands[0].getType())) {
      if constexpr (!std::is_same_v<FloatOp, void>)
        return builder.createOrFold<FloatOp>(loc, operands[0], operands[1]);
      return {};
    }
    return builder.createOrFold<IntOp>(loc, operands[0], operands[1]);
  }
};
} // namespace

static Value buildCompare(Operation *op, OpBuilder &builder,
                          ValueRange operands) {
  using P = arith::CmpIPredicate;
  Type type = operands[0].getType();
  std::string direction = lastWordOf(op->getAttr("comparison_direction"));
  std::string kind = lastWordOf(op->getAttr("compare_type"));
  if (!type.isInteger() || direction.empty() || kind == "TOTALORDER")
    return {};
  bool isUnsigned = kind == "UNSIGNED" || (kind.empty() && type.isInteger(1));
  auto predicate = llvm::StringSwitch<std::optional<P>>(direction)
                       .Case("EQ", P::eq)
                       .Case("NE", P::ne)
                       .Case("LT", isUnsigned ? P::ult : P::slt)
                       .Case("LE", isUnsigned ? P::ule : P::sle)
                       .Case("GT", isUnsigned ? P::ugt : P::sgt)
                       .Case("GE", isUnsigned ? P::uge : P::sge)
                       .Default(std::nullopt);
  if (!predicate)
    return {};
  return builder.createOrFold<arith::CmpIOp>(op->getLoc(), *predicate,
                                             operands[0], operands[1]);
}

static Value buildConvert(Operation *op, OpBuilder &builder, Value from) {
  Location loc = op->getLoc();
  Type to = getElementTypeOrSelf(op->getResult(0).getType());
  Type type = from.getType();
  if (type == to)
    return from;
  if (type.isSignlessInteger() && to.isSignlessInteger()) {
    if (to.isInteger(1))
      return {}; // whether a number is zero, which no index needs
    unsigned width = to.getIntOrFloatBitWidth();
    if (width < type.getIntOrFloatBitWidth())
      return builder.createOrFold<arith::TruncIOp>(loc, to, from);
    if (type.isInteger(1))
      return builder.createOrFold<arith::ExtUIOp>(loc, to, from);
    return builder.createOrFold<arith::ExtSIOp>(loc, to, from);
  }
  if (type.isSignlessInteger() && !type.isInteger(1) && isa<FloatType>(to))
    return builder.createOrFold<arith::SIToFPOp>(loc, to, from);
  if (isa<FloatType>(type) && to.isSignlessInteger() && !to.isInteger(1))
    return builder.createOrFold<arith::FPToSIOp>(loc, to, from);
  return {};
}

static Value buildSign(Operation *op, OpBuilder &builder, Value x) {
  Location loc = op->getLoc();
  Type type = x.getType();
  if (!type.isInteger())
    return {};
  using P = arith::CmpIPredicate;
  Value zero = constantOf(builder, loc, type, 0);
  Value isMore = builder.createOrFold<arith::CmpIOp>(loc, P::sgt, x, zero);
  Value isLess = builder.createOrFold<arith::CmpIOp>(loc, P::slt, x, zero);
  Value rest = builder.createOrFold<arith::SelectOp>(
      loc, isLess, constantOf(builder, loc, type, -1), zero);
  return builder.createOrFold<arith::SelectOp>(
      loc, isMore, constantOf(builder, loc, type, 1), rest);
}

Value stablehlo::buildElement(Operation *op, OpBuilder &builder,
                              ValueRange operands) {
  StringRef name = op->getName().getStringRef();
  if (!name.consume_front("stablehlo.") || operands.empty())
    return {};
  Location loc = op->getLoc();
  Type type = operands[0].getType();
  if (!type.isSignlessInteger() && !isa<FloatType>(type))
    return {};
  bool isFloat = isa<FloatType>(type);
  Pick pick = {builder, loc, operands};
  if (operands.size() == 1) {
    Value x = operands[0];
    if (name == "convert")
      return buildConvert(op, builder, x);
    if (name == "sign")
      return buildSign(op, builder, x);
    if (name == "floor" && isFloat)
      return builder.createOrFold<math::FloorOp>(loc, x);
    if (name == "negate" && !isFloat)
      return builder.createOrFold<arith::SubIOp>(
          loc, constantOf(builder, loc, type, 0), x);
    if (name == "not" && !isFloat)
      return builder.createOrFold<arith::XOrIOp>(
          loc, x, constantOf(builder, loc, type, type.isInteger(1) ? 1 : -1));
    if (name == "abs" && !isFloat) {
      Value zero = constantOf(builder, loc, type, 0);
      Value negated = builder.createOrFold<arith::SubIOp>(loc, zero, x);
      Value isLess = builder.createOrFold<arith::CmpIOp>(
          loc, arith::CmpIPredicate::slt, x, zero);
      return builder.createOrFold<arith::SelectOp>(loc, isLess, negated, x);
    }
    return {};
  }
  if (operands.size() == 2) {
    // Sums and products of booleans are logical there, and modulo 2 in arith.
    bool isBool = type.isInteger(1);
    if (isBool && (name == "add" || name == "subtract" || name == "multiply" ||
                   name == "divide" || name == "remainder"))
      return {};
    if (name == "add")
      return pick.of<arith::AddIOp, arith::AddFOp>();
    if (name == "subtract")
      return pick.of<arith::SubIOp, arith::SubFOp>();
    if (name == "multiply")
      return pick.of<arith::MulIOp, arith::MulFOp>();
    if (name == "divide" && (isFloat || isSafeDivisor(operands[1])))
      return pick.of<arith::DivSIOp, arith::DivFOp>();
    if (name == "remainder" && !isFloat && isSafeDivisor(operands[1]))
      return pick.of<arith::RemSIOp, void>();
    if (name == "compare")
      return buildCompare(op, builder, operands);
    if (isFloat)
      return {};
    if (name == "maximum" && !isBool)
      return pick.of<arith::MaxSIOp, void>();
    if (name == "minimum" && !isBool)
      return pick.of<arith::MinSIOp, void>();
    if (name == "and")
      return pick.of<arith::AndIOp, void>();
    if (name == "or")
      return pick.of<arith::OrIOp, void>();
    if (name == "xor")
      return pick.of<arith::XOrIOp, void>();
    // Shifts by more than the width are defined here, and not in arith.
    APInt by;
    if (!matchPattern(operands[1], m_ConstantInt(&by)) ||
        by.uge(by.getBitWidth()))
      return {};
    if (name == "shift_left")
      return pick.of<arith::ShLIOp, void>();
    if (name == "shift_right_arithmetic")
      return pick.of<arith::ShRSIOp, void>();
    if (name == "shift_right_logical")
      return pick.of<arith::ShRUIOp, void>();
    return {};
  }
  if (operands.size() == 3 && name == "select" && type.isInteger(1))
    return builder.createOrFold<arith::SelectOp>(loc, operands[0], operands[1],
                                                 operands[2]);
  if (operands.size() == 3 && name == "clamp" && !isFloat &&
      !type.isInteger(1)) {
    // min(max(x, low), high)
    Value low =
        builder.createOrFold<arith::MaxSIOp>(loc, operands[1], operands[0]);
    return builder.createOrFold<arith::MinSIOp>(loc, low, operands[2]);
  }
  return {};
}
