// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From the IR of other compilers to kvcache IR.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_RAISE_PASSES_H
#define KVCACHE_RAISE_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace kvcache {

#define GEN_PASS_DECL
#include "kvcache/Raise/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "kvcache/Raise/Passes.h.inc"

} // namespace kvcache

#endif // KVCACHE_RAISE_PASSES_H
