// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The builder of all lowerings: arithmetic and control flow at one location.
// Methods are named after the operations that they create, and fold constants.
// They give a `Val`, a value with the operators of C, so that what code
// computes can be read.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_COMMON_CODEBUILDER_H
#define KVCACHE_LIB_CONVERSION_COMMON_CODEBUILDER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace kvcache {

class CodeBuilder;

/// Both operands of an operator have one type; a constant takes the type of the
/// other operand. `/`, `%` and `>>` are unsigned, comparisons are signed.
class Val {
public:
  Val() = default;
  Val(CodeBuilder &b, mlir::Value value) : b(&b), value(value) {}
  operator mlir::Value() const { return value; }
  operator mlir::ValueRange() const { return value; }
  explicit operator bool() const { return bool(value); }

  CodeBuilder &builder() const { return *b; }
  mlir::Type getType() const { return value.getType(); }
  mlir::Operation *getDefiningOp() const { return value.getDefiningOp(); }
  bool isFloat() const { return mlir::isa<mlir::FloatType>(getType()); }

  /// A constant of the same type.
  Val constant(double n) const;
  /// The integer or the float operation; floats are contracted, so that a
  /// product and a sum become one.
  template <typename Int, typename Float> Val make(Val other) const;
  template <typename Int> Val make(Val other) const;
  Val compare(mlir::arith::CmpIPredicate ints,
              mlir::arith::CmpFPredicate floats, Val other) const;

private:
  CodeBuilder *b = nullptr;
  mlir::Value value;
};

using Vals = llvm::SmallVector<Val>;
using Values = llvm::SmallVector<mlir::Value>;

class CodeBuilder : public mlir::ImplicitLocOpBuilder {
public:
  using Value = mlir::Value;
  using Type = mlir::Type;
  using Predicate = mlir::arith::CmpIPredicate;
  /// What the algebra of layouts computes with (kvcache/Layout/Numbers.h).
  using Number = Value;
  using Condition = Value;

  using ImplicitLocOpBuilder::ImplicitLocOpBuilder;
  CodeBuilder(mlir::OpBuilder &builder, mlir::Location loc)
      : ImplicitLocOpBuilder(loc, builder) {}

  Val val(Value value) { return {*this, value}; }
  Vals vals(mlir::ValueRange values);
  template <typename Op, typename... Args> Val fold(Args &&...args) {
    return val(createOrFold<Op>(std::forward<Args>(args)...));
  }

  // Constants.
  Val index(int64_t n);
  Val i1(bool b) { return integer(b, 1); }
  Val i32(int64_t n) { return integer(n, 32); }
  Val i64(int64_t n) { return integer(n, 64); }
  Val integer(int64_t n, unsigned width);
  Val f32(float x);
  /// An integer of the type of another value.
  Val constantLike(Value like, int64_t n);

  // Integers and indices. A constant operand has the type of the other one.
  Val addi(Value a, Value b) { return fold<mlir::arith::AddIOp>(a, b); }
  Val addi(Value a, int64_t n) { return n ? addi(a, index(n)) : val(a); }
  Val subi(Value a, Value b) { return fold<mlir::arith::SubIOp>(a, b); }
  Val muli(Value a, Value b) { return fold<mlir::arith::MulIOp>(a, b); }
  Val muli(Value a, int64_t n) { return n == 1 ? val(a) : muli(a, index(n)); }
  /// a + b * c
  template <typename Factor> Val addMul(Value a, Value b, Factor c) {
    return addi(a, muli(b, c));
  }
  Val divui(Value a, Value b) { return fold<mlir::arith::DivUIOp>(a, b); }
  Val divui(Value a, int64_t n) {
    return n == 1 ? val(a) : divui(a, constantLike(a, n));
  }
  Val remui(Value a, Value b) { return fold<mlir::arith::RemUIOp>(a, b); }
  Val remui(Value a, int64_t n) { return remui(a, constantLike(a, n)); }
  Val ceildivui(Value a, int64_t n) { return divui(addi(a, n - 1), n); }
  Val ceildivui(Value a, Value b) {
    return fold<mlir::arith::CeilDivUIOp>(a, b);
  }
  Val minsi(Value a, Value b) { return fold<mlir::arith::MinSIOp>(a, b); }
  Val maxsi(Value a, Value b) { return fold<mlir::arith::MaxSIOp>(a, b); }
  Val minui(Value a, Value b) { return fold<mlir::arith::MinUIOp>(a, b); }
  Val maxui(Value a, Value b) { return fold<mlir::arith::MaxUIOp>(a, b); }
  /// At least 0 and at most `most`.
  Val clamp(Value a, Value most) { return minsi(maxsi(a, index(0)), most); }
  /// Of numbers that are not negative: the product or sum, and where it does
  /// not fit 64 bits a number of at least 2^62, which is in no range.
  Val mulSat(Value a, int64_t n);
  Val mulSat(Value a, Value b);
  Val addSat(Value a, Value b);
  Val andi(Value a, Value b) { return fold<mlir::arith::AndIOp>(a, b); }
  /// A null value is true.
  Val andiIfAny(Value a, Value b) {
    return a && b ? andi(a, b) : val(a ? a : b);
  }
  Val ori(Value a, Value b) { return fold<mlir::arith::OrIOp>(a, b); }
  Val noti(Value a) { return fold<mlir::arith::XOrIOp>(a, i1(true)); }
  Val cmpi(Predicate predicate, Value a, Value b) {
    return fold<mlir::arith::CmpIOp>(predicate, a, b);
  }
  Val slt(Value a, Value b) { return cmpi(Predicate::slt, a, b); }
  Val sle(Value a, Value b) { return cmpi(Predicate::sle, a, b); }
  /// Also 0 <= a < b, if b is not negative.
  Val ult(Value a, Value b) { return cmpi(Predicate::ult, a, b); }
  Val ule(Value a, Value b) { return cmpi(Predicate::ule, a, b); }
  Val sge(Value a, Value b) { return cmpi(Predicate::sge, a, b); }
  Val eq(Value a, Value b) { return cmpi(Predicate::eq, a, b); }
  Val select(Value condition, Value a, Value b) {
    return fold<mlir::arith::SelectOp>(condition, a, b);
  }
  Val extui(Value a, Type to) { return fold<mlir::arith::ExtUIOp>(to, a); }
  /// Extended with its sign, or truncated.
  Val sextOrTrunc(Value a, Type to);
  Val indexCast(Value a) { return indexCast(a, getIndexType()); }
  Val indexCast(Value a, Type to) {
    return fold<mlir::arith::IndexCastOp>(to, a);
  }

  // Memrefs.
  Val load(Value memref, mlir::ValueRange at);
  Val loadIndex(Value memref, mlir::ValueRange at) {
    return indexCast(load(memref, at));
  }
  void store(Value value, Value memref, mlir::ValueRange at);
  Val dim(Value memref, int64_t d);

  // Control flow. A body is emitted by the builder that it is given, which is
  // this one. One that carries values gives the next ones.
  using Then = llvm::function_ref<void(CodeBuilder &)>;
  using Body = llvm::function_ref<void(CodeBuilder &, Value)>;
  using CarryingBody =
      llvm::function_ref<Values(CodeBuilder &, Value, mlir::ValueRange)>;
  void ifThen(Value condition, Then then, Then otherwise = nullptr);
  /// for i in first .. end - 1, by `step`
  void forLoop(Value first, Value end, int64_t step, Body body);
  void forLoop(Value end, Body body) { forLoop(index(0), end, 1, body); }
  Values forLoop(Value first, Value end, int64_t step, mlir::ValueRange start,
                 CarryingBody body);
  /// Iterations that may run at the same time.
  void parallelLoop(Value end, Body body);

  // The same with bodies that know their builder.
  using Block = llvm::function_ref<void()>;
  using ForBody = llvm::function_ref<Vals(Val, const Vals &)>;
  void ifThen(Value condition, Block then, Block otherwise = nullptr);
  /// Gives what the branch that is taken gives.
  Vals ifThen(Value condition, llvm::ArrayRef<Type> types,
              llvm::function_ref<Vals()> then,
              llvm::function_ref<Vals()> otherwise);
  Vals forLoop(Value first, Value end, Value step, const Vals &start,
               ForBody body);
  using ValuesBody = llvm::function_ref<Values(Value, mlir::ValueRange)>;
  Values forLoop(Value first, Value end, Value step, mlir::ValueRange start,
                 ValuesBody body);
  Values forLoop(Value first, Value end, int64_t step, mlir::ValueRange start,
                 ValuesBody body) {
    return forLoop(first, end, index(step), start, body);
  }
  void forLoop(Value first, Value end, int64_t step,
               llvm::function_ref<void(Value)> body);
  /// One that is never unrolled. For what is gone through once or not at all:
  /// copies of it fill the instruction cache, and take time to compile.
  Vals rolledForLoop(Value first, Value end, Value step, const Vals &start,
                     ForBody body);
  /// Runs `test`, which gives what is carried on, then `step` while its
  /// condition holds.
  struct Tested {
    Val condition;
    Vals carried;
  };
  Vals whileLoop(const Vals &start,
                 llvm::function_ref<Tested(const Vals &)> test,
                 llvm::function_ref<Vals(const Vals &)> step);
};

inline Values valuesOf(llvm::ArrayRef<Val> vals) {
  return Values(vals.begin(), vals.end());
}
template <typename... Lists> Vals join(const Lists &...lists) {
  Vals all;
  (llvm::append_range(all, lists), ...);
  return all;
}

//===----------------------------------------------------------------------===//
// Operators
//===----------------------------------------------------------------------===//

template <typename Int, typename Float> Val Val::make(Val other) const {
  if (!isFloat())
    return make<Int>(other);
  return b->fold<Float>(value, other.value,
                        mlir::arith::FastMathFlags::contract);
}
template <typename Int> Val Val::make(Val other) const {
  return b->fold<Int>(value, other.value);
}

#define KVCACHE_VAL_OPERATOR(symbol, expression)                               \
  inline Val operator symbol(Val a, Val b) { return expression; }              \
  inline Val operator symbol(Val a, double b) { return a symbol a.constant(b); }
KVCACHE_VAL_OPERATOR(+, (a.make<mlir::arith::AddIOp, mlir::arith::AddFOp>(b)))
KVCACHE_VAL_OPERATOR(-, (a.make<mlir::arith::SubIOp, mlir::arith::SubFOp>(b)))
KVCACHE_VAL_OPERATOR(*, (a.make<mlir::arith::MulIOp, mlir::arith::MulFOp>(b)))
KVCACHE_VAL_OPERATOR(/, (a.make<mlir::arith::DivUIOp>(b)))
KVCACHE_VAL_OPERATOR(%, (a.make<mlir::arith::RemUIOp>(b)))
KVCACHE_VAL_OPERATOR(&, (a.make<mlir::arith::AndIOp>(b)))
KVCACHE_VAL_OPERATOR(|, (a.make<mlir::arith::OrIOp>(b)))
KVCACHE_VAL_OPERATOR(^, (a.make<mlir::arith::XOrIOp>(b)))
KVCACHE_VAL_OPERATOR(<<, (a.make<mlir::arith::ShLIOp>(b)))
KVCACHE_VAL_OPERATOR(>>, (a.make<mlir::arith::ShRUIOp>(b)))
#define KVCACHE_VAL_COMPARISON(symbol, ints, floats)                           \
  KVCACHE_VAL_OPERATOR(symbol,                                                 \
                       (a.compare(mlir::arith::CmpIPredicate::ints,            \
                                  mlir::arith::CmpFPredicate::floats, b)))
KVCACHE_VAL_COMPARISON(<, slt, OLT)
KVCACHE_VAL_COMPARISON(<=, sle, OLE)
KVCACHE_VAL_COMPARISON(>, sgt, OGT)
KVCACHE_VAL_COMPARISON(>=, sge, OGE)
KVCACHE_VAL_COMPARISON(==, eq, OEQ)
KVCACHE_VAL_COMPARISON(!=, ne, UNE)
#undef KVCACHE_VAL_COMPARISON
#undef KVCACHE_VAL_OPERATOR

inline Val operator!(Val a) { return a.builder().noti(a); }

/// 0 <= a < b, in one comparison.
inline Val isBelow(Val a, Val b) { return a.builder().ult(a, b); }
inline Val min(Val a, Val b) {
  return a.make<mlir::arith::MinSIOp, mlir::arith::MinNumFOp>(b);
}
inline Val max(Val a, Val b) {
  return a.make<mlir::arith::MaxSIOp, mlir::arith::MaxNumFOp>(b);
}
inline Val min(Val a, double b) { return min(a, a.constant(b)); }
inline Val max(Val a, double b) { return max(a, a.constant(b)); }
inline Val select(Val condition, Val a, Val b) {
  return a.builder().select(condition, a, b);
}
/// An integer in another width, with its sign.
inline Val as(Val a, unsigned width) {
  CodeBuilder &b = a.builder();
  return b.sextOrTrunc(a, b.getIntegerType(width));
}

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_COMMON_CODEBUILDER_H
