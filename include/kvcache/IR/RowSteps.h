// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Steps on rows, and what reads their results.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_ROWSTEPS_H
#define KVCACHE_IR_ROWSTEPS_H

#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

namespace kvcache {

using RowSteps = llvm::SmallVector<RowStepOpInterface, 2>;

/// The rows that a step or a write (`index_copy`, `scatter`) reads; none of
/// other operations.
mlir::OperandRange rowsOf(mlir::Operation *op);

/// The allocation of a buffer; null if it is something else. Once its extents
/// are constants, a cast stands between the two.
mlir::memref::AllocOp allocOf(mlir::Value buffer);

/// The step whose destination is a buffer that is allocated, if that is one of
/// its two uses and rows are the other one; null if it is something else.
RowStepOpInterface stepInto(mlir::Value buffer);

/// The steps whose results are read as these rows, the first one first.
RowSteps stepsBefore(mlir::Value rows);

/// Why an operation cannot be one launch with the steps whose results it reads;
/// empty if it can.
std::string whyNotFused(mlir::Operation *op);

} // namespace kvcache

#endif // KVCACHE_IR_ROWSTEPS_H
