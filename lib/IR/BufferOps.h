// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Common code of operations on buffers (tensors or memrefs): checks of shapes,
// memory effects, results that follow from destinations.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_IR_BUFFEROPS_H
#define KVCACHE_LIB_IR_BUFFEROPS_H

#include "kvcache/IR/KVCache.h"
#include "kvcache/IR/Strides.h"

namespace kvcache {

/// An extent of the dialect as an extent of a shape.
inline int64_t toShape(int64_t extent) {
  return extent == kRunTime ? mlir::ShapedType::kDynamic : extent;
}

/// Verifies that a buffer has a shape and an element type (null for any). An
/// expected run-time extent matches any extent, a constant one only itself; the
/// first `leading` extents also match if they are dynamic in the buffer.
mlir::LogicalResult verifyShape(mlir::Operation *op, llvm::StringRef label,
                                const llvm::Twine &what, mlir::Type buffer,
                                llvm::ArrayRef<int64_t> shape,
                                mlir::Type elementType, unsigned leading = 1);

/// Whether arithmetic is done on elements as they are.
inline bool isComputeType(mlir::Type type) {
  return type.isF16() || type.isBF16() || type.isF32();
}

/// Verifies that an element of rows has a format that means something alone.
mlir::LogicalResult verifyRowElement(mlir::Operation *op, llvm::StringRef label,
                                     mlir::Type element);

/// Verifies that an integer buffer has a rank, and i32 or i64 elements.
mlir::LogicalResult verifyIndices(mlir::Operation *op, llvm::StringRef label,
                                  const llvm::Twine &what, mlir::Type buffer,
                                  unsigned rank);

/// Verifies that memrefs are contiguous and in the default memory space.
mlir::LogicalResult verifyMemory(mlir::Operation *op, llvm::StringRef label,
                                 mlir::ValueRange buffers,
                                 Contiguity contiguity);

/// Verifies that buffers are all tensors or all memrefs, and tensors if a cache
/// is a tensor.
mlir::LogicalResult verifyOneForm(mlir::Operation *op, llvm::StringRef label,
                                  mlir::ValueRange buffers,
                                  mlir::ValueRange caches = {});

/// Verifies how far ahead rows see keys, if that is given.
mlir::LogicalResult verifyWindowRight(mlir::Operation *op,
                                      llvm::StringRef label,
                                      mlir::IntegerAttr window, bool causal);

/// How far ahead of its position a row sees keys; none: all of them.
std::optional<int64_t> aheadOf(bool causal, mlir::IntegerAttr windowRight);

/// The results of an operation in destination style.
void inferFromDestinations(mlir::ValueRange destinations,
                           llvm::SmallVectorImpl<mlir::Type> &types);

/// Writes of the `count` operands from number `first` on, reads of all other
/// operands that are, or refer to, memory.
void addBufferEffects(mlir::Operation *op, unsigned first, unsigned count,
                      llvm::SmallVectorImpl<mlir::SideEffects::EffectInstance<
                          mlir::MemoryEffects::Effect>> &effects);

/// The destinations among `count` operands from number `first` on. A cache that
/// is a reference is not a destination.
mlir::MutableOperandRange destinations(mlir::Operation *op, unsigned first,
                                       unsigned count);

mlir::LogicalResult
reifyFromDestinations(mlir::Operation *op, mlir::OpBuilder &builder,
                      mlir::ReifiedRankedShapedTypeDims &shapes);

/// The extents of the first dimensions of values.
TiedExtents leadingExtents(mlir::ValueRange values);
/// The same, and the number of query rows if a batch has one.
TiedExtents leadingExtents(mlir::TypedValue<BatchType> batch,
                           mlir::ValueRange values);

/// Verifies that there are scales for a cache of stored values and for no
/// other, and that they fit.
mlir::LogicalResult verifyScales(mlir::Operation *op, llvm::StringRef label,
                                 CacheType cache, mlir::Value scales,
                                 bool isWritten);
/// What a program writes for memory of a cache that has scales.
constexpr llvm::StringLiteral kPartsInstead =
    "'kvcache.stored' and 'kvcache.scales' are its parts";

/// Verifies that a cache has no scales of its own.
mlir::LogicalResult verifyNoScales(mlir::Operation *op, llvm::StringRef label,
                                   CacheType cache, llvm::StringRef instead);
/// That there is a scale for each block of a cache.
void addScaleTies(mlir::Value cache, mlir::Value scales,
                  llvm::SmallVectorImpl<TiedExtents> &ties);

/// The cache type of an operand that may be a tensor, or an error with a label.
mlir::FailureOr<CacheType> verifyCache(mlir::Operation *op,
                                       llvm::StringRef label, mlir::Type type,
                                       std::optional<mlir::ArrayAttr> axes);

} // namespace kvcache

#endif // KVCACHE_LIB_IR_BUFFEROPS_H
