// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "SmallFloat.h"

using namespace mlir;
using namespace kvcache;

namespace {

class F8E4M3FN final : public SmallFloat {
public:
  F8E4M3FN()
      : SmallFloat({"f8E4M3FN", "float8_e4m3fn", kDLFloat8_e4m3fn},
                   llvm::APFloat::Float8E4M3FN()) {}
  void attach(MLIRContext &context) const override {
    attachTo<Float8E4M3FNType, formats::F8E4M3FN>(context);
  }
  Type typeIn(MLIRContext *context) const override {
    return Float8E4M3FNType::get(context);
  }

  /// As f16 with the same exponent, which is worth 2^8 less there.
  Value decodeBytes(CodeBuilder &emit, Value bytes) const override {
    Type i16 = emit.getI16Type();
    auto number = [&](uint64_t n) { return constantIn(emit, bytes, i16, n); };
    // The sign is spread over the bit that the exponent has no use for.
    Value wide =
        emit.fold<arith::ExtSIOp>(withElement(bytes.getType(), i16), bytes);
    Value moved = emit.fold<arith::ShLIOp>(wide, number(7));
    Value small = decodeHalves(emit, emit.andi(moved, number(0xbfff)));
    Value f32 = emit.fold<arith::MulFOp>(
        small, constantIn(emit, bytes, emit.getF32Type(), 0x43800000)); // 256
    Value isNaN = emit.eq(emit.andi(wide, number(0x7f)), number(0x7f));
    return emit.select(
        isNaN, constantIn(emit, bytes, emit.getF32Type(), 0x7fc00000), f32);
  }
};

} // namespace

const Format &formats::F8E4M3FN() {
  static const ::F8E4M3FN format;
  return format;
}
