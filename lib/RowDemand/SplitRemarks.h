// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What kvcache-split-layer-groups tells about a function.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_ROWDEMAND_SPLITREMARKS_H
#define KVCACHE_LIB_ROWDEMAND_SPLITREMARKS_H

#include "RowSplitter.h"

namespace kvcache::rowdemand {

class SplitRemarks {
public:
  explicit SplitRemarks(mlir::FunctionOpInterface function)
      : function(function) {}

  /// What runs on selected rows, and which operations need all rows of what is
  /// selected from.
  void split(const SplitPlan &plan, const RowDemandAnalysis &analysis);
  /// Why nothing runs on the rows of a set only: `why`, or the operations that
  /// need all rows of what is read by name.
  void noSplit(const RowDemandAnalysis &analysis, unsigned set,
               llvm::StringRef why);
  /// Rows that are read and that nothing selects, as no list names them.
  void partialReads(const RowDemandAnalysis &analysis);
  /// Why the groups are no functions of their own.
  void noOutline(llvm::StringRef why);

private:
  void missed(mlir::Operation *op, llvm::StringRef why);

  mlir::FunctionOpInterface function;
  /// What was said: two sets of rows may have one reason.
  llvm::DenseSet<std::pair<mlir::Location, mlir::StringAttr>> said;
};

} // namespace kvcache::rowdemand

#endif // KVCACHE_LIB_ROWDEMAND_SPLITREMARKS_H
