// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A cached `findWriterBetween`, for many queries about few blocks and buffers:
// each block is searched once for each buffer.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ANALYSIS_WRITERINDEX_H
#define KVCACHE_ANALYSIS_WRITERINDEX_H

#include "mlir/IR/Operation.h"
#include "llvm/ADT/DenseMap.h"

#include <utility>

namespace kvcache {

/// Valid while the IR is unchanged: create it for the queries of a pass, and
/// drop it before the pass rewrites anything.
class WriterIndex {
public:
  mlir::Operation *findBetween(mlir::Operation *from, mlir::Operation *to,
                               mlir::Value memory);

private:
  /// Operations of a block that may change a buffer, or contain one that may,
  /// in order.
  using Writers = llvm::SmallVector<mlir::Operation *>;
  const Writers &writersIn(mlir::Block *block, mlir::Value memory);

  llvm::DenseMap<std::pair<mlir::Block *, mlir::Value>, Writers> writers;
};

} // namespace kvcache

#endif // KVCACHE_ANALYSIS_WRITERINDEX_H
