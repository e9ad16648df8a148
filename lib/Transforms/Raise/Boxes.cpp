// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Boxes.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Index/IR/IndexDialect.h"
#include "mlir/Dialect/Index/IR/IndexOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvcache;

// Above all integers, and small enough to be multiplied once more.
static constexpr Wide kHuge = Wide(1) << 80;
// Coefficients beyond this are not followed.
static constexpr Wide kLargest = Wide(1) << 62;

static Wide floorDiv(Wide a, Wide b) {
  Wide quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}
static Wide ceilDiv(Wide a, Wide b) { return -floorDiv(-a, b); }
static Wide modulo(Wide a, Wide b) { return a - b * floorDiv(a, b); }

static unsigned widthOf(Type type) {
  return type.isIndex() ? 64 : type.getIntOrFloatBitWidth();
}
static bool isBool(Type type) { return type.isInteger(1); }

/// The bits of a mantissa: integers up to 2^bits are exact.
static unsigned exactBits(Type type) {
  return type.isF32() ? 24 : type.isF64() ? 53 : 0;
}

/// Bounds of a rounded number: rounding keeps the sequence of numbers, and
/// powers of two stay what they are.
static Wide roundedDown(Wide value, unsigned bits);
static Wide roundedUp(Wide value, unsigned bits) {
  return -roundedDown(-value, bits);
}
static Wide roundedDown(Wide value, unsigned bits) {
  Wide magnitude = value < 0 ? -value : value;
  if (magnitude <= Wide(1) << bits)
    return value;
  Wide power = 1;
  while (power * 2 <= magnitude)
    power *= 2;
  return value < 0 ? (power == magnitude ? -power : -2 * power) : power;
}

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

Number BoxEvaluator::affine(Wide q, Wide r, Wide c) const {
  auto tooLarge = [](Wide x) { return x > kLargest || x < -kLargest; };
  if (tooLarge(q) || tooLarge(r) || tooLarge(c))
    return between(-kHuge, kHuge);
  Number value;
  value.affine = true;
  value.q = q;
  value.r = r;
  value.c = c;
  value.lo =
      (q < 0 ? q * box.q1 : q * box.q0) + (r < 0 ? r * box.r1 : r * box.r0) + c;
  value.hi =
      (q < 0 ? q * box.q0 : q * box.q1) + (r < 0 ? r * box.r0 : r * box.r1) + c;
  return value;
}

Number BoxEvaluator::between(Wide lo, Wide hi) {
  Number value;
  value.lo = lo;
  value.hi = hi;
  return value;
}

Number BoxEvaluator::unknown(Type type) {
  if (isBool(type))
    return between(0, 1);
  if (!type.isIntOrIndex())
    return between(-kHuge, kHuge);
  Wide half = Wide(1) << (widthOf(type) - 1);
  return between(-half, half - 1);
}

Number BoxEvaluator::fit(const Number &value, Type type) {
  Number range = unknown(type);
  return value.lo < range.lo || value.hi > range.hi ? range : value;
}

Number BoxEvaluator::add(const Number &a, const Number &b, Wide scale) const {
  if (a.affine && b.affine)
    return affine(a.q + scale * b.q, a.r + scale * b.r, a.c + scale * b.c);
  return scale > 0 ? between(a.lo + b.lo, a.hi + b.hi)
                   : between(a.lo - b.hi, a.hi - b.lo);
}

Number BoxEvaluator::multiply(const Number &a, const Number &b) const {
  const Number &factor = a.lo == a.hi ? a : b;
  const Number &other = a.lo == a.hi ? b : a;
  if (factor.lo != factor.hi || factor.lo > kLargest || factor.lo < -kLargest)
    return between(-kHuge, kHuge);
  Wide f = factor.lo;
  if (other.affine)
    return affine(other.q * f, other.r * f, other.c * f);
  if (other.lo <= -kHuge / 2 || other.hi >= kHuge / 2 || f > (1 << 30) ||
      f < -(1 << 30))
    return between(-kHuge, kHuge);
  return f < 0 ? between(other.hi * f, other.lo * f)
               : between(other.lo * f, other.hi * f);
}

//===----------------------------------------------------------------------===//
// Comparisons, which cut boxes
//===----------------------------------------------------------------------===//

Answer BoxEvaluator::isLess(const Number &value, Wide than) {
  if (value.hi < than)
    return Answer::Yes;
  if (value.lo >= than)
    return Answer::No;
  if (!value.affine)
    return Answer::Unknown;
  bool isRow = value.q == 0 || box.q0 == box.q1;
  Wide step = isRow ? value.r : value.q;
  Wide first = isRow ? box.r0 : box.q0;
  Wide last = isRow ? box.r1 : box.q1;
  // The value is step * x, and something between least and most.
  Wide other = isRow ? value.q * box.q0 : 0;
  Wide least = value.c + other, most = least;
  if (!isRow) {
    least += value.r < 0 ? value.r * box.r1 : value.r * box.r0;
    most += value.r < 0 ? value.r * box.r0 : value.r * box.r1;
  }
  if (step == 0 || first == last)
    return Answer::Unknown;
  // Where the answer is yes for certain, and where it is no for certain. With a
  // negative step both are mirrored.
  Wide size = step < 0 ? -step : step;
  Wide lastYes = floorDiv(than - 1 - most, size);
  Wide firstNo = ceilDiv(than - least, size);
  Wide yesCut = step < 0 ? -lastYes - 1 : lastYes;
  Wide noCut = step < 0 ? -firstNo : firstNo - 1;
  auto isInside = [&](Wide x) { return x >= first && x < last; };
  Wide at = isInside(yesCut)  ? yesCut
            : isInside(noCut) ? noCut
                              : floorDiv(first + last, 2);
  cut = Cut{isRow, at};
  return Answer::Split;
}

std::pair<Box, Box> BoxEvaluator::split() const {
  Box low = box, high = box;
  if (cut->isRow) {
    low.r1 = cut->lastOfFirst;
    high.r0 = cut->lastOfFirst + 1;
  } else {
    low.q1 = cut->lastOfFirst;
    high.q0 = cut->lastOfFirst + 1;
  }
  return {low, high};
}

/// a < b or a <= b, as 0 or 1.
std::optional<Number> BoxEvaluator::ordered(Number a, Number b, bool orEqual) {
  Number difference = add(a, b, -1);
  switch (isLess(difference, orEqual ? 1 : 0)) {
  case Answer::Yes:
    return affine(0, 0, 1);
  case Answer::No:
    return affine(0, 0, 0);
  case Answer::Unknown:
    return between(0, 1);
  case Answer::Split:
    break;
  }
  return std::nullopt;
}

std::optional<Number> BoxEvaluator::compare(Operation *op, const Number &a,
                                            const Number &b, Type type) {
  arith::CmpIPredicate predicate = arith::CmpIPredicate::eq;
  if (auto cmp = dyn_cast<arith::CmpIOp>(op))
    predicate = cmp.getPredicate();
  if (auto cmp = dyn_cast<index::CmpOp>(op)) {
    using From = index::IndexCmpPredicate;
    using To = arith::CmpIPredicate;
    switch (cmp.getPred()) {
    case From::EQ:
      predicate = To::eq;
      break;
    case From::NE:
      predicate = To::ne;
      break;
    case From::SLT:
      predicate = To::slt;
      break;
    case From::SLE:
      predicate = To::sle;
      break;
    case From::SGT:
      predicate = To::sgt;
      break;
    case From::SGE:
      predicate = To::sge;
      break;
    case From::ULT:
      predicate = To::ult;
      break;
    case From::ULE:
      predicate = To::ule;
      break;
    case From::UGT:
      predicate = To::ugt;
      break;
    case From::UGE:
      predicate = To::uge;
      break;
    }
  }
  using P = arith::CmpIPredicate;
  Number x = a, y = b;
  bool isUnsigned = predicate == P::ult || predicate == P::ule ||
                    predicate == P::ugt || predicate == P::uge;
  // 1 of a boolean is -1 as a signed number.
  if (isBool(type) && !isUnsigned && predicate != P::eq && predicate != P::ne)
    return between(0, 1);
  if (isUnsigned && !isBool(type)) {
    for (Number *n : {&x, &y}) {
      Answer negative = isLess(*n, 0);
      if (negative == Answer::Split)
        return std::nullopt;
      if (negative == Answer::Unknown)
        return between(0, 1);
      Wide wrap = Wide(1) << widthOf(type);
      if (negative == Answer::Yes) {
        Number shift = between(wrap, wrap);
        *n = add(*n, shift, 1);
      }
    }
  }
  auto negated = [&](std::optional<Number> n) -> std::optional<Number> {
    if (!n)
      return n;
    return n->lo == n->hi ? affine(0, 0, 1 - n->lo) : *n;
  };
  switch (predicate) {
  case P::slt:
  case P::ult:
    return ordered(x, y, false);
  case P::sle:
  case P::ule:
    return ordered(x, y, true);
  case P::sgt:
  case P::ugt:
    return ordered(y, x, false);
  case P::sge:
  case P::uge:
    return ordered(y, x, true);
  case P::eq:
  case P::ne: {
    std::optional<Number> less = ordered(x, y, false);
    if (!less)
      return less;
    std::optional<Number> more = ordered(y, x, false);
    if (!more)
      return more;
    Number different = less->lo == 1 || more->lo == 1   ? affine(0, 0, 1)
                       : less->hi == 0 && more->hi == 0 ? affine(0, 0, 0)
                                                        : between(0, 1);
    return predicate == P::ne ? different : negated(different);
  }
  }
  return between(0, 1);
}

std::optional<Number> BoxEvaluator::choose(const Number &condition,
                                           const Number &yes,
                                           const Number &no) {
  if (condition.lo == condition.hi)
    return condition.lo ? yes : no;
  if (!condition.affine)
    return between(std::min(yes.lo, no.lo), std::max(yes.hi, no.hi));
  (void)isLess(condition, 1);
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Division
//===----------------------------------------------------------------------===//

std::optional<BoxEvaluator::Parts> BoxEvaluator::floorParts(const Number &value,
                                                            const Number &by) {
  if (by.lo != by.hi || by.lo <= 0 || by.lo > kLargest)
    return Parts{between(-kHuge, kHuge), between(-kHuge, kHuge)};
  Wide d = by.lo;
  Wide low = floorDiv(value.lo, d), high = floorDiv(value.hi, d);
  Parts bounds = {between(low, high), between(0, d - 1)};
  if (!value.affine)
    return bounds;
  if (low == high)
    return Parts{affine(0, 0, low),
                 affine(value.q, value.r, value.c - d * low)};
  if (modulo(value.q, d) != 0)
    return bounds;
  Number rest = affine(0, value.r, modulo(value.c, d));
  Wide turn = floorDiv(rest.lo, d);
  if (turn != floorDiv(rest.hi, d)) {
    if (isLess(rest, (turn + 1) * d) == Answer::Split)
      return std::nullopt;
    return bounds;
  }
  return Parts{affine(value.q / d, 0, floorDiv(value.c, d) + turn),
               affine(0, rest.r, rest.c - d * turn)};
}

std::optional<BoxEvaluator::Parts> BoxEvaluator::truncParts(const Number &value,
                                                            const Number &by) {
  Answer negative = isLess(value, 0);
  if (negative == Answer::Split)
    return std::nullopt;
  std::optional<Parts> parts = floorParts(value, by);
  if (!parts || negative == Answer::No)
    return parts;
  if (by.lo != by.hi || by.lo <= 0)
    return parts;
  Wide d = by.lo;
  if (negative == Answer::Yes && parts->rest.affine) {
    if (parts->rest.hi == 0)
      return parts;
    Answer whole = isLess(parts->rest, 1);
    if (whole == Answer::Split)
      return std::nullopt;
    if (whole == Answer::No)
      return Parts{
          affine(parts->quotient.q, parts->quotient.r, parts->quotient.c + 1),
          affine(parts->rest.q, parts->rest.r, parts->rest.c - d)};
  }
  return Parts{between(-floorDiv(-value.lo, d), value.hi < 0
                                                    ? -floorDiv(-value.hi, d)
                                                    : floorDiv(value.hi, d)),
               between(1 - d, d - 1)};
}

std::optional<BoxEvaluator::Parts>
BoxEvaluator::unsignedParts(const Number &value, const Number &by, Type type) {
  Answer negative = isLess(value, 0);
  if (negative == Answer::Split)
    return std::nullopt;
  if (negative == Answer::No)
    return floorParts(value, by);
  if (negative == Answer::Unknown)
    return Parts{between(-kHuge, kHuge), between(-kHuge, kHuge)};
  Wide wrap = Wide(1) << widthOf(type);
  // Not affine any more: the number is too large for that.
  return floorParts(between(value.lo + wrap, value.hi + wrap), by);
}

//===----------------------------------------------------------------------===//
// Operations
//===----------------------------------------------------------------------===//

std::optional<Number> BoxEvaluator::evaluate(Value value) {
  auto it = known.find(value);
  if (it != known.end())
    return it->second;
  std::optional<Number> result = compute(value);
  if (result)
    known[value] = *result;
  return result;
}

/// Whether the operations below are understood at all: others are not followed,
/// and may have operands of any type.
static bool isScalarArithmetic(Operation *op) {
  if (op->getNumResults() != 1 || op->getNumRegions() != 0 ||
      !op->getResult(0).getType().isIntOrIndexOrFloat())
    return false;
  return isa<arith::ArithDialect, math::MathDialect, index::IndexDialect,
             affine::AffineDialect>(op->getDialect()) &&
         llvm::all_of(op->getOperandTypes(),
                      [](Type type) { return type.isIntOrIndexOrFloat(); });
}

std::optional<Number> BoxEvaluator::compute(Value value) {
  Type type = value.getType();
  if (value == slot)
    return affine(tokens, 1, 0);
  Operation *op = value.getDefiningOp();
  if (!op || !isScalarArithmetic(op))
    return unknown(type);
  APInt integer;
  if (matchPattern(value, m_ConstantInt(&integer))) {
    if (integer.getBitWidth() > 64)
      return unknown(type);
    return affine(0, 0,
                  isBool(type) ? Wide(integer.getZExtValue())
                               : Wide(integer.getSExtValue()));
  }
  SmallVector<Number> operands;
  for (Value operand : op->getOperands()) {
    std::optional<Number> number = evaluate(operand);
    if (!number)
      return number;
    operands.push_back(*number);
  }
  if (auto apply = dyn_cast<affine::AffineApplyOp>(op)) {
    std::optional<Number> result =
        computeAffine(apply.getAffineMap().getResult(0), operands,
                      apply.getAffineMap().getNumDims());
    return result ? fit(*result, type) : result;
  }
  bool isFloat = isa<FloatType>(type) ||
                 llvm::any_of(op->getOperandTypes(), llvm::IsaPred<FloatType>);
  std::optional<Number> result = isFloat ? computeFloat(op, operands, type)
                                         : computeInteger(op, operands, type);
  if (!result || isa<FloatType>(type))
    return result;
  return fit(*result, type);
}

std::optional<Number> BoxEvaluator::computeInteger(Operation *op,
                                                   ArrayRef<Number> operands,
                                                   Type type) {
  auto quotient = [](std::optional<Parts> parts) -> std::optional<Number> {
    return parts ? std::optional<Number>(parts->quotient) : std::nullopt;
  };
  auto rest = [](std::optional<Parts> parts) -> std::optional<Number> {
    return parts ? std::optional<Number>(parts->rest) : std::nullopt;
  };
  Number power = unknown(type);
  if (operands.size() == 2 && operands[1].lo == operands[1].hi &&
      operands[1].lo >= 0 && operands[1].lo < 62)
    power = affine(0, 0, Wide(1) << operands[1].lo);
  Type from = op->getOperand(0).getType();
  return llvm::TypeSwitch<Operation *, std::optional<Number>>(op)
      .Case<arith::AddIOp, index::AddOp>([&](auto) -> std::optional<Number> {
        return isBool(type) ? unknown(type) : add(operands[0], operands[1], 1);
      })
      .Case<arith::SubIOp, index::SubOp>([&](auto) -> std::optional<Number> {
        return isBool(type) ? unknown(type) : add(operands[0], operands[1], -1);
      })
      .Case<arith::MulIOp, index::MulOp>([&](auto) -> std::optional<Number> {
        return isBool(type) ? unknown(type)
                            : multiply(operands[0], operands[1]);
      })
      .Case<arith::ShLIOp, index::ShlOp>(
          [&](auto) { return multiply(operands[0], power); })
      .Case<arith::DivSIOp, index::DivSOp>(
          [&](auto) { return quotient(truncParts(operands[0], operands[1])); })
      .Case<arith::RemSIOp, index::RemSOp>(
          [&](auto) { return rest(truncParts(operands[0], operands[1])); })
      .Case<arith::FloorDivSIOp, index::FloorDivSOp>(
          [&](auto) { return quotient(floorParts(operands[0], operands[1])); })
      .Case<arith::DivUIOp, index::DivUOp>([&](auto) {
        return quotient(unsignedParts(operands[0], operands[1], type));
      })
      .Case<arith::RemUIOp, index::RemUOp>([&](auto) -> std::optional<Number> {
        // 2^64 is a multiple of a power of two, so that wrapping is no harm.
        Wide d = operands[1].lo;
        bool isPower = d == operands[1].hi && d > 0 && (d & (d - 1)) == 0;
        return rest(isPower ? floorParts(operands[0], operands[1])
                            : unsignedParts(operands[0], operands[1], type));
      })
      .Case<arith::ShRSIOp, index::ShrSOp>(
          [&](auto) { return quotient(floorParts(operands[0], power)); })
      .Case<arith::ShRUIOp, index::ShrUOp>([&](auto) {
        return quotient(unsignedParts(operands[0], power, type));
      })
      .Case<arith::AndIOp, index::AndOp>([&](auto) -> std::optional<Number> {
        if (isBool(type)) {
          if (operands[0].hi == 0 || operands[1].hi == 0)
            return affine(0, 0, 0);
          return operands[0].lo == 1   ? operands[1]
                 : operands[1].lo == 1 ? operands[0]
                                       : between(0, 1);
        }
        bool isFirst = operands[0].lo == operands[0].hi;
        const Number &mask = operands[isFirst ? 0 : 1];
        if (mask.lo != mask.hi || mask.lo < 0)
          return unknown(type);
        if ((mask.lo & (mask.lo + 1)) != 0)
          return between(0, mask.lo);
        return rest(
            floorParts(operands[isFirst ? 1 : 0], affine(0, 0, mask.lo + 1)));
      })
      .Case<arith::OrIOp, index::OrOp>([&](auto) -> std::optional<Number> {
        if (!isBool(type))
          return unknown(type);
        if (operands[0].lo == 1 || operands[1].lo == 1)
          return affine(0, 0, 1);
        return operands[0].hi == 0   ? operands[1]
               : operands[1].hi == 0 ? operands[0]
                                     : between(0, 1);
      })
      .Case<arith::XOrIOp, index::XOrOp>([&](auto) -> std::optional<Number> {
        const Number &a = operands[0], &b = operands[1];
        if (isBool(type)) {
          if (a.lo == a.hi && b.lo == b.hi)
            return affine(0, 0, a.lo != b.lo);
          return between(0, 1);
        }
        if (b.lo == -1 && b.hi == -1)
          return add(affine(0, 0, -1), a, -1);
        return unknown(type);
      })
      .Case<arith::CmpIOp, index::CmpOp>(
          [&](auto) { return compare(op, operands[0], operands[1], from); })
      .Case<arith::SelectOp>(
          [&](auto) { return choose(operands[0], operands[1], operands[2]); })
      .Case<arith::MaxSIOp, index::MaxSOp, arith::MinSIOp, index::MinSOp>(
          [&](auto) -> std::optional<Number> {
            if (isBool(type))
              return unknown(type);
            std::optional<Number> less =
                ordered(operands[0], operands[1], false);
            if (!less)
              return less;
            bool isMax = isa<arith::MaxSIOp, index::MaxSOp>(op);
            if (less->lo != less->hi)
              return isMax ? between(std::max(operands[0].lo, operands[1].lo),
                                     std::max(operands[0].hi, operands[1].hi))
                           : between(std::min(operands[0].lo, operands[1].lo),
                                     std::min(operands[0].hi, operands[1].hi));
            return operands[(less->lo == 1) == isMax ? 1 : 0];
          })
      .Case<arith::ExtSIOp, arith::IndexCastOp, arith::TruncIOp,
            index::CastSOp>([&](auto) -> std::optional<Number> {
        if (isBool(from))
          return isa<arith::TruncIOp>(op)
                     ? operands[0]
                     : add(affine(0, 0, 0), operands[0], -1);
        return operands[0];
      })
      .Case<arith::ExtUIOp, arith::IndexCastUIOp, index::CastUOp>(
          [&](auto) -> std::optional<Number> {
            if (isBool(from) || widthOf(from) >= widthOf(type))
              return operands[0];
            Answer negative = isLess(operands[0], 0);
            if (negative == Answer::Split)
              return std::nullopt;
            if (negative == Answer::No)
              return operands[0];
            Wide wrap = Wide(1) << widthOf(from);
            if (negative == Answer::Yes)
              return add(operands[0], affine(0, 0, wrap), 1);
            return between(0, wrap - 1);
          })
      .Default(
          [&](Operation *) -> std::optional<Number> { return unknown(type); });
}

std::optional<Number> BoxEvaluator::computeFloat(Operation *op,
                                                 ArrayRef<Number> operands,
                                                 Type type) {
  APFloat constant(0.0);
  if (op->getNumOperands() == 0) {
    if (!matchPattern(op->getResult(0), m_ConstantFloat(&constant)) ||
        !exactBits(type))
      return unknown(type);
    double value = constant.convertToDouble();
    // An integer, or one over a power of two, which multiplies exactly.
    bool isInverse = value > 0 && value < 1;
    double whole = isInverse ? 1 / value : value;
    if (!(whole >= -(1 << 30) && whole <= (1 << 30)) ||
        whole != static_cast<int64_t>(whole))
      return unknown(type);
    auto integer = static_cast<int64_t>(whole);
    if (!isInverse)
      return affine(0, 0, integer);
    if (integer & (integer - 1))
      return unknown(type);
    Number inverse = affine(0, 0, 1);
    inverse.den = integer;
    inverse.lo = 0;
    return inverse;
  }
  Type from = op->getOperand(0).getType();
  if (isa<arith::SIToFPOp>(op)) {
    unsigned bits = exactBits(type);
    if (!bits || isBool(from))
      return unknown(type);
    const Number &value = operands[0];
    Wide limit = Wide(1) << bits;
    Answer below = isLess(value, -limit);
    if (below == Answer::Split)
      return std::nullopt;
    Answer inside = isLess(value, limit + 1);
    if (inside == Answer::Split)
      return std::nullopt;
    if (below == Answer::No && inside == Answer::Yes)
      return value;
    return between(roundedDown(value.lo, bits), roundedUp(value.hi, bits));
  }
  if (isa<arith::DivFOp, arith::MulFOp>(op)) {
    bool isFirst = isa<arith::MulFOp>(op) && operands[0].affine &&
                   operands[0].q == 0 && operands[0].r == 0;
    const Number &by = operands[isFirst ? 0 : 1];
    const Number &value = operands[isFirst ? 1 : 0];
    bool isConstant = by.affine && by.q == 0 && by.r == 0;
    // x / N, or x * (1 / N).
    Wide den = isa<arith::DivFOp>(op) ? by.c : by.den;
    Wide other = isa<arith::DivFOp>(op) ? by.den : by.c;
    unsigned bits = exactBits(type);
    if (!isConstant || other != 1 || den < 1 || value.den != 1 || !bits)
      return unknown(type);
    // A quotient is rounded to an integer above it only if the next integer
    // times the divisor is out of the exact range.
    Wide limit = (Wide(1) << bits) - den;
    if (value.affine) {
      Answer below = isLess(value, -limit);
      if (below == Answer::Split)
        return std::nullopt;
      Answer inside = isLess(value, limit + 1);
      if (inside == Answer::Split)
        return std::nullopt;
      if (below == Answer::No && inside == Answer::Yes) {
        Number result = value;
        result.den *= den;
        result.lo = floorDiv(value.lo, den);
        result.hi = ceilDiv(value.hi, den);
        return result;
      }
    }
    if (value.lo <= -kHuge / 2 || value.hi >= kHuge / 2)
      return unknown(type);
    return between(roundedDown(floorDiv(value.lo, den), bits),
                   roundedUp(ceilDiv(value.hi, den), bits));
  }
  if (isa<math::FloorOp>(op)) {
    if (!operands[0].affine)
      return operands[0];
    Number numerator = affine(operands[0].q, operands[0].r, operands[0].c);
    std::optional<Parts> parts =
        floorParts(numerator, affine(0, 0, operands[0].den));
    return parts ? std::optional<Number>(parts->quotient) : std::nullopt;
  }
  if (isa<arith::FPToSIOp>(op)) {
    if (!operands[0].affine)
      return operands[0];
    Number numerator = affine(operands[0].q, operands[0].r, operands[0].c);
    std::optional<Parts> parts =
        truncParts(numerator, affine(0, 0, operands[0].den));
    return parts ? std::optional<Number>(parts->quotient) : std::nullopt;
  }
  return unknown(type);
}

std::optional<Number> BoxEvaluator::computeAffine(AffineExpr expr,
                                                  ArrayRef<Number> operands,
                                                  unsigned numDims) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return affine(0, 0, constant.getValue());
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return operands[dim.getPosition()];
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return operands[numDims + symbol.getPosition()];
  auto binary = cast<AffineBinaryOpExpr>(expr);
  std::optional<Number> a = computeAffine(binary.getLHS(), operands, numDims);
  if (!a)
    return a;
  std::optional<Number> b = computeAffine(binary.getRHS(), operands, numDims);
  if (!b)
    return b;
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return add(*a, *b, 1);
  case AffineExprKind::Mul:
    return multiply(*a, *b);
  case AffineExprKind::FloorDiv:
  case AffineExprKind::Mod: {
    std::optional<Parts> parts = floorParts(*a, *b);
    if (!parts)
      return std::nullopt;
    return expr.getKind() == AffineExprKind::Mod ? parts->rest
                                                 : parts->quotient;
  }
  default:
    return between(-kHuge, kHuge);
  }
}
