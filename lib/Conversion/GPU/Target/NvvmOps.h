// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the threads of a warp do together, and the instructions that kernels of
// matrix products are made of: fragments, barriers in shared memory, copies
// that run beside the code.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_TARGET_NVVMOPS_H
#define KVCACHE_LIB_CONVERSION_GPU_TARGET_NVVMOPS_H

#include "KernelBuilder.h"

namespace kvcache {

class NvvmOps {
public:
  explicit NvvmOps(KernelBuilder &k) : k(k) {}

  /// For the condition of a branch that is seldom taken. LLVM puts its code
  /// after the rest; ptxas may put it back.
  Val unlikely(Val condition) const;

  // All threads of a warp.
  Val shflIdx(Val value, Val lane) const;
  Val shflIdx(Val value, int64_t lane) const {
    return shflIdx(value, k.i32(lane));
  }
  /// Of the lane with another number: less `distance`, or with bits flipped.
  Val shflUp(Val value, Val distance) const;
  Val shflUp(Val value, int64_t distance) const {
    return shflUp(value, k.i32(distance));
  }
  Val shflXor(Val value, Val bits) const;
  Val shflXor(Val value, int64_t bits) const {
    return shflXor(value, k.i32(bits));
  }
  /// Of all lanes; numbers without a sign.
  Val reduxAdd(Val value) const;
  Val reduxMax(Val x) const; ///< of f32
  Val voteBallot(Val condition) const;
  Val voteAny(Val condition) const;
  Val popc(Val bits) const; ///< of a lane
  void syncWarp() const;

  // Floats.
  Val ex2(Val x) const;
  Val lg2(Val x) const;
  Val rcp(Val x) const;
  Val tanh(Val x) const;
  Val bitcastToInt(Val x) const;   ///< of an f32
  Val bitcastToFloat(Val x) const; ///< an f32

  // Fragments, as b32 registers. `type` is f16 or bf16.
  /// Four 8x8 matrices of 16-bit elements.
  Vals ldmatrix(mlir::Value pointer, bool transposed) const;
  /// c + a * b: 16x16 and 16x8.
  Vals mmaSync(llvm::ArrayRef<Val> a, llvm::ArrayRef<Val> b,
               llvm::ArrayRef<Val> c, mlir::Type type) const;
  /// Two f32 as one register, the first one low.
  Val cvtPack(Val low, Val high, mlir::Type type) const;
  Val movmatrix(Val matrix) const;

  // Barriers in shared memory.
  void mbarrierInit(mlir::Value barrier, int64_t count) const;
  void fenceMbarrierInit(bool hasClusters) const;
  void mbarrierArrive(mlir::Value barrier) const;
  void mbarrierArriveExpectTx(mlir::Value barrier, Val bytes) const;
  /// Arrives when all copies of this thread so far have ended.
  void cpAsyncMbarrierArrive(mlir::Value barrier) const;
  void mbarrierWait(mlir::Value barrier, Val parity, bool hasTryWait) const;
  /// The first `threads` threads, under a number of their own.
  void barSync(int64_t name, int64_t threads) const;

  // Words of 32 bits in shared memory, 16 bytes at a time.
  Vals ldSharedWords(mlir::Value pointer, unsigned count) const;
  void stSharedWords(Vals words, mlir::Value pointer) const;

  // Copies to shared memory.
  /// 4 or 16 bytes; zeros if `isThere` does not hold.
  void cpAsync(Val isThere, mlir::Value to, mlir::Value from,
               int64_t bytes) const;
  void prefetch(mlir::Value pointer) const;
  void prefetchTensormap(mlir::Value map) const;
  Val createPolicyEvictFirst() const;
  Val createPolicyEvictLast() const;
  void tmaLoad(mlir::Value to, mlir::Value map, llvm::ArrayRef<Val> at,
               mlir::Value barrier, Val policy) const;

  // Memory that other blocks of threads see; `bits` is 32 or 64.
  Val ldRelaxed(mlir::Value pointer, unsigned bits) const;
  /// Four i32 as one, which is seen whole or not at all.
  Vals ldRelaxed128(mlir::Value pointer) const;
  void stRelaxed128(llvm::ArrayRef<Val> words, mlir::Value pointer) const;
  void atomAdd(mlir::Value pointer, Val value) const;
  Val atomExch(mlir::Value pointer, Val value) const;

  /// Ends the program of the device with a message, which is kept as `symbol`.
  void assertFail(llvm::StringRef symbol, llvm::StringRef message) const;

  KernelBuilder &k;

private:
  mlir::Value assembly(llvm::StringRef text, llvm::StringRef constraints,
                       mlir::TypeRange results, mlir::ValueRange operands,
                       bool hasSideEffects) const;
  Val unary(llvm::StringRef intrinsic, Val x) const;
  Val shuffle(Val value, mlir::Value lane, int kind) const;
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_TARGET_NVVMOPS_H
