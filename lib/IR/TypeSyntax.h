// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How the types of the dialect spell numbers.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_IR_TYPESYNTAX_H
#define KVCACHE_LIB_IR_TYPESYNTAX_H

#include "mlir/IR/OpImplementation.h"

namespace kvcache {

/// A decimal number. The lexer takes `0x16N` for the hexadecimal number 0x16,
/// which is never what was meant, so hexadecimal numbers are refused.
mlir::ParseResult parseDecimal(mlir::AsmParser &parser, int64_t &value);

/// `?` or a decimal number of at least `least`. Negative numbers are refused
/// here, as -1 is how a run-time value is stored.
mlir::ParseResult parseExtent(mlir::AsmParser &parser, int64_t &extent,
                              int64_t least);

void printExtent(mlir::AsmPrinter &printer, int64_t extent);

} // namespace kvcache

#endif // KVCACHE_LIB_IR_TYPESYNTAX_H
