// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Building a kernel and its launches.
//
// A kernel is an `llvm.func` in the `gpu.module` `@kv_kernels`; its body
// is arith, scf, llvm and nvvm. It is not a `gpu.func` because a tensor map can
// be passed to an `llvm.func` only. Parameters are collected on the host side,
// so that what a kernel takes and what a launch passes cannot drift apart.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_KVCACHETOGPU_KERNELS_KERNELBUILDER_H
#define KVCACHE_LIB_CONVERSION_KVCACHETOGPU_KERNELS_KERNELBUILDER_H

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace kvcache {

/// The values that a launch passes: pointers to global memory and 64-bit
/// integers. The host side of a kernel's parameter list.
class KernelOperands {
public:
  KernelOperands(mlir::OpBuilder &builder, mlir::Location loc)
      : builder(builder), loc(loc) {}

  /// A pointer to the element of a memref's buffer at `offset` (index,
  /// elements). Gives the number of the parameter.
  unsigned addPointer(mlir::Value buffer, mlir::Value offset);
  /// An index, as i64.
  unsigned addIndex(mlir::Value index);

  llvm::ArrayRef<mlir::Value> values() const { return operands; }
  llvm::ArrayRef<mlir::Type> types() const { return parameterTypes; }

private:
  mlir::OpBuilder &builder;
  mlir::Location loc;
  llvm::SmallVector<mlir::Value> operands;
  llvm::SmallVector<mlir::Type> parameterTypes;
};

/// The body of a kernel under construction. Integer helpers fold constants.
class KernelBuilder {
public:
  /// Creates an empty kernel whose name begins with `name`, and stands at the
  /// start of its body. `threads` is the only block size it is launched with.
  KernelBuilder(mlir::ModuleOp module, mlir::Location loc, llvm::StringRef name,
                llvm::ArrayRef<mlir::Type> parameters, int64_t threads);

  mlir::OpBuilder builder;
  mlir::Location loc;

  mlir::Value parameter(unsigned i) { return function.getArgument(i); }
  mlir::SymbolRefAttr symbol();
  /// Ends the body.
  void finish();

  // i32
  mlir::Value threadX();
  mlir::Value blockX();
  mlir::Value blockY();
  mlir::Value i32(int64_t value);
  mlir::Value i64(int64_t value);
  mlir::Value widen(mlir::Value i32Value);
  mlir::Value add(mlir::Value a, mlir::Value b);
  mlir::Value mul(mlir::Value a, mlir::Value b);
  mlir::Value udiv(mlir::Value a, int64_t b);
  mlir::Value urem(mlir::Value a, int64_t b);
  mlir::Value ult(mlir::Value a, mlir::Value b);
  mlir::Value select(mlir::Value condition, mlir::Value a, mlir::Value b);

  /// The address `bytes` (i64) past a pointer to global memory.
  mlir::Value byteOffset(mlir::Value pointer, mlir::Value bytes);
  /// One access of 1, 2, 4, 8 or 16 bytes, aligned to its size. A streaming
  /// one says that the data is not used again soon.
  mlir::Value load(mlir::Value pointer, int64_t bytes, bool streaming);
  /// A store under a predicate, without a branch: LLVM would move the loads of
  /// what is stored into the branch, behind the loads that decide it, and each
  /// branch costs a fetch of instructions when a kernel starts cold.
  void storeIf(mlir::Value condition, mlir::Value value, mlir::Value pointer,
               int64_t bytes, bool streaming);
  /// A scalar of the given type.
  mlir::Value loadScalar(mlir::Value pointer, mlir::Type type);

private:
  mlir::Value integer(int64_t value, unsigned width);
  mlir::LLVM::LLVMFuncOp function;
};

/// Launches a kernel on a grid (index values) with its only block size.
void emitLaunch(mlir::OpBuilder &builder, mlir::Location loc,
                mlir::SymbolRefAttr kernel, mlir::Value gridX,
                mlir::Value gridY, int64_t threads,
                const KernelOperands &operands);

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_KVCACHETOGPU_KERNELS_KERNELBUILDER_H
