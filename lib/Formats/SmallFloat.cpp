// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "SmallFloat.h"

#include "../Conversion/GPU/Target/TargetOps.h"

#include "llvm/ADT/bit.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

Value kvcache::constantIn(CodeBuilder &emit, Value like, Type element,
                          uint64_t bits) {
  Type type = withElement(like.getType(), element);
  llvm::APInt number(element.getIntOrFloatBitWidth(), bits);
  TypedAttr one =
      emit.getIntegerAttr(emit.getIntegerType(number.getBitWidth()), number);
  if (auto floats = dyn_cast<FloatType>(element))
    one = FloatAttr::get(floats,
                         llvm::APFloat(floats.getFloatSemantics(), number));
  if (auto vector = dyn_cast<VectorType>(type))
    one = DenseElementsAttr::get(vector, Attribute(one));
  return arith::ConstantOp::create(emit, one);
}

Value kvcache::decodeHalves(CodeBuilder &emit, Value halves) {
  Type f16 = withElement(halves.getType(), emit.getF16Type());
  Type f32 = withElement(halves.getType(), emit.getF32Type());
  return emit.fold<arith::ExtFOp>(f32,
                                  emit.fold<arith::BitcastOp>(f16, halves));
}

SmallFloat::SmallFloat(const Names &names, const llvm::fltSemantics &semantics)
    : FloatFormat(names, semantics, Overflow::Saturates), cpuCodec(*this),
      gpuCodec(*this) {
  assert(getBits() == 8 && leastExponent() - int(fractionBits()) > -24 &&
         "the addition of encodeBytes rounds a number of f32");
}

Value SmallFloat::encodeBytes(CodeBuilder &emit, Value floats) const {
  constexpr unsigned kFraction = 23; // of f32
  Type i32 = withElement(floats.getType(), emit.getI32Type());
  auto number = [&](uint64_t n) {
    return constantIn(emit, floats, emit.getI32Type(), n);
  };
  auto bitsOf = [](double x) { return llvm::bit_cast<uint32_t>(float(x)); };
  Value bits = emit.fold<arith::BitcastOp>(i32, floats);
  Value size = emit.andi(bits, number(0x7fffffff));
  Value inRange = emit.minui(size, number(bitsOf(getLargest())));

  // Of a normal number, the fraction that is dropped rounds the rest.
  unsigned dropped = kFraction - fractionBits();
  Value shift = number(dropped);
  Value last = emit.andi(emit.fold<arith::ShRUIOp>(inRange, shift), number(1));
  Value half = number((1u << (dropped - 1)) - 1);
  Value rounded = emit.addi(emit.addi(inRange, half), last);
  // The exponent of the smallest normal number is 1 in both.
  uint32_t leastBits = bitsOf(std::ldexp(1.0, leastExponent()));
  uint32_t rebias = (leastBits >> dropped) - (1u << fractionBits());
  Value normal =
      emit.subi(emit.fold<arith::ShRUIOp>(rounded, shift), number(rebias));

  // A number of f32 whose last bit is worth a subnormal step: a sum with it is
  // rounded to such steps.
  double coarse =
      std::ldexp(1.0, leastExponent() - int(fractionBits()) + kFraction);
  Value sum = emit.fold<arith::AddFOp>(
      emit.fold<arith::BitcastOp>(floats.getType(), inRange),
      constantIn(emit, floats, emit.getF32Type(), bitsOf(coarse)));
  Value subnormal =
      emit.subi(emit.fold<arith::BitcastOp>(i32, sum), number(bitsOf(coarse)));

  Value stored =
      emit.select(emit.ult(inRange, number(leastBits)), subnormal, normal);
  Value isNaN = emit.ult(number(bitsOf(INFINITY)), size);
  stored = emit.select(isNaN, number(nan()), stored);
  Value sign =
      emit.andi(emit.fold<arith::ShRUIOp>(bits, number(24)), number(0x80));
  return emit.fold<arith::TruncIOp>(
      withElement(floats.getType(), emit.getI8Type()), emit.ori(stored, sign));
}

Value SmallFloat::OnCPU::decode(CodeBuilder &emit, Value stored) const {
  Type bytes = withElement(stored.getType(), emit.getI8Type());
  return format.decodeBytes(emit, emit.fold<arith::BitcastOp>(bytes, stored));
}

Value SmallFloat::OnCPU::encode(CodeBuilder &emit, Value floats) const {
  Type stored = withElement(floats.getType(), format.typeIn(emit.getContext()));
  return emit.fold<arith::BitcastOp>(stored, format.encodeBytes(emit, floats));
}

/// Element `i` of a vector, or the number that is all there is.
static Value elementOf(KernelBuilder &k, Value several, int64_t i) {
  if (!isa<VectorType>(several.getType()))
    return several;
  return LLVM::ExtractElementOp::create(k, several, k.i32(i));
}

Value SmallFloat::OnGPU::decode(KernelBuilder &k, Value access,
                                int64_t elements) const {
  if (!k.target().convertsF8()) {
    Value bytes =
        LLVM::BitcastOp::create(k, several(k.getI8Type(), elements), access);
    return format.decodeBytes(k, bytes);
  }
  Type f8 = format.typeIn(k.getContext());
  Type f32 = k.getF32Type();
  if (elements == 1) {
    Value pair = k.target().cvtF16x2(k.extui(access, k.getI16Type()), f8);
    return k.fold<arith::ExtFOp>(f32, elementOf(k, pair, 0));
  }
  Value pairs =
      LLVM::BitcastOp::create(k, several(k.getI16Type(), elements / 2), access);
  Value floats = LLVM::PoisonOp::create(k, several(f32, elements));
  for (int64_t i = 0; i < elements; i += 2) {
    Value halves = k.target().cvtF16x2(elementOf(k, pairs, i / 2), f8);
    for (int64_t j = 0; j < 2; ++j)
      floats = LLVM::InsertElementOp::create(
          k, floats, k.fold<arith::ExtFOp>(f32, elementOf(k, halves, j)),
          k.i32(i + j));
  }
  return floats;
}

Value SmallFloat::OnGPU::encode(KernelBuilder &k, Value floats,
                                int64_t elements) const {
  if (!k.target().convertsF8())
    return LLVM::BitcastOp::create(k, accessType(k, elements),
                                   format.encodeBytes(k, floats));
  Type f8 = format.typeIn(k.getContext());
  if (elements == 1) {
    Value pair = k.target().cvtF8x2(floats, k.f32(0), f8);
    return k.fold<arith::TruncIOp>(k.getI8Type(), pair);
  }
  SmallVector<Value> pairs;
  for (int64_t i = 0; i < elements; i += 2)
    pairs.push_back(k.target().cvtF8x2(elementOf(k, floats, i),
                                       elementOf(k, floats, i + 1), f8));
  return k.join(pairs, 2);
}

std::pair<Value, Value> SmallFloat::OnGPU::decodeHalves(KernelBuilder &k,
                                                        Value word) const {
  auto decode = [&](Value part) -> Value {
    Value pair = k.fold<arith::TruncIOp>(k.getI16Type(), part);
    Value halves = k.target().cvtF16x2(pair, format.typeIn(k.getContext()));
    return LLVM::BitcastOp::create(k, k.getI32Type(), halves);
  };
  Value low = decode(word);
  return {low, decode(k.fold<arith::ShRUIOp>(word, k.i32(16)))};
}
