// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which rows of its operands does an operation need to compute some rows of its
// results? If only a few rows of a model's output are sampled, the answer
// determines how much of the preceding layers has to run.
//
// The terms, for `y = x * w` with x and y of T rows (dimension 0), of which
// those listed in `indices` are read:
//
//   demand    of y: the rows listed in `indices`, along dimension 0
//   row axes  of the product: dimension 0 of x corresponds to dimension 0 of y;
//             w is needed whole
//   gather    the operation that reads y: the only one that refers to `indices`
//   selection the operands of the product: x with the rows of `indices` only
//
// An operation provides its row axes, or the reason why its rows are not
// computed independently, through `RowDemandOpInterface`.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_INTERFACES_ROWDEMAND_H
#define KVCACHE_INTERFACES_ROWDEMAND_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/PatternMatch.h"

#include <string>

namespace kvcache {

/// How rows of results depend on rows of operands.
struct RowAxes {
  /// Operands that are divided into rows, and their row dimension: operands of
  /// the operation, or of an operation in its body. All others are needed
  /// whole.
  llvm::SmallVector<std::pair<mlir::OpOperand *, int64_t>> uses;
  /// The row dimension of each result, or -1.
  llvm::SmallVector<int64_t> results;
};

/// Rows that are known at run time: the entries of `indices`, 1-D, of which the
/// first `valid[0]` are used, or all without `valid`.
struct RowSet {
  mlir::Value indices, valid;

  bool operator==(const RowSet &other) const {
    return indices == other.indices && valid == other.valid;
  }
};

/// The rows of an operand, along one of its dimensions, that are read.
struct RowGather {
  mlir::OpOperand *source;
  int64_t axis;
  RowSet rows;
};

/// The rows on which an operation is to run.
class RowSelection {
public:
  virtual ~RowSelection();

  /// Those rows of an operand that `RowAxes::uses` lists.
  virtual mlir::Value getRows(mlir::OpOperand &use, int64_t axis) = 0;
  /// How many rows there are, padding included.
  virtual mlir::OpFoldResult getCount() = 0;
  /// How many rows there are in all.
  virtual mlir::OpFoldResult getWholeCount(mlir::OpBuilder &builder) = 0;
  /// The index of row `i` of the selection among all rows; 0 if it is padding.
  virtual mlir::Value getRowNumber(mlir::OpBuilder &builder, mlir::Location loc,
                                   mlir::Value i) = 0;
  /// The replacement of a value that describes all rows, such as a batch.
  virtual mlir::Value getDescription(mlir::OpBuilder &builder,
                                     mlir::Value value) = 0;
};

/// A tensor type with as many rows as are selected.
mlir::RankedTensorType typeForRows(mlir::Type type, int64_t axis,
                                   mlir::OpFoldResult count);

/// A copy of an operation with other operands and result types.
llvm::SmallVector<mlir::Value> cloneForRows(mlir::OpBuilder &builder,
                                            mlir::Operation *op,
                                            const RowAxes &axes,
                                            RowSelection &selection);

} // namespace kvcache

#include "kvcache/Interfaces/RowDemandOpInterface.h.inc"

#endif // KVCACHE_INTERFACES_ROWDEMAND_H
