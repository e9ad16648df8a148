// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The number of floating-point operations of a call: only those known for
// certain, and the names of the others.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_RUN_FLOPS_H
#define KVCACHE_RUN_FLOPS_H

#include "kvcache/Run/Arguments.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <functional>

namespace kvcache::run {

/// Counts additions and multiplications of attention (the products of queries
/// and visible keys, and of weights and values) and of linalg contractions.
class FlopCount {
public:
  /// Reads a bufferized function, before it is lowered.
  FlopCount(mlir::func::FuncOp function,
            const target::FunctionSignature &signature);

  /// The count for a call with these arguments; to be queried before the call.
  uint64_t of(const Arguments &arguments) const;

  unsigned numCounted() const { return terms.size(); }
  /// Operations that are not counted, each with the reason.
  llvm::ArrayRef<std::string> unknown() const { return reasons; }

private:
  using Term = std::function<uint64_t(const Arguments &)>;
  std::vector<Term> terms;
  std::vector<std::string> reasons;
};

} // namespace kvcache::run

#endif // KVCACHE_RUN_FLOPS_H
