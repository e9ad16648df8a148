// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Lanes.h"

#include "Codecs.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

Value cpu::loadLanes(CodeBuilder &emit, const Place &place, int64_t lanes) {
  Type element = cast<MemRefType>(place.memref.getType()).getElementType();
  Value loaded = vector::LoadOp::create(emit, VectorType::get({lanes}, element),
                                        place.memref, place.offset);
  return cpu::emitConvert(emit, loaded, emit.getF32Type());
}

void cpu::storeLanes(CodeBuilder &emit, Value vector, const Place &place) {
  Type element = cast<MemRefType>(place.memref.getType()).getElementType();
  vector::StoreOp::create(emit, cpu::emitConvert(emit, vector, element),
                          place.memref, place.offset);
}

Value cpu::splat(CodeBuilder &emit, Value scalar, int64_t lanes) {
  auto type = VectorType::get({lanes}, scalar.getType());
  return vector::BroadcastOp::create(emit, type, scalar);
}

/// A constant of the type of `like`.
static Value constantLike(CodeBuilder &emit, Value like, float value) {
  Attribute attr = emit.getF32FloatAttr(value);
  if (auto vector = dyn_cast<VectorType>(like.getType()))
    attr = DenseElementsAttr::get(vector, attr);
  return arith::ConstantOp::create(emit, cast<TypedAttr>(attr));
}

Value cpu::splat(CodeBuilder &emit, float value, int64_t lanes) {
  auto type = VectorType::get({lanes}, emit.getF32Type());
  return arith::ConstantOp::create(
      emit, DenseElementsAttr::get(type, emit.getF32FloatAttr(value)));
}

Value cpu::addF(CodeBuilder &emit, Value a, Value b) {
  return emit.fold<arith::AddFOp>(a, b);
}
Value cpu::subF(CodeBuilder &emit, Value a, Value b) {
  return emit.fold<arith::SubFOp>(a, b);
}
Value cpu::mulF(CodeBuilder &emit, Value a, Value b) {
  return emit.fold<arith::MulFOp>(a, b);
}
Value cpu::divF(CodeBuilder &emit, Value a, Value b) {
  return emit.fold<arith::DivFOp>(a, b);
}
Value cpu::maxF(CodeBuilder &emit, Value a, Value b) {
  // One instruction, where the maximum of the standard would be five. A NaN
  // reaches the result through the exponential.
  Value greater = emit.fold<arith::CmpFOp>(arith::CmpFPredicate::OGT, a, b);
  return emit.select(greater, a, b);
}
Value cpu::fma(CodeBuilder &emit, Value a, Value b, Value c) {
  return emit.fold<math::FmaOp>(a, b, c);
}

Value cpu::emitExp2(CodeBuilder &emit, Value x) {
  Value least = constantLike(emit, x, -126.0f);
  Value isLow = emit.fold<arith::CmpFOp>(arith::CmpFPredicate::OLT, x, least);
  Value inside = emit.select(isLow, least, x);
  Value power = emit.fold<math::Exp2Op>(inside);
  return emit.select(isLow, constantLike(emit, x, 0.0f), power);
}

Value cpu::emitTanh(CodeBuilder &emit, Value x) {
  // 1 - 2 / (e^(2x) + 1): exact at both ends, off by half a unit of 1 between.
  constexpr float kTwoLog2E = 2.88539008f;
  Value power = emitExp2(emit, mulF(emit, x, constantLike(emit, x, kTwoLog2E)));
  Value one = constantLike(emit, x, 1.0f), two = constantLike(emit, x, 2.0f);
  return subF(emit, one, divF(emit, two, addF(emit, power, one)));
}

static Value shuffle(CodeBuilder &emit, Value a, Value b,
                     ArrayRef<int64_t> mask) {
  return vector::ShuffleOp::create(emit, a, b, mask);
}

Value cpu::rotateLanes(CodeBuilder &emit, Value vector, int64_t distance) {
  int64_t lanes = cast<VectorType>(vector.getType()).getNumElements();
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < lanes; ++i)
    mask.push_back((i + distance) % lanes);
  return shuffle(emit, vector, vector, mask);
}

Value cpu::emitLaneSums(CodeBuilder &emit, Values vectors) {
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

Value cpu::widenLanes(CodeBuilder &emit, Value vector, int64_t lanes) {
  int64_t have = cast<VectorType>(vector.getType()).getNumElements();
  if (have == lanes)
    return vector;
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < lanes; ++i)
    mask.push_back(std::min(i, have));
  return shuffle(emit, vector, splat(emit, 0.0f, have), mask);
}

Values RegisterBlock::zeros(CodeBuilder &emit) const {
  return Values(rows * columns, splat(emit, 0.0f, lanes));
}

Values RegisterBlock::accumulate(CodeBuilder &emit, Value count, Values start,
                                 Number a, Number b) const {
  return emit.forLoop(
      emit.index(0), count, 1, start,
      [&](CodeBuilder &e, Value k, ValueRange acc) {
        Values next, factors;
        for (int64_t v = 0; v < columns; ++v)
          factors.push_back(b(e, k, v));
        for (int64_t m = 0; m < rows; ++m) {
          Value number = a(e, k, m);
          Value broad = splat(e, number, lanes);
          Value isZero;
          if (guarded)
            isZero = e.fold<arith::CmpFOp>(arith::CmpFPredicate::OEQ, number,
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
