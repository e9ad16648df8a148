// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Arithmetic on scalars and vectors alike, and the functions made from it.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_HOSTCPU_EXPANDMATH_MATHBUILDER_H
#define KVCACHE_LIB_HOSTCPU_EXPANDMATH_MATHBUILDER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace kvcache {

/// Every method works lane by lane on values of one shape.
struct MathBuilder : mlir::ImplicitLocOpBuilder {
  using ImplicitLocOpBuilder::ImplicitLocOpBuilder;
  using Value = mlir::Value;
  using Type = mlir::Type;

  /// The type with the shape of `like` and another element.
  static Type shaped(Value like, Type element);
  Value f32(Value like, double value);
  Value f64(Value like, double value);
  Value i32(Value like, int64_t value);
  Value i64(Value like, int64_t value);
  Value constant(Value like, mlir::TypedAttr element);

  Value add(Value a, Value b);
  Value sub(Value a, Value b);
  Value mul(Value a, Value b);
  Value div(Value a, Value b);
  Value fma(Value a, Value b, Value c) { return add(mul(a, b), c); }
  Value addI(Value a, Value b);
  Value subI(Value a, Value b);
  Value mulI(Value a, Value b);
  Value shl(Value a, Value b);
  Value shr(Value a, Value b);
  Value andI(Value a, Value b);
  Value orI(Value a, Value b);
  Value select(Value c, Value a, Value b);
  Value compare(mlir::arith::CmpFPredicate predicate, Value a, Value b);
  Value compareI(mlir::arith::CmpIPredicate predicate, Value a, Value b);
  Value bits(Value value);
  Value fromBits(Value value, Type element);
  Value toF64(Value value);
  Value toF32(Value value);
  Value zeroExtend(Value value, Type element);
  /// |value|, and value with the sign of another.
  Value magnitude(Value value);
  Value withSign(Value value, Value sign);

  /// c[0] + c[1] x + ...
  Value polynomial(Value x, llvm::ArrayRef<double> coefficients);
  /// 2^n for the integer in the low bits of `n`, -1022 to 1023.
  Value powerOf2(Value n);

  // f32 to f32.
  Value exp(Value x);
  Value exp2(Value x);
  Value roundEven(Value x);
  Value floor(Value x);
  Value sinCos(Value x, bool cosine);
  // f64 to f64, good enough for a result that is rounded to f32, for arguments
  // that come from f32.
  Value expWide(Value x);
  Value logWide(Value x);
  Value tanhWide(Value x);
  Value erfWide(Value x);

  /// f64 to f32: the one next to it with an odd last bit, unless it is exact.
  /// Rounding that again to fewer bits gives what rounding once would.
  Value toOddF32(Value value);

private:
  Value reduceLarge(Value x, Value small, Value smallQuadrant, Value &quadrant);
};

} // namespace kvcache

#endif // KVCACHE_LIB_HOSTCPU_EXPANDMATH_MATHBUILDER_H
