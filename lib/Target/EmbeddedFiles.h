// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Files that go into artefacts, embedded in the compiler so that it can be
// moved and linked without a resource folder.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_TARGET_EMBEDDEDFILES_H
#define KVCACHE_LIB_TARGET_EMBEDDEDFILES_H

#include "llvm/ADT/StringRef.h"

namespace kvcache::target {
/// The runtime as one relocatable object file, at a multiple of 8 bytes.
llvm::StringRef getRuntimeObject();
/// The text of kv_abi.h.
llvm::StringRef getAbiHeader();
} // namespace kvcache::target

#endif // KVCACHE_LIB_TARGET_EMBEDDEDFILES_H
