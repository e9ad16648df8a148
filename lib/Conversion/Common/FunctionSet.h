// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Functions by what they do. The layers of a model have the same few operations
// over and over, and code is made of each function once: most of the time that
// a compilation takes is spent behind the point where this is asked.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_COMMON_FUNCTIONSET_H
#define KVCACHE_LIB_CONVERSION_COMMON_FUNCTIONSET_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseMap.h"

namespace kvcache {

class FunctionSet {
public:
  /// The function of the set that has the type and the body of this one, which
  /// joins the set if there is none. Names, locations and other attributes do
  /// not count. A function must not change once it is in the set.
  mlir::func::FuncOp getOrInsert(mlir::func::FuncOp function);

private:
  llvm::DenseMap<size_t, llvm::SmallVector<mlir::func::FuncOp, 1>> byHash;
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_COMMON_FUNCTIONSET_H
