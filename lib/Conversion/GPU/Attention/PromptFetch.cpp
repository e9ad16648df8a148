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
  w.setMaxRegisters(PromptShape::kProducerRegisters, false);
  Val role = warp - shape.kConsumers;
  // Carried: the work, the ring, the queue, and the parity of the query. Keys
  // and values take turns in the ring.
  Vals state = {select(role == 1, k.i32(1), k.i32(0)), k.i32(1), k.i32(0),
                k.i32(1), k.i32(1)};
  Vals end = k.ifThen(
      hasWork, SmallVector<Type>(state.size(), k.getI32Type()),
      [&]() -> Vals {
        Vals last = k.whileLoop(
            join(first, state),
            [&](const Vals &state) -> CodeBuilder::Tested {
              Work now = work(state);
              Vals ring = {state[kWork], state[kWork + 1]};
              Val place = state[kWork + 2], parity = state[kWork + 3];
              Val queryParity = state[kWork + 4];
              Val count = min(now.left, chunks(now.item) - now.done);
              Val from = now.item.first + (now.done << chunkBits);
              Val end = min(from + (count << chunkBits),
                            now.item.first + now.item.units);
              // Keys, values, and the query.
              auto fetch = [&](unsigned side) -> Vals {
                Vals next = ring;
                fetchTiles(side, now, from, end, next);
                return next;
              };
              SmallVector<Type> two(2, k.getI32Type());
              ring = k.ifThen(
                  role == 0, two,
                  [&]() -> Vals {
                    publish(now, from, end, count, place, parity);
                    return fetch(0);
                  },
                  [&]() -> Vals {
                    return k.ifThen(
                        role == 1, two, [&]() -> Vals { return fetch(1); },
                        [&]() -> Vals {
                          fetchQuery(now.item, queryParity);
                          return ring;
                        });
                  });
              step(place, parity, shape.kQueue);
              Val more = advance(now, count);
              return {more, join(flat(now), ring,
                                 Vals{place, parity, queryParity ^ 1})};
            },
            [&](const Vals &state) { return state; });
        return Vals(last.begin() + kWork, last.end());
      },
      [&]() -> Vals { return state; });
  k.ifThen(warp == shape.kConsumers, [&] { publishEnd(end[2], end[3]); });
}

void PromptKernel::publish(const Work &now, Val first, Val end, Val count,
                           Val place, Val parity) {
  const Item &item = now.item;
  w.mbarrierWait(barrier(Barrier::EntryEmpty, place), parity);
  k.ifThen(lane == 0, [&] {
    Vals words = {end - first, first,       item.tile, item.start,
                  item.end,    item.length, head,      block};
    w.stSharedWords(join(words, splitOf(now, count, 0)),
                    at(shared, place * shape.kEntryBytes + shape.queueOffset));
    w.mbarrierArrive(barrier(Barrier::EntryFull, place));
  });
}

void PromptKernel::publishEnd(Val place, Val parity) {
  w.mbarrierWait(barrier(Barrier::EntryEmpty, place), parity);
  k.ifThen(lane == 0, [&] {
    w.stSharedWords({k.i32(0)},
                    at(shared, place * shape.kEntryBytes + shape.queueOffset));
    w.mbarrierArrive(barrier(Barrier::EntryFull, place));
  });
}

/// By two warps. Rows are 128 bytes for each 64 channels, and their chunks of
/// 16 bytes are permuted as a tensor map does it.
void PromptKernel::fetchQuery(const Item &item, Val parity) {
  Val pairs = (item.end - item.start) * traits.group;
  Val from = item.tile * shape.kColumns;
  int64_t chunks = shape.channels[0] / 8;
  w.mbarrierWait(barrier(Barrier::QueryEmpty), parity);
  Val own = (warp - (shape.kConsumers + 2)) * 32 + lane;
  k.rolledForLoop(
      own, k.i32(shape.kColumns * chunks), k.i32(64), {},
      [&](Val index, const Vals &) -> Vals {
        Val column = index / chunks, chunk = index % chunks;
        Val pair = from + column, isThere = pair < pairs;
        pair = min(pair, pairs - 1);
        Val row = item.start + pair / traits.group;
        Val queryHead = head * traits.group + pair % traits.group;
        Val bytes = as(row, 64) * Val(k, k.stride(parameters.queryRow, 2)) +
                    as(queryHead * (traits.keyChannels * 2) + chunk * 16, 64);
        Val place = (chunk & 7) ^ (column & 7);
        Val to = (chunk >> 3) * (shape.kColumns * PromptShape::kRowBytes) +
                 column * PromptShape::kRowBytes + place * 16 +
                 shape.queryOffset;
        w.cpAsync(isThere, at(shared, to),
                  at(k.parameter(parameters.query), bytes), 16);
        return {};
      });
  w.cpAsyncWaitAll();
  w.fenceProxyAsync();
  w.mbarrierArrive(barrier(Barrier::QueryFull));
}

/// As the table has it, for the box of a lane.
Val PromptKernel::entryOf(const Work &now, Val unit) {
  Val key = unit * shape.kUnit + lane * shape.boxTokens;
  Val isThere = (lane < shape.boxes()) & (key < now.item.length);
  return tableEntry(now.item.request, key / traits.tokens, isThere);
}

void PromptKernel::fetchTiles(unsigned side, const Work &now, Val first,
                              Val end, Vals &ring) {
  Val policy = w.createPolicyEvictLast();
  Value map = k.parameter(parameters.sides[side].map);
  Vals last = k.rolledForLoop(
      first, end, k.i32(1), {ring[0], ring[1], entryOf(now, first)},
      [&](Val unit, const Vals &state) -> Vals {
        Val slot = state[0], parity = state[1];
        Val ahead = entryOf(now, unit + 1);
        Val key = unit * shape.kUnit + lane * shape.boxTokens;
        Val isBox = lane < shape.boxes();
        Val isThere = isBox & (key < now.item.length);
        // What no block has is outside of the map, and comes as zeros.
        Val entry = as(blockOf(state[2], isThere), 32);
        Val dead = w.voteBallot(isThere & (entry < 0));
        Val token = key % traits.tokens;
        w.mbarrierWait(barrier(Barrier::Empty, slot), parity);
        Value full = barrier(Barrier::Full, slot);
        k.ifThen(lane == 0, [&] {
          if (side == 0)
            k.storeScalar(dead, at(shared, slot * 4 + shape.deadOffset));
          w.mbarrierArriveExpectTx(
              full, k.i32(shape.kUnit * 2 * shape.channels[side]));
        });
        w.syncWarp();
        k.ifThen(isBox, [&] {
          Val zero = k.i32(0);
          Val to = slot * shape.slotBytes +
                   lane * (shape.boxTokens / 8 * shape.groupStride(side));
          if (shape.neighbor[side] == HeadNeighbor::None) {
            for (int64_t part = 0; part < shape.parts(side); ++part)
              w.tmaLoad(at(shared, to + part * shape.partStride(side)), map,
                        {zero, token, k.i32(part), head, entry}, full, policy);
            return;
          }
          Val part = zero, group = token >> 3;
          if (shape.neighbor[side] == HeadNeighbor::Channels)
            part = head * shape.parts(side);
          else
            group = group + head * (traits.tokens / 8);
          w.tmaLoad(at(shared, to), map, {zero, zero, part, group, entry}, full,
                    policy);
        });
        // Past the slot of the other side.
        step(slot, parity, shape.slots);
        step(slot, parity, shape.slots);
        return {slot, parity, ahead};
      });
  ring = {last[0], last[1]};
}
