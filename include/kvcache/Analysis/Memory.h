// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which memory a value refers to, and what writes it.
//
// Caches, memrefs, slots, tables and batches are all references. Two of them
// can be the same memory unless
//
//   one is a local buffer that the other is no view of
//   one is an argument that is marked `kvcache.noalias`
//   one has integers and the other floating-point numbers: lists do not
//   overlap caches or activations (docs/abi.md)
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ANALYSIS_MEMORY_H
#define KVCACHE_ANALYSIS_MEMORY_H

#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"

namespace kvcache {

/// The value that views, casts and index values were made of: an argument, an
/// allocation, or what is not followed further. A batch of several buffers is
/// its own root.
mlir::Value rootOf(mlir::Value reference);

/// The root is a buffer that its function allocates.
bool isLocal(mlir::Value root);

bool mayOverlap(mlir::Value a, mlir::Value b);

/// Whether an operation, or one inside of it, may change this memory. Null
/// where it does not, else the operation that does.
mlir::Operation *findWriter(mlir::Operation *op, mlir::Value memory);

/// The same for what may run after `from` and before `to`, which lies in the
/// block of `from` or deeper. Of operations around `to`, all is taken to run
/// before it, as they may be loops. `from` itself is returned if `to` is
/// elsewhere.
mlir::Operation *findWriterBetween(mlir::Operation *from, mlir::Operation *to,
                                   mlir::Value memory);

} // namespace kvcache

#endif // KVCACHE_ANALYSIS_MEMORY_H
