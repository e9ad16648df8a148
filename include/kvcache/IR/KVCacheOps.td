// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// All operations, one file per family.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_OPS_TD
#define KVCACHE_IR_OPS_TD

include "kvcache/IR/KVCacheTargets.td"
include "kvcache/IR/KVCacheViewOps.td"
include "kvcache/IR/KVCacheIndexOps.td"
include "kvcache/IR/KVCacheMoveOps.td"
include "kvcache/IR/KVCacheRowOps.td"
include "kvcache/IR/KVCacheAttentionOps.td"
include "kvcache/IR/KVCacheCheckOps.td"

#endif // KVCACHE_IR_OPS_TD
