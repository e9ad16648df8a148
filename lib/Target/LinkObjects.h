// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A linker for what this compiler makes, so that a machine needs no other one:
// position-independent objects for x86-64 to one shared library.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_TARGET_LINKOBJECTS_H
#define KVCACHE_LIB_TARGET_LINKOBJECTS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

namespace kvcache::target {

/// The bytes of a shared library. It exports the global symbols of default
/// visibility, contains the sections that they reach, resolves its own symbols
/// to itself, and binds all others when it is loaded. `staysLoaded`: it is
/// never unloaded. An error if an object contains what this linker does not
/// know, such as constructors; objects lie at multiples of 8 bytes.
llvm::Expected<llvm::SmallVector<char, 0>>
linkObjects(llvm::ArrayRef<llvm::StringRef> objects, bool staysLoaded);

} // namespace kvcache::target

#endif // KVCACHE_LIB_TARGET_LINKOBJECTS_H
