// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Codecs.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;
using namespace kvcache::cpu;

namespace {

/// The type of `type`, scalar or vector, with another element type.
Type withElement(Type type, Type element) {
  if (auto vector = dyn_cast<VectorType>(type))
    return vector.clone(element);
  return element;
}

/// f32 to bf16 in integers.
Value truncateToBF16(CodeBuilder &emit, Value value) {
  OpBuilder &b = emit;
  Type type = value.getType();
  Type i32 = withElement(type, b.getI32Type());
  Type i16 = withElement(type, b.getI16Type());
  auto constant = [&](int64_t n) -> Value {
    Attribute attr = b.getI32IntegerAttr(n);
    if (auto vector = dyn_cast<VectorType>(i32))
      attr = DenseElementsAttr::get(vector, attr);
    return arith::ConstantOp::create(b, emit.getLoc(), cast<TypedAttr>(attr));
  };
  Value bits = emit.fold<arith::BitcastOp>(i32, value);
  // Half a unit in the last place, and one less where that is even.
  Value odd = emit.fold<arith::ShRUIOp>(bits, constant(16));
  odd = emit.fold<arith::AndIOp>(odd, constant(1));
  Value rounded = emit.addi(emit.addi(bits, odd), constant(0x7fff));
  // Rounding could carry a NaN over; it keeps its sign and becomes quiet.
  Value quiet = emit.fold<arith::OrIOp>(bits, constant(0x400000));
  Value isNaN =
      emit.fold<arith::CmpFOp>(arith::CmpFPredicate::UNO, value, value);
  Value chosen = emit.select(isNaN, quiet, rounded);
  Value high = emit.fold<arith::ShRUIOp>(chosen, constant(16));
  Value half = emit.fold<arith::TruncIOp>(i16, high);
  return emit.fold<arith::BitcastOp>(withElement(type, b.getBF16Type()), half);
}

Value extendBF16(CodeBuilder &emit, Value value) {
  OpBuilder &b = emit;
  Type type = value.getType();
  Type i32 = withElement(type, b.getI32Type());
  Attribute sixteen = b.getI32IntegerAttr(16);
  if (auto vector = dyn_cast<VectorType>(i32))
    sixteen = DenseElementsAttr::get(vector, sixteen);
  Value shift =
      arith::ConstantOp::create(b, emit.getLoc(), cast<TypedAttr>(sixteen));
  Value half =
      emit.fold<arith::BitcastOp>(withElement(type, b.getI16Type()), value);
  Value wide = emit.fold<arith::ExtUIOp>(i32, half);
  wide = emit.fold<arith::ShLIOp>(wide, shift);
  return emit.fold<arith::BitcastOp>(withElement(type, b.getF32Type()), wide);
}

struct StoredF32 : Codec {
  Value decode(CodeBuilder &, Value stored) const override { return stored; }
  Value encode(CodeBuilder &, Value floats) const override { return floats; }
};

struct StoredF16 : Codec {
  Value decode(CodeBuilder &emit, Value stored) const override {
    Type floats = withElement(stored.getType(), emit.getF32Type());
    return emit.fold<arith::ExtFOp>(floats, stored);
  }
  Value encode(CodeBuilder &emit, Value floats) const override {
    Type stored = withElement(floats.getType(), emit.getF16Type());
    return emit.fold<arith::TruncFOp>(stored, floats);
  }
};

/// Made of integer operations, as compilers call a library for it on most CPUs.
struct StoredBF16 : Codec {
  Value decode(CodeBuilder &emit, Value stored) const override {
    return extendBF16(emit, stored);
  }
  Value encode(CodeBuilder &emit, Value floats) const override {
    return truncateToBF16(emit, floats);
  }
};

} // namespace

const Codec &cpu::codecOf(Type format) {
  static const StoredF32 f32;
  static const StoredF16 f16;
  static const StoredBF16 bf16;
  return *llvm::TypeSwitch<Type, const Codec *>(format)
              .Case([](Float32Type) { return &f32; })
              .Case([](Float16Type) { return &f16; })
              .Case([](BFloat16Type) { return &bf16; });
}

Value cpu::emitConvert(CodeBuilder &emit, Value value, Type to) {
  Type from = getElementTypeOrSelf(value.getType());
  if (from == to)
    return value;
  return codecOf(to).encode(emit, codecOf(from).decode(emit, value));
}
