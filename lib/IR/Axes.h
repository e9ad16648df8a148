// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Axes by their names, in verifiers and messages.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_IR_AXES_H
#define KVCACHE_LIB_IR_AXES_H

#include "kvcache/IR/KVCache.h"

namespace kvcache {

/// `[L, S, B]` for those axes of a layout that satisfy a condition.
std::string axesWhere(const Layout &layout,
                      llvm::function_ref<bool(unsigned)> condition);
/// All of them.
std::string axesStr(const Layout &layout);
std::string namesStr(mlir::ArrayAttr names);
std::string extentStr(int64_t extent);

/// The dimension of a memref that holds the axis listed at `i`, if the
/// dimensions may be named.
unsigned dimOfAxis(std::optional<mlir::ArrayAttr> names, const Layout &layout,
                   unsigned i);

/// Verifies that the names, if any, are the axes in some sequence.
mlir::LogicalResult verifyAxisNames(mlir::Operation *op,
                                    std::optional<mlir::ArrayAttr> names,
                                    const Layout &layout,
                                    llvm::StringRef label);

} // namespace kvcache

#endif // KVCACHE_LIB_IR_AXES_H
