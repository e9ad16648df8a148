// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What all requests have to do, found by a warp: a lane measures one of 32
// requests, and turns of 32 follow each other. The turn where the range of the
// block begins is measured once more.
//
//===----------------------------------------------------------------------===//

#include "WorkSplit.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;
using namespace kvcache;

Vals WorkSplit::loadRequests(Val turn) {
  return k.ifThen(
      requests > 0, SmallVector<Type>(loadedSize(), k.getI32Type()),
      [&]() -> Vals {
        Val request = turn * 32 + lane;
        if (split.hasPrefixes)
          return loadListed(request);
        return {loadStart(min(request, requests)),
                loadStart(min(request + 1, requests)),
                loadLength(min(request, requests - 1))};
      },
      [&]() -> Vals { return Vals(loadedSize(), k.i32(0)); });
}

WorkSplit::Lane WorkSplit::measureLane(Val turn, ArrayRef<Val> loaded,
                                       Val largest) {
  Type i32 = k.getI32Type();
  Val start = loaded[0], next = loaded[1], length = loaded[2];
  Val isMixed = (start > next) | (start < largest);
  if (split.hasPrefixes) {
    // Rows of a prefix are those of requests that come later.
    Val isOfPrefix = isPrefix(turn * 32 + lane);
    start = select(isOfPrefix, k.i32(0), start);
    next = select(isOfPrefix, k.i32(0), next);
    isMixed = !isOfPrefix & isMixed;
  }
  Vals rows = k.ifThen(
      w.unlikely(w.voteAny(isMixed)), {i32, i32},
      [&]() -> Vals {
        Val most = max(start, largest);
        for (int64_t distance = 1; distance < 32; distance *= 2) {
          Val other = w.shflUp(most, distance);
          most = select(lane >= distance, max(most, other), most);
        }
        return {most, max(most, next)};
      },
      [&]() -> Vals { return {start, next}; });
  Val request = turn * 32 + lane, isThere = request < listed;
  Lane own;
  Val largestHere = rows[1];
  own.item = {request, k.i32(0), rows[0],  rows[1], length, Val(),
              Val(),   k.i32(0), k.i32(0), Val(),   Val()};
  if (split.hasPrefixes) {
    own.item.group = loaded[3];
    own.item.shared = loaded[4];
    rows[0] = own.item.start = select(isPrefix(request), loaded[0], rows[0]);
    rows[1] = own.item.end = select(isPrefix(request), loaded[1], rows[1]);
  }
  measure(own.item);
  own.item.units = select(isThere, own.item.units, k.i32(0));
  own.largest = w.shflIdx(largestHere, 31);
  // The first tile is all that most requests have.
  Val count = select(isThere, tiles(rows[0], rows[1]), k.i32(0));
  Val isEmpty = (count > 0) & (own.item.units == 0);
  Vals sums = {chunks(own.item), select(isEmpty, k.i32(1), k.i32(0))};
  sums = k.ifThen(
      w.unlikely(w.voteAny(count > 1)), {i32, i32},
      [&]() -> Vals { return measureTiles(own.item, count, sums); },
      [&]() -> Vals { return sums; });
  own.chunks = sums[0];
  own.hasEmpty = sums[1];
  own.keys = select(count > 0, length / split.unit, k.i32(0));
  return own;
}

/// Adds the tiles after the first one of the request of each lane to its
/// chunks, and whether one of them is empty. Each lane has those of its own
/// request, or all lanes those of one request after the other, where that takes
/// less time.
Vals WorkSplit::measureTiles(const Item &own, Val count, const Vals &sums) {
  Type i32 = k.getI32Type();
  auto add = [&](const Item &of, Val tile, const Vals &sums) -> Vals {
    Item item = of;
    item.tile = tile;
    measure(item);
    return {sums[0] + chunks(item), select(item.units == 0, k.i32(1), sums[1])};
  };
  constexpr int64_t kTurnCost = 3; // in tiles of one lane
  Val turns = w.reduxAdd(select(count > 1, (count + 30) / 32, k.i32(0)));
  Val isTogether = w.voteAny(count > turns * kTurnCost);
  return k.ifThen(
      isTogether, {i32, i32},
      [&]() -> Vals {
        Vals all = k.whileLoop(
            join(Vals{w.voteBallot(count > 1)}, sums),
            [&](const Vals &n) -> CodeBuilder::Tested {
              return {n[0] != 0, n};
            },
            [&](const Vals &n) -> Vals {
              Val source(k, LLVM::CountTrailingZerosOp::create(
                                k, i32, n[0], /*is_zero_poison=*/false));
              Item item = own;
              for (Val *number : requestOf(item))
                *number = w.shflIdx(*number, source);
              item.head = w.shflIdx(item.head, source);
              Vals some =
                  k.rolledForLoop(lane + 1, w.shflIdx(count, source), k.i32(32),
                                  {k.i32(0), k.i32(0)},
                                  [&](Val tile, const Vals &sums) -> Vals {
                                    return add(item, tile, sums);
                                  });
              w.syncWarp();
              Val sum = w.reduxAdd(some[0]);
              Val hasEmpty = w.voteAny(some[1] != 0);
              Val isOwn = lane == source;
              return {n[0] & (n[0] - 1), n[1] + select(isOwn, sum, k.i32(0)),
                      select(isOwn & hasEmpty, k.i32(1), n[2])};
            });
        return {all[1], all[2]};
      },
      [&]() -> Vals {
        return k.rolledForLoop(k.i32(1), count, k.i32(1), sums,
                               [&](Val tile, const Vals &sums) -> Vals {
                                 return add(own, tile, sums);
                               });
      });
}

Val WorkSplit::sumUpTo(Val value) {
  for (int64_t distance = 1; distance < 32; distance *= 2) {
    Val other = w.shflUp(value, distance);
    value = value + select(lane >= distance, other, k.i32(0));
  }
  return value;
}

WorkSplit::Later WorkSplit::measureLater() {
  Val turns = (listed + 31) / 32;
  Vals none(kLater, k.i32(0));
  none[0] = turns;
  none[1] = (turns + 31) / 32;
  Vals later = k.ifThen(
      w.unlikely(turns > 1), SmallVector<Type>(kLater, k.getI32Type()),
      [&]() -> Vals { return measureTurns(turns, none[1]); },
      [&]() -> Vals { return none; });
  return {later[0], later[1], later[2], later[3],
          later[4], later[5], later[6], later[7]};
}

Vals WorkSplit::measureTurns(Val turns, Val group) {
  SmallVector<Type> types(loadedSize(), k.getI32Type());
  // Of the first turn only the largest start counts here.
  Val before, none = k.i32(0);
  if (split.hasPrefixes)
    before = select(isPrefix(lane), none, loadStart(max(lane - prefixes, 0)));
  else
    before = loadStart(lane);
  for (int64_t bits = 1; bits < 32; bits *= 2)
    before = max(before, w.shflXor(before, bits));
  Vals all = k.rolledForLoop(
      k.i32(1), turns, k.i32(1),
      join(loadRequests(k.i32(1)),
           Vals{none, before, none, none, none, before}),
      [&](Val turn, const Vals &carried) -> Vals {
        // Without a next turn nothing is loaded: the warp would wait for it.
        Vals next = k.ifThen(
            turn + 1 < turns, types,
            [&]() -> Vals { return loadRequests(turn + 1); },
            [&]() -> Vals { return Vals(types.size(), k.i32(0)); });
        ArrayRef<Val> loaded = ArrayRef<Val>(carried).take_front(types.size());
        ArrayRef<Val> sums = ArrayRef<Val>(carried).drop_front(types.size());
        Val sum = sums[0], largest = sums[1];
        Val isFirst = lane * group == turn;
        Val sumBefore = select(isFirst, sum, sums[4]);
        Val largestBefore = select(isFirst, largest, sums[5]);
        Lane own = measureLane(turn, loaded, largest);
        return join(next, Vals{sum + w.reduxAdd(own.chunks), own.largest,
                               sums[2] | own.hasEmpty, sums[3] + own.keys,
                               sumBefore, largestBefore});
      });
  return join(Vals{turns, group}, Vals(all.begin() + types.size(), all.end()));
}

/// The turn where the range of the block begins, which is not the first one: of
/// a group, those before it are added up.
Vals WorkSplit::findTurn(const Later &later, Val first, Val largest,
                         Val chunk) {
  // Lane 0 has the turns of the first group behind the first turn.
  Val turn = select(lane == 0, k.i32(1), lane * later.group);
  Val sumBefore = later.chunksBefore + first;
  Val isBefore = (turn < later.turns) & (sumBefore <= chunk);
  Val which = w.popc(w.voteBallot(isBefore)) - 1;
  Val largestBefore = select(lane == 0, largest, later.largestBefore);
  Vals found = k.whileLoop(
      {w.shflIdx(turn, which), w.shflIdx(sumBefore, which),
       w.shflIdx(largestBefore, which)},
      [&](const Vals &n) -> CodeBuilder::Tested {
        Val turn = n[0], before = n[1];
        Lane own = measureLane(turn, loadRequests(turn), n[2]);
        Val upTo = before + sumUpTo(own.chunks);
        own.item.before = upTo - own.chunks;
        Val behind = w.shflIdx(upTo, 31);
        return {behind <= chunk,
                join(flat(own.item), Vals{upTo, turn, behind, own.largest})};
      },
      [&](const Vals &n) -> Vals {
        return {n[itemSize() + 1] + 1, n[itemSize() + 2], n[itemSize() + 3]};
      });
  found.resize(itemSize() + 1);
  return found;
}
