// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What is known of the layout of each cache value, beyond what its type says.
//
// Facts flow from where they are known to where they are used: from the strides
// of a memref, or constants and products that a view of bytes gets, through
// casts and slices, into and out of branches, loops and private functions.
// Where paths meet, what they have in common is known (`join`).
//
//   view %bytes strides(B = %c4096)     B = 4096
//   view %bytes strides(B = %n * 16)    B = ? mult 16
//   cast to a vaguer type               what it was before
//   argument of a private function      what all callers have in common
//   argument of a public function       what its type says
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ANALYSIS_STRIDEFACTS_H
#define KVCACHE_ANALYSIS_STRIDEFACTS_H

#include "kvcache/IR/KVCache.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/DenseMap.h"

namespace kvcache {

/// A number that divides an index or integer whatever it is at run time: of
/// constants, products, sums, shifts and extents. 0 of 0.
int64_t knownMultiple(mlir::Value value);

/// A value that reaches another one without being changed: an operand of a
/// call, a branch, a loop.
struct FlowEdge {
  mlir::OpOperand *from;
  mlir::Value to;
};

class StrideFacts {
public:
  explicit StrideFacts(mlir::ModuleOp module);

  /// The most precise type that is known to be true of a cache value: that of
  /// the value, or one whose layout implies it.
  CacheType typeOf(mlir::Value cache) const;

  /// All ways by which caches flow into values other than results of ordinary
  /// operations.
  llvm::ArrayRef<FlowEdge> edges() const { return flow; }

private:
  void collectEdges(mlir::ModuleOp module);
  CacheType transfer(mlir::Operation *op, mlir::Value result) const;
  void update(mlir::Value value, CacheType type, bool &changed);

  llvm::DenseMap<mlir::Value, CacheType> types;
  /// By the value that they lead to.
  llvm::SmallVector<FlowEdge> flow;
};

} // namespace kvcache

#endif // KVCACHE_ANALYSIS_STRIDEFACTS_H
