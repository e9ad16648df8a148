// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks of entries.
//
//===----------------------------------------------------------------------===//

#include "BufferOps.h"

using namespace mlir;
using namespace kvcache;

LogicalResult CheckEntriesOp::verify() {
  if (!llvm::is_contained({"slot", "block", "offset", "chunk", "position"},
                          getWhat()))
    return emitOpError() << "check_entries_c1: 'slot', 'block', 'offset', "
                            "'chunk' or 'position' is expected, got '"
                         << getWhat() << "'";
  if (!isa<SlotsType>(getList().getType()) || getColumn()) {
    unsigned rank = getColumn() ? 2 : 1;
    if (isa<SlotsType>(getList().getType()))
      return emitOpError() << "check_entries_c2: a column is expected only for "
                              "a matrix, got one for "
                           << getList().getType();
    if (failed(verifyIndices(*this, "check_entries_c2", "the list is",
                             getList().getType(), rank)))
      return failure();
  }
  if (std::optional<int64_t> column = getColumn()) {
    int64_t columns = cast<ShapedType>(getList().getType()).getDimSize(1);
    if (*column < 0 || (ShapedType::isStatic(columns) && *column >= columns))
      return emitOpError() << "check_entries_c2: a column of "
                           << getList().getType() << " is expected, got "
                           << *column;
  }
  SmallVector<Value> lists = {getList()};
  if (Value other = getOther()) {
    if (failed(verifyIndices(*this, "check_entries_c3",
                             "the list after 'unless' is", other.getType(), 1)))
      return failure();
    lists.push_back(other);
  }
  return verifyMemory(*this, "check_entries_c4", lists, Contiguity::All);
}

LogicalResult CheckBatchOp::verify() {
  size_t members = getBatch().getType().getMemberNames().size();
  if (getMembers().size() != members)
    return emitOpError() << "check_batch_c1: " << members
                         << " names of members are expected, got "
                         << getMembers().size();
  if (std::optional<int64_t> window = getWindow())
    if (*window < 1)
      return emitOpError()
             << "check_batch_c2: a window of at least 1 is expected, got "
             << *window;
  return verifyWindowRight(*this, "check_batch_c2", getWindowRightAttr(),
                           getCausal());
}

std::optional<int64_t> CheckBatchOp::getAhead() {
  return aheadOf(getCausal(), getWindowRightAttr());
}

LogicalResult CheckSelectionOp::verify() {
  Type indices = getIndices().getType();
  if (failed(verifyIndices(*this, "check_selection_c1", "indices are", indices,
                           1)) ||
      failed(verifyIndices(*this, "check_selection_c1", "'valid' is",
                           getValid().getType(), 1)) ||
      failed(verifyShape(*this, "check_selection_c1", "'valid' is",
                         getValid().getType(), {1}, Type(), 0)))
    return failure();
  return verifyMemory(*this, "check_selection_c2", {getIndices(), getValid()},
                      Contiguity::All);
}
