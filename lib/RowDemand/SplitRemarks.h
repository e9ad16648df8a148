// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Remarks of kvcache-split-layer-groups on a function.
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

  /// Reports what runs on selected rows, and which operations need all rows of
  /// the values selected from.
  void split(const SplitPlan &plan, const RowDemandAnalysis &analysis);
  /// Reports why nothing runs on only the rows of a set: `why`, or the
  /// operations that need all rows of the values read.
  void noSplit(const RowDemandAnalysis &analysis, unsigned set,
               llvm::StringRef why);
  /// Reports rows that are read but not selected, as no list names them.
  void partialReads(const RowDemandAnalysis &analysis);
  /// Reports why the groups are not outlined.
  void noOutline(llvm::StringRef why);

private:
  void missed(mlir::Operation *op, llvm::StringRef why);

  mlir::FunctionOpInterface function;
  /// Remarks already made: two sets of rows may have the same reason.
  llvm::DenseSet<std::pair<mlir::Location, mlir::StringAttr>> said;
};

} // namespace kvcache::rowdemand

#endif // KVCACHE_LIB_ROWDEMAND_SPLITREMARKS_H
