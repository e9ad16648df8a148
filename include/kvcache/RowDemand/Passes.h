// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Row demand, and the split of layer groups.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ROWDEMAND_PASSES_H
#define KVCACHE_ROWDEMAND_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace kvcache {

#define GEN_PASS_DECL
#include "kvcache/RowDemand/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "kvcache/RowDemand/Passes.h.inc"

} // namespace kvcache

#endif // KVCACHE_ROWDEMAND_PASSES_H
