// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Proves that arithmetic on a slot computes its block and its offset.
//
// Compilers write floor division in many ways: with signs and remainders, with
// shifts and masks, via f32. Instead of a pattern for each, the arithmetic is
// evaluated for *all* slots at once. A slot is s = N * q + r with 0 <= r < N;
// on a box of (q, r) most values are affine in q and r, and where a comparison
// or a rounding has no single answer the box is split in two. The result is a
// handful of boxes, and for each the row that is written:
//
//   s % 16 fixed by a sign, s / 16 via f32, 64 blocks:
//     q < 0                block < 0        nothing is written
//     0 <= q < 64          block q, offset r     row s
//     64 <= q < 2^20       block >= 64      nothing is written
//     beyond               block >= 64 (not exact any more, but not smaller)
//
// Integers wrap as in their type, and f32 and f64 are exact only within their
// mantissa: a value that may have wrapped or been rounded is unknown.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_RAISE_SLOTPROOF_H
#define KVCACHE_LIB_RAISE_SLOTPROOF_H

#include "kvcache/IR/KVCache.h"
#include "kvcache/Interfaces/Raise.h"

namespace kvcache::raise {

/// A pair of scalars, block and offset, and their context.
struct SlotQuestion {
  /// The number that they are computed from.
  mlir::Value slot;
  mlir::Value block;
  mlir::Value offset;
  /// A row is written where this is true; null if it always is.
  mlir::Value guard;
  int64_t tokens = 1; ///< tokens per block
  int64_t blocks = 1; ///< or kRunTime
  /// Rows outside the pool are skipped, not merely excluded.
  bool skipsOutside = false;
};

struct SlotAnswer {
  enum class Kind {
    Unproven, ///< `why` has the reason
    Slot,     ///< the row is the slot
    Wrapped,  ///< negative slots count once from the end of the pool
  };
  Kind kind = Kind::Unproven;
  /// Which slots that are in no block are skipped, not merely excluded.
  Padding pad = Padding::skip_out_of_range;
  std::string why;
};

SlotAnswer proveSlots(const SlotQuestion &question);

} // namespace kvcache::raise

#endif // KVCACHE_LIB_RAISE_SLOTPROOF_H
