// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Lanes.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvcache;

Value kvcache::loadLanes(const Emitter &emit, const Place &place,
                         int64_t lanes) {
  Type element = cast<MemRefType>(place.memref.getType()).getElementType();
  Value loaded = vector::LoadOp::create(emit.builder, emit.loc,
                                        VectorType::get({lanes}, element),
                                        place.memref, place.offset);
  return emitConvert(emit, loaded, emit.builder.getF32Type());
}

void kvcache::storeLanes(const Emitter &emit, Value vector,
                         const Place &place) {
  Type element = cast<MemRefType>(place.memref.getType()).getElementType();
  vector::StoreOp::create(emit.builder, emit.loc,
                          emitConvert(emit, vector, element), place.memref,
                          place.offset);
}

Value kvcache::splat(const Emitter &emit, Value scalar, int64_t lanes) {
  auto type = VectorType::get({lanes}, scalar.getType());
  return vector::BroadcastOp::create(emit.builder, emit.loc, type, scalar);
}

/// A constant of the type of `like`.
static Value constantLike(const Emitter &emit, Value like, float value) {
  Attribute attr = emit.builder.getF32FloatAttr(value);
  if (auto vector = dyn_cast<VectorType>(like.getType()))
    attr = DenseElementsAttr::get(vector, attr);
  return arith::ConstantOp::create(emit.builder, emit.loc,
                                   cast<TypedAttr>(attr));
}

static Value integerLike(const Emitter &emit, Type like, int64_t value) {
  Attribute attr = emit.builder.getI32IntegerAttr(value);
  if (auto vector = dyn_cast<VectorType>(like))
    attr = DenseElementsAttr::get(vector, attr);
  return arith::ConstantOp::create(emit.builder, emit.loc,
                                   cast<TypedAttr>(attr));
}

Value kvcache::splat(const Emitter &emit, float value, int64_t lanes) {
  auto type = VectorType::get({lanes}, emit.builder.getF32Type());
  return arith::ConstantOp::create(
      emit.builder, emit.loc,
      DenseElementsAttr::get(type, emit.builder.getF32FloatAttr(value)));
}

Value kvcache::addF(const Emitter &emit, Value a, Value b) {
  return emit.make<arith::AddFOp>(a, b);
}
Value kvcache::subF(const Emitter &emit, Value a, Value b) {
  return emit.make<arith::SubFOp>(a, b);
}
Value kvcache::mulF(const Emitter &emit, Value a, Value b) {
  return emit.make<arith::MulFOp>(a, b);
}
Value kvcache::divF(const Emitter &emit, Value a, Value b) {
  return emit.make<arith::DivFOp>(a, b);
}
Value kvcache::maxF(const Emitter &emit, Value a, Value b) {
  // One instruction, where the maximum of the standard would be five. A NaN
  // reaches the result through the exponential.
  Value greater = emit.make<arith::CmpFOp>(arith::CmpFPredicate::OGT, a, b);
  return emit.select(greater, a, b);
}
Value kvcache::fma(const Emitter &emit, Value a, Value b, Value c) {
  return emit.make<math::FmaOp>(a, b, c);
}

static Type integersOf(const Emitter &emit, Value x) {
  Type i32 = emit.builder.getI32Type();
  if (auto vector = dyn_cast<VectorType>(x.getType()))
    return vector.clone(i32);
  return i32;
}

/// c[0] + x * (c[1] + x * (c[2] + ...))
static Value polynomial(const Emitter &emit, Value x, ArrayRef<float> c) {
  Value sum = constantLike(emit, x, c.back());
  for (float next : llvm::reverse(c.drop_back()))
    sum = fma(emit, sum, x, constantLike(emit, x, next));
  return sum;
}

Value kvcache::emitExp2(const Emitter &emit, Value x) {
  Value least = constantLike(emit, x, -126.0f);
  Value most = constantLike(emit, x, 127.0f);
  Value isLow = emit.make<arith::CmpFOp>(arith::CmpFPredicate::OLT, x, least);
  Value isHigh = emit.make<arith::CmpFOp>(arith::CmpFPredicate::OGT, x, most);
  Value isNaN = emit.make<arith::CmpFOp>(arith::CmpFPredicate::UNO, x, x);
  Value bounded = emit.select(emit.either(isLow, isNaN), least,
                              emit.select(isHigh, most, x));
  Value whole = emit.make<math::RoundEvenOp>(bounded);
  Value part = subF(emit, bounded, whole);
  // Powers of ln 2 over factorials: the error on [-1/2, 1/2] is below one unit
  // in the last place.
  Value value = polynomial(emit, part,
                           {1.0f, 0.693147182f, 0.240226507f, 0.0555041097f,
                            0.00961813331f, 0.00133335581f, 0.000154035303f,
                            0.0000152527337f});
  Type integers = integersOf(emit, x);
  Value exponent = emit.make<arith::FPToSIOp>(integers, whole);
  exponent =
      emit.make<arith::ShLIOp>(exponent, integerLike(emit, integers, 23));
  Value bits = emit.make<arith::BitcastOp>(integers, value);
  Value scaled =
      emit.make<arith::BitcastOp>(x.getType(), emit.add(bits, exponent));
  Value zero = constantLike(emit, x, 0.0f);
  return emit.select(isNaN, x, emit.select(isLow, zero, scaled));
}

Value kvcache::emitLog2(const Emitter &emit, Value x) {
  Type integers = integersOf(emit, x);
  auto integer = [&](int64_t n) { return integerLike(emit, integers, n); };
  // x = 2^e * m with m in [sqrt(1/2), sqrt(2)).
  constexpr int64_t kSqrtHalf = 0x3f3504f3;
  Value bits = emit.make<arith::BitcastOp>(integers, x);
  Value shifted = emit.sub(bits, integer(kSqrtHalf));
  Value e = emit.make<arith::ShRSIOp>(shifted, integer(23));
  Value scale = emit.make<arith::ShLIOp>(e, integer(23));
  Value m = emit.make<arith::BitcastOp>(x.getType(), emit.sub(bits, scale));
  Value one = constantLike(emit, x, 1.0f);
  Value t = divF(emit, subF(emit, m, one), addF(emit, m, one));
  // log2(m) = 2 / ln 2 * (t + t^3 / 3 + t^5 / 5 + ...)
  Value square = mulF(emit, t, t);
  constexpr float kFactor = 2.88539008f;
  Value series =
      polynomial(emit, square,
                 {kFactor, kFactor / 3, kFactor / 5, kFactor / 7, kFactor / 9});
  Value whole = emit.make<arith::SIToFPOp>(x.getType(), e);
  return fma(emit, t, series, whole);
}

Value kvcache::emitTanh(const Emitter &emit, Value x) {
  // 1 - 2 / (e^(2x) + 1): exact at both ends, off by half a unit of 1 between.
  constexpr float kTwoLog2E = 2.88539008f;
  Value power = emitExp2(emit, mulF(emit, x, constantLike(emit, x, kTwoLog2E)));
  Value one = constantLike(emit, x, 1.0f), two = constantLike(emit, x, 2.0f);
  return subF(emit, one, divF(emit, two, addF(emit, power, one)));
}

static Value shuffle(const Emitter &emit, Value a, Value b,
                     ArrayRef<int64_t> mask) {
  return vector::ShuffleOp::create(emit.builder, emit.loc, a, b, mask);
}

Value kvcache::rotateLanes(const Emitter &emit, Value vector,
                           int64_t distance) {
  int64_t lanes = cast<VectorType>(vector.getType()).getNumElements();
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < lanes; ++i)
    mask.push_back((i + distance) % lanes);
  return shuffle(emit, vector, vector, mask);
}

Value kvcache::emitLaneSums(const Emitter &emit, Values vectors) {
  int64_t lanes = vectors.size();
  // Neighbours are added within groups of four lanes, where shuffles are cheap;
  // then the groups are.
  constexpr int64_t kGroup = 4;
  for (int64_t unit : {int64_t(1), int64_t(1), kGroup, kGroup}) {
    if (vectors.size() == 1)
      break;
    Values next;
    for (size_t i = 0; i < vectors.size(); i += 2) {
      SmallVector<int64_t> even, odd;
      int64_t span = unit == 1 ? kGroup : lanes;
      for (int64_t base = 0; base < lanes; base += span)
        for (int64_t source : {int64_t(0), lanes})
          for (int64_t at = 0; at < span; at += 2 * unit)
            for (int64_t j = 0; j < unit; ++j) {
              even.push_back(source + base + at + j);
              odd.push_back(source + base + at + unit + j);
            }
      next.push_back(addF(emit, shuffle(emit, vectors[i], vectors[i + 1], even),
                          shuffle(emit, vectors[i], vectors[i + 1], odd)));
    }
    vectors = next;
  }
  return vectors[0];
}

Value kvcache::dotPairs(const Emitter &emit, Value acc, Value a, Value b) {
  return LLVM::CallIntrinsicOp::create(
             emit.builder, emit.loc, acc.getType(),
             emit.builder.getStringAttr("llvm.x86.avx512bf16.dpbf16ps.512"),
             ValueRange{acc, a, b})
      .getResult(0);
}

static Value bitcast(const Emitter &emit, Value value, int64_t lanes,
                     Type element) {
  return vector::BitCastOp::create(emit.builder, emit.loc,
                                   VectorType::get({lanes}, element), value);
}

Value kvcache::loadHalves(const Emitter &emit, const Place &place, int64_t n) {
  constexpr int64_t kHalves = 32;
  OpBuilder &b = emit.builder;
  Value x =
      vector::LoadOp::create(b, emit.loc, VectorType::get({n}, b.getBF16Type()),
                             place.memref, place.offset);
  if (n == kHalves)
    return x;
  Value bits = bitcast(emit, x, n, b.getI16Type());
  Value zero = arith::ConstantOp::create(
      b, emit.loc, b.getZeroAttr(cast<VectorType>(bits.getType())));
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < kHalves; ++i)
    mask.push_back(std::min(i, n));
  return bitcast(emit, shuffle(emit, bits, zero, mask), kHalves,
                 b.getBF16Type());
}

std::pair<Value, Value> kvcache::interleaveHalves(const Emitter &emit, Value a,
                                                  Value b) {
  constexpr int64_t kHalves = 32, kGroup = 8;
  Type i16 = emit.builder.getI16Type(), bf16 = emit.builder.getBF16Type();
  a = bitcast(emit, a, kHalves, i16);
  b = bitcast(emit, b, kHalves, i16);
  auto take = [&](int64_t first) {
    SmallVector<int64_t> mask;
    for (int64_t group = 0; group < kHalves; group += kGroup)
      for (int64_t i = 0; i < kGroup / 2; ++i)
        for (int64_t source : {int64_t(0), kHalves})
          mask.push_back(source + group + first + i);
    return bitcast(emit, shuffle(emit, a, b, mask), kHalves, bf16);
  };
  return {take(0), take(kGroup / 2)};
}

std::pair<Value, Value> kvcache::orderHalves(const Emitter &emit, Value first,
                                             Value second) {
  constexpr int64_t kLanes = 16, kGroup = 4;
  auto take = [&](int64_t from) {
    SmallVector<int64_t> mask;
    for (int64_t group = from; group < from + kLanes / 2; group += kGroup)
      for (int64_t source : {int64_t(0), kLanes})
        for (int64_t i = 0; i < kGroup; ++i)
          mask.push_back(source + group + i);
    return shuffle(emit, first, second, mask);
  };
  return {take(0), take(kLanes / 2)};
}

Value kvcache::widenLanes(const Emitter &emit, Value vector, int64_t lanes) {
  int64_t have = cast<VectorType>(vector.getType()).getNumElements();
  if (have == lanes)
    return vector;
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < lanes; ++i)
    mask.push_back(std::min(i, have));
  return shuffle(emit, vector, splat(emit, 0.0f, have), mask);
}

Values RegisterBlock::zeros(const Emitter &emit) const {
  return Values(rows * columns, splat(emit, 0.0f, lanes));
}

Values RegisterBlock::accumulate(const Emitter &emit, Value count, Values start,
                                 Number a, Number b) const {
  return emit.fold(
      emit.constant(0), count, 1, start,
      [&](const Emitter &e, Value k, ValueRange acc) {
        Values next, factors;
        for (int64_t v = 0; v < columns; ++v)
          factors.push_back(b(e, k, v));
        for (int64_t m = 0; m < rows; ++m) {
          Value number = a(e, k, m);
          Value broad = splat(e, number, lanes);
          Value isZero;
          if (guarded)
            isZero = e.make<arith::CmpFOp>(arith::CmpFPredicate::OEQ, number,
                                           e.f32(0));
          for (int64_t v = 0; v < columns; ++v) {
            Value factor = factors[v];
            if (guarded)
              factor = e.select(isZero, splat(e, 0.0f, lanes), factor);
            next.push_back(fma(e, broad, factor, acc[m * columns + v]));
          }
        }
        return next;
      });
}
