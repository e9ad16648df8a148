// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The end of a segment: the result, or a part of it. The last warpgroup that
// writes a part of an item puts all of them together, in their sequence.
//
//===----------------------------------------------------------------------===//

#include "PromptKernel.h"

using namespace mlir;
using namespace kvcache;

/// The place of a part of an item, of this warpgroup: sums of a lane side by
/// side with those of others, then the maximum and the sum of weights of each
/// row.
Value PromptKernel::partOf(Val ofBlock, Val slot) {
  Val number = ofBlock * 2 + slot;
  return at(k.parameter(parameters.parts),
            as(number, 64) * shape.partBytes() +
                as(warpgroup * shape.shareBytes(), 64));
}
Value PromptKernel::quadAt(Value part, int64_t quad) {
  return at(part, (thread & 127) * 16 + quad * (128 * 16));
}
Value PromptKernel::rowAt(Value part, int64_t row) {
  Val number = ((warp & 3) << 4) + (lane >> 2) + 8 * row;
  return at(part, number * 8 + shape.quads() * (128 * 16));
}

Value PromptKernel::counter(const Split &split) {
  Val number = split.firstBlock * shape.warpgroups + warpgroup;
  return at(k.parameter(parameters.state),
            as(number, 64) * 4 + AttentionState::kArrivals);
}

void PromptKernel::finish(const Entry &entry, const Split &split, Vals state) {
  for (int64_t row : {0, 1})
    for (int64_t bits : {1, 2})
      state[2 + row] = state[2 + row] + w.shflXor(state[2 + row], bits);
  Val pairs = pairsOf(entry);
  Val hasPairs = entry.tile * shape.columns + warpgroup * 64 < pairs;
  if (shape.fewPairs) {
    SmallVector<Type> types(state.size(), k.getF32Type());
    Val few = isFew(entry);
    hasPairs = hasPairs & (!few | (warpgroup == 0));
    state = k.ifThen(
        few, types,
        [&]() -> Vals {
          Vals result = k.ifThen(
              warpgroup == 0, types, [&]() -> Vals { return takeSums(state); },
              [&]() -> Vals {
                giveSums(state);
                return state;
              });
          // Nobody reads the query any more, or what took its place.
          w.barSync(k.i32(1), 32 * shape.consumers());
          release(queryBarrier(Barrier::QueryEmpty));
          return result;
        },
        [&]() -> Vals { return state; });
  }
  k.ifThen(hasPairs, [&] {
    SmallVector<Type> types = {k.getI32Type()};
    types.append(state.size(), k.getF32Type());
    // Whether this is who stores the result, and what it is.
    Vals whole = k.ifThen(
        split.isSplit == 0, types,
        [&]() -> Vals { return join(Vals{k.i32(1)}, state); },
        [&]() -> Vals {
          // A warp without pairs has nothing to write, and nothing to merge.
          Val isUsed =
              entry.tile * shape.columns + firstRowOfWarp(entry) < pairs;
          k.ifThen(isUsed, [&] { writePart(split, state); });
          // The last warpgroup to arrive puts the parts together.
          Val isLast = arrive(split);
          return k.ifThen(
              isLast & isUsed, types,
              [&]() -> Vals { return join(Vals{k.i32(1)}, merged(split)); },
              [&]() -> Vals {
                // All warps of the last one go on, where they do so together.
                Val goesOn = shape.hasPrefixes
                                 ? select(isLast, k.i32(1), k.i32(0))
                                 : k.i32(0);
                return join(Vals{goesOn}, state);
              });
        });
    k.ifThen(whole[0] != 0, [&] {
      Vals all(whole.begin() + 1, whole.end());
      auto storeAll = [&] {
        store([&](int64_t row) { return pairAt(entry, row); }, all);
      };
      if (shape.hasPrefixes)
        k.ifThen(entry.group == kAlone, storeAll,
                 [&] { leaveState(entry, all); });
      else
        storeAll();
    });
  });
}

/// 16 bytes of a lane in the rows of the query that no product reads.
Value PromptKernel::spareBlock(Val number) {
  int64_t most = shape.spareBlocks();
  Val part = number / most, inPart = number % most;
  return at(shared, part * (shape.rows * PromptShape::kRowBytes) +
                        inPart * PromptShape::kBlockBytes + lane * 16 +
                        (shape.queryOffset + 64 * PromptShape::kRowBytes));
}
Value PromptKernel::totalsOf(Val ofWarpgroup) {
  Val number = (ofWarpgroup - 1) * shape.fewWarps() + (warp & 3);
  return at(shared,
            number * PromptShape::kBlockBytes + lane * 16 + shape.totalsOffset);
}

/// Of an item with few pairs, the first warpgroup puts together what all have:
/// warp by warp, as they have the same rows.
void PromptKernel::giveSums(const Vals &state) {
  Val ofWarp = warp & 3;
  k.ifThen(ofWarp < shape.fewWarps(), [&] {
    Vals totals;
    for (unsigned i = 0; i < kSoftmax; ++i)
      totals.push_back(w.bitcastToInt(state[i]));
    w.stSharedWords(totals, totalsOf(warpgroup));
    Val first = (warpgroup - 1) * shape.blocksOfSums() + ofWarp * shape.quads();
    for (int64_t quad = 0; quad < shape.quads(); ++quad) {
      Vals sums;
      for (int64_t j = 0; j < 4; ++j)
        sums.push_back(w.bitcastToInt(state[kSoftmax + 4 * quad + j]));
      w.stSharedWords(sums, spareBlock(first + quad));
    }
    // The next query comes to the same place.
    w.fenceProxyAsync();
    w.barSync(sumsBarrier(), 32 * shape.warpgroups);
  });
}

Vals PromptKernel::takeSums(const Vals &state) {
  SmallVector<Type> types(state.size(), k.getF32Type());
  return k.ifThen(
      warp < shape.fewWarps(), types,
      [&]() -> Vals {
        w.barSync(sumsBarrier(), 32 * shape.warpgroups);
        Vals next = state;
        for (int64_t other = 1; other < shape.warpgroups; ++other) {
          Vals totals = w.ldSharedWords(totalsOf(k.i32(other)), kSoftmax);
          Val own[2], share[2];
          for (int64_t row : {0, 1}) {
            Val maximum = w.bitcastToFloat(totals[row]);
            Val most = max(next[row], maximum);
            own[row] = w.ex2(next[row] - most);
            share[row] = w.ex2(maximum - most);
            next[row] = most;
            next[2 + row] = next[2 + row] * own[row] +
                            w.bitcastToFloat(totals[2 + row]) * share[row];
          }
          Val first = warp * shape.quads() + (other - 1) * shape.blocksOfSums();
          for (int64_t quad = 0; quad < shape.quads(); ++quad) {
            Vals sums = w.ldSharedWords(spareBlock(first + quad), 4);
            for (int64_t j = 0; j < 4; ++j) {
              Val &sum = next[kSoftmax + 4 * quad + j];
              sum = sum * own[j / 2] + w.bitcastToFloat(sums[j]) * share[j / 2];
            }
          }
        }
        return next;
      },
      [&]() -> Vals { return state; });
}

void PromptKernel::writePart(const Split &split, const Vals &state) {
  Val isFirst = block == split.firstBlock;
  Value part = partOf(block, select(isFirst, split.firstSlot, k.i32(0)));
  Type four = VectorType::get({4}, k.getF32Type());
  for (int64_t quad = 0; quad < shape.quads(); ++quad) {
    Value vector = LLVM::PoisonOp::create(k, four);
    for (int64_t j = 0; j < 4; ++j)
      vector = LLVM::InsertElementOp::create(
          k, vector, state[kSoftmax + 4 * quad + j], k.i32(j));
    k.store(vector, quadAt(part, quad), 16);
  }
  k.ifThen((lane & 3) == 0, [&] {
    for (int64_t row : {0, 1})
      for (int64_t j : {0, 1})
        k.storeScalar(state[row + 2 * j], at(rowAt(part, row), 4 * j));
  });
}

/// Whether all parts of an item are written, which one warpgroup is told.
///
/// What the warpgroup has written before the first barrier comes before the
/// counter of one thread, and that before what it reads after the second one: a
/// fence of each thread would add nothing.
Val PromptKernel::arrive(const Split &split) {
  barWarpgroup();
  Value arrivals = counter(split);
  return askOneThread([&] {
    Val before = w.atomAddAcqRel(arrivals, k.i32(1));
    Val isLast = before == split.parts - 1;
    k.ifThen(isLast, [&] { k.storeScalar(k.i32(0), arrivals); });
    return isLast;
  });
}

Val PromptKernel::askOneThread(function_ref<Val()> find) {
  Value flag = at(shared, warpgroup * 4 + shape.flagOffset);
  k.ifThen((thread & 127) == 0,
           [&] { k.storeScalar(select(find(), k.i32(1), k.i32(0)), flag); });
  barWarpgroup();
  Val found = k.val(k.loadScalar(flag, k.getI32Type())) != 0;
  // Nobody writes the flag before all have read it.
  barWarpgroup();
  return found;
}

Vals PromptKernel::merged(const Split &split) {
  Type f32 = k.getF32Type(), four = VectorType::get({4}, f32);
  auto partAt = [&](Val number) {
    Val slot = select(number == 0, split.firstSlot, k.i32(0));
    return partOf(split.firstBlock + number, slot);
  };
  // All that a part has is loaded at once.
  Vals start(2, k.f32(kNoMaximum));
  start.append(2 + 4 * shape.quads(), k.f32(0));
  return k.rolledForLoop(
      k.i32(0), split.parts, k.i32(1), start,
      [&](Val number, const Vals &sofar) -> Vals {
        Value part = partAt(number);
        Vals next = sofar;
        Val own[2], share[2];
        for (int64_t row : {0, 1}) {
          Value totals = LLVM::LoadOp::create(k, VectorType::get({2}, f32),
                                              rowAt(part, row), 8);
          auto total = [&](int64_t i) {
            return k.val(LLVM::ExtractElementOp::create(k, totals, k.i32(i)));
          };
          next[row] = max(sofar[row], total(0));
          own[row] = w.ex2(sofar[row] - next[row]);
          share[row] = w.ex2(total(0) - next[row]);
          next[2 + row] = sofar[2 + row] * own[row] + total(1) * share[row];
        }
        for (int64_t quad = 0; quad < shape.quads(); ++quad) {
          Value vector = LLVM::LoadOp::create(k, four, quadAt(part, quad), 16);
          for (int64_t j = 0; j < 4; ++j) {
            Val x = k.val(LLVM::ExtractElementOp::create(k, vector, k.i32(j)));
            Val &sum = next[kSoftmax + 4 * quad + j];
            sum = sum * own[j / 2] + x * share[j / 2];
          }
        }
        return next;
      });
}

PromptKernel::Pair PromptKernel::pairAt(const Entry &entry, int64_t row) {
  Val pair = pairOf(entry, row);
  Pair found{isThere(entry, row), Val(), Val()};
  found.row = entry.start + pair / traits.group;
  found.queryHead = head * traits.group + pair % traits.group;
  return found;
}

void PromptKernel::store(function_ref<Pair(int64_t)> pairs, const Vals &state) {
  for (int64_t i : {0, 1}) {
    Pair pair = pairs(i);
    Vals sums;
    for (int64_t column = 0; column < shape.channels[1] / 8; ++column)
      for (int64_t j : {0, 1})
        sums.push_back(state[kSoftmax + 4 * column + 2 * i + j]);
    storeRow(pair.isThere, pair.row, pair.queryHead, state[i], state[2 + i],
             sums);
  }
}
