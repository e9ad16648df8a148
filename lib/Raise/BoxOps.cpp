// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The effect of each scalar operation on values on a box.
//
//===----------------------------------------------------------------------===//

#include "Boxes.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Index/IR/IndexDialect.h"
#include "mlir/Dialect/Index/IR/IndexOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

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
  return isa_and_present<arith::ArithDialect, math::MathDialect,
                         index::IndexDialect, affine::AffineDialect>(
             op->getDialect()) &&
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
    if (!std::isfinite(whole) || std::abs(whole) > (1 << 30) ||
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
  // Flags that let a division be another one.
  using Flags = arith::FastMathFlags;
  auto flags = dyn_cast<arith::ArithFastMathInterface>(op);
  if (flags && flags.getFastMathFlagsAttr() &&
      bitEnumContainsAny(flags.getFastMathFlagsAttr().getValue(),
                         Flags::arcp | Flags::afn | Flags::reassoc))
    return unknown(type);
  auto isWithin = [&](const Number &value, Wide limit) {
    Answer below = isLess(value, -limit);
    if (below == Answer::Split)
      return below;
    Answer inside = isLess(value, limit + 1);
    return below == Answer::No || inside == Answer::Split ? inside : Answer::No;
  };
  Type from = op->getOperand(0).getType();
  if (isa<arith::SIToFPOp>(op)) {
    unsigned bits = exactBits(type);
    if (!bits || isBool(from))
      return unknown(type);
    const Number &value = operands[0];
    Wide limit = Wide(1) << bits;
    Answer within = isWithin(value, limit);
    if (within == Answer::Split)
      return std::nullopt;
    if (within == Answer::Yes)
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
      Answer within = isWithin(value, limit);
      if (within == Answer::Split)
        return std::nullopt;
      if (within == Answer::Yes) {
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
  if (isa<math::FloorOp, arith::FPToSIOp>(op)) {
    if (!operands[0].affine)
      return operands[0];
    Number numerator = affine(operands[0].q, operands[0].r, operands[0].c);
    Number denominator = affine(0, 0, operands[0].den);
    std::optional<Parts> parts = isa<math::FloorOp>(op)
                                     ? floorParts(numerator, denominator)
                                     : truncParts(numerator, denominator);
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
