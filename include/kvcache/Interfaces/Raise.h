// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How a dialect tells kvcache-raise what its operations mean for a cache.
//
// An operation that writes or reads rows of a pool at numbers in a list is
// described by a RowAccess; the pass then makes `index_copy`, `scatter` or
// `gather` of it. Scatters and gathers of StableHLO, of IREE and torch-mlir and
// of the tensor dialect are known already. A dialect adds its own like this:
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
// The description is a promise: the pass proves what it does with it, but
// cannot look behind it.
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

/// What happens to a row whose numbers are not in the pool.
enum class OutOfRange {
  Skipped,   ///< it is not written
  Undefined, ///< the program has no such row
  Clamped,   ///< each number is moved to the nearest one in the pool
};

/// What happens where several rows have the same numbers.
enum class Repeated {
  Excluded, ///< the program has no such rows
  AnyOrder, ///< each element comes from one of them
  LastWins, ///< the last one stays
};

/// Rows of a pool that are written or read at numbers in a list:
///
///   pool[.., indices[t, k], ..] = rows[t]      or the other way round
///
/// The numbers of column k stand in dimension `poolDims[k]` of the pool. The
/// other dimensions of the pool are, in their sequence, the inner dimensions of
/// the rows, and are covered whole.
struct RowAccess {
  /// The tensor that is updated or read. A write gives the updated tensor as
  /// the only result of the operation, a read the rows.
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

  /// The write that an operation is. Nothing if it is none; then `why` says
  /// which fact is missing if it almost is one, and becomes a remark.
  virtual std::optional<RowAccess> describeWrite(mlir::Operation *,
                                                 std::string &why) const {
    return std::nullopt;
  }

  /// The same for reads.
  virtual std::optional<RowAccess> describeRead(mlir::Operation *,
                                                std::string &why) const {
    return std::nullopt;
  }

  /// What an elementwise operation on tensors does to one element, built of
  /// scalar operations of upstream dialects; null for other operations. So
  /// index arithmetic of the dialect is understood.
  virtual mlir::Value buildElement(mlir::Operation *, mlir::OpBuilder &,
                                   mlir::ValueRange operands) const {
    return {};
  }

  /// Whether an operation may be erased once nothing uses its results, for
  /// operations that do not say so by their memory effects.
  virtual bool isErasable(mlir::Operation *) const { return false; }
};

} // namespace kvcache

#endif // KVCACHE_INTERFACES_RAISE_H
