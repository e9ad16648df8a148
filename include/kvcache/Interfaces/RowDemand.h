// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which rows of its operands does an operation need to make some rows of its
// results? Where only a few rows of a model's last values are sampled, the
// answer decides how much of the layers before them has to run.
//
// The words, on `y = x * w`, x and y of T rows (dimension 0), of which somebody
// reads those that `indices` names:
//
//   demand    of y: the rows named by `indices`, of dimension 0
//   row axes  of the product: dimension 0 of x goes with dimension 0 of y; w is
//             needed whole
//   gather    who reads y: the one operation that mentions `indices`
//   selection what the product is run on: x with the rows of `indices` only
//
// An operation says the second, or that its rows are not made apart from each
// other, by `RowDemandOpInterface`.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_INTERFACES_ROWDEMAND_H
#define KVCACHE_INTERFACES_ROWDEMAND_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/PatternMatch.h"

#include <string>

namespace kvcache {

/// How rows of results are made of rows of operands.
struct RowAxes {
  /// Operands that are divided in rows, and the dimension that is rows: of the
  /// operation, or of an operation in its body. All others are needed whole.
  llvm::SmallVector<std::pair<mlir::OpOperand *, int64_t>> uses;
  /// For each result the dimension that is rows; -1 for one that has none.
  llvm::SmallVector<int64_t> results;
};

/// Rows that are named at run time: by the entries of `indices`, 1-D, of which
/// the first `valid[0]` count. Without `valid` all of them do.
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

/// The rows that an operation is to be run on.
class RowSelection {
public:
  virtual ~RowSelection();

  /// Those rows of an operand that `RowAxes::uses` lists.
  virtual mlir::Value getRows(mlir::OpOperand &use, int64_t axis) = 0;
  /// How many rows there are, padding included.
  virtual mlir::OpFoldResult getCount() = 0;
  /// How many rows there are in all.
  virtual mlir::OpFoldResult getWholeCount(mlir::OpBuilder &builder) = 0;
  /// The number that row `i` of the selection has among all rows; 0 if it is
  /// padding.
  virtual mlir::Value getRowNumber(mlir::OpBuilder &builder, mlir::Location loc,
                                   mlir::Value i) = 0;
  /// What stands for a value that describes all rows, such as a batch.
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
