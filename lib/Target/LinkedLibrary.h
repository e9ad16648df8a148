// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What is looked at before a library is given to anybody.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_TARGET_LINKEDLIBRARY_H
#define KVCACHE_LIB_TARGET_LINKEDLIBRARY_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

namespace kvcache::target {

/// Whether a linked library needs only what every process has, runs nothing
/// when it is loaded, and can be loaded: it is loaded once, and unloaded.
///
/// It is loaded here and not in a child process. By then it is known that
/// loading runs none of its code, so that nothing of a hostile program comes to
/// run; and a fork of a host with threads could do nothing more than exec.
llvm::Error checkLinkedLibrary(llvm::StringRef path);

} // namespace kvcache::target

#endif // KVCACHE_LIB_TARGET_LINKEDLIBRARY_H
