// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes of whole blocks: rows for all tokens of each block of a list.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_TRANSFORMS_WHOLEBLOCKS_H
#define KVCACHE_LIB_TRANSFORMS_WHOLEBLOCKS_H

#include "kvcache/Analysis/WriterIndex.h"
#include "kvcache/IR/KVCache.h"

namespace kvcache {

/// The operation that made the slots of an index copy as all slots of some
/// blocks; null if there is none.
BlockSlotsOp findWholeBlocks(IndexCopyOp op, WriterIndex &writers);

/// Writes these blocks as one row each. Null if required facts are missing, and
/// `why` says which.
IndexCopyOp writeWholeBlocks(IndexCopyOp op, BlockSlotsOp blockSlots,
                             std::string &why);

} // namespace kvcache

#endif // KVCACHE_LIB_TRANSFORMS_WHOLEBLOCKS_H
