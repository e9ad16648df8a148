// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What every kernel needs of a chip: its numbers, what its threads do together,
// memory that others see, and arithmetic that has an instruction of its own.
// Each instruction set has one class that implements this, in a file beside
// this one, and nothing outside this folder creates an operation of its
// dialect.
//
// What only one kind of chip has (fragments, barriers in shared memory, copies
// by tensor maps) is of the class for it, `NvvmOps`. A kernel that is built of
// such instructions takes that class, and is chosen where the target has them.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_TARGET_TARGETOPS_H
#define KVCACHE_LIB_CONVERSION_GPU_TARGET_TARGETOPS_H

#include "KernelBuilder.h"

namespace kvcache {

class TargetOps {
public:
  explicit TargetOps(KernelBuilder &k) : k(k) {}
  virtual ~TargetOps();
  TargetOps(const TargetOps &) = delete;

  /// For the instructions of a target, which create their operations in `k`.
  static std::unique_ptr<TargetOps> create(KernelBuilder &k, TargetAttr target);

  // The kernel.
  /// Says that a function is a kernel with one size of blocks.
  virtual void markKernel(mlir::LLVM::LLVMFuncOp function,
                          int64_t threads) const = 0;
  /// Says that a multiprocessor has one block of it at a time.
  virtual void takeMultiprocessor(mlir::LLVM::LLVMFuncOp function) const = 0;
  /// Says that a parameter is a tensor map.
  virtual void markMap(mlir::LLVM::LLVMFuncOp function, unsigned i) const = 0;

  // Numbers, i32.
  virtual Val threadX() const = 0;
  virtual Val blockSize() const = 0;
  virtual Val blockX() const = 0;
  virtual Val blockY() const = 0;
  virtual Val blockZ() const = 0;
  virtual Val gridX() const = 0;
  virtual Val gridY() const = 0;

  // All threads of a block.
  virtual void barrier() const = 0;
  /// The same; whether a condition holds for all of them.
  virtual Val barrierAll(mlir::Value condition) const = 0;

  // All threads of a warp.
  virtual Val shflIdx(Val value, Val lane) const = 0;
  /// Of the lane with another number: less `distance`, or with bits flipped.
  virtual Val shflUp(Val value, Val distance) const = 0;
  virtual Val shflXor(Val value, Val bits) const = 0;
  Val shflIdx(Val value, int64_t lane) const {
    return shflIdx(value, k.i32(lane));
  }
  Val shflUp(Val value, int64_t distance) const {
    return shflUp(value, k.i32(distance));
  }
  Val shflXor(Val value, int64_t bits) const {
    return shflXor(value, k.i32(bits));
  }
  /// Of all lanes; numbers without a sign.
  virtual Val reduxAdd(Val value) const = 0;
  virtual Val reduxMax(Val x) const = 0; ///< of f32
  virtual Val voteBallot(Val condition) const = 0;
  virtual Val voteAny(Val condition) const = 0;
  virtual void syncWarp() const = 0;

  /// Four bytes of an i32 and of a constant, by their numbers, 0 to 3 and 4 to
  /// 7: a digit for each, the lowest byte last.
  virtual Val prmt(Val bytes, int64_t sequence, int64_t others = 0) const = 0;

  // Floats.
  virtual Val ex2(Val x) const = 0;
  virtual Val lg2(Val x) const = 0;
  virtual Val rcp(Val x) const = 0;
  /// Those above may take a subnormal number for zero.
  virtual Val ex2Subnormal(Val x) const = 0;
  virtual Val lg2Subnormal(Val x) const = 0;
  /// 1 / sqrt(x), within two units of the last place.
  virtual Val rsqrt(Val x) const = 0;
  Val tanh(Val x) const;

  // Pairs of f8E4M3FN or f8E5M2, the first one lowest.
  /// Whether there are instructions for them.
  virtual bool convertsF8() const { return false; }
  /// Two f32 to nearest, ties to even, and at most the largest finite number,
  /// as an i16.
  virtual mlir::Value cvtF8x2(mlir::Value low, mlir::Value high,
                              mlir::Type f8) const;
  /// An i16 as two f16, exactly.
  virtual mlir::Value cvtF16x2(mlir::Value pair, mlir::Type f8) const;

  // Memory of the device.
  /// 16 bytes that are not used again soon.
  virtual mlir::Value loadStreaming(mlir::Value pointer) const = 0;
  /// As those of KernelBuilder.
  virtual mlir::Value loadIf(mlir::Value condition, mlir::Value pointer,
                             int64_t bytes) const = 0;
  virtual void storeIf(mlir::Value condition, mlir::Value value,
                       mlir::Value pointer, int64_t bytes,
                       bool streaming) const = 0;

  // Memory that the host sees.
  /// i32: what was there, which `next` has taken the place of if it was
  /// `expected`.
  virtual Val atomCasSystem(mlir::Value pointer, int32_t expected,
                            int32_t next) const = 0;
  /// What is written before is seen before what is written after.
  virtual void fenceSystem() const = 0;

  // What any chip that LLVM knows has.
  /// For the condition of a branch that is seldom taken. LLVM puts its code
  /// after the rest; ptxas may put it back.
  Val unlikely(Val condition) const;
  Val popc(Val bits) const;
  /// Of two i32, of which `low` has the lower bits: the 32 bits from bit
  /// `by % 32` on.
  Val funnelShift(Val low, Val high, Val by) const;
  Val bitcastToInt(Val x) const;   ///< of an f32
  Val bitcastToFloat(Val x) const; ///< an f32

  KernelBuilder &k;
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_TARGET_TARGETOPS_H
