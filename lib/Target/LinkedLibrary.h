// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of a library before it is released.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_TARGET_LINKEDLIBRARY_H
#define KVCACHE_LIB_TARGET_LINKEDLIBRARY_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

namespace kvcache::target {

/// Whether a linked library needs only symbols that every process has, runs
/// nothing when loaded, and can be loaded: it is loaded once, and unloaded.
///
/// It is loaded here and not in a child process. At that point it is known that
/// loading runs none of its code, so no code of a hostile program can run; and
/// a fork of a multithreaded host could only exec.
llvm::Error checkLinkedLibrary(llvm::StringRef path);

} // namespace kvcache::target

#endif // KVCACHE_LIB_TARGET_LINKEDLIBRARY_H
