// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the threads of a warp do together, and the instructions that kernels of
// matrix products are made of: fragments, barriers in shared memory, copies
// that run beside the code.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_KVCACHETOGPU_KERNELS_WARP_H
#define KVCACHE_LIB_CONVERSION_KVCACHETOGPU_KERNELS_WARP_H

#include "Num.h"

namespace kvcache {

class Warp {
public:
  explicit Warp(KernelBuilder &k) : k(k) {}

  Num number(mlir::Value value) const { return {k, value}; }
  Num parameter(unsigned i) const { return number(k.parameter(i)); }
  Num i32(int64_t n) const { return number(k.i32(n)); }
  Num i64(int64_t n) const { return number(k.i64(n)); }
  Num f32(float x) const;

  // Control flow with numbers.
  using Then = llvm::function_ref<void()>;
  using Give = llvm::function_ref<Nums()>;
  void when(Num condition, Then then) const { k.ifThen(condition, then); }
  void when(Num condition, Then then, Then otherwise) const;
  Nums when(Num condition, llvm::ArrayRef<mlir::Type> types, Give then,
            Give otherwise) const;
  /// For the condition of a branch that is seldom taken. LLVM puts its code
  /// behind the rest; ptxas may put it back.
  Num seldom(Num condition) const;
  using Step = llvm::function_ref<Nums(Num, const Nums &)>;
  Nums loop(Num first, Num end, Num step, const Nums &start, Step body) const;
  /// Runs `test`, which gives what is carried on, then `step` while its
  /// condition holds.
  struct Tested {
    Num condition;
    Nums carried;
  };
  Nums loopWhile(const Nums &start,
                 llvm::function_ref<Tested(const Nums &)> test,
                 llvm::function_ref<Nums(const Nums &)> step) const;

  // All threads of a warp.
  Num fromLane(Num value, Num lane) const;
  Num fromLane(Num value, int64_t lane) const {
    return fromLane(value, i32(lane));
  }
  /// Of the lane with another number: less `distance`, or with bits flipped.
  Num fromBelow(Num value, Num distance) const;
  Num fromBelow(Num value, int64_t distance) const {
    return fromBelow(value, i32(distance));
  }
  Num fromOther(Num value, Num bits) const;
  Num fromOther(Num value, int64_t bits) const {
    return fromOther(value, i32(bits));
  }
  /// Of all lanes; numbers without a sign.
  Num sum(Num value) const;
  Num largest(Num x) const; ///< of f32
  Num ballot(Num condition) const;
  Num any(Num condition) const;
  Num bitCount(Num bits) const; ///< of a lane
  void sync() const;

  // Floats.
  Num exp2(Num x) const;
  Num log2(Num x) const;
  Num reciprocal(Num x) const;
  Num tanh(Num x) const;
  Num bits(Num x) const;     ///< of an f32
  Num fromBits(Num x) const; ///< an f32

  // Fragments, as b32 registers. `type` is f16 or bf16.
  /// Four 8x8 matrices of 16-bit elements.
  Nums loadMatrices(mlir::Value pointer, bool transposed) const;
  /// c + a * b: 16x16 and 16x8.
  Nums multiply(llvm::ArrayRef<Num> a, llvm::ArrayRef<Num> b,
                llvm::ArrayRef<Num> c, mlir::Type type) const;
  /// Two f32 as one register, the first one low.
  Num pack(Num low, Num high, mlir::Type type) const;
  Num transpose(Num matrix) const;

  // Barriers in shared memory.
  void initBarrier(mlir::Value barrier, int64_t count) const;
  void fenceBarriers(bool hasClusters) const;
  void arrive(mlir::Value barrier) const;
  void arriveExpecting(mlir::Value barrier, Num bytes) const;
  /// Arrives when all copies of this thread so far have ended.
  void arriveAfterCopies(mlir::Value barrier) const;
  void wait(mlir::Value barrier, Num parity, bool hasTryWait) const;
  /// The first `threads` threads, under a number of their own.
  void barrierOf(int64_t name, int64_t threads) const;

  // Words of 32 bits in shared memory, 16 bytes at a time.
  Nums loadWords(mlir::Value pointer, unsigned count) const;
  void storeWords(Nums words, mlir::Value pointer) const;

  // Copies to shared memory.
  /// 4 or 16 bytes; zeros if `isThere` does not hold.
  void copyIf(Num isThere, mlir::Value to, mlir::Value from,
              int64_t bytes) const;
  void prefetch(mlir::Value pointer) const;
  void prefetchMap(mlir::Value map) const;
  Num evictFirst() const;
  Num evictLast() const;
  void copyBox(mlir::Value to, mlir::Value map, llvm::ArrayRef<Num> at,
               mlir::Value barrier, Num policy) const;

  // Memory that other blocks of threads see; `bits` is 32 or 64.
  Num loadRelaxed(mlir::Value pointer, unsigned bits) const;
  /// Four i32 as one, which is seen whole or not at all.
  Nums loadFour(mlir::Value pointer) const;
  void storeFour(llvm::ArrayRef<Num> words, mlir::Value pointer) const;
  void addRelaxed(mlir::Value pointer, Num value) const;
  Num exchange(mlir::Value pointer, Num value) const;

  /// Ends the program of the device with a message, which is kept as `symbol`.
  void fail(llvm::StringRef symbol, llvm::StringRef message) const;

  KernelBuilder &k;

private:
  mlir::Value assembly(llvm::StringRef text, llvm::StringRef constraints,
                       mlir::TypeRange results, mlir::ValueRange operands,
                       bool hasSideEffects) const;
  Num unary(llvm::StringRef intrinsic, Num x) const;
  Num shuffle(Num value, mlir::Value lane, int kind) const;
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_KVCACHETOGPU_KERNELS_WARP_H
