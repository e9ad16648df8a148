// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Facts about the layout of each cache value beyond its type.
//
// Facts flow from definitions to uses: from the strides of a memref, or
// constants and products that are operands of a byte view, through casts and
// slices, into and out of branches, loops and private functions. Where paths
// join, their common facts remain (`join`).
//
//   view %bytes strides(B = %c4096)     B = 4096
//   view %bytes strides(B = %n * 16)    B = ? mult 16
//   cast to a less precise type         the facts before it
//   argument of a private function      the common facts of all callers
//   argument of a public function       the facts of its type
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ANALYSIS_STRIDEFACTS_H
#define KVCACHE_ANALYSIS_STRIDEFACTS_H

#include "kvcache/IR/KVCache.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/DenseMap.h"

namespace kvcache {

/// A number that divides an index or integer whatever its run-time value,
/// derived from constants, products, sums, shifts and extents. 0 for 0.
int64_t knownMultiple(mlir::Value value);

/// A value that flows into another one unchanged: an operand of a call, a
/// branch, a loop.
struct FlowEdge {
  mlir::OpOperand *from;
  mlir::Value to;
};

class StrideFacts {
public:
  explicit StrideFacts(mlir::ModuleOp module);

  /// The most precise type known to hold for a cache value: its own, or one
  /// whose layout implies it.
  CacheType typeOf(mlir::Value cache) const;

  /// All edges by which caches flow into values other than results of ordinary
  /// operations.
  llvm::ArrayRef<FlowEdge> edges() const { return flow; }

private:
  void collectEdges(mlir::ModuleOp module);
  CacheType transfer(mlir::Operation *op, mlir::Value result) const;
  void update(mlir::Value value, CacheType type, bool &changed);

  llvm::DenseMap<mlir::Value, CacheType> types;
  /// Keyed by the value that they lead to.
  llvm::SmallVector<FlowEdge> flow;
};

} // namespace kvcache

#endif // KVCACHE_ANALYSIS_STRIDEFACTS_H
