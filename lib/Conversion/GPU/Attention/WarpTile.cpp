// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Both products of a tile, and the softmax between them.
//
// Of each 16 rows of products, a lane has lane / 4 and lane / 4 + 8, and of
// each eight columns lane % 4 * 2 and the next one: the scores of eight keys,
// or the sums of eight channels.
//
//===----------------------------------------------------------------------===//

#include "WarpKernel.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

/// Two of each eight keys: those of lane 0 of each four.
static constexpr int64_t kOwnKeys = 0x03030303;

/// Addresses of the fragments of a lane in a slot, of the first unit. Its
/// number is read again: they take no registers where they are not used.
Vals WarpKernel::fragmentPlaces(unsigned side, Val slot) {
  Val lane = w.rereadThreadX() & 31;
  Val low = (lane >> 3) & 1, high = lane >> 4;
  // Matrices of 8 tokens and 8 channels: of keys the next channels and then
  // the next tokens, of values the other way round.
  Val token = (lane & 7) + (side ? low : high) * 8;
  return fragmentOffsets(shape.rows[side], slot * shape.slotBytes, token,
                         side ? high : low);
}

Vals WarpKernel::scores(Val slot) {
  const UnitRows &rows = shape.rows[0];
  Vals places = fragmentPlaces(0, slot);
  Val thread = w.rereadThreadX(), lane = thread & 31;
  Value query =
      at(shared, numberOf(thread >> 5, lane & 15) * shape.queryRowBytes() +
                     (lane >> 4) * 16 + shape.queryOffset);
  int64_t perTile = shape.unit / 2;
  Vals sums(shape.rowTiles * perTile, k.f32(0));
  for (int64_t step = 0; step < rows.channels / 16; ++step) {
    if (step && step % 4 == 0)
      w.scheduleFence(slot, kRingEnd + step);
    SmallVector<Vals> a;
    for (int64_t tile = 0; tile < shape.rowTiles; ++tile)
      a.push_back(w.ldmatrix(
          at(query, tile * 16 * shape.queryRowBytes() + step * 32), false));
    Value source = at(shared, places[step % places.size()]);
    for (int64_t unit = 0; unit < shape.unit / 16; ++unit) {
      Vals keys = w.ldmatrix(
          at(source, unit * rows.bytes() + rows.fragmentStep(step)), false);
      for (int64_t half : {0, 1})
        for (int64_t tile = 0; tile < shape.rowTiles; ++tile) {
          MutableArrayRef<Val> sum = MutableArrayRef<Val>(sums).slice(
              tile * perTile + (2 * unit + half) * 4, 4);
          llvm::copy(w.mmaSync(a[tile], ArrayRef<Val>(keys).slice(2 * half, 2),
                               sum, traits.keyType),
                     sum.begin());
        }
    }
  }
  return sums;
}

/// Scores to base 2, once they are multiplied by the result.
float WarpKernel::biasScores(Val first, Vals &x) {
  float scale = traits.scale * float(M_LOG2E);
  if (!traits.softcap && !traits.hasAlibi && scale > 0)
    return scale;
  int64_t perTile = shape.unit / 2;
  Vals slope, position;
  if (traits.hasAlibi)
    for (int64_t row = 0; row < rowsOfLane(); ++row) {
      Value place = biasPlace(ownRow(row));
      slope.push_back(k.val(k.loadScalar(place, k.getF32Type())));
      position.push_back(k.val(k.loadScalar(at(place, 4), k.getF32Type())));
    }
  Val own = first + (w.rereadThreadX() & 3) * 2;
  for (int64_t i = 0; i < int64_t(x.size()); ++i) {
    if (traits.softcap)
      x[i] = w.tanh(x[i] * (traits.scale / *traits.softcap)) *
             float(*traits.softcap * M_LOG2E);
    else
      x[i] = x[i] * scale;
    if (traits.hasAlibi) {
      int64_t column = i % perTile / 4 * 8 + i % 2;
      Val key = own + column;
      Val place = k.val(arith::SIToFPOp::create(k, k.getF32Type(), key));
      int64_t row = rowOf(i, perTile);
      x[i] = x[i] + slope[row] * (place - position[row]);
    }
  }
  return 1;
}

/// Scores of keys that a row does not see become -infinity; then, for each 32
/// keys, those of this lane that some row of the warp sees.
Vals WarpKernel::masked(Val key, const Vals &live, const Vals &x) {
  int64_t perTile = shape.unit / 2;
  Ranges ranges = loadRanges();
  Vals result = x, seen(shape.words(), k.i32(0));
  for (int64_t row = 0; row < rowsOfLane(); ++row) {
    // One row after the other: what all of them see takes too many registers.
    if (row)
      w.scheduleFence(key, -row);
    Vals n = w.ldSharedWords(rowPlace(ownRow(row)), 4);
    for (int64_t word = 0; word < shape.words(); ++word) {
      Val from = key + 32 * word;
      Val bits = live[word] & firstBits(n[1] - from);
      if (traits.window)
        bits = bits & (firstBits(n[0] - from) ^ -1);
      if (traits.hasMask)
        bits = bits & maskBits(n[2], from - ranges.firstOwn);
      bits = bits >> ((w.rereadThreadX() & 3) * 2);
      seen[word] = seen[word] | bits;
      for (int64_t i = 0; i < 8; ++i) {
        int64_t column = i / 2, j = i % 2;
        Val &one = result[row / 2 * perTile + (word * 4 + column) * 4 +
                          row % 2 * 2 + j];
        Val isSeen = (bits & (int64_t(1) << (column * 8 + j))) != 0;
        one = select(isSeen, one, k.f32(-INFINITY));
      }
    }
  }
  for (Val &word : seen)
    for (int64_t bits : {4, 8, 16})
      word = word | w.shflXor(word, bits);
  return join(result, seen);
}

/// Moves the maxima to those of scores where one has grown by much, and the
/// sums with them.
Vals WarpKernel::rescaled(const Vals &x, float scale, const Vals &state) {
  int64_t perTile = shape.unit / 2, count = rowsOfLane();
  Vals largest(count, Val());
  for (int64_t row = 0; row < count; ++row) {
    Val most[2];
    for (int64_t i = 0; i < perTile / 4; ++i)
      for (int64_t j : {0, 1}) {
        Val next = x[row / 2 * perTile + 4 * i + row % 2 * 2 + j];
        most[j] = i ? max(most[j], next) : next;
      }
    largest[row] = max(most[0], most[1]);
  }
  for (int64_t bits : {1, 2})
    for (Val &one : largest)
      one = max(one, w.shflXor(one, bits));
  Val grows = k.val(k.i1(false));
  for (int64_t row = 0; row < count; ++row) {
    if (scale != 1)
      largest[row] = largest[row] * scale;
    grows = grows | (largest[row] > state[row] + kGrowth);
  }
  return k.ifThen(
      w.voteAny(grows), SmallVector<Type>(state.size(), k.getF32Type()),
      [&]() -> Vals {
        Vals next = state, factor;
        for (int64_t row = 0; row < count; ++row) {
          next[row] = max(largest[row], state[row]);
          factor.push_back(w.ex2(state[row] - next[row]));
          next[count + row] = state[count + row] * factor[row];
        }
        for (int64_t i = softmax(); i < stateSize(); ++i)
          next[i] = state[i] * factor[rowOf(i - softmax(), 4 * shape.quads())];
        return next;
      },
      [&]() -> Vals { return state; });
}

/// In pairs; the state has their sums too.
Vals WarpKernel::weights(const Vals &x, float scale, Vals &state) {
  int64_t perTile = shape.unit / 2, count = rowsOfLane();
  Vals result;
  for (int64_t i = 0; i < int64_t(x.size()); i += 2) {
    int64_t row = rowOf(i, perTile);
    Val pair[2];
    for (int64_t j : {0, 1}) {
      Val scaled = scale == 1 ? x[i + j] : x[i + j] * scale;
      pair[j] = w.ex2(scaled - state[row]);
    }
    state[count + row] = state[count + row] + (pair[0] + pair[1]);
    result.push_back(w.cvtPack(pair[0], pair[1], traits.valueType));
  }
  return result;
}

/// What no row of the warp sees is not multiplied, not even with 0; `seen` has
/// words if there is such a key.
Vals WarpKernel::values(Val packed, const Vals &weights, const Vals &sums,
                        const Vals &seen) {
  const UnitRows &rows = shape.rows[1];
  Vals places = fragmentPlaces(1, slotOf(packed)), next = sums;
  int64_t perTile = 4 * shape.quads();
  for (int64_t unit = 0; unit < shape.unit / 16; ++unit) {
    // No further ahead ptxas reads fragments, or it spills for them.
    if (unit == 2)
      w.scheduleFence(packed, kRingEnd + (seen.empty() ? 1 : 2));
    Val masks[2];
    for (int64_t half = 0; half < 2 && !seen.empty(); ++half) {
      Val two = seen[unit / 2] >> (unit % 2 * 16 + half * 8);
      masks[half] = select((two & 1) != 0, k.i32(0xffff), k.i32(0)) |
                    select((two & 2) != 0, k.i32(-65536), k.i32(0));
    }
    for (int64_t step = 0; step < rows.channels / 16; ++step) {
      Value source = at(shared, places[step % places.size()]);
      Vals b = w.ldmatrix(
          at(source, unit * rows.bytes() + rows.fragmentStep(step)), true);
      for (int64_t i = 0; i < 4 && !seen.empty(); ++i)
        b[i] = b[i] & masks[i % 2];
      for (int64_t half : {0, 1})
        for (int64_t tile = 0; tile < shape.rowTiles; ++tile) {
          MutableArrayRef<Val> sum = MutableArrayRef<Val>(next).slice(
              tile * perTile + (2 * step + half) * 4, 4);
          ArrayRef<Val> a = ArrayRef<Val>(weights).slice(
              tile * (shape.unit / 4) + unit * 4, 4);
          llvm::copy(w.mmaSync(a, ArrayRef<Val>(b).slice(2 * half, 2), sum,
                               traits.valueType),
                     sum.begin());
        }
    }
  }
  return next;
}

Vals WarpKernel::computeTile(Val key, Val packed, const Ranges &ranges,
                             const Vals &given) {
  Type f32 = k.getF32Type(), i32 = k.getI32Type();
  Val slot = slotOf(packed);
  Vals live = w.ldSharedWords(liveAt(slot), shape.words());
  Val isWhole =
      (key >= ranges.commonFirst) & (key + shape.unit <= ranges.commonEnd);
  for (Val word : live)
    isWhole = isWhole & (word == -1);
  Vals x = scores(slot);
  float scale = biasScores(key, x);
  SmallVector<Type> types(x.size(), f32);
  types.append(shape.words(), i32);
  Vals seen = k.ifThen(
      isWhole, types,
      [&]() -> Vals {
        release(barrier(Barrier::Empty, slot));
        return join(x, Vals(shape.words(), k.i32(-1)));
      },
      [&]() -> Vals {
        // Read again: no registers were left to keep it.
        Vals live = w.ldSharedWords(liveAt(slot), shape.words());
        release(barrier(Barrier::Empty, slot));
        return masked(key, live, x);
      });
  x.assign(seen.begin(), seen.begin() + x.size());
  seen.erase(seen.begin(), seen.begin() + x.size());
  Vals state = rescaled(x, scale, given);
  Vals pairs = weights(x, scale, state);
  // Otherwise ptxas adds some of the weights up after the second product, and
  // keeps them until then.
  Vals totals(state.begin() + rowsOfLane(), state.begin() + softmax());
  llvm::copy(w.pin(totals), state.begin() + rowsOfLane());
  Val hasUnseen = k.val(k.i1(false));
  for (Val word : seen)
    hasUnseen = hasUnseen | ((word & kOwnKeys) != kOwnKeys);
  hasUnseen = w.voteAny(hasUnseen);

  packed = next(packed);
  wait(Barrier::Full, packed);
  Vals sums(state.begin() + softmax(), state.end());
  sums = k.ifThen(
      hasUnseen, SmallVector<Type>(sums.size(), f32),
      [&]() -> Vals { return values(packed, pairs, sums, seen); },
      [&]() -> Vals { return values(packed, pairs, sums, {}); });
  release(barrier(Barrier::Empty, slotOf(packed)));
  state.resize(softmax());
  return join(state, sums);
}

Vals WarpKernel::tileStep(const Vals &given) {
  Val unit = given[0] >> kTileBit, packed = given[0] & (kRingEnd - 1);
  Val key = unit * shape.unit;
  Vals state(given.begin() + kLoop, given.end());
  // Which lane gives a slot back.
  lane = w.rereadThreadX() & 31;
  wait(Barrier::Full, packed);
  Ranges ranges = loadRanges();
  Val isSeen = (key < ranges.end) & (key + shape.unit > ranges.first);
  state = k.ifThen(
      isSeen, SmallVector<Type>(state.size(), k.getF32Type()),
      [&]() -> Vals { return computeTile(key, packed, ranges, state); },
      [&]() -> Vals {
        release(barrier(Barrier::Empty, slotOf(packed)));
        Val values = next(packed);
        wait(Barrier::Full, values);
        release(barrier(Barrier::Empty, slotOf(values)));
        return state;
      });
  Val after = ((unit + 1) << kTileBit) | next(next(packed));
  return join(Vals{after}, state);
}
