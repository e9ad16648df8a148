// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Conversions out of the kvcache dialect.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_CONVERSION_PASSES_H
#define KVCACHE_CONVERSION_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace kvcache {

#define GEN_PASS_DECL
#include "kvcache/Conversion/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "kvcache/Conversion/Passes.h.inc"

} // namespace kvcache

#endif // KVCACHE_CONVERSION_PASSES_H
