// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The syntax of numbers in types of the dialect.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_IR_TYPESYNTAX_H
#define KVCACHE_LIB_IR_TYPESYNTAX_H

#include "mlir/IR/OpImplementation.h"

namespace kvcache {

/// A decimal number. The lexer reads `0x16N` as the hexadecimal number 0x16,
/// which is never intended, so hexadecimal numbers are rejected.
mlir::ParseResult parseDecimal(mlir::AsmParser &parser, int64_t &value);

/// `?` or a decimal number of at least `least`. Negative numbers are rejected
/// here, as -1 represents a run-time value.
mlir::ParseResult parseExtent(mlir::AsmParser &parser, int64_t &extent,
                              int64_t least);

void printExtent(mlir::AsmPrinter &printer, int64_t extent);

} // namespace kvcache

#endif // KVCACHE_LIB_IR_TYPESYNTAX_H
