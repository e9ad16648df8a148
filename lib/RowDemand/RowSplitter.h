// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Restricts operations of which only some rows are needed to these rows.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_ROWDEMAND_ROWSPLITTER_H
#define KVCACHE_LIB_ROWDEMAND_ROWSPLITTER_H

#include "kvcache/RowDemand/RowDemand.h"

#include "mlir/IR/Dominance.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

namespace kvcache::rowdemand {

/// The plan for a function and the rows that one index value names. Making a
/// plan changes nothing.
struct SplitPlan {
  /// Operations that run on the rows only, including loops, branches and their
  /// terminators, in the order of the function.
  llvm::SmallVector<mlir::Operation *> operations;
  /// Values computed for the selected rows only, and their row dimension.
  llvm::DenseMap<mlir::Value, int64_t> restricted;
  /// Values available with all rows, and their row dimension.
  llvm::SetVector<std::pair<mlir::Value, int64_t>> frontier;
  /// The reads of the rows through the index value.
  llvm::SmallVector<std::pair<mlir::Operation *, RowGather>> gathers;
  /// Results of the function of which only the rows are needed.
  llvm::SmallVector<std::pair<mlir::OpOperand *, int64_t>> outputs;
  /// Batches of attentions.
  llvm::SetVector<mlir::Value> batches;
  /// Extents of restricted values that are still used by others.
  llvm::SmallVector<mlir::Operation *> extents;
  /// Attentions and contractions.
  unsigned computes = 0, attentions = 0;
  /// Additions and multiplications of contractions per row.
  uint64_t flops = 0;

  SplitPlan(mlir::FunctionOpInterface function,
            const RowDemandAnalysis &analysis, unsigned set,
            const RowDemandAnalysis::Outputs &outputs);
};

/// Whether an operation is worth running on fewer rows: an attention or a
/// contraction.
bool isCompute(mlir::Operation *op);

class RowSplitter : public RowSelection {
public:
  RowSplitter(mlir::RewriterBase &rewriter, mlir::FunctionOpInterface function,
              const RowDemandAnalysis &analysis, unsigned set, SplitPlan &plan);

  /// Whether the plan can be carried out; if not, reports why.
  bool isPossible(int64_t minRows, std::string &why);
  /// Carries out the plan.
  void split();
  /// The selecting operations, and the index values that they use.
  llvm::ArrayRef<mlir::Operation *> getSelections() const { return selections; }
  /// The index values of the selections.
  llvm::ArrayRef<RowSet> getMade() const { return made; }

  mlir::Value getRows(mlir::OpOperand &use, int64_t axis) override;
  mlir::OpFoldResult getCount() override { return count; }
  mlir::OpFoldResult getWholeCount(mlir::OpBuilder &builder) override;
  mlir::Value getRowNumber(mlir::OpBuilder &builder, mlir::Location loc,
                           mlir::Value i) override;
  mlir::Value getDescription(mlir::OpBuilder &builder,
                             mlir::Value value) override;

private:
  /// A batch of the selected rows, and its source.
  struct Description {
    mlir::Value whole, rows, starts, positions;
  };

  bool isGenerator(mlir::Value value) const;
  bool isGenerator(mlir::Operation *op) const;
  bool canMoveBefore(mlir::Value value, mlir::Operation *point);
  bool moveBefore(mlir::Value value, mlir::Operation *point);
  mlir::Operation *outermost(mlir::Operation *point,
                             llvm::ArrayRef<mlir::Value> values);
  mlir::Operation *firstUse();
  bool isFrontierKnown(mlir::Operation *point);
  mlir::Operation *findUnknownCount();
  mlir::Operation *findOtherReader();
  void prepare(mlir::Operation *point);

  void rewrite(mlir::Operation *op);
  void rewriteBranch(mlir::Operation *op);
  void rewriteLoop(mlir::Operation *op);
  void setMade(mlir::Value old, mlir::Value made);
  void rewriteYield(mlir::Operation *op);
  bool rewriteExtent(mlir::Operation *op);
  void rewriteOutput(mlir::OpOperand &operand, int64_t axis);

  mlir::Value rowsOf(mlir::Value value, int64_t axis);
  void selectAt(mlir::Operation *point);
  mlir::Value gatherRows(mlir::Value value, int64_t axis);
  Description &selectOf(mlir::Value batch, mlir::Operation *point,
                        llvm::ArrayRef<mlir::Value> values);

  mlir::RewriterBase &rewriter;
  mlir::FunctionOpInterface function;
  const RowDemandAnalysis &analysis;
  RowSet set;
  SplitPlan &plan;
  mlir::DominanceInfo dominance;
  /// The place of the operation that is being recreated.
  mlir::Operation *current = nullptr;
  mlir::OpFoldResult count;
  /// The number of valid indices, if not all are.
  mlir::Value valid;
  llvm::SmallVector<mlir::Operation *> selections;
  llvm::SmallVector<RowSet> made;
  llvm::DenseMap<std::pair<mlir::Value, int64_t>, mlir::Value> selected;
  llvm::DenseMap<mlir::Value, mlir::Value> small;
  /// Results of new loops and branches with selected rows, and their dimension.
  llvm::DenseMap<mlir::Value, int64_t> divided;
  llvm::SmallVector<Description> descriptions;
  llvm::SmallVector<mlir::Operation *> dead;
};

} // namespace kvcache::rowdemand

#endif // KVCACHE_LIB_ROWDEMAND_ROWSPLITTER_H
