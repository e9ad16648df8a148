// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Who names a symbol, found for all symbols in one walk. To ask
// `SymbolTable::getSymbolUses` for each function walks the program each time.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ANALYSIS_SYMBOLUSERS_H
#define KVCACHE_ANALYSIS_SYMBOLUSERS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseMap.h"

#include <optional>

namespace kvcache {

/// As the program is when this is made.
class SymbolUsers {
public:
  explicit SymbolUsers(mlir::Operation *program);

  /// The users of all symbols of this one's name, in the order of the program,
  /// one for each use. Nothing if an operation may name symbols in a way that
  /// is not known.
  std::optional<llvm::ArrayRef<mlir::Operation *>>
  of(mlir::func::FuncOp function) const;

private:
  bool known = true;
  llvm::DenseMap<mlir::StringAttr, llvm::SmallVector<mlir::Operation *>> users;
};

/// Whether all that names a function is calls.
bool hasKnownCallers(mlir::func::FuncOp function, const SymbolUsers &users);

} // namespace kvcache

#endif // KVCACHE_ANALYSIS_SYMBOLUSERS_H
