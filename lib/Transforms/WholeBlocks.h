// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes of whole blocks: rows for all tokens of each block of a list.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_TRANSFORMS_WHOLEBLOCKS_H
#define KVCACHE_LIB_TRANSFORMS_WHOLEBLOCKS_H

#include "kvcache/IR/KVCache.h"

namespace kvcache {

/// The list of blocks whose slots, all of them, an index copy writes; null if
/// there is none.
mlir::Value findWholeBlocks(IndexCopyOp op);

/// Writes these blocks as one row each. Null where the facts that this takes
/// are missing, and `why` says which.
IndexCopyOp writeWholeBlocks(IndexCopyOp op, mlir::Value blocks,
                             std::string &why);

} // namespace kvcache

#endif // KVCACHE_LIB_TRANSFORMS_WHOLEBLOCKS_H
