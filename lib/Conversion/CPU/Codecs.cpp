// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Codecs.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

namespace {

/// The type of `type`, scalar or vector, with another element type.
Type withElement(Type type, Type element) {
  if (auto vector = dyn_cast<VectorType>(type))
    return vector.clone(element);
  return element;
}

struct StoredF32 : Codec {
  Value decode(CodeBuilder &, Value stored) const override { return stored; }
  Value encode(CodeBuilder &, Value floats) const override { return floats; }
};

/// Of bf16, kvcache-expand-math makes integers, as compilers call a library for
/// it on most CPUs.
struct StoredHalf : Codec {
  explicit StoredHalf(FloatType (Builder::*format)()) : format(format) {}
  Value decode(CodeBuilder &emit, Value stored) const override {
    Type floats = withElement(stored.getType(), emit.getF32Type());
    return emit.fold<arith::ExtFOp>(floats, stored);
  }
  Value encode(CodeBuilder &emit, Value floats) const override {
    Type stored = withElement(floats.getType(), (emit.*format)());
    return emit.fold<arith::TruncFOp>(stored, floats);
  }
  FloatType (Builder::*format)();
};

} // namespace

const Codec &cpu::codecOf(Type format) {
  static const StoredF32 f32;
  static const StoredHalf f16(&Builder::getF16Type);
  static const StoredHalf bf16(&Builder::getBF16Type);
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
