// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Integers. Alone they say nothing of the numbers that they stand for. The
// largest of some numbers becomes 127 or -127, so that a number and its
// negative are stored alike.
//
//===----------------------------------------------------------------------===//

#include "FloatFormat.h"
#include "SmallFloat.h"

#include "../Conversion/GPU/Target/TargetOps.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

namespace {

class I8 final : public Format {
  static constexpr int kMost = 127, kLeast = -128;

public:
  I8() : Format({"i8", "int8", kDLInt}) {}
  int64_t getBits() const override { return 8; }
  double getLargest() const override { return kMost; }
  bool isPlain() const override { return false; }
  void attach(MLIRContext &) const override {}

  double toNumber(uint64_t bits) const override {
    return static_cast<int8_t>(bits);
  }
  uint64_t toBits(double number) const override {
    if (std::isnan(number))
      return 0;
    number = std::clamp<double>(number, kLeast, kMost);
    return static_cast<uint8_t>(static_cast<int>(std::nearbyint(number)));
  }

  const CPUCodec &getCPUCodec() const override { return cpuCodec; }
  const GPUCodec &getGPUCodec() const override { return gpuCodec; }

private:
  /// The same for a number and for a vector.
  static Value decode(CodeBuilder &emit, Value bytes) {
    return emit.fold<arith::SIToFPOp>(
        withElement(bytes.getType(), emit.getF32Type()), bytes);
  }

  /// A sum with 1.5 * 2^23 has the nearest integer in its lowest bits.
  static Value encode(CodeBuilder &emit, Value floats) {
    constexpr float kShift = 12582912;
    auto number = [&](float x) {
      return constantIn(emit, floats, emit.getF32Type(),
                        llvm::bit_cast<uint32_t>(x));
    };
    Value isNumber =
        emit.fold<arith::CmpFOp>(arith::CmpFPredicate::ORD, floats, floats);
    Value x = emit.select(isNumber, floats, number(0));
    x = emit.fold<arith::MinNumFOp>(x, number(kMost));
    x = emit.fold<arith::MaxNumFOp>(x, number(kLeast));
    Value sum = emit.fold<arith::AddFOp>(x, number(kShift));
    Value bits = emit.fold<arith::BitcastOp>(
        withElement(floats.getType(), emit.getI32Type()), sum);
    return emit.fold<arith::TruncIOp>(
        withElement(floats.getType(), emit.getI8Type()), bits);
  }

  struct OnCPU : CPUCodec {
    Value decode(CodeBuilder &emit, Value stored) const override {
      return I8::decode(emit, stored);
    }
    Value encode(CodeBuilder &emit, Value floats) const override {
      return I8::encode(emit, floats);
    }
  };

  struct OnGPU : GPUCodec {
    Halves halves(TargetAttr) const override { return Halves::Alternate; }
    /// A byte b is the f16 b * 2^-24, with no bit of an exponent.
    float halvesOffset() const override { return 128; }
    float halvesUnit() const override { return std::ldexp(1.0f, -24); }
    std::pair<Value, Value> decodeHalves(KernelBuilder &k,
                                         Value word) const override {
      auto decode = [&](Value bytes) -> Value {
        return k.fold<arith::XOrIOp>(k.andi(bytes, k.i32(0x00ff00ff)),
                                     k.i32(0x00800080));
      };
      Value low = decode(word);
      return {low, decode(k.fold<arith::ShRUIOp>(word, k.i32(8)))};
    }
    /// The bytes 64 and b are 1024 + b as f16.
    std::pair<Value, Value> decodeOrderedHalves(KernelBuilder &k,
                                                Value word) const override {
      Type f16x2 = VectorType::get({2}, k.getF16Type());
      Val bytes = k.val(word) ^ static_cast<int32_t>(0x80808080);
      auto decode = [&](int64_t sequence) -> Value {
        Value bits = k.target().prmt(bytes, sequence, 0x64646464);
        Value offset = k.i32(0x64806480); // 1024 + 128
        Value numbers =
            k.fold<arith::SubFOp>(LLVM::BitcastOp::create(k, f16x2, bits),
                                  LLVM::BitcastOp::create(k, f16x2, offset));
        return LLVM::BitcastOp::create(k, k.getI32Type(), numbers);
      };
      return {decode(0x4140), decode(0x4342)};
    }
    Value decode(KernelBuilder &k, Value access,
                 int64_t elements) const override {
      Value bytes =
          LLVM::BitcastOp::create(k, several(k.getI8Type(), elements), access);
      return I8::decode(k, bytes);
    }
    Value encode(KernelBuilder &k, Value floats,
                 int64_t elements) const override {
      return LLVM::BitcastOp::create(k, accessType(k, elements),
                                     I8::encode(k, floats));
    }
  };

  OnCPU cpuCodec;
  OnGPU gpuCodec;
};

} // namespace

const Format &formats::I8() {
  static const ::I8 format;
  return format;
}
