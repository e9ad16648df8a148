// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From a described write or read of rows to the operation of this dialect that
// is equivalent for every entry of the list.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_RAISE_ROWS_H
#define KVCACHE_LIB_RAISE_ROWS_H

#include "kvcache/IR/KVCache.h"
#include "kvcache/Interfaces/Raise.h"

namespace kvcache::raise {

struct RaiseFacts {
  /// Rows are written in sequence where the program runs, or no slot occurs
  /// twice.
  bool lastRowWins = false;
};

/// The outcome for an operation.
struct Raised {
  /// The new operation; null if it was left alone.
  mlir::Operation *op = nullptr;
  /// Whether it updates a tensor and its source is not an upstream operation,
  /// for which bufferization decides whose memory is written.
  bool isFunctional = false;
  /// A text on what was done, or which fact is missing.
  std::string text;
  /// Operations that are no longer used, to be erased in this order.
  llvm::SmallVector<mlir::Operation *> erased;
};

Raised raiseWrite(mlir::Operation *op, const RowAccess &access,
                  const RaiseFacts &facts);
Raised raiseRead(mlir::Operation *op, const RowAccess &access);

/// The type of a list of slots, and its name in remarks.
SlotsType slotsOf(mlir::Type list, int64_t tokens, Padding pad);
std::string describe(Padding pad);

} // namespace kvcache::raise

#endif // KVCACHE_LIB_RAISE_ROWS_H
