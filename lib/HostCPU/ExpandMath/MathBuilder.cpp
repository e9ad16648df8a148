// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "MathBuilder.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvcache;

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

Type MathBuilder::shaped(Value like, Type element) {
  if (auto vector = dyn_cast<VectorType>(like.getType()))
    return vector.clone(element);
  return element;
}

Value MathBuilder::constant(Value like, TypedAttr element) {
  TypedAttr attribute = element;
  if (auto vector = dyn_cast<VectorType>(like.getType()))
    attribute = DenseElementsAttr::get(vector.clone(element.getType()),
                                       Attribute(element));
  return arith::ConstantOp::create(*this, attribute);
}

Value MathBuilder::f32(Value like, double value) {
  return constant(like, getF32FloatAttr(static_cast<float>(value)));
}
Value MathBuilder::f64(Value like, double value) {
  return constant(like, getF64FloatAttr(value));
}
Value MathBuilder::i32(Value like, int64_t value) {
  return constant(like,
                  getIntegerAttr(getI32Type(), static_cast<int32_t>(value)));
}
Value MathBuilder::i64(Value like, int64_t value) {
  return constant(like, getI64IntegerAttr(value));
}

// Fused where the CPU can: nothing here needs a product to be rounded.
static constexpr auto kContract = arith::FastMathFlags::contract;

Value MathBuilder::add(Value a, Value b) {
  return arith::AddFOp::create(*this, a, b, kContract);
}
Value MathBuilder::sub(Value a, Value b) {
  return arith::SubFOp::create(*this, a, b, kContract);
}
Value MathBuilder::mul(Value a, Value b) {
  return arith::MulFOp::create(*this, a, b, kContract);
}
Value MathBuilder::div(Value a, Value b) {
  return arith::DivFOp::create(*this, a, b);
}
Value MathBuilder::addI(Value a, Value b) {
  return arith::AddIOp::create(*this, a, b);
}
Value MathBuilder::subI(Value a, Value b) {
  return arith::SubIOp::create(*this, a, b);
}
Value MathBuilder::mulI(Value a, Value b) {
  return arith::MulIOp::create(*this, a, b);
}
Value MathBuilder::shl(Value a, Value b) {
  return arith::ShLIOp::create(*this, a, b);
}
Value MathBuilder::shr(Value a, Value b) {
  return arith::ShRUIOp::create(*this, a, b);
}
Value MathBuilder::andI(Value a, Value b) {
  return arith::AndIOp::create(*this, a, b);
}
Value MathBuilder::orI(Value a, Value b) {
  return arith::OrIOp::create(*this, a, b);
}
Value MathBuilder::select(Value c, Value a, Value b) {
  return arith::SelectOp::create(*this, c, a, b);
}
Value MathBuilder::compare(arith::CmpFPredicate predicate, Value a, Value b) {
  return arith::CmpFOp::create(*this, predicate, a, b);
}
Value MathBuilder::compareI(arith::CmpIPredicate predicate, Value a, Value b) {
  return arith::CmpIOp::create(*this, predicate, a, b);
}
Value MathBuilder::bits(Value value) {
  unsigned width = getElementTypeOrSelf(value).getIntOrFloatBitWidth();
  return arith::BitcastOp::create(*this, shaped(value, getIntegerType(width)),
                                  value);
}
Value MathBuilder::fromBits(Value value, Type element) {
  return arith::BitcastOp::create(*this, shaped(value, element), value);
}
Value MathBuilder::toF64(Value value) {
  return arith::ExtFOp::create(*this, shaped(value, getF64Type()), value);
}
Value MathBuilder::toF32(Value value) {
  return arith::TruncFOp::create(*this, shaped(value, getF32Type()), value);
}
Value MathBuilder::zeroExtend(Value value, Type element) {
  return arith::ExtUIOp::create(*this, shaped(value, element), value);
}
Value MathBuilder::magnitude(Value value) {
  return math::AbsFOp::create(*this, value);
}
Value MathBuilder::withSign(Value value, Value sign) {
  return math::CopySignOp::create(*this, value, sign);
}

Value MathBuilder::polynomial(Value x, ArrayRef<double> coefficients) {
  bool wide = getElementTypeOrSelf(x).isF64();
  auto term = [&](double c) { return wide ? f64(x, c) : f32(x, c); };
  Value result = term(coefficients.back());
  for (double c : llvm::reverse(coefficients.drop_back()))
    result = fma(result, x, term(c));
  return result;
}

Value MathBuilder::powerOf2(Value n) {
  if (getElementTypeOrSelf(n).isInteger(64)) {
    Value biased = addI(n, i64(n, 1023));
    return fromBits(shl(biased, i64(n, 52)), getF64Type());
  }
  Value biased = addI(n, i32(n, 127));
  return fromBits(shl(biased, i32(n, 23)), getF32Type());
}

//===----------------------------------------------------------------------===//
// Exponentials
//===----------------------------------------------------------------------===//

/// Adding it leaves a float rounded to an integer, which is in the low bits.
static constexpr double kRound32 = 12582912.0;         // 1.5 * 2^23
static constexpr double kRound64 = 6755399441055744.0; // 1.5 * 2^52

/// y * 2^n in two steps, so that results may be denormal or infinite.
static Value scale(MathBuilder &b, Value y, Value n) {
  Value half = arith::ShRSIOp::create(b, n, b.i32(n, 1));
  y = b.mul(y, b.powerOf2(half));
  return b.mul(y, b.powerOf2(b.subI(n, half)));
}

/// Limits x to where the result is not 0 or infinite already; NaN stays.
static Value clamp(MathBuilder &b, Value x, double low, double high) {
  Value least = b.f32(x, low), most = b.f32(x, high);
  x = b.select(b.compare(arith::CmpFPredicate::OLT, x, least), least, x);
  return b.select(b.compare(arith::CmpFPredicate::OGT, x, most), most, x);
}

Value MathBuilder::exp(Value x) {
  // 2^n e^r, |r| <= ln 2 / 2. The first part of ln 2 has 11 bits, so that its
  // product with n is exact.
  x = clamp(*this, x, -104, 89);
  Value shifted = fma(x, f32(x, 1.4426950408889634), f32(x, kRound32));
  Value n = arith::SubFOp::create(*this, shifted, f32(x, kRound32));
  Value r = fma(n, f32(x, -0.693359375), x);
  r = fma(n, f32(x, 2.12194440054690583e-4), r);
  Value y = polynomial(r, {1.0, 1.0000000107760614, 0.5000000047128987,
                           0.16666505230485007, 0.04166635285938451,
                           0.008369150982325359, 0.0013941110924267706});
  return scale(*this, y, subI(bits(shifted), bits(f32(x, kRound32))));
}

Value MathBuilder::exp2(Value x) {
  x = clamp(*this, x, -151, 129);
  Value shifted = arith::AddFOp::create(*this, x, f32(x, kRound32));
  Value n = arith::SubFOp::create(*this, shifted, f32(x, kRound32));
  Value y =
      polynomial(sub(x, n), {1.0, 0.693147188029342, 0.24022650922342695,
                             0.055503571042530495, 0.009618056669893231,
                             0.0013390867351490547, 0.0001546144746104155});
  return scale(*this, y, subI(bits(shifted), bits(f32(x, kRound32))));
}

Value MathBuilder::expWide(Value x) {
  Value least = f64(x, -700), most = f64(x, 700);
  x = select(compare(arith::CmpFPredicate::OLT, x, least), least, x);
  x = select(compare(arith::CmpFPredicate::OGT, x, most), most, x);
  Value shifted = fma(x, f64(x, 1.4426950408889634), f64(x, kRound64));
  Value n = arith::SubFOp::create(*this, shifted, f64(x, kRound64));
  Value r = fma(n, f64(x, -0.69314718055994531), x);
  SmallVector<double> taylor = {1.0};
  for (int i = 1; i <= 11; ++i)
    taylor.push_back(taylor.back() / i);
  Value y = polynomial(r, taylor);
  return mul(y, powerOf2(subI(bits(shifted), bits(f64(x, kRound64)))));
}

/// 1 - 2 / (e^2|x| + 1), and x where that would cancel.
Value MathBuilder::tanhWide(Value x) {
  Value size = magnitude(x);
  Value e = expWide(mul(size, f64(x, 2.0)));
  Value y = sub(f64(x, 1.0), div(f64(x, 2.0), add(e, f64(x, 1.0))));
  Value small = compare(arith::CmpFPredicate::OLT, size, f64(x, 1e-4));
  return select(small, x, withSign(y, x));
}

//===----------------------------------------------------------------------===//
// Logarithm, error function
//===----------------------------------------------------------------------===//

Value MathBuilder::logWide(Value x) {
  // x = 2^n m, sqrt(1/2) <= m < sqrt(2); log m = 2 artanh s.
  Value raw = bits(x);
  Value offset = i64(x, 0x3FE6A09E667F3BCD); // sqrt(1/2)
  Value distance = subI(raw, offset);
  Value n = arith::ShRSIOp::create(*this, distance, i64(x, 52));
  Value m = fromBits(subI(raw, shl(n, i64(x, 52))), getF64Type());
  // The integer as a float by its bits: a conversion of 64-bit integers would
  // go lane by lane.
  Value exponent = sub(fromBits(addI(n, bits(f64(x, kRound64))), getF64Type()),
                       f64(x, kRound64));
  Value s = div(sub(m, f64(x, 1.0)), add(m, f64(x, 1.0)));
  SmallVector<double> series;
  for (int i = 1; i <= 17; i += 2)
    series.push_back(2.0 / i);
  Value y = mul(s, polynomial(mul(s, s), series));
  y = fma(exponent, f64(x, 0.69314718055994531), y);

  double infinity = std::numeric_limits<double>::infinity();
  Value inf = f64(x, infinity);
  y = select(compare(arith::CmpFPredicate::OEQ, x, inf), inf, y);
  y = select(compare(arith::CmpFPredicate::OEQ, x, f64(x, 0.0)),
             f64(x, -infinity), y);
  // Unordered or less: NaN for a NaN, too.
  return select(compare(arith::CmpFPredicate::ULT, x, f64(x, 0.0)),
                f64(x, std::numeric_limits<double>::quiet_NaN()), y);
}

Value MathBuilder::erfWide(Value x) {
  // x times a polynomial of degree 22 in u = x^2/8 - 1, fitted to |x| <= 4;
  // past that the result is 1 as an f32.
  Value size = magnitude(x);
  Value four = f64(x, 4.0);
  Value inside =
      select(compare(arith::CmpFPredicate::OGT, size, four), four, size);
  Value u = fma(mul(inside, inside), f64(x, 0.125), f64(x, -1.0));
  Value y =
      mul(inside, polynomial(u, {0.35353099564338797,   -0.17657623330398234,
                                 0.13167511689966022,   -0.10771044229995541,
                                 0.09020899387578235,   -0.07472787165570899,
                                 0.05988690938059758,   -0.04576503997203851,
                                 0.033060590450533715,  -0.022474034174622137,
                                 0.01434983761756014,   -0.008604344443561342,
                                 0.0048526985191496425, -0.002583060635175944,
                                 0.0012946091131770501, -0.0006048223287863268,
                                 0.0002724391500911809, -0.00012652655167827664,
                                 5.099962767135574e-05, -1.2620945315593313e-05,
                                 4.865976997386615e-06, -4.589163968973887e-06,
                                 1.5253659703176838e-06}));
  return withSign(y, x);
}

//===----------------------------------------------------------------------===//
// Rounding
//===----------------------------------------------------------------------===//

Value MathBuilder::roundEven(Value x) {
  bool wide = getElementTypeOrSelf(x).isF64();
  Value limit = wide ? f64(x, 4503599627370496.0) : f32(x, 8388608.0);
  Value size = magnitude(x);
  Value shifted = arith::AddFOp::create(*this, size, limit);
  Value rounded = withSign(arith::SubFOp::create(*this, shifted, limit), x);
  return select(compare(arith::CmpFPredicate::OLT, size, limit), rounded, x);
}

Value MathBuilder::floor(Value x) {
  Value rounded = roundEven(x);
  Value one = getElementTypeOrSelf(x).isF64() ? f64(x, 1.0) : f32(x, 1.0);
  Value less = arith::SubFOp::create(*this, rounded, one);
  Value above = compare(arith::CmpFPredicate::OGT, rounded, x);
  return withSign(select(above, less, rounded), x);
}

//===----------------------------------------------------------------------===//
// Sine and cosine
//===----------------------------------------------------------------------===//

/// 1 / (2 pi) in binary, in pieces of 32 bits.
static constexpr uint32_t kTurn[] = {0x28be60db, 0x9391054a, 0x7f09d5f4,
                                     0x7d4d3770, 0x36d8a566, 0x4f10e410,
                                     0x7f9458ea};
/// Up to here the quadrant has 20 bits, and its product with a third of pi / 2
/// is exact.
static constexpr double kLargeAngle = 1 << 20;

/// The angle within its quadrant for any float: its product with 1 / (2 pi),
/// of which only the bits below one turn are computed. In vectors this is done
/// if any lane is large, and taken for those that are.
Value MathBuilder::reduceLarge(Value x, Value small, Value smallQuadrant,
                               Value &quadrant) {
  Value size = magnitude(x);
  Value large = compare(arith::CmpFPredicate::OGE, size, f32(x, kLargeAngle));
  Value any = large;
  auto vector = dyn_cast<VectorType>(x.getType());
  if (vector && vector.getRank() != 1)
    any = arith::ConstantIntOp::create(*this, true, 1);
  else if (vector)
    any = vector::ReductionOp::create(*this, vector::CombiningKind::OR, large);
  auto branch = scf::IfOp::create(
      *this, TypeRange{small.getType(), smallQuadrant.getType()}, any, true);
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(branch.elseBlock());
  scf::YieldOp::create(*this, ValueRange{small, smallQuadrant});
  setInsertionPointToStart(branch.thenBlock());

  Type wide = getI64Type();
  Value raw = bits(size);
  Value mantissa = zeroExtend(
      orI(shl(raw, i32(x, 8)), i32(x, static_cast<int32_t>(0x80000000))), wide);
  // For large lanes 21 to 128; others are not used, but must not shift too far.
  Value exponent = subI(shr(raw, i32(x, 23)), i32(x, 126));
  exponent = zeroExtend(andI(exponent, i32(x, 0xff)), wide);
  Value word = shr(exponent, i64(x, 5));
  Value shift = andI(exponent, i64(x, 31));
  // Piece `word + at` of the constant, shifted; what is shifted in comes from
  // the piece below.
  auto piece = [&](int at) {
    Value result = i64(x, 0);
    for (int i = 0; i <= 4; ++i) {
      int index = i + at;
      int64_t high = index < 0 ? 0 : kTurn[index];
      int64_t low = index + 1 > 6 ? 0 : kTurn[index + 1];
      Value here = compareI(arith::CmpIPredicate::eq, word, i64(x, i));
      result = select(here, i64(x, high << 32 | low), result);
    }
    return shr(shl(result, shift), i64(x, 32));
  };
  Value product = shr(mulI(mantissa, piece(1)), i64(x, 32));
  product = addI(mulI(mantissa, piece(0)), product);
  product = addI(shl(mulI(mantissa, piece(-1)), i64(x, 32)), product);
  // Two bits of quadrant; the rest is made -1/2 to 1/2 of a quadrant.
  Value turned = addI(product, i64(x, int64_t(1) << 61));
  Value newQuadrant = shr(turned, i64(x, 62));
  Value rest =
      arith::SubIOp::create(*this, product, shl(newQuadrant, i64(x, 62)));
  Value r = arith::SIToFPOp::create(*this, shaped(x, getF64Type()), rest);
  r = mul(r, f64(x, 1.5707963267948966 / 4611686018427387904.0));
  // The angle is odd in x; so is the number of quadrants.
  Value negative = compare(arith::CmpFPredicate::OLT, x, f32(x, 0.0));
  r = select(negative, sub(f64(x, 0.0), r), r);
  newQuadrant = select(negative, subI(i64(x, 0), newQuadrant), newQuadrant);
  scf::YieldOp::create(*this,
                       ValueRange{select(large, r, small),
                                  select(large, newQuadrant, smallQuadrant)});
  quadrant = branch.getResult(1);
  return branch.getResult(0);
}

Value MathBuilder::sinCos(Value x, bool cosine) {
  Value wide = toF64(x);
  Value shifted = fma(wide, f64(x, 0.6366197723675814), f64(x, kRound64));
  Value n = arith::SubFOp::create(*this, shifted, f64(x, kRound64));
  Value r = fma(n, f64(x, -1.5707963267341256), wide);
  r = fma(n, f64(x, -6.077100506303966e-11), r);
  r = fma(n, f64(x, -2.0222662487959506e-21), r);
  Value quadrant = subI(bits(shifted), bits(f64(x, kRound64)));
  r = reduceLarge(x, r, quadrant, quadrant);
  if (cosine)
    quadrant = addI(quadrant, i64(x, 1));

  Value square = mul(r, r);
  SmallVector<double> even = {1.0}, odd = {1.0};
  for (int i = 2; i <= 14; i += 2) {
    even.push_back(-even.back() / (i * (i - 1)));
    odd.push_back(-odd.back() / (i * (i + 1)));
  }
  Value sine = mul(r, polynomial(square, odd));
  Value other = polynomial(square, even);
  auto bit = [&](int64_t which) {
    return compareI(arith::CmpIPredicate::ne, andI(quadrant, i64(x, which)),
                    i64(x, 0));
  };
  Value y = select(bit(1), other, sine);
  y = select(bit(2), arith::NegFOp::create(*this, y), y);
  Value result = toF32(y);
  // Infinity and NaN, whatever the bits above made of them. Zero keeps its
  // sign.
  Value finite = compare(arith::CmpFPredicate::OLT, magnitude(x),
                         f32(x, std::numeric_limits<float>::infinity()));
  result =
      select(finite, result, f32(x, std::numeric_limits<float>::quiet_NaN()));
  if (cosine)
    return result;
  Value zero = compare(arith::CmpFPredicate::OEQ, x, f32(x, 0.0));
  return select(zero, x, result);
}

//===----------------------------------------------------------------------===//
// Narrower floats
//===----------------------------------------------------------------------===//

Value MathBuilder::toOddF32(Value value) {
  Value near = toF32(value), raw = bits(near);
  Value back = toF64(near);
  Value exact = compare(arith::CmpFPredicate::UEQ, back, value);
  Value even =
      compareI(arith::CmpIPredicate::eq, andI(raw, i32(raw, 1)), i32(raw, 0));
  Value below =
      compare(arith::CmpFPredicate::OLT, magnitude(back), magnitude(value));
  Value step = select(below, i32(raw, 1), i32(raw, -1));
  Value odd = select(even, addI(raw, step), raw);
  return fromBits(select(exact, raw, odd), getF32Type());
}
