// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What checks of entries have in common on all targets: the texts of their
// reports, and which numbers of a batch are used.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_COMMON_CHECKS_H
#define KVCACHE_LIB_CONVERSION_COMMON_CHECKS_H

#include "CacheLowering.h"
#include "RuntimeCalls.h"

namespace kvcache {

/// The address, as an index, of a text that says which list of which operation
/// it is: `attention: argument 'b.table'`. The name of the function comes first
/// where the report may be given in the call of another one.
mlir::Value emitCheckText(mlir::OpBuilder &builder, mlir::Location loc,
                          mlir::Operation *check, llvm::StringRef user,
                          llvm::StringRef argument, bool withFunction);

/// What an entry of `check_entries` is called in a report.
int64_t entryKind(llvm::StringRef what);

/// The address, as an index, of a constant text for an operation. Equal texts
/// of a module share one.
mlir::Value emitText(mlir::OpBuilder &builder, mlir::Location loc,
                     mlir::Operation *op, llvm::StringRef text);

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_COMMON_CHECKS_H
