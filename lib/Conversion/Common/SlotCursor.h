// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where a cache has the row of a token, and whether it has one: the same on
// every target. A place is a slot, or a block and a token of it.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_COMMON_SLOTCURSOR_H
#define KVCACHE_LIB_CONVERSION_COMMON_SLOTCURSOR_H

#include "CodeBuilder.h"

#include "kvcache/Layout/Layout.h"

namespace kvcache {

class SlotCursor {
public:
  using Place = llvm::ArrayRef<mlir::Value>;

  /// Places of a cache. A slot counts `rowsPerBlock` rows for each block: more
  /// than the block has tokens if the rows of gaps are counted too.
  SlotCursor(const Layout &layout, int64_t rowsPerBlock);
  explicit SlotCursor(const Layout &layout)
      : SlotCursor(layout, layout.extent(AxisKind::Token)) {}

  /// The limit of slots in a cache of so many blocks.
  Val slotLimit(CodeBuilder &b, mlir::Value blocks) const {
    return b.mulSat(blocks, rowsPerBlock);
  }
  /// Whether each number is below its limit, and is no row of a gap. Numbers
  /// are compared without a sign, which drops negative ones too.
  Val isLive(CodeBuilder &b, Place place,
             llvm::ArrayRef<mlir::Value> limits) const;
  /// Where the row begins, in the unit of the strides of blocks and tokens.
  Val offset(CodeBuilder &b, Place place, mlir::Value blockStride,
             mlir::Value tokenStride) const;

  /// The block and the token of it.
  std::pair<Val, Val> blockAndToken(CodeBuilder &b, Place place) const;

  bool isScaled() const { return rowsPerBlock != tokens; }
  /// Whether slots are rows of one array, so that nothing is divided.
  bool isWhole() const { return isScaled() || isFlat; }

private:
  int64_t tokens, rowsPerBlock;
  bool isFlat;
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_COMMON_SLOTCURSOR_H
