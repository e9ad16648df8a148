// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Common code of writes (Rows.cpp) and reads (RowReads.cpp) of rows: names for
// the dimensions of the pool, and the entries of the list as scalars.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_RAISE_ROWRAISER_H
#define KVCACHE_LIB_RAISE_ROWRAISER_H

#include "Elements.h"
#include "PoolChain.h"
#include "Rows.h"

#include "mlir/Dialect/Utils/ReshapeOpsUtils.h"

namespace kvcache::raise {

/// A pool whose dimensions have been identified.
struct Pool {
  PoolChain chain;
  /// The base, with a dimension for the tokens of a block.
  mlir::RankedTensorType type;
  llvm::SmallVector<mlir::ReassociationIndices>
      groups; ///< to the base; empty if it is the base
  mlir::ArrayAttr axes;
  CacheType cache;

  int64_t tokens() const { return cache.getLayout().extent(AxisKind::Token); }
  int64_t blocks() const { return cache.getLayout().extent(AxisKind::Block); }
  /// The number of rows of all blocks; kRunTime if unknown.
  int64_t rows() const {
    return blocks() == kRunTime ? kRunTime : blocks() * tokens();
  }
};

class RowRaiser {
public:
  RowRaiser(mlir::Operation *op, const RowAccess &access)
      : op(op), access(access), loc(op->getLoc()), builder(op),
        poolType(llvm::dyn_cast<mlir::RankedTensorType>(access.pool.getType())),
        listType(
            llvm::dyn_cast<mlir::RankedTensorType>(access.indices.getType())) {}

  Raised write(const RaiseFacts &facts);
  Raised read();

private:
  /// Reports what is missing.
  llvm::LogicalResult refuse(const llvm::Twine &text) {
    raised.text = text.str();
    return mlir::failure();
  }
  llvm::LogicalResult check();
  llvm::LogicalResult namePool(llvm::ArrayRef<char> axes);
  llvm::SmallVector<int64_t> windowDims() const;
  mlir::Value basePool();
  mlir::Value collapsed(mlir::Value pool);
  llvm::LogicalResult checkRows(int64_t &count);
  mlir::Value inner(mlir::Value rows);
  llvm::LogicalResult traceColumns(ElementTracer &tracer, int64_t rank,
                                   llvm::SmallVectorImpl<mlir::Value> &columns);
  llvm::LogicalResult clamp(ElementTracer &tracer, mlir::Value &number,
                            int64_t extent);
  mlir::Value asListElement(ElementTracer &tracer, mlir::Value number);
  mlir::Value withCount(mlir::Value list, int64_t count);
  void writeSlots(ElementTracer &tracer, mlir::Value slot, Padding pad,
                  mlir::Value rows, int64_t count);
  void replaceReshapes(mlir::Value result, mlir::Value flat);

  mlir::Operation *op;
  const RowAccess &access;
  mlir::Location loc;
  mlir::OpBuilder builder;
  mlir::RankedTensorType poolType, listType;
  Pool pool;
  Raised raised;
};

} // namespace kvcache::raise

#endif // KVCACHE_LIB_RAISE_ROWRAISER_H
