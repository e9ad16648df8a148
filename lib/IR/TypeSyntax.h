// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The syntax of numbers in types of the dialect.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_IR_TYPESYNTAX_H
#define KVCACHE_LIB_IR_TYPESYNTAX_H

#include "kvcache/Layout/Layout.h"

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

mlir::ParseResult parseAxis(mlir::AsmParser &parser, Axis &axis);

/// `[B = 1048576, H = ? mult 16]`. `add` says what is wrong with a fact, where
/// it is given.
mlir::ParseResult parseStrideFacts(
    mlir::AsmParser &parser,
    llvm::function_ref<mlir::ParseResult(llvm::SMLoc, Axis, StrideFact)> add);

/// One of them.
void printStrideFact(mlir::AsmPrinter &printer, Axis axis, StrideFact fact);

} // namespace kvcache

#endif // KVCACHE_LIB_IR_TYPESYNTAX_H
