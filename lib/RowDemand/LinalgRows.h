// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows of linalg operations, from their indexing maps and the extractions in
// their bodies.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_ROWDEMAND_LINALGROWS_H
#define KVCACHE_LIB_ROWDEMAND_LINALGROWS_H

#include "kvcache/RowDemand/RowDemand.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"

namespace kvcache::rowdemand {

llvm::FailureOr<RowAxes> getLinalgRowAxes(mlir::linalg::LinalgOp op,
                                          unsigned result, int64_t axis,
                                          std::string &why);
llvm::SmallVector<mlir::Value> createLinalgForRows(mlir::OpBuilder &builder,
                                                   mlir::linalg::LinalgOp op,
                                                   const RowAxes &axes,
                                                   RowSelection &selection);
llvm::SmallVector<RowGather> getLinalgRowGathers(mlir::linalg::LinalgOp op);
void replaceLinalgRowGather(mlir::RewriterBase &rewriter,
                            mlir::linalg::LinalgOp op, const RowGather &gather,
                            mlir::Value rows);
llvm::SmallVector<PartialRead> getLinalgPartialReads(mlir::linalg::LinalgOp op);

} // namespace kvcache::rowdemand

#endif // KVCACHE_LIB_ROWDEMAND_LINALGROWS_H
