// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which memory a value refers to, and what writes it.
//
// Caches, memrefs, slots, tables and batches are all references. A reference is
// followed through views to its root. That is a local buffer, an argument of
// the function, or a value of which nothing is known, such as what a loop
// carries and what a select, a branch, a call or any other operation gives. Two
// roots can be the same memory unless
//
//   one is a local buffer, and the other is another one or an argument
//   one is a local buffer that goes nowhere but into views and into what reads
//   and writes it: then no value of which nothing is known refers to it
//   both are arguments, and one is marked `kvcache.noalias`
//
// What is no tensor is memory that anybody may change; tensors are values, and
// nothing changes them.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ANALYSIS_MEMORY_H
#define KVCACHE_ANALYSIS_MEMORY_H

#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"

namespace kvcache {

/// The value that views, casts and index values were made of: an argument, an
/// allocation, or what is not followed further. A batch is its own root, as it
/// is made of several buffers.
mlir::Value rootOf(mlir::Value reference);

/// The root is a buffer that its function allocates.
bool isLocal(mlir::Value root);

/// A buffer and all views of it, batches that are made of it included. False if
/// there may be more: a reference goes where it is not followed, to a branch, a
/// loop, a call, another buffer, or an operation that is not known.
bool collectReferences(mlir::Value buffer,
                       llvm::SmallVectorImpl<mlir::Value> &references);

/// Whether there may be references to a buffer that are no views of it.
bool escapes(mlir::Value buffer);

/// Whether two references can be the same memory, whatever elements it has.
bool mayShareMemory(mlir::Value a, mlir::Value b);

/// The same where one more thing is known: lists of integers do not overlap
/// caches and activations of floating-point numbers (docs/abi.md).
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
