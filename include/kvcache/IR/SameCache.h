// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_IR_SAMECACHE_H
#define KVCACHE_IR_SAMECACHE_H

#include "kvcache/IR/KVCache.h"

namespace kvcache {

/// Whether a cache may have both types, so that a `cast` between them is valid.
/// If not, `why` begins with the label of the rule without the name of the
/// operation: `c1: `.
bool mayBeSame(CacheType a, CacheType b, std::string &why);

} // namespace kvcache

#endif // KVCACHE_IR_SAMECACHE_H
