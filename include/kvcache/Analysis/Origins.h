// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which arguments a tensor may be updated in, once tensors are buffers.
//
// A tensor that is an argument of a function is memory of the caller. A private
// function may pass on an argument of its own caller, a loop its initial value,
// a slice or a reshape its source:
//
//   func public @main(%pool)   %next = call @write(%pool)
//   func private @write(%p)    %r = reshape %p    index_copy into %r
//
// The update of %r would update the argument of @main.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ANALYSIS_ORIGINS_H
#define KVCACHE_ANALYSIS_ORIGINS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"

namespace kvcache {

class TensorOrigins {
public:
  /// Whether arithmetic on tensors may write its result to an operand, as it
  /// may if `kvcache-keep-arguments` does not run. If not, loop-carried tensors
  /// are treated as owned by the loop: each is one buffer, which the program
  /// updates.
  TensorOrigins(mlir::ModuleOp module, bool arithmeticOverwrites);

  /// The arguments of functions with unknown callers whose memory a tensor may
  /// be in.
  llvm::SmallVector<mlir::BlockArgument> argumentsOf(mlir::Value tensor);

private:
  void addArgument(mlir::BlockArgument argument);
  void addResult(mlir::OpResult result);
  void add(mlir::Value value);
  void addAll(mlir::ValueRange values);
  void addAllOf(mlir::Operation *op);

  bool arithmeticOverwrites;
  llvm::DenseMap<mlir::Operation *, llvm::SmallVector<mlir::func::CallOp>>
      callsOf;
  llvm::DenseSet<mlir::Operation *> known; ///< functions with known callers
  llvm::DenseSet<mlir::Value> seen;
  llvm::SmallVector<mlir::Value> worklist;
  llvm::SmallVector<mlir::BlockArgument> found;
};

} // namespace kvcache

#endif // KVCACHE_ANALYSIS_ORIGINS_H
