// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Index arithmetic and loops, and the decision what is worth several threads.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_HOSTCPU_LINALGTOLOOPS_LOOPS_H
#define KVCACHE_LIB_HOSTCPU_LINALGTOLOOPS_LOOPS_H

#include "../../Conversion/Common/CodeBuilder.h"

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

/// What loops over arrays need beside arithmetic.
class LoopBuilder : public CodeBuilder {
public:
  using CodeBuilder::CodeBuilder;

  /// The largest multiple of `step` that is at most `a`.
  Val floorTo(Value a, int64_t step) { return subi(a, remui(a, step)); }
  /// a * b + c, fused where the CPU can: a call of fmaf where it cannot would
  /// need a library.
  Value multiplyAdd(Value a, Value b, Value c);
  /// A float or a vector of floats as f32.
  Value toF32(Value value);

  /// Emits nothing for a condition that never holds.
  void ifThen(Value condition, llvm::function_ref<void()> then,
              llvm::function_ref<void()> otherwise = nullptr);
  /// Runs the body for each item, in chunks that may run at the same time. A
  /// chunk has enough items to be worth a thread, judged by the work per item
  /// in floating-point operations.
  void items(Value count, Value workPerItem,
             llvm::function_ref<void(Value)> body);
};

/// Matrix products. Fails, and emits nothing, on any other operation. Blocks
/// become functions beside `function`, because they have buffers on the stack.
mlir::LogicalResult lowerContraction(mlir::linalg::GenericOp op,
                                     mlir::func::FuncOp function,
                                     mlir::SymbolTable &symbols);

/// Everything that can be vectorized along one dimension. Fails, and emits
/// nothing, on any other operation.
mlir::LogicalResult vectorizeGeneric(mlir::linalg::GenericOp op);

/// Whether neighbours along the last dimension are neighbours in memory.
bool hasUnitInnerStride(mlir::Type memref);

} // namespace kvcache

#endif // KVCACHE_LIB_HOSTCPU_LINALGTOLOOPS_LOOPS_H
