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
  SmallVector<const Format *> formats = llvm::to_vector(
      llvm::make_filter_range(dialect->formats, [](const Format *format) {
        return format->isPlain();
      }));
  if (formats.empty())
    return "a format, of which none is registered";
  std::string list;
  for (auto [i, format] : llvm::enumerate(formats)) {
    list += i == 0 ? "" : i + 1 == formats.size() ? " or " : ", ";
    list += format->getName();
  }
  return list;
}

const Format *KVCacheDialect::formatOf(Type stored) {
  if (auto format = dyn_cast<FormatTypeInterface>(stored))
    return &format.getFormat();
  auto integer = dyn_cast<IntegerType>(stored);
  if (!integer || !integer.isSignless())
    return nullptr;
  // Integers of other types are numbers of blocks and slots.
  auto *dialect = stored.getContext()->getLoadedDialect<KVCacheDialect>();
  std::string name = "i" + std::to_string(integer.getWidth());
  for (const Format *format : dialect->formats)
    if (!format->isPlain() && format->getName() == name)
      return format;
  return nullptr;
}
