// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What is asked of a file of bytecode before upstream reads it.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_TEST_FUZZ_BYTECODE_H
#define KVCACHE_TEST_FUZZ_BYTECODE_H

#include "llvm/ADT/StringRef.h"

namespace kvcache::fuzz {

bool isBytecode(llvm::StringRef file);

/// Whether the groups of attributes and types of a file have no more entries
/// than its lists. Upstream's reader writes past the end of a list that is
/// shorter. It is not instrumented, so that the damage shows later, if at all:
/// in whatever comes next, with an input that is not the cause.
bool groupsFitLists(llvm::StringRef file);

} // namespace kvcache::fuzz

#endif // KVCACHE_TEST_FUZZ_BYTECODE_H
