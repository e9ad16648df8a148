// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Codecs.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::gpu;

/// A type, or a vector of several.
static Type several(Type type, int64_t elements) {
  return elements == 1 ? type : VectorType::get({elements}, type);
}

namespace {

/// Floats that have instructions for both directions.
template <typename Float> struct StoredFloat : Codec {
  Value decode(KernelBuilder &k, Value access,
               int64_t elements) const override {
    Type stored = several(Float::get(k.getContext()), elements);
    Value value = LLVM::BitcastOp::create(k, stored, access);
    if (kIsF32)
      return value;
    return arith::ExtFOp::create(k, several(k.getF32Type(), elements), value);
  }
  Value encode(KernelBuilder &k, Value floats,
               int64_t elements) const override {
    Type stored = Float::get(k.getContext());
    if (!kIsF32)
      floats = arith::TruncFOp::create(k, several(stored, elements), floats);
    int64_t bytes = elements * stored.getIntOrFloatBitWidth() / 8;
    return LLVM::BitcastOp::create(k, accessType(k, bytes), floats);
  }
  static constexpr bool kIsF32 = std::is_same_v<Float, Float32Type>;
};

} // namespace

const Codec &gpu::codecOf(Type format) {
  static const StoredFloat<Float32Type> f32;
  static const StoredFloat<Float16Type> f16;
  static const StoredFloat<BFloat16Type> bf16;
  return *llvm::TypeSwitch<Type, const Codec *>(format)
              .Case([](Float32Type) { return &f32; })
              .Case([](Float16Type) { return &f16; })
              .Case([](BFloat16Type) { return &bf16; });
}

Value gpu::convert(KernelBuilder &k, Value access, int64_t elements, Type from,
                   Type to) {
  if (from == to)
    return access;
  Value floats = codecOf(from).decode(k, access, elements);
  return codecOf(to).encode(k, floats, elements);
}
