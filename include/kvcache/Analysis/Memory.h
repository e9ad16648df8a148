// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which memory a value refers to, and what writes it.
//
// Caches, memrefs, slots, tables and batches are all references. A reference is
// followed through views to its root: a local buffer, an argument of the
// function, or an opaque value, such as a loop-carried value or the result of a
// select, a branch, a call or any other operation. Two roots can be the same
// memory unless
//
//   one is a local buffer, and the other is a different one or an argument
//   one is a local buffer that is used only by views and by operations that
//   read or write it: then no opaque value refers to it
//   both are arguments, and one is marked `kvcache.noalias`
//
// Everything but tensors is memory that anything may change; tensors are
// values, which nothing changes.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ANALYSIS_MEMORY_H
#define KVCACHE_ANALYSIS_MEMORY_H

#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"

namespace kvcache {

/// The value that views, casts and index values were made from: an argument, an
/// allocation, or an opaque value. A batch is its own root, as it is made from
/// several buffers.
mlir::Value rootOf(mlir::Value reference);

/// Whether the root is a buffer that its function allocates.
bool isLocal(mlir::Value root);

/// A buffer and all views of it, including batches made from it. False if there
/// may be more because a reference escapes: to a branch, a loop, a call,
/// another buffer, or an unknown operation.
bool collectReferences(mlir::Value buffer,
                       llvm::SmallVectorImpl<mlir::Value> &references);

/// Whether there may be references to a buffer that are not views of it.
bool escapes(mlir::Value buffer);

/// Whether two references can be the same memory, whatever its element types.
bool mayShareMemory(mlir::Value a, mlir::Value b);

/// The same, also using that lists of integers do not overlap caches and
/// activations of floating-point numbers (docs/abi.md).
bool mayOverlap(mlir::Value a, mlir::Value b);

/// The operation that may change this memory: the given one, or one nested in
/// it. Null if there is none.
mlir::Operation *findWriter(mlir::Operation *op, mlir::Value memory);

/// The same for operations that may run after `from` and before `to`, which is
/// in the block of `from` or nested deeper. All of the operations around `to`
/// are assumed to run before it, as they may be loops. Returns `from` itself if
/// `to` is elsewhere.
mlir::Operation *findWriterBetween(mlir::Operation *from, mlir::Operation *to,
                                   mlir::Value memory);

} // namespace kvcache

#endif // KVCACHE_ANALYSIS_MEMORY_H
