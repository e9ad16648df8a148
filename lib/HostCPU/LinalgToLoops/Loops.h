// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Index arithmetic and loops, and the decision what is worth several threads.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_LINALGTOLOOPS_LOOPS_H
#define KVCACHE_LIB_CONVERSION_LINALGTOLOOPS_LOOPS_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::linalg {
class GenericOp;
} // namespace mlir::linalg
namespace mlir::func {
class FuncOp;
} // namespace mlir::func

namespace kvcache {

/// Lanes of a vector of f32. 16 is one register of AVX-512 and two of AVX2,
/// where a row of two gives the multiply-adds that run side by side.
constexpr int64_t kLanes = 16;

/// A builder whose index arithmetic folds.
struct LoopBuilder : mlir::ImplicitLocOpBuilder {
  using ImplicitLocOpBuilder::ImplicitLocOpBuilder;

  mlir::Value index(int64_t n);
  mlir::Value add(mlir::Value a, mlir::Value b);
  mlir::Value add(mlir::Value a, int64_t b) { return add(a, index(b)); }
  mlir::Value sub(mlir::Value a, mlir::Value b);
  mlir::Value mul(mlir::Value a, mlir::Value b);
  mlir::Value mul(mlir::Value a, int64_t b) { return mul(a, index(b)); }
  mlir::Value div(mlir::Value a, mlir::Value b);
  mlir::Value rem(mlir::Value a, mlir::Value b);
  mlir::Value ceilDiv(mlir::Value a, mlir::Value b);
  mlir::Value min(mlir::Value a, mlir::Value b);
  mlir::Value max(mlir::Value a, mlir::Value b);
  /// The largest multiple of `step` that is at most `a`.
  mlir::Value floorTo(mlir::Value a, int64_t step);

  /// a * b + c, fused where the CPU can: a call of fmaf where it cannot would
  /// need a library.
  mlir::Value multiplyAdd(mlir::Value a, mlir::Value b, mlir::Value c);
  /// A float or a vector of floats as f32.
  mlir::Value toF32(mlir::Value value);

  using Body = llvm::function_ref<void(mlir::Value)>;
  using CarryingBody = llvm::function_ref<llvm::SmallVector<mlir::Value>(
      mlir::Value, mlir::ValueRange)>;
  void loop(mlir::Value from, mlir::Value to, int64_t step, Body body);
  llvm::SmallVector<mlir::Value> loop(mlir::Value from, mlir::Value to,
                                      int64_t step, mlir::ValueRange init,
                                      CarryingBody body);
  /// `then` runs if the condition holds; nothing is emitted for one that never
  /// does.
  void when(mlir::Value condition, llvm::function_ref<void()> then,
            llvm::function_ref<void()> otherwise = nullptr);

  /// Runs the body for each item, in chunks that may run at the same time. A
  /// chunk has enough items to be worth a thread, judged by the work per item
  /// in floating-point operations.
  void items(mlir::Value count, mlir::Value workPerItem, Body body);
};

/// Matrix products. Fails, and emits nothing, on any other operation. Blocks
/// become functions beside `function`, because they have buffers on the stack.
mlir::LogicalResult lowerContraction(mlir::linalg::GenericOp op,
                                     mlir::func::FuncOp function);

/// Everything that can be vectorized along one dimension. Fails, and emits
/// nothing, on any other operation.
mlir::LogicalResult vectorizeGeneric(mlir::linalg::GenericOp op);

/// Whether neighbours along the last dimension are neighbours in memory.
bool hasUnitInnerStride(mlir::Type memref);

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_LINALGTOLOOPS_LOOPS_H
