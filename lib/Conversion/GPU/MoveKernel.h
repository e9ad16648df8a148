// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The body of kernels that move items (blocks, pairs of blocks, chunks) by a
// plan. An item is shared by `parts` blocks of threads.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_MOVEKERNEL_H
#define KVCACHE_LIB_CONVERSION_GPU_MOVEKERNEL_H

#include "MovePlan.h"
#include "Target/KernelBuilder.h"

namespace kvcache {

/// One side of a move, as parameters of a kernel.
struct MoveSide {
  mlir::Type elementType;
  unsigned pointer = 0;
  llvm::SmallVector<StrideSource> strides; ///< by listed axis
  unsigned layerAxis = 0;                  ///< of layers at run time

  int64_t elementBytes() const {
    return KVCacheDialect::formatOf(elementType)->getBits() / 8;
  }
};

/// What one item is, as a kernel has found out.
struct MoveItem {
  mlir::Value from, to;    ///< i64, bytes from the pointers
  mlir::Value live;        ///< whether it moves; null if it always does
  mlir::Value first, last; ///< i32, the tokens that move; null if all do
};

/// How threads share the accesses of an item.
struct MoveShape {
  MoveShape(const MovePlan &plan, int64_t elementBytes, bool overLink);
  int64_t threads;
  int64_t perThread; ///< direct accesses that a thread has in flight
  int64_t parts;     ///< blocks of threads for an item
};

/// What is set to zero: nothing, tokens of an item that do not move, or all of
/// it, and then nothing moves.
enum class Cleared : uint8_t { None, Rest, All };

class MoveEmitter {
public:
  MoveEmitter(KernelBuilder &k, const MovePlan &plan, const MoveShape &shape,
              MoveSide from, MoveSide to, Cleared cleared)
      : k(k), plan(plan), shape(shape), from(from), to(to), cleared(cleared) {}

  /// Part number `part` (i32) of an item; of layer `layer` (i32) where layers
  /// are known at run time only.
  void emit(MoveItem item, mlir::Value part, mlir::Value layer);

private:
  using Value = mlir::Value;
  void emitDirect(const MoveItem &item, Value part);
  void emitTiled(const MoveItem &item, Value tile);
  Value offset(bool isFrom, llvm::ArrayRef<Value> indices, Value start);
  /// Whether the token of these indices moves; null if all do.
  Value inRange(const MoveItem &item, llvm::ArrayRef<Value> indices);
  MoveSide &side(bool isFrom) { return isFrom ? from : to; }

  KernelBuilder &k;
  const MovePlan &plan;
  const MoveShape &shape;
  MoveSide from, to;
  Cleared cleared;
  Value tileMemory;
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_MOVEKERNEL_H
