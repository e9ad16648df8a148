// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How a dialect describes its cache accesses to kvcache-raise.
//
// An operation that writes or reads rows of a pool at indices in a list is
// described by a RowAccess; the pass then turns it into `index_copy`, `scatter`
// or `gather`. Scatters and gathers of StableHLO, IREE, torch-mlir and the
// tensor dialect are built in. A dialect adds its own like this:
//
//   struct MyRaising : kvcache::RaiseInterface {
//     using RaiseInterface::RaiseInterface;
//     std::optional<kvcache::RowAccess>
//     describeWrite(Operation *op, std::string &why) const override;
//   };
//   registry.addExtension(+[](MLIRContext *, MyDialect *dialect) {
//     dialect->addInterfaces<MyRaising>();
//   });
//
// The description is a promise: the pass proves its own conclusions from it,
// but cannot verify the description itself.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_INTERFACES_RAISE_H
#define KVCACHE_INTERFACES_RAISE_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectInterface.h"
#include "mlir/IR/Operation.h"

#include <optional>
#include <string>

namespace kvcache {

/// What happens to a row whose indices are not in the pool.
enum class OutOfRange {
  Skipped,   ///< it is not written
  Undefined, ///< the program has no such row
  Clamped,   ///< each index is clamped to the pool
};

/// What happens if several rows have the same indices.
enum class Repeated {
  Excluded, ///< the program has no such rows
  AnyOrder, ///< each element comes from one of them
  LastWins, ///< the last one is kept
};

/// Rows of a pool that are written or read at indices in a list:
///
///   pool[.., indices[t, k], ..] = rows[t]      or the other way round
///
/// The indices of column k refer to dimension `poolDims[k]` of the pool. The
/// other dimensions of the pool are, in order, the inner dimensions of the
/// rows, and are covered completely.
struct RowAccess {
  /// The tensor that is updated or read. The only result of the operation is
  /// the updated tensor for a write, the rows for a read.
  mlir::Value pool;
  /// A write: one row for each entry of the list. A read has none.
  mlir::Value rows;
  /// Signed integers.
  mlir::Value indices;
  /// The dimension of `indices` with one entry per column; none if it has no
  /// such dimension, and there is one column.
  std::optional<int64_t> columnDim;
  llvm::SmallVector<int64_t> poolDims;
  OutOfRange outOfRange = OutOfRange::Undefined;
  Repeated repeated = Repeated::LastWins;
};

class RaiseInterface : public mlir::DialectInterface::Base<RaiseInterface> {
public:
  RaiseInterface(mlir::Dialect *dialect) : Base(dialect) {}

  /// Describes an operation that is a write. Nothing if it is not; if it almost
  /// is one, `why` names the missing fact and becomes a remark.
  virtual std::optional<RowAccess> describeWrite(mlir::Operation *,
                                                 std::string &why) const {
    return std::nullopt;
  }

  /// The same for reads.
  virtual std::optional<RowAccess> describeRead(mlir::Operation *,
                                                std::string &why) const {
    return std::nullopt;
  }

  /// Builds the effect of an elementwise operation on one element from scalar
  /// operations of upstream dialects; null for other operations. This makes
  /// index arithmetic of the dialect understood.
  virtual mlir::Value buildElement(mlir::Operation *, mlir::OpBuilder &,
                                   mlir::ValueRange operands) const {
    return {};
  }

  /// Whether an operation may be erased once its results are unused, for
  /// operations that do not declare this by their memory effects.
  virtual bool isErasable(mlir::Operation *) const { return false; }
};

} // namespace kvcache

#endif // KVCACHE_INTERFACES_RAISE_H
