// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "SmallFloat.h"

using namespace mlir;
using namespace kvcache;

namespace {

class F8E5M2 final : public SmallFloat {
public:
  F8E5M2()
      : SmallFloat({"f8E5M2", "float8_e5m2", kDLFloat8_e5m2},
                   llvm::APFloat::Float8E5M2()) {}
  void attach(MLIRContext &context) const override {
    attachTo<Float8E5M2Type, formats::F8E5M2>(context);
  }
  Type typeIn(MLIRContext *context) const override {
    return Float8E5M2Type::get(context);
  }

  /// It is the upper half of an f16.
  Value decodeBytes(CodeBuilder &emit, Value bytes) const override {
    Type i16 = emit.getI16Type();
    Value wide =
        emit.fold<arith::ExtUIOp>(withElement(bytes.getType(), i16), bytes);
    Value eight = constantIn(emit, bytes, i16, 8);
    return decodeHalves(emit, emit.fold<arith::ShLIOp>(wide, eight));
  }
};

} // namespace

const Format &formats::F8E5M2() {
  static const ::F8E5M2 format;
  return format;
}
