// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "SlotCursor.h"

using namespace mlir;
using namespace kvcache;

SlotCursor::SlotCursor(const Layout &layout, int64_t rowsPerBlock)
    : tokens(layout.extent(AxisKind::Token)), rowsPerBlock(rowsPerBlock),
      isFlat(layout.isFlat()) {}

Val SlotCursor::isLive(CodeBuilder &b, Place place,
                       ArrayRef<Value> limits) const {
  Val live;
  for (auto [number, limit] : llvm::zip_equal(place, limits))
    live = b.andiIfAny(live, b.ult(number, limit));
  if (!isScaled())
    return live;
  Val token = b.remui(place.front(), rowsPerBlock);
  return b.andi(live, b.ult(token, b.constantLike(token, tokens)));
}

Val SlotCursor::offset(CodeBuilder &b, Place place, Value blockStride,
                       Value tokenStride) const {
  if (place.size() == 2)
    return b.addMul(b.muli(place[0], blockStride), place[1], tokenStride);
  Value slot = place.front();
  Val offset = b.muli(slot, tokenStride);
  if (isWhole())
    return offset;
  // All slots are a stride of tokens apart, and after each block there is a
  // gap: no remainder is needed.
  Val gap = b.addi(blockStride,
                   b.muli(tokenStride, b.constantLike(tokenStride, -tokens)));
  return b.addi(offset, b.muli(b.divui(slot, tokens), gap));
}

std::pair<Val, Val> SlotCursor::blockAndToken(CodeBuilder &b,
                                              Place place) const {
  if (place.size() == 2)
    return {b.val(place[0]), b.val(place[1])};
  return {b.divui(place.front(), rowsPerBlock),
          b.remui(place.front(), rowsPerBlock)};
}
