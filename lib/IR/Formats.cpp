// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/IR/Format.h"

#include "kvcache/IR/KVCacheTypes.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace kvcache;

#include "kvcache/IR/KVCacheFormats.cpp.inc"

Format::~Format() = default;

void KVCacheDialect::addFormat(const Format &format) {
  if (llvm::is_contained(formats, &format))
    return;
  formats.push_back(&format);
  format.attach(*getContext());
}

std::string KVCacheDialect::listFormats(MLIRContext *context) {
  auto *dialect = context->getLoadedDialect<KVCacheDialect>();
  ArrayRef<const Format *> formats = dialect->formats;
  if (formats.empty())
    return "a format, of which none is registered";
  std::string list;
  for (auto [i, format] : llvm::enumerate(formats)) {
    list += i == 0 ? "" : i + 1 == formats.size() ? " or " : ", ";
    list += format->getName();
  }
  return list;
}
