// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The end of a segment: the result of a warp, or a part of it. Of the warps
// that have the same rows, the last one that writes a part puts all of them
// together, in their sequence.
//
//===----------------------------------------------------------------------===//

#include "WarpKernel.h"

using namespace mlir;
using namespace kvcache;

/// The place of a part, of this warp: sums of a lane side by side with those of
/// others, then the maximum and the sum of weights of each row.
Value WarpKernel::partOf(Val ofBlock, Val slot) {
  Val number = ofBlock * 2 + slot;
  return at(k.parameter(parameters.parts),
            as(number, 64) * shape.partBytes() +
                as(warp * shape.shareBytes(), 64));
}
Value WarpKernel::quadAt(Value part, int64_t number) {
  return at(part, lane * 16 + number * (32 * 16));
}
Value WarpKernel::rowAt(Value part, int64_t row) {
  int64_t sums = shape.rowTiles * shape.quads() * (32 * 16);
  return at(part, (lane >> 2) * 8 + (row * 64 + sums));
}

void WarpKernel::finish(Vals state) {
  int64_t count = rowsOfLane();
  for (int64_t row = count; row < 2 * count; ++row)
    for (int64_t bits : {1, 2})
      state[row] = state[row] + w.shflXor(state[row], bits);
  Entry entry = loadEntry(wordOf(kSegmentPlace));
  Val first = entry.tile * shape.columns() + numberOf(warp, k.i32(0));
  k.ifThen(first < pairsOf(entry), [&] {
    auto splitPlace = [&] {
      return at(entryAt(wordOf(kSegmentPlace)), 4 * kEntry);
    };
    Val isSplit = k.val(k.loadScalar(splitPlace(), k.getI32Type())) != 0;
    SmallVector<Type> types(state.size(), k.getF32Type());
    types.push_back(k.getI32Type());
    // What is stored, and whether it is.
    Vals whole = k.ifThen(
        isSplit, types,
        [&]() -> Vals {
          Vals n = w.ldSharedWords(splitPlace(), kSplit);
          Split split{n[0], n[1], n[2], n[3], n[4], n[5]};
          writePart(split, state);
          return k.ifThen(
              arrive(split), types,
              [&]() -> Vals { return join(merged(split), Vals{k.i32(1)}); },
              [&]() -> Vals { return join(state, Vals{k.i32(0)}); });
        },
        [&]() -> Vals { return join(state, Vals{k.i32(1)}); });
    Val isStored = whole.pop_back_val() != 0;
    k.ifThen(isStored, [&] { store(whole); });
  });
}

void WarpKernel::writePart(const Split &split, const Vals &state) {
  Val isFirst = block == split.firstBlock;
  Value part = partOf(block, select(isFirst, split.firstSlot, k.i32(0)));
  Type four = VectorType::get({4}, k.getF32Type());
  for (int64_t i = 0; i < shape.rowTiles * shape.quads(); ++i) {
    Value vector = LLVM::PoisonOp::create(k, four);
    for (int64_t j = 0; j < 4; ++j)
      vector = LLVM::InsertElementOp::create(
          k, vector, state[softmax() + 4 * i + j], k.i32(j));
    k.store(vector, quadAt(part, i), 16);
  }
  k.ifThen((lane & 3) == 0, [&] {
    for (int64_t row = 0; row < rowsOfLane(); ++row)
      for (int64_t j : {0, 1})
        k.storeScalar(state[row + j * rowsOfLane()],
                      at(rowAt(part, row), 4 * j));
  });
}

/// Whether all parts of these rows are written. The counters of four warps are
/// the bytes of a word: no item has as many parts as would not fit.
///
/// What the lanes have written comes before the counter of one of them, and
/// that before what they read.
Val WarpKernel::arrive(const Split &split) {
  static_assert(AttentionState::kMaxBlocks < 256, "counters are bytes");
  constexpr int64_t kWords = (WarpShape::kConsumers + 3) / 4;
  static_assert(kWords <= AttentionState::kMaxWarpgroups);
  Val number = split.firstBlock * kWords + (warp >> 2);
  Value counters = at(k.parameter(parameters.state),
                      as(number, 64) * 4 + AttentionState::kArrivals);
  Val shift = (warp & 3) * 8;
  w.syncWarp();
  Val isLast = k.ifThen(
                    lane == 0, {k.getI32Type()},
                    [&]() -> Vals {
                      Val before = w.atomAddAcqRel(counters, k.i32(1) << shift);
                      Val last = ((before >> shift) & 255) == split.parts - 1;
                      k.ifThen(last, [&] {
                        w.atomAdd(counters, k.i32(0) - (split.parts << shift));
                      });
                      return {select(last, k.i32(1), k.i32(0))};
                    },
                    [&]() -> Vals { return {k.i32(0)}; })
                   .front();
  w.syncWarp();
  return w.shflIdx(isLast, int64_t(0)) != 0;
}

Vals WarpKernel::merged(const Split &split) {
  Type f32 = k.getF32Type(), four = VectorType::get({4}, f32);
  int64_t count = rowsOfLane();
  Vals start(count, k.f32(kNoMaximum));
  start.append(stateSize() - count, k.f32(0));
  return k.rolledForLoop(
      k.i32(0), split.parts, k.i32(1), start,
      [&](Val number, const Vals &sofar) -> Vals {
        Val slot = select(number == 0, split.firstSlot, k.i32(0));
        Value part = partOf(split.firstBlock + number, slot);
        Vals next = sofar, own, share;
        for (int64_t row = 0; row < count; ++row) {
          Value totals = LLVM::LoadOp::create(k, VectorType::get({2}, f32),
                                              rowAt(part, row), 8);
          auto total = [&](int64_t i) {
            return k.val(LLVM::ExtractElementOp::create(k, totals, k.i32(i)));
          };
          next[row] = max(sofar[row], total(0));
          own.push_back(w.ex2(sofar[row] - next[row]));
          share.push_back(w.ex2(total(0) - next[row]));
          next[count + row] =
              sofar[count + row] * own[row] + total(1) * share[row];
        }
        for (int64_t i = 0; i < shape.rowTiles * shape.quads(); ++i) {
          // So many loads at once, which have registers.
          if (i && i % 16 == 0)
            w.scheduleFence(number, -i);
          Value vector = LLVM::LoadOp::create(k, four, quadAt(part, i), 16);
          for (int64_t j = 0; j < 4; ++j) {
            Val x = k.val(LLVM::ExtractElementOp::create(k, vector, k.i32(j)));
            int64_t row = i / shape.quads() * 2 + j / 2;
            Val &sum = next[softmax() + 4 * i + j];
            sum = sum * own[row] + x * share[row];
          }
        }
        return next;
      });
}

void WarpKernel::store(const Vals &state) {
  Entry entry = loadEntry(wordOf(kSegmentPlace));
  Val pairs = pairsOf(entry);
  for (int64_t row = 0; row < rowsOfLane(); ++row) {
    // One row after the other: addresses of all of them are too many.
    if (row)
      w.scheduleFence(entry.tile, -row);
    Val pair =
        entry.tile * shape.columns() + numberOf(warp, (lane >> 2) + 8 * row);
    Vals sums;
    for (int64_t i = 0; i < shape.quads(); ++i)
      for (int64_t j : {0, 1})
        sums.push_back(state[softmax() + (row / 2 * shape.quads() + i) * 4 +
                             row % 2 * 2 + j]);
    storeRow(pair < pairs, entry.start + pair / traits.group,
             head * traits.group + pair % traits.group, state[row],
             state[rowsOfLane() + row], sums);
  }
}
