// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lowerings of the code around a cache on a CPU: linalg, math and parallel
// loops.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_HOSTCPU_PASSES_H
#define KVCACHE_HOSTCPU_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace mlir {
class RewritePatternSet;
} // namespace mlir

namespace kvcache {

#define GEN_PASS_DECL
#include "kvcache/HostCPU/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "kvcache/HostCPU/Passes.h.inc"

/// Whether `kvcache-expand-math` handles an operation of the math dialect, or
/// the operation needs no expansion.
bool isExpandable(mlir::Operation *op);

/// Expands functions and bf16 arithmetic on scalars and vectors; MLIR's
/// patterns among these also expand conversions of bf16 and `rsqrt` on tensors.
void populateExpandMathPatterns(mlir::RewritePatternSet &patterns);

} // namespace kvcache

#endif // KVCACHE_HOSTCPU_PASSES_H
