// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A number of a kernel under construction, with the operators of C: what a long
// kernel computes can then be read. Operands have one type; a constant takes
// the type of the other operand. Division, remainder and right shift are those
// of numbers without a sign; comparisons have it.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_KVCACHETOGPU_KERNELS_NUM_H
#define KVCACHE_LIB_CONVERSION_KVCACHETOGPU_KERNELS_NUM_H

#include "KernelBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

namespace kvcache {

class Num {
public:
  Num() = default;
  Num(KernelBuilder &k, mlir::Value value) : k(&k), value(value) {}
  operator mlir::Value() const { return value; }
  explicit operator bool() const { return bool(value); }

  KernelBuilder &kernel() const { return *k; }
  mlir::Type type() const { return value.getType(); }
  bool isFloat() const { return mlir::isa<mlir::FloatType>(type()); }

  /// A constant of the same type.
  Num constant(double n) const {
    mlir::OpBuilder &b = k->builder;
    if (isFloat())
      return {*k, mlir::arith::ConstantFloatOp::create(
                      b, k->loc, mlir::cast<mlir::FloatType>(type()),
                      llvm::APFloat(float(n)))};
    return {*k,
            mlir::arith::ConstantIntOp::create(b, k->loc, type(), int64_t(n))};
  }
  template <typename Op, typename... Rest> Num make(Rest... rest) const {
    return {*k, k->builder.createOrFold<Op>(k->loc, value, rest...)};
  }
  /// Floats are contracted, so that a product and a sum become one.
  template <typename Int, typename Float> Num either(Num other) const {
    if (!isFloat())
      return make<Int>(other.value);
    return make<Float>(other.value, mlir::arith::FastMathFlags::contract);
  }
  Num compare(mlir::arith::CmpIPredicate ints,
              mlir::arith::CmpFPredicate floats, Num other) const {
    mlir::OpBuilder &b = k->builder;
    if (isFloat())
      return {*k, mlir::arith::CmpFOp::create(b, k->loc, floats, value, other)};
    return {*k, b.createOrFold<mlir::arith::CmpIOp>(k->loc, ints, value,
                                                    other.value)};
  }

private:
  KernelBuilder *k = nullptr;
  mlir::Value value;
};

#define KVCACHE_NUM_OPERATOR(symbol, expression)                               \
  inline Num operator symbol(Num a, Num b) { return expression; }              \
  inline Num operator symbol(Num a, double b) { return a symbol a.constant(b); }
KVCACHE_NUM_OPERATOR(+, (a.either<mlir::arith::AddIOp, mlir::arith::AddFOp>(b)))
KVCACHE_NUM_OPERATOR(-, (a.either<mlir::arith::SubIOp, mlir::arith::SubFOp>(b)))
KVCACHE_NUM_OPERATOR(*, (a.either<mlir::arith::MulIOp, mlir::arith::MulFOp>(b)))
KVCACHE_NUM_OPERATOR(/, (a.make<mlir::arith::DivUIOp>(mlir::Value(b))))
KVCACHE_NUM_OPERATOR(%, (a.make<mlir::arith::RemUIOp>(mlir::Value(b))))
KVCACHE_NUM_OPERATOR(&, (a.make<mlir::arith::AndIOp>(mlir::Value(b))))
KVCACHE_NUM_OPERATOR(|, (a.make<mlir::arith::OrIOp>(mlir::Value(b))))
KVCACHE_NUM_OPERATOR(^, (a.make<mlir::arith::XOrIOp>(mlir::Value(b))))
KVCACHE_NUM_OPERATOR(<<, (a.make<mlir::arith::ShLIOp>(mlir::Value(b))))
KVCACHE_NUM_OPERATOR(>>, (a.make<mlir::arith::ShRUIOp>(mlir::Value(b))))
#define KVCACHE_NUM_COMPARISON(symbol, ints, floats)                           \
  KVCACHE_NUM_OPERATOR(symbol,                                                 \
                       (a.compare(mlir::arith::CmpIPredicate::ints,            \
                                  mlir::arith::CmpFPredicate::floats, b)))
KVCACHE_NUM_COMPARISON(<, slt, OLT)
KVCACHE_NUM_COMPARISON(<=, sle, OLE)
KVCACHE_NUM_COMPARISON(>, sgt, OGT)
KVCACHE_NUM_COMPARISON(>=, sge, OGE)
KVCACHE_NUM_COMPARISON(==, eq, OEQ)
KVCACHE_NUM_COMPARISON(!=, ne, UNE)
#undef KVCACHE_NUM_COMPARISON
#undef KVCACHE_NUM_OPERATOR

inline Num operator!(Num a) {
  return a ^ Num(a.kernel(), a.kernel().truth(true));
}

/// 0 <= a < b, in one comparison.
inline Num isBelow(Num a, Num b) {
  return a.compare(mlir::arith::CmpIPredicate::ult,
                   mlir::arith::CmpFPredicate::OLT, b);
}
inline Num min(Num a, Num b) {
  return a.either<mlir::arith::MinSIOp, mlir::arith::MinNumFOp>(b);
}
inline Num max(Num a, Num b) {
  return a.either<mlir::arith::MaxSIOp, mlir::arith::MaxNumFOp>(b);
}
inline Num min(Num a, double b) { return min(a, a.constant(b)); }
inline Num max(Num a, double b) { return max(a, a.constant(b)); }
inline Num select(Num condition, Num a, Num b) {
  return {a.kernel(), a.kernel().select(condition, a, b)};
}
/// An integer in another width, with its sign.
inline Num as(Num a, unsigned width) {
  KernelBuilder &k = a.kernel();
  return {k, k.toInteger(a, k.builder.getIntegerType(width))};
}

using Nums = llvm::SmallVector<Num>;

inline llvm::SmallVector<mlir::Value> valuesOf(llvm::ArrayRef<Num> numbers) {
  return llvm::SmallVector<mlir::Value>(numbers.begin(), numbers.end());
}
inline Nums numsOf(KernelBuilder &k, mlir::ValueRange values) {
  Nums numbers;
  for (mlir::Value value : values)
    numbers.emplace_back(k, value);
  return numbers;
}
template <typename... Lists> Nums join(const Lists &...lists) {
  Nums all;
  (llvm::append_range(all, lists), ...);
  return all;
}

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_KVCACHETOGPU_KERNELS_NUM_H
