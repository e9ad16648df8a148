// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Producers: tiles of keys and values, in turn, into the slots of the ring.
//
//===----------------------------------------------------------------------===//

#include "AttentionKernel.h"

using namespace mlir;
using namespace kvcache;

/// Tiles of a block, up to which it looks for parts without being told.
static constexpr int64_t kShortTiles = 3;

void AttentionKernel::produce() {
  Vals first = findWork(shape.boxes);
  // The turns of heads, all with the same range of keys.
  Vals queue = {k.i32(0), k.i32(1)};
  Vals state = {head, k.i32(0), k.i32(1)};
  llvm::append_range(state, queue);
  Vals end = k.whileLoop(
      state,
      [&](const Vals &state) -> CodeBuilder::Tested {
        return {hasWork & (state[0] < traits.heads), state};
      },
      [&](const Vals &state) -> Vals {
        head = state[0];
        Vals rings(state.begin() + 1, state.end());
        Vals last = k.whileLoop(
            join(first, rings),
            [&](const Vals &state) -> CodeBuilder::Tested {
              Work now = work(state);
              Vals ring = {state[workSize()], state[workSize() + 1]};
              Val place = state[workSize() + 2], parity = state[workSize() + 3];
              Val count = ownChunks(now);
              Val from = now.item.first + (now.done << chunkBits);
              Val end = min(from + (count << chunkBits),
                            now.item.first + now.item.units);
              Val entries = entriesOf(now, from, end);
              // While the entries are on their way.
              publish(now, from, end - from, place, parity);
              // Consumers need to know of fixed parts when the first one ends.
              if (shape.fixedParts)
                publishSplit(now, count, place);
              if (shape.boxes)
                fetchBoxes(now, from, end, entries, ring);
              else
                fetchRows(now, from, end, entries, ring);
              if (!shape.fixedParts)
                publishSplit(now, count, place);
              step(place, parity, shape.kQueue);
              Val more;
              if (shape.fixedParts) {
                more = advance(now, chunks(now.item) - now.done);
                more = more & (ownChunks(now) > 0);
              } else {
                more = advance(now, count);
              }
              return {more, join(flat(now), ring, Vals{place, parity})};
            },
            [&](const Vals &state) { return state; });
        return join(Vals{head + headStep},
                    Vals(last.begin() + workSize(), last.end()));
      });
  Vals place(end.begin() + 3, end.end());
  publishEnd(place);
}

void AttentionKernel::publish(const Work &now, Val first, Val count, Val place,
                              Val parity) {
  k.ifThen(warp == shape.warps, [&] {
    const Item &item = now.item;
    w.mbarrierWait(queueBarrier(place, QueueBarrier::Empty), parity);
    fetchQuery(item, place);
    k.ifThen(lane == 0, [&] {
      Value at =
          this->at(shared, place * shape.kEntryBytes + shape.queueOffset);
      w.stSharedWords({count, first, item.tile, item.start, item.end,
                       item.length, head, block},
                      at);
    });
    Value full = queueBarrier(place, QueueBarrier::Full);
    w.cpAsyncMbarrierArrive(full);
    release(full);
  });
}

void AttentionKernel::publishSplit(const Work &now, Val count, Val place) {
  k.ifThen((warp == shape.warps) & (lane == 0), [&] {
    int64_t shortUnits = kShortTiles * shape.warps;
    Vals parts = shape.fixedParts ? fixedSplitOf(now, count, shortUnits)
                                  : splitOf(now, count, shortUnits);
    Value at = this->at(shared, place * shape.kEntryBytes +
                                    (shape.queueOffset + 4 * kEntry));
    w.stSharedWords(parts, at);
    w.mbarrierArrive(queueBarrier(place, QueueBarrier::Split));
  });
}

void AttentionKernel::publishEnd(Vals &queue) {
  Val place = queue[0];
  k.ifThen(warp == shape.warps, [&] {
    w.mbarrierWait(queueBarrier(place, QueueBarrier::Empty), queue[1]);
    k.ifThen(lane == 0, [&] {
      Value at =
          this->at(shared, place * shape.kEntryBytes + shape.queueOffset);
      w.stSharedWords({k.i32(0)}, at);
    });
    Value full = queueBarrier(place, QueueBarrier::Full);
    w.cpAsyncMbarrierArrive(full);
    release(full);
  });
}

void AttentionKernel::fetchQuery(const Item &item, Val place) {
  Val pairs = (item.end - item.start) * traits.group;
  Val from = item.tile * shape.columns();
  int64_t chunks = shape.channels[0] / 8;
  Val target = place * shape.queryBytes() + shape.queryOffset;
  int64_t all = shape.columns() * chunks;
  for (int64_t i = 0; i < all; i += 32) {
    Val index = lane + i;
    auto copy = [&] {
      Val column = index / chunks, chunk = index % chunks;
      copyQuery(
          item.start, pairs, from + column, chunk, chunks,
          at(shared, target + column * shape.queryRowBytes() + chunk * 16));
    };
    if (i + 32 <= all)
      copy();
    else
      k.ifThen(index < all, copy);
  }
}

Val AttentionKernel::entriesOf(const Work &now, Val unit, Val end) {
  Val request = now.item.request;
  if (shape.boxes) {
    Val mine = unit + lane;
    int64_t perBlock = traits.tokens / shape.kUnit;
    return tableEntry(request, mine / perBlock, mine < end);
  }
  Val key = unit * shape.kUnit + (warp - shape.warps) * 32 + lane;
  return tableEntry(request, key / traits.tokens, key < endKeyOf(now, end));
}

Val AttentionKernel::endKeyOf(const Work &now, Val end) {
  return min(end * shape.kUnit, now.item.length);
}

void AttentionKernel::fetchBoxes(const Work &now, Val first, Val end,
                                 Val entries, Vals &ring) {
  // What is shared is read again; all else is not.
  Val policy =
      select(isShared, w.createPolicyEvictLast(), w.createPolicyEvictFirst());
  int64_t perBlock = traits.tokens / shape.kUnit;
  Vals next = k.rolledForLoop(
      first, end, k.i32(shape.warps), {ring[0], ring[1], entries},
      [&](Val unit, const Vals &state) -> Vals {
        Val slot = state[0], parity = state[1];
        Val ahead = entriesOf(now, unit + shape.warps, end);
        Val count = min(end - unit, shape.warps);
        Val entry = as(blockOf(state[2], lane < count), 32);
        Val token = (unit + lane) % perBlock * shape.kUnit;
        for (unsigned side : {0u, 1u}) {
          w.mbarrierWait(emptyBarrier(slot), parity);
          Value full = fullBarrier(slot);
          if (side == 0) {
            Value live =
                at(shared, (slot * shape.warps + lane) * 4 + shape.liveOffset);
            k.ifThen(lane < count, [&] {
              k.storeScalar(select(entry >= 0, k.i32(0xffff), k.i32(0)), live);
            });
            w.syncWarp();
          }
          if (shape.hasScales) {
            for (int64_t i = 0; side == 0 && i < shape.warps * 16; i += 32) {
              Val number = lane + i, ofUnit = number >> 4;
              Val block = w.shflIdx(entry, ofUnit);
              Val inBlock = (unit + ofUnit) % perBlock * shape.kUnit;
              fetchScales(slot, number, (ofUnit < count) & (block >= 0),
                          as(block, 64), as(inBlock + (number & 15), 64));
            }
            w.cpAsyncMbarrierArrive(full);
          }
          k.ifThen(lane == 0, [&] {
            w.mbarrierArriveExpectTx(full, count * shape.unitBytes(side));
          });
          // The expectation is there before a copy can end.
          w.syncWarp();
          k.ifThen(lane < count, [&] {
            Val to = slot * shape.slotBytes() + lane * shape.unitBytes(side);
            Val zero = k.i32(0);
            w.tmaLoad(at(shared, to), k.parameter(parameters.sides[side].map),
                      {zero, token, zero, head, entry}, full, policy);
          });
          step(slot, parity, shape.slots);
        }
        return {slot, parity, ahead};
      });
  ring = {next[0], next[1]};
}

void AttentionKernel::fetchRows(const Work &now, Val first, Val end,
                                Val entries, Vals &ring) {
  // A lane has a token of the tile, and works out where it is; then the warp
  // copies the tokens of its lanes, chunk by chunk.
  Val number = warp - shape.warps;
  Val own = number * 32 + lane;
  auto keyOf = [&](Val unit) { return unit * shape.kUnit + own; };
  Vals next = k.rolledForLoop(
      first, end, k.i32(shape.warps), {ring[0], ring[1], entries},
      [&](Val unit, const Vals &state) -> Vals {
        Val slot = state[0], parity = state[1];
        Val ahead = entriesOf(now, unit + shape.warps, end);
        Val entry = blockOf(state[2], keyOf(unit) < endKeyOf(now, end));
        Val isThere = entry >= k.i64(0);
        Val inBlock = as(keyOf(unit) % traits.tokens, 64);
        Val there = w.voteBallot(isThere);
        for (unsigned side : {0u, 1u}) {
          const AttentionSide &from = parameters.sides[side];
          w.mbarrierWait(emptyBarrier(slot), parity);
          Value full = fullBarrier(slot);
          if (side == 0) {
            // Two units of a tile are in 32 tokens.
            Value live =
                at(shared, (slot * shape.warps + number * 2 + lane) * 4 +
                               shape.liveOffset);
            k.ifThen(lane < 2, [&] {
              k.storeScalar((there >> (lane * 16)) & 0xffff, live);
            });
            if (shape.hasScales)
              fetchScales(slot, own, isThere, entry, inBlock);
          }
          Val bytes =
              entry * Val(k, k.stride(from.block, shape.elementBytes)) +
              inBlock * Val(k, k.stride(from.token, shape.elementBytes));
          bytes = select(isThere, bytes, k.i64(0));
          Value base = at(k.parameter(from.pointer),
                          axisBytes(from.head, head, shape.elementBytes));
          Val units =
              slot * shape.slotBytes() + number * (2 * shape.unitBytes(side));
          copyTokens(side, shape.unitRows(side), units, base, bytes, there);
          w.cpAsyncMbarrierArrive(full);
          release(full);
          step(slot, parity, shape.slots);
        }
        return {slot, parity, ahead};
      });
  ring = {next[0], next[1]};
}

void AttentionKernel::fetchScales(Val slot, Val number, Val isThere, Val entry,
                                  Val inBlock) {
  for (unsigned side : {0u, 1u}) {
    const std::optional<AttentionScales> &from = parameters.sides[side].scales;
    if (!from)
      continue;
    Val bytes = entry * Val(k, k.stride(from->block, 4)) +
                inBlock * Val(k, k.stride(from->token, 4)) +
                axisBytes(from->head, head, 4);
    bytes = select(isThere, bytes, k.i64(0));
    Val to = slot * shape.scaleBytes() + number * 4 +
             (shape.scaleOffset + side * shape.sideScaleBytes());
    w.cpAsync(isThere, at(shared, to), at(k.parameter(from->pointer), bytes),
              4);
  }
}
