// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// tensor.scatter, whose indices are unique and in range by definition. Nothing
// upstream bufferizes it, so if it cannot be done in place there is no
// equivalent code; and its scatter_dims may leave unit dimensions in the rows.
//
//===----------------------------------------------------------------------===//

#include "Foreign.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

std::optional<RowAccess> tensorscatter::describeWrite(Operation *op,
                                                      std::string &why) {
  auto scatter = dyn_cast<tensor::ScatterOp>(op);
  if (!scatter)
    return std::nullopt;
  auto refuse = [&](const char *text) {
    why = text;
    return std::nullopt;
  };
  if (!scatter.getUnique())
    return refuse("its coordinates are not declared to be unique");
  RankedTensorType rows = scatter.getSourceType();
  RankedTensorType pool = scatter.getDestType();
  RankedTensorType indices = scatter.getIndicesType();
  if (indices.getRank() != 2)
    return refuse("its coordinates are not one list");
  auto numDims = static_cast<int64_t>(scatter.getScatterDims().size());
  if (rows.getRank() != 1 + pool.getRank() - numDims)
    return refuse("its rows keep the scattered dimensions as dimensions of 1; "
                  "rows without them are expected");
  if (!scatter.getDest().hasOneUse())
    return refuse("the pool is used again, so the write is not known to be in "
                  "place");
  if (auto argument = dyn_cast<BlockArgument>(scatter.getDest()))
    if (!argument.getOwner()->isEntryBlock() ||
        !isa<FunctionOpInterface>(argument.getOwner()->getParentOp()))
      return refuse("the pool comes from several places, so the write is not "
                    "known to be in place");
  RowAccess access;
  access.pool = scatter.getDest();
  access.rows = scatter.getSource();
  access.indices = scatter.getIndices();
  access.columnDim = 1;
  access.poolDims = llvm::to_vector(scatter.getScatterDims());
  access.outOfRange = OutOfRange::Undefined;
  access.repeated = Repeated::Excluded;
  return access;
}
