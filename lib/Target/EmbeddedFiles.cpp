// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "EmbeddedFiles.h"

#pragma clang diagnostic ignored "-Wc23-extensions"

alignas(8) static const unsigned char kRuntimeObject[] = {
#embed KVCACHE_RUNTIME_OBJECT
};

static const unsigned char kAbiHeader[] = {
#embed KVCACHE_ABI_HEADER
};

llvm::StringRef kvcache::target::getRuntimeObject() {
  return {reinterpret_cast<const char *>(kRuntimeObject),
          sizeof kRuntimeObject};
}

llvm::StringRef kvcache::target::getAbiHeader() {
  return {reinterpret_cast<const char *>(kAbiHeader), sizeof kAbiHeader};
}
