// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where an extent of a tensor comes from.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_ANALYSIS_EXTENTS_H
#define KVCACHE_ANALYSIS_EXTENTS_H

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/OpDefinition.h"

#include <optional>

namespace kvcache {

/// A constant, an index value, or an extent of a tensor without further
/// information.
struct Extent {
  mlir::Value origin; ///< null for a constant
  int64_t number = 0; ///< the constant, or the dimension of the tensor

  bool operator==(const Extent &other) const {
    return origin == other.origin && number == other.number;
  }
};

std::optional<int64_t>
dimBefore(llvm::ArrayRef<mlir::ReassociationIndices> groups,
          llvm::ArrayRef<int64_t> grouped, int64_t dim, bool fromGroup);

/// The dimension before an expand_shape or a collapse_shape that became `dim`
/// with others of extent 1 only; nothing if it was merged or divided.
template <typename Reshape>
std::optional<int64_t> dimBefore(Reshape op, int64_t dim) {
  auto from = op.getSrcType().getShape(), to = op.getResultType().getShape();
  bool isCollapse = from.size() > to.size();
  return dimBefore(op.getReassociationIndices(), isCollapse ? from : to, dim,
                   isCollapse);
}

/// The queried dimension, if it is a constant and the tensor is known to have
/// it, which no verifier guarantees.
std::optional<int64_t> dimOf(mlir::tensor::DimOp op);

/// Follows a tensor to the origin of its extent: two extents with the same
/// origin are equal.
Extent extentOf(mlir::Value tensor, int64_t dim);
/// The same for an index value, which may be an extent of a tensor.
Extent extentOf(mlir::OpFoldResult size);

mlir::OpFoldResult materializeExtent(mlir::OpBuilder &builder,
                                     mlir::Location loc, const Extent &extent);

} // namespace kvcache

#endif // KVCACHE_ANALYSIS_EXTENTS_H
