// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Moves of contents with scales, which are converted on the way: rows into a
// cache and out of it, and the elements of one cache into another. Only what
// has scales at one end at least comes here.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_SCALEDROWS_H
#define KVCACHE_LIB_CONVERSION_GPU_SCALEDROWS_H

#include "../Common/CacheLowering.h"
#include "../Common/SlotCursor.h"

namespace kvcache {

/// A cache, and its scales if it has some.
struct ScaledCache {
  CacheValue stored;
  std::optional<CacheValue> scales;

  /// How many indices of an axis both have, if all of the scales are not for
  /// the same one.
  mlir::Value extent(CodeBuilder &emit, AxisKind kind) const;
};

enum class RowsMove { IntoCache, OutOfCache, OutOfCacheOrZero };

/// index_copy, scatter and gather.
class ScaledRows {
public:
  ScaledRows(mlir::Operation *op, ScaledCache cache, Values rows,
             SlotCursor cursor, RowsMove direction = RowsMove::IntoCache)
      : op(op), cache(std::move(cache)), rows(std::move(rows)), cursor(cursor),
        direction(direction) {}

  ScaledRows &bySlots(mlir::Value slots, SlotsType type) {
    lists = {slots};
    rowsPerBlock = type.getRowsPerBlock();
    return *this;
  }
  ScaledRows &byBlocks(mlir::Value blocks, mlir::Value offsets) {
    lists = {blocks, offsets};
    return *this;
  }
  void emit(CodeBuilder &emit, llvm::StringRef name, mlir::Value count,
            CopyScheduleAttr schedule) const;

private:
  mlir::Operation *op;
  ScaledCache cache;
  Values rows;
  SlotCursor cursor;
  RowsMove direction;
  Values lists;
  int64_t rowsPerBlock = 1; ///< of slots
};

void emitScaledRelayout(CodeBuilder &emit, mlir::Operation *op,
                        const ScaledCache &from, const ScaledCache &to);

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_SCALEDROWS_H
