// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs the operations whose rows are needed in part only on that part.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_ROWDEMAND_ROWSPLITTER_H
#define KVCACHE_LIB_ROWDEMAND_ROWSPLITTER_H

#include "kvcache/RowDemand/RowDemand.h"

#include "mlir/IR/Dominance.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

namespace kvcache::rowdemand {

/// What there is to do in a function for the rows that one index value names.
/// Making a plan changes nothing.
struct SplitPlan {
  /// Operations that run on the rows only, loops, branches, and their ends, in
  /// the sequence of the function.
  llvm::SmallVector<mlir::Operation *> operations;
  /// Values that are made with the selected rows only, and the dimension of
  /// these.
  llvm::DenseMap<mlir::Value, int64_t> restricted;
  /// Values that are there with all rows, and the dimension of these.
  llvm::SetVector<std::pair<mlir::Value, int64_t>> frontier;
  /// Who reads the rows by name.
  llvm::SmallVector<std::pair<mlir::Operation *, RowGather>> gathers;
  /// Results of the function of which the rows are needed.
  llvm::SmallVector<std::pair<mlir::OpOperand *, int64_t>> outputs;
  /// Batches of attentions.
  llvm::SetVector<mlir::Value> batches;
  /// Extents of restricted values, which others still ask for.
  llvm::SmallVector<mlir::Operation *> extents;
  /// Attentions and contractions.
  unsigned computes = 0, attentions = 0;
  /// Additions and multiplications of contractions for one row.
  uint64_t flops = 0;

  SplitPlan(mlir::FunctionOpInterface function,
            const RowDemandAnalysis &analysis, unsigned set,
            const RowDemandAnalysis::Outputs &outputs);
};

/// Whether an operation is what is worth running on fewer rows: an attention or
/// a contraction.
bool isCompute(mlir::Operation *op);

class RowSplitter : public RowSelection {
public:
  RowSplitter(mlir::RewriterBase &rewriter, mlir::FunctionOpInterface function,
              const RowDemandAnalysis &analysis, unsigned set, SplitPlan &plan);

  /// Whether the plan can be carried out; else says why not.
  bool isPossible(int64_t minRows, std::string &why);
  /// Carries out the plan.
  void split();
  /// The operations that select, and the numbers they are asked for.
  llvm::ArrayRef<mlir::Operation *> getSelections() const { return selections; }
  /// What the selections name rows by.
  llvm::ArrayRef<RowSet> getMade() const { return made; }

  mlir::Value getRows(mlir::OpOperand &use, int64_t axis) override;
  mlir::OpFoldResult getCount() override { return count; }
  mlir::OpFoldResult getWholeCount(mlir::OpBuilder &builder) override;
  mlir::Value getRowNumber(mlir::OpBuilder &builder, mlir::Location loc,
                           mlir::Value i) override;
  mlir::Value getDescription(mlir::OpBuilder &builder,
                             mlir::Value value) override;

private:
  /// A batch of the selected rows, and what it was made of.
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
  /// Where the operation stands that is being made anew.
  mlir::Operation *current = nullptr;
  mlir::OpFoldResult count;
  /// The number of indices that count, if it is not that of all.
  mlir::Value valid;
  llvm::SmallVector<mlir::Operation *> selections;
  llvm::SmallVector<RowSet> made;
  llvm::DenseMap<std::pair<mlir::Value, int64_t>, mlir::Value> selected;
  llvm::DenseMap<mlir::Value, mlir::Value> small;
  /// Results of new loops and branches that have selected rows, and where.
  llvm::DenseMap<mlir::Value, int64_t> divided;
  llvm::SmallVector<Description> descriptions;
  llvm::SmallVector<mlir::Operation *> dead;
};

} // namespace kvcache::rowdemand

#endif // KVCACHE_LIB_ROWDEMAND_ROWSPLITTER_H
