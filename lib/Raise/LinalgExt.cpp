// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The scatter of IREE and torch-mlir:
//
//   scatter dimension_map = [0, 1] unique_indices(true)
//     ins(%rows, %indices) outs(%pool) { yield of the row }
//
// Its definition does not exclude rows with indices outside the pool, and no
// generated code checks them. Such a row is treated as skipped, the only
// possible reading that never writes anything else.
//
//===----------------------------------------------------------------------===//

#include "Foreign.h"

#include "mlir/IR/BuiltinTypes.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

std::optional<RowAccess> linalgext::describeWrite(Operation *op,
                                                  std::string &why) {
  StringRef name = op->getName().getStringRef();
  if ((name != "iree_linalg_ext.scatter" && name != "tm_tensor.scatter") ||
      op->getNumOperands() != 3)
    return std::nullopt;
  auto refuse = [&](const char *text) {
    why = text;
    return std::nullopt;
  };
  if (op->getNumResults() != 1)
    return refuse("it updates memory, not a tensor");
  if (!yieldsArgument(op, 0))
    return refuse("it combines rows with the contents of the pool instead of "
                  "overwriting them");
  auto dims = integersOf(op, "dimension_map");
  auto indices = dyn_cast<RankedTensorType>(op->getOperand(1).getType());
  if (!dims || !indices)
    return refuse("it has no dimension_map");
  RowAccess access;
  access.rows = op->getOperand(0);
  access.indices = op->getOperand(1);
  access.pool = op->getOperand(2);
  access.poolDims = *dims;
  // One column need not have a dimension.
  if (indices.getRank() > 1)
    access.columnDim = indices.getRank() - 1;
  access.outOfRange = OutOfRange::Skipped;
  access.repeated =
      isSet(op, "unique_indices") ? Repeated::Excluded : Repeated::LastWins;
  return access;
}
