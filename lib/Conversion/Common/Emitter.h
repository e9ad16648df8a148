// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Emits index arithmetic, conditions and loops at one location, in as few
// words as the arithmetic has. It holds no state but where to emit.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_COMMON_EMITTER_H
#define KVCACHE_LIB_CONVERSION_COMMON_EMITTER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/Builders.h"

#include <limits>

namespace kvcache {

struct Emitter {
  using Value = mlir::Value;
  using Body = llvm::function_ref<void(const Emitter &, Value)>;
  using Folder = llvm::function_ref<llvm::SmallVector<Value>(
      const Emitter &, Value, mlir::ValueRange)>;
  using Then = llvm::function_ref<void(const Emitter &)>;

  static constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

  mlir::OpBuilder &builder;
  mlir::Location loc;

  template <typename Op, typename... Args> Value make(Args &&...args) const {
    return builder.createOrFold<Op>(loc, std::forward<Args>(args)...);
  }

  Value constant(int64_t n) const {
    return mlir::arith::ConstantIndexOp::create(builder, loc, n);
  }
  Value truth(bool b) const {
    return mlir::arith::ConstantIntOp::create(builder, loc, b, 1);
  }
  Value f32(float x) const {
    return mlir::arith::ConstantFloatOp::create(
        builder, loc, builder.getF32Type(), llvm::APFloat(x));
  }

  Value add(Value a, Value b) const { return make<mlir::arith::AddIOp>(a, b); }
  Value add(Value a, int64_t n) const { return n ? add(a, constant(n)) : a; }
  Value sub(Value a, Value b) const { return make<mlir::arith::SubIOp>(a, b); }
  Value mul(Value a, Value b) const { return make<mlir::arith::MulIOp>(a, b); }
  Value mul(Value a, int64_t n) const {
    return n == 1 ? a : mul(a, constant(n));
  }
  /// a + b * c
  template <typename Factor> Value addMul(Value a, Value b, Factor c) const {
    return add(a, mul(b, c));
  }
  /// Of numbers that are not negative: the product or sum, and where it does
  /// not fit 64 bits a number of at least 2^62, which is in no range.
  Value mulLimited(Value a, int64_t n) const {
    return n <= 1 ? mul(a, n) : mul(min(a, constant(kMost / n)), n);
  }
  Value mulLimited(Value a, Value b) const {
    if (std::optional<int64_t> n = mlir::getConstantIntValue(b))
      return mulLimited(a, *n);
    if (std::optional<int64_t> n = mlir::getConstantIntValue(a))
      return mulLimited(b, *n);
    return mul(min(a, div(constant(kMost), max(b, constant(1)))), b);
  }
  Value addLimited(Value a, Value b) const {
    return add(min(a, sub(constant(kMost), b)), b);
  }

  /// Of numbers that are not negative.
  Value div(Value a, int64_t n) const {
    return n == 1 ? a : make<mlir::arith::DivUIOp>(a, constant(n));
  }
  Value rem(Value a, int64_t n) const {
    return make<mlir::arith::RemUIOp>(a, constant(n));
  }
  Value div(Value a, Value b) const { return make<mlir::arith::DivUIOp>(a, b); }
  Value rem(Value a, Value b) const { return make<mlir::arith::RemUIOp>(a, b); }
  Value ceilDiv(Value a, int64_t n) const { return div(add(a, n - 1), n); }
  Value min(Value a, Value b) const { return make<mlir::arith::MinSIOp>(a, b); }
  Value max(Value a, Value b) const { return make<mlir::arith::MaxSIOp>(a, b); }
  /// At least 0 and at most `most`.
  Value clamp(Value a, Value most) const {
    return min(max(a, constant(0)), most);
  }

  using Predicate = mlir::arith::CmpIPredicate;
  Value compare(Predicate predicate, Value a, Value b) const {
    return make<mlir::arith::CmpIOp>(predicate, a, b);
  }
  Value less(Value a, Value b) const { return compare(Predicate::slt, a, b); }
  Value equal(Value a, Value b) const { return compare(Predicate::eq, a, b); }
  /// 0 <= a < end, in one comparison.
  Value isBelow(Value a, Value end) const {
    return compare(Predicate::ult, a, end);
  }
  Value both(Value a, Value b) const { return make<mlir::arith::AndIOp>(a, b); }
  Value either(Value a, Value b) const {
    return make<mlir::arith::OrIOp>(a, b);
  }
  Value select(Value condition, Value a, Value b) const {
    return make<mlir::arith::SelectOp>(condition, a, b);
  }

  /// An integer of memory, as an index; and the way back.
  Value toIndex(Value a) const {
    return make<mlir::arith::IndexCastOp>(builder.getIndexType(), a);
  }
  Value fromIndex(Value a, mlir::Type type) const {
    return make<mlir::arith::IndexCastOp>(type, a);
  }
  Value load(Value memref, mlir::ValueRange at) const {
    return mlir::memref::LoadOp::create(builder, loc, memref, at);
  }
  Value loadIndex(Value memref, mlir::ValueRange at) const {
    return toIndex(load(memref, at));
  }
  void store(Value value, Value memref, mlir::ValueRange at) const {
    mlir::memref::StoreOp::create(builder, loc, value, memref, at);
  }
  Value dim(Value memref, int64_t d) const {
    return make<mlir::memref::DimOp>(memref, constant(d));
  }

  /// for i in first .. end-1, by `step`
  void loop(Value first, Value end, int64_t step, Body body) const {
    mlir::scf::ForOp::create(
        builder, loc, first, end, constant(step), mlir::ValueRange(),
        [&](mlir::OpBuilder &b, mlir::Location l, Value i, mlir::ValueRange) {
          body(Emitter{b, l}, i);
          mlir::scf::YieldOp::create(b, l);
        });
  }
  void loop(Value end, Body body) const { loop(constant(0), end, 1, body); }

  /// A loop that carries values.
  llvm::SmallVector<Value> fold(Value first, Value end, int64_t step,
                                mlir::ValueRange start, Folder body) const {
    auto op = mlir::scf::ForOp::create(
        builder, loc, first, end, constant(step), start,
        [&](mlir::OpBuilder &b, mlir::Location l, Value i,
            mlir::ValueRange carried) {
          llvm::SmallVector<Value> next = body(Emitter{b, l}, i, carried);
          mlir::scf::YieldOp::create(b, l, next);
        });
    return llvm::SmallVector<Value>(op.getResults());
  }

  /// Iterations that may run at the same time.
  void parallel(Value end, Body body) const {
    mlir::scf::ParallelOp::create(
        builder, loc, mlir::ValueRange(constant(0)), mlir::ValueRange(end),
        mlir::ValueRange(constant(1)),
        [&](mlir::OpBuilder &b, mlir::Location l, mlir::ValueRange i) {
          body(Emitter{b, l}, i[0]);
        });
  }

  void when(Value condition, Then then) const {
    mlir::scf::IfOp::create(builder, loc, condition,
                            [&](mlir::OpBuilder &b, mlir::Location l) {
                              then(Emitter{b, l});
                              mlir::scf::YieldOp::create(b, l);
                            });
  }
  void when(Value condition, Then then, Then otherwise) const {
    mlir::scf::IfOp::create(
        builder, loc, condition,
        [&](mlir::OpBuilder &b, mlir::Location l) {
          then(Emitter{b, l});
          mlir::scf::YieldOp::create(b, l);
        },
        [&](mlir::OpBuilder &b, mlir::Location l) {
          otherwise(Emitter{b, l});
          mlir::scf::YieldOp::create(b, l);
        });
  }
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_COMMON_EMITTER_H
