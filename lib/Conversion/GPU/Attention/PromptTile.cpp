// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Consumers: both products of a tile, and the softmax between them.
//
// A thread has two rows of the products, lane / 4 and lane / 4 + 8 of its warp,
// and of each eight columns the ones lane % 4 * 2 and the next.
//
//===----------------------------------------------------------------------===//

#include "PromptKernel.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

/// All rows see all keys of a prefix.
PromptKernel::Limits PromptKernel::rowLimits(const Entry &item, Val row) {
  Limits seen = limits(row, item.end, item.length);
  if (shape.hasPrefixes)
    seen.end = select(item.group == kPrefix, item.length, seen.end);
  return seen;
}

/// What the rows of a lane and of its warp see, and what else is looked at once
/// for each tile. It is kept in shared memory: in the loop over tiles all
/// registers are taken by sums and scores.
void PromptKernel::writeRows(const Entry &item, Val segment) {
  Val pairs = pairsOf(item);
  auto limitsOf = [&](Val pair) {
    Val row = item.start + min(pair, pairs - 1) / traits.group;
    return rowLimits(item, row);
  };
  Vals own, bias;
  for (int64_t i : {0, 1}) {
    // Those that are not there are as the last.
    Val pair = pairOf(item, i);
    Limits seen = limitsOf(pair);
    // They are rows of another request, or what was there before. Where that
    // must not change how rows beside them are rounded, they see nothing.
    if (traits.isInvariant)
      seen.end = select(isThere(item, i), seen.end, k.i32(0));
    own.append({seen.first, seen.end});
    if (traits.hasAlibi) {
      Val queryHead = head * traits.group + min(pair, pairs - 1) % traits.group;
      Val slope = load32(parameters.alibi, queryHead) * float(M_LOG2E);
      Val position =
          k.val(arith::SIToFPOp::create(k, k.getF32Type(), seen.position));
      bias.append({w.bitcastToInt(slope), w.bitcastToInt(position)});
    }
  }
  w.stSharedWords(own, rowPlace());
  if (traits.hasAlibi)
    w.stSharedWords(bias, at(rowPlace(), 16));
  Val commonFirst = max(own[0], own[2]), commonEnd = min(own[1], own[3]);
  for (int64_t bits : {4, 8, 16}) {
    commonFirst = max(commonFirst, w.shflXor(commonFirst, bits));
    commonEnd = min(commonEnd, w.shflXor(commonEnd, bits));
  }
  Val isTurn = isFew(item);
  Val firstRow = select(isTurn, k.i32(0), warpgroup * 64);
  Val someFirst = k.i32(0), seenFirst = k.i32(0), someEnd, seenEnd;
  if (!batch.type.hasPositions()) {
    // Suffixes see more and more keys, and the last one all of them.
    Val from = item.tile * shape.columns + firstRow;
    if (traits.window) {
      someFirst = limitsOf(from).first;
      seenFirst = limits(item.start, item.end, item.length).first;
    }
    someEnd = select(from < pairs, limitsOf(from + 63).end, k.i32(0));
    seenEnd = item.length;
  } else {
    // Positions may be anything: a lane has some rows of the item.
    Val from = item.tile * shape.columns;
    Val firstRow = item.start + from / traits.group;
    Val lastRow =
        item.start + (min(from + shape.columns, pairs) - 1) / traits.group;
    seenEnd =
        k.rolledForLoop(firstRow + lane, lastRow + 1, k.i32(32), {k.i32(0)},
                        [&](Val row, const Vals &sofar) -> Vals {
                          Val end = rowLimits(item, row).end;
                          return {max(sofar[0], end)};
                        })
            .front();
    for (int64_t bits : {1, 2, 4, 8, 16})
      seenEnd = max(seenEnd, w.shflXor(seenEnd, bits));
    someEnd = seenEnd;
  }
  // Whole tiles of the segment.
  Val before = (item.first - 1) * shape.unit;
  Val lowest = max(someFirst & -shape.unit, before + shape.unit);
  Val highest =
      min((someEnd - 1) & -shape.unit, before + item.count * shape.unit);
  Val isHalf = (someEnd <= highest + keysOf(Tile::Half)) & (highest >= lowest);
  highest = highest - select(isTurn, warpgroup * shape.unit, k.i32(0));
  highest = max(highest, before);
  auto flag = [&](Val isSet) { return select(isSet, k.i32(1), k.i32(0)); };
  Vals maskWords;
  if (traits.hasMask) {
    // Tiles with own rows are looked at more closely. A prefix has none.
    Val firstOwn = firstOwnOf(item);
    if (shape.hasPrefixes)
      firstOwn = select(item.group == kPrefix, item.length, firstOwn);
    commonEnd = min(commonEnd, firstOwn);
    seenEnd = min(seenEnd, firstOwn);
    Val pairOfItem = item.tile * shape.columns;
    maskWords = {pairOfItem,
                 k.i32(0),
                 firstOwn,
                 item.start,
                 pairOfItem + firstRowOfWarp(item),
                 pairs - 1};
  }
  k.ifThen(lane == 0, [&] {
    w.stSharedWords(
        join(Vals{highest, lowest, seenFirst, seenEnd, commonFirst, commonEnd,
                  before, segment, flag(isTurn), flag(isHalf)},
             maskWords),
        rangesPlace());
  });
  w.syncWarp();
}

PromptKernel::Range PromptKernel::range(int64_t which) {
  Value four = LLVM::LoadOp::create(k, VectorType::get({2}, k.getI32Type()),
                                    at(rangesPlace(), 8 * which), 8);
  auto word = [&](int64_t i) {
    return k.val(LLVM::ExtractElementOp::create(k, four, k.i32(i)));
  };
  return {word(0), word(1)};
}

/// The slot of the ring is in the last bits, and above them the parity.
PromptKernel::Ring PromptKernel::ringOf(Val packed) {
  return {packed & 15, packed >> 4};
}
Val PromptKernel::nextOf(Val packed, int64_t slots) {
  Val next = packed + 1;
  Val wraps = (next & 15) == slots;
  return select(wraps, (packed & 16) ^ 16, next);
}

/// Tiles of which the warpgroup needs nothing. What it returns is the place in
/// the ring after them.
Val PromptKernel::skipTiles(bool isFew, Val packed, Val from, Val to) {
  return k.whileLoop(
      {from, packed},
      [&](const Vals &state) -> CodeBuilder::Tested {
        return {state[0] > to, state};
      },
      [&](const Vals &state) -> Vals {
        Val keys = state[1], values = nextInRing(keys);
        for (Val packed : {keys, values}) {
          waitFull(packed);
          giveBack(barrier(Barrier::Empty, ringOf(packed).slot));
        }
        for (int64_t turn = 0; !isFew && turn < shape.turns; ++turn) {
          takeTurn();
          passTurn();
        }
        return {state[0] - shape.unit, nextInRing(values)};
      })[1];
}

void PromptKernel::waitFull(Val packed) {
  Ring ring = ringOf(packed);
  w.mbarrierWait(barrier(Barrier::Full, ring.slot), ring.parity);
}

Val PromptKernel::descriptor(Val low, int64_t stride) {
  return k.val(k.extui64(low)) | k.i64(NvvmOps::wgmmaHigh(stride) << 32);
}

/// The row of the query with the first pair of the warpgroup; where it is
/// known, what follows from it is not to be kept in registers either.
Val PromptKernel::firstRow(bool isFew) {
  return isFew ? w.pin({k.i32(0)}).front() : (w.rereadThreadX() >> 7) * 64;
}

Vals PromptKernel::scores(Tile kind, Val slot) {
  bool isFew = kind == Tile::Few;
  Val keys = sharedUnits + slot * (shape.slotBytes >> 4);
  Val queries = sharedUnits + firstRow(isFew) * (PromptShape::kRowBytes >> 4) +
                (shape.queryOffset >> 4);
  Value undefined = LLVM::UndefOp::create(k, k.getF32Type());
  Vals sums(keysOf(kind) / 2, k.val(undefined));
  if (!isFew)
    takeTurn();
  w.wgmmaFence();
  for (int64_t step = 0; step < shape.steps(); ++step) {
    int64_t part = step / 4, inRow = step % 4 * 2;
    Val query =
        queries + ((part * shape.rows * PromptShape::kRowBytes >> 4) + inRow);
    Val key = keys + ((part * shape.partStride(0) >> 4) + inRow);
    sums = w.wgmma({descriptor(query, 1024)},
                   descriptor(key, shape.groupStride(0)), sums, step == 0,
                   false, productType());
  }
  w.wgmmaCommit();
  return sums;
}

/// Of keys that a row sees by its limits.
Vals PromptKernel::maskedByLimits(Val key, const Vals &given) {
  Vals rows = w.ldSharedWords(rowPlace(), 4);
  Val base = key + (w.rereadThreadX() & 3) * 2;
  Val first[] = {rows[0] - base, rows[2] - base};
  Val end[] = {rows[1] - base, rows[3] - base};
  Vals result;
  for (int64_t i = 0; i < int64_t(given.size()); ++i) {
    int64_t row = i % 4 / 2, column = i / 4 * 8 + i % 2;
    Val isSeen = end[row] > column;
    if (traits.window)
      isSeen = isSeen & (first[row] <= column);
    result.push_back(select(isSeen, given[i], k.f32(-INFINITY)));
  }
  return result;
}

/// Scores of keys that a row does not see become -infinity. `bits` are those of
/// seenByLane, if there is a mask.
Vals PromptKernel::masked(Val key, Val dead, const Vals &given,
                          const Vals &bits) {
  Vals result =
      traits.hasMask ? maskedByBits(bits, given) : maskedByLimits(key, given);
  return k.ifThen(
      w.unlikely(dead != 0), SmallVector<Type>(given.size(), k.getF32Type()),
      [&]() -> Vals {
        Vals alive = result;
        for (int64_t i = 0; i < int64_t(given.size()); ++i) {
          int64_t box = i / 4 * 8 / shape.boxTokens;
          Val isDead = ((dead >> box) & 1) != 0;
          alive[i] = select(isDead, k.f32(-INFINITY), alive[i]);
        }
        return alive;
      },
      [&]() -> Vals { return result; });
}

/// The chunk of 16 bytes of a token that thread `own` of a warpgroup has: that
/// of every 16th token.
void PromptKernel::clearToken(Val slot, Val own, Val token) {
  Val place = slot * shape.slotBytes + (token >> 3) * shape.groupStride(1) +
              (token & 7) * PromptShape::kRowBytes + (own & 7) * 16;
  for (int64_t part = 0; part < shape.parts(1); ++part)
    k.store(k.zero(16), at(shared, place + part * shape.partStride(1)), 16);
}

/// Tokens that no row of the request sees may be anything, and 0 times NaN is
/// NaN. Each warpgroup writes the same zeros before it reads them.
void PromptKernel::clearUnseen(Tile kind, Val slot, Val key) {
  Range seen = range(kSeen);
  Val first = seen.first - key;
  Val end = seen.end - key;
  // Boxes past the end are zeros already.
  Val hasUnseen = end < shape.unit;
  if (!batch.type.hasPositions() && !traits.hasMask)
    hasUnseen = hasUnseen & ((end & (shape.boxTokens - 1)) != 0);
  if (traits.window)
    hasUnseen = hasUnseen | (first > 0);
  Val own = w.rereadThreadX() & 127;
  auto clear = [&](Val from, Val to) {
    k.rolledForLoop(from + (own >> 3), to, k.i32(16), {},
                    [&](Val token, const Vals &) -> Vals {
                      clearToken(slot, own, token);
                      return {};
                    });
  };
  auto clearOutside = [&] {
    if (traits.window)
      clear(k.i32(0), min(first, shape.unit));
    clear(max(end, 0), k.i32(shape.unit));
    w.fenceProxyAsync();
    barWarpgroup();
  };
  k.ifThen(w.unlikely(hasUnseen), [&] {
    if (!traits.hasMask)
      return clearOutside();
    k.ifThen(
        key + shape.unit > maskRows().firstOwn,
        [&] { clearHidden(kind, slot, key); }, clearOutside);
  });
}

/// Scores to base 2, once they are multiplied by the result.
PromptKernel::Scale PromptKernel::biasScores(bool isFew, Val first, Val slot,
                                             Vals &x) {
  float scale = traits.scale * float(M_LOG2E);
  Val factors[2];
  if (hasFactors()) {
    Val thread = w.rereadThreadX();
    Val row = (isFew ? (thread >> 5) & 3 : thread >> 5) * 16;
    row = row + ((thread & 31) >> 2);
    for (int64_t i : {0, 1})
      factors[i] = k.val(k.loadScalar(
          at(shared, (row + 8 * i) * 4 + shape.factorOffset), k.getF32Type()));
  }
  bool isPlain = !traits.softcap && !traits.hasAlibi;
  if (isPlain && shape.hasScales) {
    for (Val &factor : factors)
      factor = factor ? factor * scale : k.f32(scale);
    scaleScores(slot, factors, x);
    return {};
  }
  if (isPlain && scale > 0) {
    if (hasFactors())
      return {1, {factors[0] * scale, factors[1] * scale}};
    return {scale};
  }
  if (hasFactors())
    for (int64_t i = 0; i < int64_t(x.size()); ++i)
      x[i] = x[i] * factors[i % 4 / 2];
  Vals keyScales, logarithms;
  for (int64_t i = 0; i < int64_t(x.size()); ++i) {
    if (i % 4 == 0 && traits.hasKeyScales)
      keyScales = loadScales(slot, ScaleOf::Key, i / 4);
    if (traits.hasKeyScales)
      x[i] = x[i] * keyScales[i % 2];
  }
  Vals bias;
  if (traits.hasAlibi)
    bias = w.ldSharedWords(at(rowPlace(), 16), 4);
  for (int64_t i = 0; i < int64_t(x.size()); ++i) {
    if (traits.softcap)
      x[i] = w.tanh(x[i] * (traits.scale / *traits.softcap)) *
             float(*traits.softcap * M_LOG2E);
    else
      x[i] = x[i] * scale;
    if (traits.hasAlibi) {
      int64_t column = i / 4 * 8 + i % 2;
      Val key = first + (w.rereadThreadX() & 3) * 2 + column;
      Val place = k.val(arith::SIToFPOp::create(k, k.getF32Type(), key));
      int64_t row = i % 4 / 2;
      x[i] = x[i] + w.bitcastToFloat(bias[2 * row]) *
                        (place - w.bitcastToFloat(bias[2 * row + 1]));
    }
    if (i % 4 == 0 && traits.hasValueScales)
      logarithms = loadScales(slot, ScaleOf::ValueLogarithm, i / 4);
    if (traits.hasValueScales)
      x[i] = x[i] + logarithms[i % 2];
  }
  return {};
}

/// Moves the maxima to those of scores, and the sums with them.
Vals PromptKernel::rescaled(const Vals &x, const Scale &scale,
                            const Vals &state) {
  Val largest[2];
  for (int64_t row : {0, 1}) {
    // Four chains: a maximum waits for the one before.
    Val most[4];
    for (size_t i = 0; i < x.size() / 4; ++i)
      for (int64_t j : {0, 1}) {
        Val &chain = most[i % 2 * 2 + j];
        Val next = x[4 * i + 2 * row + j];
        chain = i < 2 ? next : max(chain, next);
      }
    largest[row] = max(max(most[0], most[1]), max(most[2], most[3]));
  }
  // Both rows at once: they do not wait for each other.
  for (int64_t bits : {1, 2}) {
    Val others[] = {w.shflXor(largest[0], bits), w.shflXor(largest[1], bits)};
    for (int64_t row : {0, 1})
      largest[row] = max(largest[row], others[row]);
  }
  for (int64_t row : {0, 1})
    largest[row] = scale.times(largest[row], row);
  Val factor[2];
  Vals next = state;
  for (int64_t row : {0, 1}) {
    next[row] = max(largest[row], state[row]);
    factor[row] = w.ex2(state[row] - next[row]);
    next[2 + row] = state[2 + row] * factor[row];
  }
  for (size_t i = kSoftmax; i < state.size(); ++i)
    next[i] = state[i] * factor[(i - kSoftmax) % 4 / 2];
  return next;
}

/// The weights in pairs, after their sum for each row.
///
/// Exponentials take longest, so everything else is to be done meanwhile. They
/// are cut into groups, for each of which a block of code has the exponents of
/// the next group, the exponentials of this one, and sums and pairs of the one
/// before. In a single block ptxas computes all exponentials first, and keeps
/// them in so many registers that it spills others.
Vals PromptKernel::weights(const Vals &x, const Scale &scale, const Vals &state,
                           Val packed) {
  constexpr int64_t kGroup = 8;
  int64_t count = x.size();
  Val sums[2][2];
  Vals result(2, Val()), exponents, group;
  auto computeExponents = [&](int64_t from) {
    for (int64_t i = from; i < std::min(from + kGroup, count); ++i)
      exponents.push_back(scale.times(x[i], i % 4 / 2) - state[i % 4 / 2]);
  };
  Val shares[2][2];
  auto use = [&](int64_t from) {
    Vals inverse;
    for (int64_t i = 0; i < kGroup; i += 2) {
      if (i % 4 == 0 && traits.hasValueScales)
        inverse = loadScales(ringOf(packed).slot, ScaleOf::ValueInverse,
                             (from + i) / 4);
      for (int64_t j : {0, 1}) {
        Val &sum = sums[(from + i) % 4 / 2][j];
        sum = from + i < 4 ? group[i + j] : sum + group[i + j];
        if (!traits.hasValueScales)
          continue;
        Val &share = shares[(from + i) % 4 / 2][j];
        Val own = group[i + j] * inverse[j];
        share = from + i < 4 ? own : share + own;
      }
      result.push_back(w.cvtPack(group[i], group[i + 1], productType()));
    }
  };
  computeExponents(0);
  for (int64_t from = 0; from < count; from += kGroup) {
    if (from)
      w.scheduleFence(packed, kRingEnd + from);
    computeExponents(from + kGroup);
    Vals next;
    for (int64_t i = from; i < from + kGroup; ++i)
      next.push_back(w.ex2(exponents[i]));
    if (from)
      use(from - kGroup);
    group = next;
  }
  use(count - kGroup);
  for (int64_t row : {0, 1})
    result[row] = sums[row][0] + sums[row][1];
  if (traits.hasValueScales)
    for (int64_t row : {0, 1}) {
      result.push_back(result[row]);
      result[row] = shares[row][0] + shares[row][1];
    }
  return result;
}

/// The scores of a warp by products of its own, for the few tiles that are
/// computed twice: those of a warpgroup would need all of its warps.
Vals PromptKernel::scoresOfWarp(bool isFew, Val slot) {
  Val thread = w.rereadThreadX(), lane = thread & 31, inGroup = lane & 7;
  // Matrices of 8 rows and 8 channels: of the query, rows 0 and 8 and then the
  // next channels; of keys, the next channels and then the next 8 keys.
  Val ofWarp = isFew ? (thread >> 5) & 3 : thread >> 5;
  Val queryRow = (ofWarp << 4) + (lane & 15);
  Val queryChunk = lane >> 4;
  Value queries =
      at(shared, queryRow * PromptShape::kRowBytes + shape.queryOffset);
  Val keyChunk = (lane >> 3) & 1;
  Value keys =
      at(shared, slot * shape.slotBytes + (lane >> 4) * shape.groupStride(0) +
                     inGroup * PromptShape::kRowBytes);
  return k.rolledForLoop(
      k.i32(0), k.i32(shape.steps()), k.i32(1), Vals(shape.unit / 2, k.f32(0)),
      [&](Val step, const Vals &sums) -> Vals {
        Val part = step >> 2, chunk = (step & 3) * 2;
        auto inRow = [&](Val own) { return ((chunk + own) ^ inGroup) * 16; };
        Vals query = w.ldmatrix(
            at(queries, part * (shape.rows * PromptShape::kRowBytes) +
                            inRow(queryChunk)),
            false);
        Value source = at(keys, part * shape.partStride(0) + inRow(keyChunk));
        Vals next;
        for (int64_t tile = 0; tile < shape.unit / 8; tile += 2) {
          Vals pair =
              w.ldmatrix(at(source, tile * shape.groupStride(0)), false);
          for (int64_t i : {0, 1})
            llvm::append_range(
                next, w.mmaSync(query, ArrayRef<Val>(pair).slice(2 * i, 2),
                                ArrayRef<Val>(sums).slice(4 * (tile + i), 4),
                                productType()));
        }
        return next;
      });
}

/// The maxima and sums, then the sum of weights of each row, and the weights.
/// They are computed from the maxima of the tiles before. If a score is far
/// above them, so is the sum of weights of its thread: then the warp computes
/// its scores once more, and their maxima first.
Vals PromptKernel::weighed(Tile kind, Val &key, Val &packed, Vals state) {
  Type f32 = k.getF32Type();
  SmallVector<Type> types(state.size(), f32);
  Val slot = ringOf(packed).slot;
  Vals x = scores(kind, slot);
  // While the products run.
  waitFull(nextInRing(packed));
  Vals bits;
  if (kind == Tile::Half) {
    if (traits.hasMask)
      bits = seenByLane(key);
    w.wgmmaWait();
    passTurn();
    x = w.pin(x);
    Scale scale = biasScores(false, key, slot, x);
    x = masked(key, deadOf(slot), x, bits);
    state = rescaled(x, scale, state);
    Vals all = w.pin(this->weights(x, scale, state, packed));
    all.resize(all.size() - 2 * traits.hasValueScales);
    return join(state, all);
  }
  Val first = range(kTiles).first;
  Range common = range(kCommon);
  Val dead = deadOf(slot);
  Val isWhole =
      (key >= common.first) & (key + shape.unit <= common.end) & (dead == 0);
  if (traits.hasMask)
    bits = k.ifThen(
        isWhole, {k.getI32Type(), k.getI32Type()},
        [&]() -> Vals { return Vals(2, k.i32(0)); },
        [&]() -> Vals { return seenByLane(key); });
  w.wgmmaWait();
  if (kind != Tile::Few)
    passTurn();
  x = w.pin(x);
  Scale scale = biasScores(kind == Tile::Few, key, slot, x);
  x = k.ifThen(
      isWhole, SmallVector<Type>(x.size(), f32), [&]() -> Vals { return x; },
      [&]() -> Vals { return masked(key, dead, x, bits); });
  state = k.ifThen(
      key == first, types, [&]() -> Vals { return rescaled(x, scale, state); },
      [&]() -> Vals { return state; });
  Vals weights = w.pin(this->weights(x, scale, state, packed));
  // Numbers are computed anew after that: there are no registers to keep them.
  Vals place = w.pin({key, packed});
  key = place[0];
  packed = place[1];
  Vals ofRows(weights.begin(), weights.begin() + 2);
  if (traits.hasValueScales) {
    ofRows.assign(weights.end() - 2, weights.end());
    weights.resize(weights.size() - 2);
  }
  for (Val one : weights)
    types.push_back(one.getType());
  Val isFar = (ofRows[0] > kMostWeight) | (ofRows[1] > kMostWeight);
  return k.ifThen(
      w.unlikely(w.voteAny(isFar)), types,
      [&]() -> Vals {
        Val slot = ringOf(packed).slot;
        Vals again = scoresOfWarp(kind == Tile::Few, slot);
        Scale scale = biasScores(kind == Tile::Few, key, slot, again);
        Vals bits;
        if (traits.hasMask)
          bits = seenByLane(key);
        again = masked(key, deadOf(slot), again, bits);
        Vals moved = rescaled(again, scale, state);
        Vals all = this->weights(again, scale, moved, packed);
        all.resize(all.size() - 2 * traits.hasValueScales);
        return join(moved, all);
      },
      [&]() -> Vals { return join(state, weights); });
}

/// Which boxes of a tile have no block.
Val PromptKernel::deadOf(Val slot) {
  return k.val(
      k.loadScalar(at(shared, slot * 4 + shape.deadOffset), k.getI32Type()));
}

Vals PromptKernel::tileStep(Tile kind, const Vals &given) {
  bool isFew = kind == Tile::Few;
  Val key = given[0], packed = given[1];
  Vals state =
      weighed(kind, key, packed, Vals(given.begin() + kLoop, given.end()));
  unsigned size = given.size() - kLoop;
  Vals weights(state.begin() + size + 2, state.end());
  for (int64_t row : {0, 1})
    state[2 + row] = state[2 + row] + state[size + row];
  giveBack(barrier(Barrier::Empty, ringOf(packed).slot));

  packed = nextInRing(packed);
  Ring ring = ringOf(packed);
  clearUnseen(kind, ring.slot, key);
  Vals out = w.pin(Vals(state.begin() + kSoftmax, state.begin() + size));
  // Values are contiguous in channels, of which 64 are a row.
  Val values = sharedUnits + ring.slot * (shape.slotBytes >> 4) +
               NvvmOps::wgmmaLow(shape.partStride(1));
  bool hasTurn = shape.turns == 2 && !isFew;
  if (hasTurn)
    takeTurn();
  w.wgmmaFence();
  for (int64_t step = 0; step < keysOf(kind) / 16; ++step) {
    ArrayRef<Val> a = ArrayRef<Val>(weights).slice(4 * step, 4);
    // 16 tokens.
    Val value = values + (step * 2 * shape.groupStride(1) >> 4);
    out = w.wgmma(a, descriptor(value, shape.groupStride(1)), out, false, true,
                  productType());
  }
  w.wgmmaCommit();
  if (hasTurn)
    passTurn();
  // While the products run.
  packed = nextInRing(packed);
  Val next = key - shape.unit, end = range(kTiles).end;
  auto waitForKeys = [&] {
    k.ifThen(
        next >= end, [&] { waitFull(packed); },
        // That was the last product with the query: the next one is fetched.
        [&] {
          if (!isFew)
            giveBack(queryBarrier(Barrier::QueryEmpty));
        });
  };
  if (!isFew)
    waitForKeys();
  w.wgmmaWait();
  out = w.pin(join(out, weights));
  out.resize(shape.channels[1] / 2);
  giveBack(barrier(Barrier::Empty, ring.slot));
  if (isFew) {
    // Other warpgroups take the tiles between.
    Val own = key - shape.warpgroups * shape.unit;
    packed = skipTiles(isFew, packed, next, max(own, range(kSegment).first));
    next = own;
    waitForKeys();
  }
  state.resize(kSoftmax);
  return join(Vals{next, packed, end}, state, out);
}
