// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Producers: pages of keys and values into the slots of the ring, and the rows
// of the query.
//
//===----------------------------------------------------------------------===//

#include "PromptKernel.h"

using namespace mlir;
using namespace kvcache;

void PromptKernel::produce() {
  Vals first = findWork(/*hasMaps=*/true);
  w.setMaxRegisters(shape.producerRegisters(), false);
  Val role = warp - shape.consumers();
  if (!shape.ofBytes)
    return fetch(role, first);
  // What comes are bytes, and two warps convert them.
  k.ifThen(
      role < 2,
      [&] {
        k.ifThen(role == 0, [&] { convertTiles(0); }, [&] { convertTiles(1); });
      },
      [&] { fetch(role, first); });
}

void PromptKernel::fetch(Val role, const Vals &first) {
  // Carried: the work, the ring, and the number of the segment. Keys and values
  // take turns in the ring, which is free at first: the parity is 1.
  Vals state = {select(role == 1, k.i32(16 + 1), k.i32(16)), k.i32(0)};
  Vals end = k.ifThen(
      hasWork & (role < (shape.ofBytes ? 4 : 3)),
      SmallVector<Type>(state.size(), k.getI32Type()),
      [&]() -> Vals {
        Vals last = k.whileLoop(
            join(first, state),
            [&](const Vals &state) -> CodeBuilder::Tested {
              Work now = work(state);
              Val ring = state[workSize()], segment = state[workSize() + 1];
              Val count = ownChunks(now);
              Val from = unitOf(now.item, now.done);
              Val end = unitOf(now.item, now.done + count);
              Vals next = k.ifThen(
                  end > now.item.first, {k.getI32Type(), k.getI32Type()},
                  [&]() -> Vals {
                    return {fetchSegment(role, now, from, end, count, ring,
                                         segment),
                            segment + 1};
                  },
                  [&]() -> Vals { return {ring, segment}; });
              Val more = advance(now, chunks(now.item) - now.done);
              return {more, join(flat(now), next)};
            },
            [&](const Vals &state) { return state; });
        return Vals(last.begin() + workSize(), last.end());
      },
      [&]() -> Vals { return state; });
  k.ifThen(role == 2,
           [&] { publish(end[1], [&]() -> Vals { return {k.i32(-1)}; }); });
  if (shape.ofBytes)
    k.ifThen(role == 3, [&] { endBytes(end[0]); });
}

/// What a warp of producers fetches of a segment: keys, values, or the query.
Val PromptKernel::fetchSegment(Val role, const Work &now, Val from, Val end,
                               Val count, Val ring, Val segment) {
  Type i32 = k.getI32Type();
  return k
      .ifThen(
          role == 2, {i32},
          [&]() -> Vals {
            publish(segment, [&]() -> Vals {
              const Item &item = now.item;
              Vals words = join(Vals{end - from, from, item.tile, item.start,
                                     item.end, item.length, item.head, block},
                                splitOf(now, count, 0));
              if (shape.hasPrefixes)
                words.push_back(item.group);
              return words;
            });
            fetchQuery(now.item, (segment & 1) ^ 1);
            return {ring};
          },
          [&]() -> Vals {
            if (shape.ofBytes)
              return {fetchBytes(now, from, end, ring)};
            return k.ifThen(
                role == 0, {i32},
                [&]() -> Vals { return {fetchTiles(0, now, from, end, ring)}; },
                [&]() -> Vals {
                  return {fetchTiles(1, now, from, end, ring)};
                });
          })
      .front();
}

Value PromptKernel::entryAt(Val segment) {
  static_assert(PromptShape::kQueue == 2, "the place is its last bit");
  return at(shared, (segment & 1) * shape.kEntryBytes + shape.queueOffset);
}

/// Consumers are told of a segment, or of the end, as soon as its place is
/// free.
void PromptKernel::publish(Val segment, function_ref<Vals()> words) {
  Val place = segment & 1;
  w.mbarrierWait(barrier(Barrier::EntryEmpty, place), ((segment >> 1) & 1) ^ 1);
  k.ifThen(lane == 0, [&] {
    w.stSharedWords(words(), entryAt(segment));
    w.mbarrierArrive(barrier(Barrier::EntryFull, place));
  });
}

/// A box has all heads of the group, of as many rows as a part has. Rows past
/// the end of the request are those of the next one, or zeros: what becomes of
/// them is not stored. Parts without pairs are not fetched.
void PromptKernel::fetchQuery(const Item &item, Val parity) {
  int64_t rowsOfItem = shape.columns / traits.group;
  Val row = item.start + item.tile * rowsOfItem;
  Val pairs = pairsOf(item) - item.tile * shape.columns;
  Val policy = w.createPolicyEvictFirst();
  int64_t boxRows = shape.queryColumns() / traits.group;
  int64_t boxBytes = shape.queryColumns() * PromptShape::kRowBytes;
  for (int64_t part = 0; part < shape.queryParts; ++part) {
    w.mbarrierWait(barrier(Barrier::QueryEmpty, k.i32(part)), parity);
    Value full = barrier(Barrier::QueryFull, k.i32(part));
    auto load = [&] {
      w.mbarrierArriveExpectTx(full, k.i32(shape.parts(0) * boxBytes));
      for (int64_t channels = 0; channels < shape.parts(0); ++channels)
        w.tmaLoad(at(shared, channels * (shape.rows * PromptShape::kRowBytes) +
                                 part * boxBytes + shape.queryOffset),
                  k.parameter(parameters.queryMap),
                  {k.i32(channels * PromptShape::kInner),
                   item.head * traits.group, row + part * boxRows},
                  full, policy);
    };
    k.ifThen(lane == 0, [&] {
      if (part == 0)
        return load();
      k.ifThen(pairs > part * shape.queryColumns(), load,
               [&] { w.mbarrierArrive(full); });
    });
  }
}

/// As the table has it, for the box of a lane.
Val PromptKernel::entryOf(const Work &now, Val tableRow, Val unit) {
  Val key = unit * shape.unit + lane * shape.boxTokens;
  Val isThere = (lane < shape.boxes()) & (key < now.item.length);
  return tableEntry(tableRow, key / traits.tokens, isThere);
}

/// What no block has is outside of the map, and comes as zeros.
PromptKernel::Boxes PromptKernel::boxesOf(const Work &now, Val unit,
                                          Val given) {
  Val key = unit * shape.unit + lane * shape.boxTokens;
  Val isBox = lane < shape.boxes();
  Val isThere = isBox & (key < now.item.length);
  Val entry = as(blockOf(given, isThere), 32);
  Val dead = w.voteBallot(isThere & (entry < 0));
  return {isBox, entry, dead, key % traits.tokens};
}

Val PromptKernel::fetchTiles(unsigned side, const Work &now, Val first, Val end,
                             Val packed) {
  // Keys are read again if there are more items of the request.
  Val isOnly = tiles(now.item.start, now.item.end) <= 1;
  Val policy =
      select(isOnly, w.createPolicyEvictFirst(), w.createPolicyEvictLast());
  Value map = k.parameter(parameters.sides[side].map);
  int64_t groupsOfPage = traits.tokens / 8;
  int64_t boxBytes = shape.boxTokens / 8 * shape.groupStride(side);
  Val row = shape.hasPrefixes ? tableRow(now.item) : now.item.request;
  // From the last one to the first.
  Vals last = k.rolledForLoop(
      first, end, k.i32(1), {packed, entryOf(now, row, end - 1)},
      [&](Val number, const Vals &state) -> Vals {
        Val unit = end - 1 - (number - first);
        Ring ring = ringOf(state[0]);
        Val slot = ring.slot;
        Val ahead = entryOf(now, row, max(unit - 1, first));
        auto [isBox, entry, dead, token] = boxesOf(now, unit, state[1]);
        w.mbarrierWait(barrier(Barrier::Empty, slot), ring.parity);
        Value full = barrier(Barrier::Full, slot);
        k.ifThen(lane == 0, [&] {
          if (side == 0)
            k.storeScalar(dead, at(shared, slot * 4 + shape.deadOffset));
          w.mbarrierArriveExpectTx(
              full,
              k.i32(shape.unit * PromptShape::kRowBytes * shape.parts(side)));
        });
        w.syncWarp();
        k.ifThen(isBox, [&] {
          Val zero = k.i32(0);
          Val to = slot * shape.slotBytes + lane * boxBytes;
          if (shape.neighbor[side] == HeadNeighbor::None) {
            for (int64_t part = 0; part < shape.parts(side); ++part) {
              bool isWhole = shape.isWhole(side);
              Val channel = k.i32(isWhole ? 0 : part * PromptShape::kInner);
              w.tmaLoad(at(shared, to + part * shape.partStride(side)), map,
                        {channel, token, k.i32(isWhole ? part : 0),
                         now.item.head, entry},
                        full, policy);
            }
            return;
          }
          Val part = zero, group = token >> 3;
          if (shape.neighbor[side] == HeadNeighbor::Channels)
            part = now.item.head * shape.parts(side);
          else
            group = group + now.item.head * groupsOfPage;
          w.tmaLoad(at(shared, to), map, {zero, zero, part, group, entry}, full,
                    policy);
        });
        // Past the slot of the other side.
        return {nextInRing(nextInRing(state[0])), ahead};
      });
  return last.front();
}
