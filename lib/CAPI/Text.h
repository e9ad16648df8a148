// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_LIB_CAPI_TEXT_H
#define KVCACHE_LIB_CAPI_TEXT_H

#include "llvm/ADT/StringRef.h"

#include <cstdlib>
#include <cstring>

/// A text for a caller in C, which kvcFree frees; null if it is empty.
inline char *copyText(llvm::StringRef text) {
  if (text.empty())
    return nullptr;
  auto *copy = static_cast<char *>(malloc(text.size() + 1));
  if (copy) {
    memcpy(copy, text.data(), text.size());
    copy[text.size()] = 0;
  }
  return copy;
}

#endif // KVCACHE_LIB_CAPI_TEXT_H
