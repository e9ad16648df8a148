// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Boxes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Index/IR/IndexDialect.h"
#include "mlir/Dialect/Index/IR/IndexOps.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

// Coefficients beyond this are not followed.
static constexpr Wide kLargest = Wide(1) << 62;

static Wide modulo(Wide a, Wide b) { return a - b * floorDiv(a, b); }

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
  if (auto cmp = dyn_cast<index::CmpOp>(op)) // of the same names
    predicate = *arith::symbolizeCmpIPredicate(
        index::stringifyIndexCmpPredicate(cmp.getPred()));
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
  bool isStep = modulo(value.q, d) == 0;
  Number rest = affine(0, value.r, modulo(value.c, d));
  Wide turn = floorDiv(rest.lo, d);
  // In terms of q where that is possible: the other form has larger numbers.
  if (isStep && turn == floorDiv(rest.hi, d))
    return Parts{affine(value.q / d, 0, floorDiv(value.c, d) + turn),
                 affine(0, rest.r, rest.c - d * turn)};
  if (low == high)
    return Parts{affine(0, 0, low),
                 affine(value.q, value.r, value.c - d * low)};
  if (isStep && isLess(rest, (turn + 1) * d) == Answer::Split)
    return std::nullopt;
  return bounds;
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
