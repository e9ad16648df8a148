// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The dialect, its types and its operations.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_KVCACHE_H
#define KVCACHE_IR_KVCACHE_H

#include "kvcache/IR/CacheAccess.h"
#include "kvcache/IR/KVCacheTypes.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Interfaces/ViewLikeInterface.h"

namespace kvcache {

/// The most elements of a tensor or memref: as many as the largest f32 cache
/// has bytes, since a buffer may consist of bytes.
inline constexpr int64_t kMaxElements = Layout::kMaxSpan * 4;

/// The first tensor or memref with a constant extent that is negative or above
/// `kMaxExtent`, or with constant extents whose product exceeds `most`; null if
/// there is none. Computations with the others fit in 64 bits.
mlir::Type findUnbounded(mlir::TypeRange types, int64_t most = kMaxElements);
llvm::LogicalResult verifyExtents(mlir::Operation *op);

/// Runs before the verifier of the operation.
template <typename ConcreteType>
struct BoundedExtents : mlir::OpTrait::TraitBase<ConcreteType, BoundedExtents> {
  static llvm::LogicalResult verifyTrait(mlir::Operation *op) {
    return verifyExtents(op);
  }
};

} // namespace kvcache

#define GET_OP_CLASSES
#include "kvcache/IR/KVCacheOps.h.inc"

#endif // KVCACHE_IR_KVCACHE_H
