// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Consumers: the bits of a mask, for tiles of keys that have own rows of the
// request. Other tiles run the code of a program without a mask.
//
// Lane i of each four, which have the same two rows, loads what these see of
// keys 32 i to 32 i + 31 of the tile, while the products run, and the others
// get it by shuffles: 128 bits a row would not fit the registers that are left.
//
// A key that no row of the item sees may be anything. It is rare, so a
// warpgroup first looks whether its own rows see all keys, and asks for the
// other rows only if they do not.
//
//===----------------------------------------------------------------------===//

#include "PromptKernel.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

PromptKernel::MaskRows PromptKernel::maskRows() {
  Vals words = w.ldSharedWords(at(rangesPlace(), 8 * kKind), 8);
  return {words[2], words[4], words[5], words[6], words[7]};
}

/// Which of 32 keys from `key` on a row sees.
Val PromptKernel::seenBits(const MaskRows &rows, Val row, const Range &limits,
                           Val key) {
  Val bits = maskBits(row, key - rows.firstOwn) & firstBits(limits.end - key);
  if (traits.window)
    bits = bits & (firstBits(limits.first - key) ^ -1);
  return bits;
}

/// Says which keys some row of a lane sees, 32 for each of four lanes.
void PromptKernel::tellWarpgroup(Val seen) {
  for (int64_t bits : {4, 8, 16})
    seen = seen | w.shflXor(seen, bits);
  Val thread = w.rereadThreadX();
  Value place =
      at(shared, (thread >> 5) * 16 + (thread & 3) * 4 + shape.maskOffset);
  k.ifThen((thread & 31) < 4, [&] { k.storeScalar(seen, place); });
}

/// The keys of a tile of which its warps have said so.
Vals PromptKernel::seenByWarpgroup() {
  int64_t count = shape.unit / 32;
  barWarpgroup();
  Val first = (w.rereadThreadX() >> 7) * (4 * 16) + shape.maskOffset;
  Vals seen(count, k.i32(0));
  for (int64_t i = 0; i < 4; ++i) {
    Vals words = w.ldSharedWords(at(shared, first + 16 * i), count);
    for (int64_t j = 0; j < count; ++j)
      seen[j] = seen[j] | words[j];
  }
  // Nobody says more before all have heard it.
  barWarpgroup();
  return seen;
}

/// What both rows of a lane see of its 32 keys of a tile.
Vals PromptKernel::seenByLane(Val tile) {
  MaskRows rows = maskRows();
  Vals limits = w.ldSharedWords(rowPlace(), 4);
  Val thread = w.rereadThreadX();
  Val key = tile + (thread & 3) * 32;
  Vals bits;
  for (int64_t i : {0, 1}) {
    // Those that are not there are as the last.
    Val pair = min(rows.pair + ((thread >> 2) & 7) + 8 * i, rows.last);
    bits.push_back(seenBits(rows, rows.start + pair / traits.group,
                            {limits[2 * i], limits[2 * i + 1]}, key));
  }
  tellWarpgroup(bits[0] | bits[1]);
  return bits;
}

/// The keys of a tile that some row of the item sees.
Vals PromptKernel::seenByItem(Val tile) {
  MaskRows rows = maskRows();
  int64_t group = traits.group;
  Val count = (rows.last + 1) / group;
  Val end = rows.start + count, length = rows.firstOwn + count;
  Val thread = w.rereadThreadX() & 127;
  Val key = tile + (thread & 3) * 32;
  Val first = rows.start + rows.pairOfItem / group + (thread >> 2);
  Val last = rows.start +
             min(rows.pairOfItem + (shape.columns - 1), rows.last) / group;
  Vals seen = k.rolledForLoop(
      first, last + 1, k.i32(32), {k.i32(0)},
      [&](Val row, const Vals &sofar) -> Vals {
        Limits own = limits(row, end, length);
        return {sofar[0] | seenBits(rows, row, {own.first, own.end}, key)};
      });
  tellWarpgroup(seen.front());
  return seenByWarpgroup();
}

/// Scores of keys that a row does not see, by bits of seenByLane, become
/// -infinity.
Vals PromptKernel::maskedByBits(const Vals &bits, const Vals &given) {
  Val lane = w.rereadThreadX() & 31, own = (lane & 3) * 2;
  Vals result, words(2, Val());
  for (int64_t i = 0; i < int64_t(given.size()); ++i) {
    constexpr int64_t kPerWord = 16;
    if (i % kPerWord == 0) {
      Val source = (lane & 28) | k.i32(i / kPerWord);
      for (int64_t row : {0, 1})
        words[row] = w.shflIdx(bits[row], source) >> own;
    }
    int64_t row = i % 4 / 2, bit = i % kPerWord / 4 * 8 + i % 2;
    Val isSeen = (words[row] & (int64_t(1) << bit)) != 0;
    result.push_back(select(isSeen, given[i], k.f32(-INFINITY)));
  }
  return result;
}

/// Values of keys that no row of the item sees become zeros.
void PromptKernel::clearHidden(Tile kind, Val slot, Val tile) {
  Vals seen = seenByWarpgroup();
  Val all = seen[0];
  for (int64_t i = 1; i < keysOf(kind) / 32; ++i)
    all = all & seen[i];
  k.ifThen(all != -1, [&] {
    Vals seen = seenByItem(tile);
    Val own = w.rereadThreadX() & 127;
    for (int64_t first = 0; first < shape.unit; first += 16) {
      Val token = (own >> 3) + first;
      Val isHidden = ((seen[first / 32] >> (token & 31)) & 1) == 0;
      k.ifThen(isHidden, [&] { clearToken(slot, own, token); });
    }
    w.fenceProxyAsync();
    barWarpgroup();
  });
}
