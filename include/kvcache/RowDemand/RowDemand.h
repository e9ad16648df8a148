// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The row-demand analysis: which rows of each tensor of a function are needed.
// The terms are explained in kvcache/Interfaces/RowDemand.h.
//
// Demand flows backwards, from effects and results of the function, through
// operations whose rows are computed independently. Unknown operations need all
// rows, and operations with results other than tensors are needed if these are
// used. Loops that carry rows are analysed to a fixed point: a demand only
// grows, from none to some rows to all.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ROWDEMAND_ROWDEMAND_H
#define KVCACHE_ROWDEMAND_ROWDEMAND_H

#include "kvcache/Interfaces/RowDemand.h"

#include "mlir/Interfaces/FunctionInterfaces.h"

namespace kvcache::rowdemand {

//===----------------------------------------------------------------------===//
// Operations: by the interface if there is one, otherwise elementwise
// operations by their trait, and linalg by indexing maps.
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
/// but not through a list: nothing can select them.
struct PartialRead {
  mlir::OpOperand *source;
  int64_t axis;
  llvm::StringRef why; ///< what is read, to follow the name of the operation
};
llvm::SmallVector<PartialRead> getPartialReads(mlir::Operation *op);

/// Registers the interface for operations of tensor, linalg and kvcache.
void registerRowDemandModels(mlir::DialectRegistry &registry);

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

/// The demand for a tensor.
struct RowDemand {
  enum class Kind { None, Rows, All };
  Kind kind = Kind::None;
  int64_t axis = -1; ///< the row dimension
  unsigned set = 0;  ///< which rows, an index into `RowDemandAnalysis::getSets`
  /// The operation that needs all rows, and why. Of several, the last one in
  /// the function.
  mlir::Operation *by = nullptr;
  std::string why;

  bool isRows() const { return kind == Kind::Rows; }
  bool isAll() const { return kind == Kind::All; }
};

class RowDemandAnalysis {
public:
  /// Results of the function of which only some rows are needed; of others, all
  /// are.
  using Outputs = llvm::DenseMap<unsigned, std::pair<int64_t, RowSet>>;

  explicit RowDemandAnalysis(mlir::FunctionOpInterface function,
                             const Outputs &outputs);

  /// The row sets used by the gathers of the function.
  llvm::ArrayRef<RowSet> getSets() const { return sets; }
  const RowDemand &getDemand(mlir::Value value) const;
  /// Whether a value can be computed for only the needed rows.
  bool isRestricted(mlir::Value value) const;
  /// The row axes of an operation with restricted results.
  const RowAxes *getAxes(mlir::Operation *op) const;
  /// Why an operation cannot run on the needed rows of a result; empty if it
  /// can.
  llvm::StringRef whyNot(mlir::Operation *op) const;

private:
  bool visitBlock(mlir::Block &block);
  bool visit(mlir::Operation *op);
  bool visitReturn(mlir::Operation *op);
  bool visitBranches(mlir::Operation *op);
  bool visitLoop(mlir::Operation *op);
  bool join(mlir::Value value, const RowDemand &demand, mlir::Operation *user);
  /// The joint demand for the results, and the axes if it is for rows.
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
