// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Arguments for a function that nobody wrote a call of: from its signature, and
// from what its operations take its lists and numbers for.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_TEST_TRANSLATION_MAKECALLS_H
#define KVCACHE_TEST_TRANSLATION_MAKECALLS_H

#include "kvcache/Run/ArgumentSpec.h"
#include "kvcache/Target/Signature.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringMap.h"

namespace kvcache {

using Call = llvm::StringMap<run::ArgumentSpec>;

/// Two calls of a bufferized function: with the least strides that its caches
/// may have, and with other data, padding, and strides that are apart.
std::vector<Call> makeCalls(mlir::func::FuncOp function,
                            const target::FunctionSignature &signature);

} // namespace kvcache

#endif // KVCACHE_TEST_TRANSLATION_MAKECALLS_H
