// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From a described write or read of rows to the operation of this dialect that
// does the same for every number in the list.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_RAISE_ROWS_H
#define KVCACHE_LIB_RAISE_ROWS_H

#include "kvcache/IR/KVCache.h"
#include "kvcache/Interfaces/Raise.h"

namespace kvcache::raise {

struct RaiseFacts {
  /// Rows are written in sequence where the program runs, or no slot is named
  /// twice.
  bool lastRowWins = false;
};

/// What became of an operation.
struct Raised {
  /// What it is now; null if it was left alone.
  mlir::Operation *op = nullptr;
  /// It updates a tensor, and its source is no upstream operation, of which
  /// bufferization says whose memory is written.
  bool isFunctional = false;
  /// What was done, or which fact is missing.
  std::string text;
  /// Operations that nothing uses any more, to be erased in this sequence.
  llvm::SmallVector<mlir::Operation *> erased;
};

Raised raiseWrite(mlir::Operation *op, const RowAccess &access,
                  const RaiseFacts &facts);
Raised raiseRead(mlir::Operation *op, const RowAccess &access);

/// The type of a list of slots, and what it is called in remarks.
SlotsType slotsOf(mlir::Type list, int64_t tokens, Padding pad);
std::string describe(Padding pad);

} // namespace kvcache::raise

#endif // KVCACHE_LIB_RAISE_ROWS_H
