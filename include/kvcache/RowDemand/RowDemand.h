// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The row-demand analysis: of each tensor of a function, the rows that anyone
// needs. The words are explained in kvcache/Interfaces/RowDemand.h.
//
// Demand flows backwards, from what has effects or leaves the function, through
// operations whose rows are made apart from each other. What is not known needs
// all rows, and what has other results than tensors is needed if these are
// used. A loop that carries rows is taken to its fixed point: a demand only
// grows, from none to some rows to all.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ROWDEMAND_ROWDEMAND_H
#define KVCACHE_ROWDEMAND_ROWDEMAND_H

#include "kvcache/Interfaces/RowDemand.h"

#include "mlir/Interfaces/FunctionInterfaces.h"

namespace kvcache::rowdemand {

//===----------------------------------------------------------------------===//
// Operations: the interface where there is one, else elementwise operations by
// their trait, and linalg by indexing maps.
//===----------------------------------------------------------------------===//

llvm::FailureOr<RowAxes> getRowAxes(mlir::Operation *op, unsigned result,
                                    int64_t axis, std::string &why);
llvm::SmallVector<mlir::Value> createForRows(mlir::OpBuilder &builder,
                                             mlir::Operation *op,
                                             const RowAxes &axes,
                                             RowSelection &selection);
llvm::SmallVector<RowGather> getRowGathers(mlir::Operation *op);
void replaceRowGather(mlir::RewriterBase &rewriter, mlir::Operation *op,
                      const RowGather &gather, mlir::Value rows,
                      RowSelection &selection);

/// Indices of an operand, along one of its dimensions, that are read in part,
/// and are not named by a list: nothing can select them.
struct PartialRead {
  mlir::OpOperand *source;
  int64_t axis;
  llvm::StringRef why; ///< what is read, behind the name of the operation
};
llvm::SmallVector<PartialRead> getPartialReads(mlir::Operation *op);

/// The interface on operations of tensor, linalg and kvcache.
void registerRowDemandModels(mlir::DialectRegistry &registry);

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

/// What is needed of a tensor.
struct RowDemand {
  enum class Kind { None, Rows, All };
  Kind kind = Kind::None;
  int64_t axis = -1; ///< the dimension that is rows
  unsigned set = 0;  ///< which rows, a number of `RowDemandAnalysis::getSets`
  /// Who needs all, and why. Of several the last one in the function.
  mlir::Operation *by = nullptr;
  std::string why;

  bool isRows() const { return kind == Kind::Rows; }
  bool isAll() const { return kind == Kind::All; }
};

class RowDemandAnalysis {
public:
  /// Rows that are needed of results of the function; of others all are.
  using Outputs = llvm::DenseMap<unsigned, std::pair<int64_t, RowSet>>;

  explicit RowDemandAnalysis(mlir::FunctionOpInterface function,
                             const Outputs &outputs);

  /// The row sets that the gathers of the function name.
  llvm::ArrayRef<RowSet> getSets() const { return sets; }
  const RowDemand &getDemand(mlir::Value value) const;
  /// Whether a value can be made with the rows alone that are needed of it.
  bool isRestricted(mlir::Value value) const;
  /// How the rows of an operation with restricted results are made.
  const RowAxes *getAxes(mlir::Operation *op) const;
  /// Why an operation cannot be run on the rows that are needed of a result;
  /// empty if it can.
  llvm::StringRef whyNot(mlir::Operation *op) const;

private:
  bool visitBlock(mlir::Block &block);
  bool visit(mlir::Operation *op);
  bool visitReturn(mlir::Operation *op);
  bool visitBranches(mlir::Operation *op);
  bool visitLoop(mlir::Operation *op);
  bool join(mlir::Value value, const RowDemand &demand, mlir::Operation *user);
  /// What is needed of the results together, and the axes if it is rows.
  RowDemand resultDemand(mlir::Operation *op);
  unsigned numberOf(const RowSet &set);

  mlir::FunctionOpInterface function;
  const Outputs &outputs;
  llvm::SmallVector<RowSet> sets;
  llvm::DenseMap<mlir::Value, RowDemand> demands;
  llvm::DenseMap<mlir::Operation *, RowAxes> axes;
  llvm::DenseMap<mlir::Operation *, std::string> refusals;
};

} // namespace kvcache::rowdemand

#endif // KVCACHE_ROWDEMAND_ROWDEMAND_H
