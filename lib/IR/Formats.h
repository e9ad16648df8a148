// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_LIB_IR_FORMATS_H
#define KVCACHE_LIB_IR_FORMATS_H

#include "mlir/IR/MLIRContext.h"

#include <string>

namespace kvcache {

/// Registers the types of other dialects that are formats.
void attachFormats(mlir::MLIRContext &context);

/// The formats as listed in a message: `f16, bf16 or f32`.
std::string listFormats(mlir::MLIRContext *context);

} // namespace kvcache

#endif // KVCACHE_LIB_IR_FORMATS_H
