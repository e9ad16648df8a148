// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_LIB_TARGET_PROVENVIEWS_H
#define KVCACHE_LIB_TARGET_PROVENVIEWS_H

#include "kvcache/IR/KVCache.h"

namespace kvcache::target {

/// Whether there is nothing to check: the type of the source has all strides
/// that the layout knows, and only the alignment of elements is promised, or
/// both are those of a cache that was viewed as a memref.
bool isProvenByType(ViewOp view);

} // namespace kvcache::target

#endif // KVCACHE_LIB_TARGET_PROVENVIEWS_H
