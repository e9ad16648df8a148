// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Formats/Formats.h"

#include "FloatFormat.h"

using namespace mlir;
using namespace kvcache;

ArrayRef<const Format *> kvcache::allFormats() {
#define KVCACHE_FORMAT(name) &formats::name(),
  static const Format *const all[] = {
#include "Formats.def"
  };
#undef KVCACHE_FORMAT
  return all;
}

void kvcache::registerFormats(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *, KVCacheDialect *dialect) {
    for (const Format *format : allFormats())
      dialect->addFormat(*format);
  });
}
