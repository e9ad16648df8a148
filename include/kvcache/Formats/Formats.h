// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The formats that the elements of a cache may have.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_FORMATS_FORMATS_H
#define KVCACHE_FORMATS_FORMATS_H

#include "llvm/ADT/ArrayRef.h"

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace kvcache {

class Format;

/// All of them, in the sequence in which messages list them.
llvm::ArrayRef<const Format *> allFormats();

/// Adds them to the dialect.
void registerFormats(mlir::DialectRegistry &registry);

} // namespace kvcache

#endif // KVCACHE_FORMATS_FORMATS_H
