// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The instructions of NVIDIA GPUs. Beyond what every kernel needs there are
// those that kernels of matrix products are made of: fragments, barriers in
// shared memory, copies that run beside the code.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_TARGET_NVVMOPS_H
#define KVCACHE_LIB_CONVERSION_GPU_TARGET_NVVMOPS_H

#include "TargetOps.h"

namespace kvcache {

class NvvmOps final : public TargetOps {
public:
  NvvmOps(KernelBuilder &k, TargetAttr target) : TargetOps(k), target(target) {}

  void markKernel(mlir::LLVM::LLVMFuncOp function,
                  int64_t threads) const override;
  void takeMultiprocessor(mlir::LLVM::LLVMFuncOp function) const override;
  void markMap(mlir::LLVM::LLVMFuncOp function, unsigned i) const override;
  Val threadX() const override;
  Val blockSize() const override;
  Val blockX() const override;
  Val blockY() const override;
  Val blockZ() const override;
  Val gridX() const override;
  Val gridY() const override;
  void barrier() const override;
  Val barrierAll(mlir::Value condition) const override;
  using TargetOps::shflIdx;
  using TargetOps::shflUp;
  using TargetOps::shflXor;
  Val shflIdx(Val value, Val lane) const override;
  Val shflUp(Val value, Val distance) const override;
  Val shflXor(Val value, Val bits) const override;
  Val reduxAdd(Val value) const override;
  Val reduxMax(Val x) const override;
  Val voteBallot(Val condition) const override;
  Val voteAny(Val condition) const override;
  void syncWarp() const override;
  Val ex2(Val x) const override;
  Val lg2(Val x) const override;
  Val rcp(Val x) const override;
  Val rsqrt(Val x) const override;
  Val ex2Subnormal(Val x) const override;
  Val lg2Subnormal(Val x) const override;
  bool convertsF8() const override { return target.getConvertF8(); }
  mlir::Value cvtF8x2(mlir::Value low, mlir::Value high,
                      mlir::Type f8) const override;
  mlir::Value cvtF16x2(mlir::Value pair, mlir::Type f8) const override;
  mlir::Value loadStreaming(mlir::Value pointer) const override;
  mlir::Value loadIf(mlir::Value condition, mlir::Value pointer,
                     int64_t bytes) const override;
  void storeIf(mlir::Value condition, mlir::Value value, mlir::Value pointer,
               int64_t bytes, bool streaming) const override;
  Val atomCasSystem(mlir::Value pointer, int32_t expected,
                    int32_t next) const override;
  void fenceSystem() const override;

  // Fragments, as b32 registers. `type` is f16 or bf16.
  /// Four 8x8 matrices of 16-bit elements.
  Vals ldmatrix(mlir::Value pointer, bool transposed) const;
  /// c + a * b: 16x16 and 16x8.
  Vals mmaSync(llvm::ArrayRef<Val> a, llvm::ArrayRef<Val> b,
               llvm::ArrayRef<Val> c, mlir::Type type) const;
  /// Two f32 as one register, the first one low.
  Val cvtPack(Val low, Val high, mlir::Type type) const;
  Val movmatrix(Val matrix) const;
  Val prmt(Val bytes, int64_t sequence, int64_t others = 0) const override;

  /// One lane of the warp.
  Val elect() const;
  /// The number of the thread, read here and not kept in a register.
  Val rereadThreadX() const;

  // Products of a warpgroup (sm_90a): 64 rows and 2 * c.size() columns.
  // Operands are in shared memory in atoms of 8 rows of 128 bytes, swizzled,
  // and are named by descriptors; a may be in registers.
  /// A descriptor is the address of shared memory in units of 16 bytes. Its low
  /// half has the bytes from an atom to the next one along the contiguous
  /// dimension too, if rows are longer than an atom, and its high half those
  /// across it.
  Val wgmmaAddress(mlir::Value pointer) const;
  static constexpr int64_t wgmmaLow(int64_t leading) { return leading << 12; }
  static constexpr int64_t wgmmaHigh(int64_t stride) {
    return stride >> 4 | int64_t(1) << 30; // 128-byte swizzle
  }
  /// c + a * b, or a * b if `isFirst`. A transposed b is contiguous in columns.
  Vals wgmma(llvm::ArrayRef<Val> a, Val b, llvm::ArrayRef<Val> c, bool isFirst,
             bool transposedB, mlir::Type type) const;
  void wgmmaFence() const;
  void wgmmaCommit() const;
  /// All products that were committed have ended.
  void wgmmaWait() const;
  /// The same registers. No code that uses them moves across this.
  Vals pin(llvm::ArrayRef<Val> registers) const;
  /// Writes of this thread to shared memory are visible to products and copies
  /// that run beside the code.
  void fenceProxyAsync() const;
  /// All warps of a warpgroup together give back registers, or take some.
  void setMaxRegisters(int64_t count, bool isMore) const;

  // Barriers in shared memory.
  void mbarrierInit(mlir::Value barrier, int64_t count) const;
  /// Where other blocks of threads could see a barrier.
  void fenceMbarrierInit() const;
  void mbarrierArrive(mlir::Value barrier) const;
  void mbarrierArriveExpectTx(mlir::Value barrier, Val bytes) const;
  /// Arrives when all copies of this thread so far have ended.
  void cpAsyncMbarrierArrive(mlir::Value barrier) const;
  void mbarrierWait(mlir::Value barrier, Val parity) const;
  /// So many threads, under a number of their own.
  void barSync(Val name, int64_t threads) const;
  void barArrive(mlir::Value name, int64_t threads) const;

  // Words of 32 bits in shared memory, 16 bytes at a time.
  Vals ldSharedWords(mlir::Value pointer, unsigned count) const;
  void stSharedWords(Vals words, mlir::Value pointer) const;

  // Copies to shared memory.
  /// 4 or 16 bytes; zeros if `isThere` does not hold.
  void cpAsync(Val isThere, mlir::Value to, mlir::Value from,
               int64_t bytes) const;
  /// Copies of this thread have ended.
  void cpAsyncWaitAll() const;
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
  /// Gives the number before; what was written before it is seen by whoever
  /// sees it, and the other way round.
  Val atomAddAcqRel(mlir::Value pointer, Val value) const;
  Val atomExch(mlir::Value pointer, Val value) const;
  /// What was there; if that is `expected`, `value` is there now.
  Val atomCasAcqRel(mlir::Value pointer, Val expected, Val value) const;
  void fenceDevice() const;

  /// Ends the program of the device.
  /// What comes after it is not executed before it, as far as ptxas decides: it
  /// orders instructions inside of a block, and this ends one. A thread ends
  /// here if `number` is what it never is, another one at each place.
  void scheduleFence(Val number, int64_t never) const;
  void trap() const;
  /// Ends the program of the device with a message, which is kept as `symbol`.
  void assertFail(llvm::StringRef symbol, llvm::StringRef message) const;

private:
  TargetAttr target;
  mlir::Value assembly(llvm::StringRef text, llvm::StringRef constraints,
                       mlir::TypeRange results, mlir::ValueRange operands,
                       bool hasSideEffects) const;
  Val unary(llvm::StringRef intrinsic, Val x) const;
  Val shuffle(Val value, mlir::Value lane, int kind) const;
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_TARGET_NVVMOPS_H
