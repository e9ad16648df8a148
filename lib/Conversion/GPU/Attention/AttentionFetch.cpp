// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Producers: tiles of keys and values, in turn, into the slots of the ring.
//
// A unit in a slot is [part of the channels][token][channels of the part], with
// the 16-byte chunks of a token permuted by the token: fragments are then read
// without conflicts. A tensor map permutes alike.
//
//===----------------------------------------------------------------------===//

#include "AttentionKernel.h"

using namespace mlir;
using namespace kvcache;

/// Tiles of a block, up to which it looks for parts without being told.
static constexpr int64_t kShortTiles = 3;

void AttentionKernel::step(Num &slot, Num &parity, int64_t slots) {
  Num next = slot + 1;
  Num wraps = next == slots;
  slot = select(wraps, w.i32(0), next);
  parity = select(wraps, parity ^ 1, parity);
}

/// The table is needed next: a small one is on its way when lengths are known,
/// a line for each lane of the launch.
void AttentionKernel::prefetchTable() {
  int64_t bytes = batch.table.type.getIntOrFloatBitWidth() / 8;
  Num all = as(requests, 64) * w.parameter(batch.rowStride) * bytes;
  Num place = Num(k, k.widen((w.number(k.blockX()) * 32 + lane) * 128));
  w.when((warp == shape.warps) & (place < all),
         [&] { w.prefetch(at(k.parameter(batch.table.pointer), place)); });
}

/// As the table has it: who looks at it waits for it.
Num AttentionKernel::tableEntry(Num request, Num index, Num isThere) {
  Num at = as(request, 64) * w.parameter(batch.rowStride) + as(index, 64);
  return {k, k.loadRawEntryIf(isThere, k.parameter(batch.table.pointer), at,
                              batch.table.type)};
}

/// Numbers that no block has become -1.
Num AttentionKernel::blockOf(Num entry, Num isThere) {
  if (entry.type().getIntOrFloatBitWidth() < 64)
    entry = as(entry, 64);
  Num isBlock = isThere & isBelow(entry, w.parameter(parameters.blocks));
  return select(isBlock, entry, w.i64(-1));
}

void AttentionKernel::produce() {
  // Loads are under way while the barriers are made.
  Nums loaded = loadRequests(w.i32(0));
  prefetchTable();
  if (shape.boxes)
    for (const AttentionSide &side : parameters.sides)
      w.prefetchMap(k.parameter(side.map));
  // Where it has nothing to do, its code is jumped over in that time.
  Later later = measureLater();
  k.barrier();
  share(loaded, later);
  Nums first = firstWork();
  // The turns of heads, all with the same range of keys.
  Nums queue = {w.i32(0), w.i32(1)};
  Nums state = {head, w.i32(0), w.i32(1)};
  llvm::append_range(state, queue);
  Nums end = w.loopWhile(
      state,
      [&](const Nums &state) -> Warp::Tested {
        return {hasWork & (state[0] < traits.heads), state};
      },
      [&](const Nums &state) -> Nums {
        head = state[0];
        Nums rings(state.begin() + 1, state.end());
        Nums last = w.loopWhile(
            join(first, rings),
            [&](const Nums &state) -> Warp::Tested {
              Work now = work(state);
              Nums ring = {state[kWork], state[kWork + 1]};
              Num place = state[kWork + 2], parity = state[kWork + 3];
              Num count = min(now.left, chunks(now.item) - now.done);
              Num from = now.item.first + (now.done << chunkBits);
              Num end = min(from + (count << chunkBits),
                            now.item.first + now.item.units);
              Num entries = entriesOf(now, from, end);
              // While the entries are on their way.
              publish(now, from, end - from, place, parity);
              if (shape.boxes)
                fetchBoxes(now, from, end, entries, ring);
              else
                fetchRows(now, from, end, entries, ring);
              publishSplit(now, count, place);
              step(place, parity, shape.kQueue);
              Num more = advance(now, count);
              return {more, join(flat(now), ring, Nums{place, parity})};
            },
            [&](const Nums &state) { return state; });
        return join(Nums{head + headStep},
                    Nums(last.begin() + kWork, last.end()));
      });
  Nums place(end.begin() + 3, end.end());
  publishEnd(place);
}

void AttentionKernel::publish(const Work &now, Num first, Num count, Num place,
                              Num parity) {
  w.when(warp == shape.warps, [&] {
    const Item &item = now.item;
    w.wait(queueBarrier(place, QueueBarrier::Empty), parity, shape.hasTryWait);
    fetchQuery(item, place);
    w.when(lane == 0, [&] {
      Value at =
          this->at(shared, place * shape.kEntryBytes + shape.queueOffset);
      w.storeWords({count, first, item.tile, item.start, item.end, item.length,
                    head, block},
                   at);
    });
    Value full = queueBarrier(place, QueueBarrier::Full);
    w.arriveAfterCopies(full);
    release(full);
  });
}

void AttentionKernel::publishSplit(const Work &now, Num count, Num place) {
  w.when((warp == shape.warps) & (lane == 0), [&] {
    const Item &item = now.item;
    Num isSplit = (now.done > 0) | (now.done + count < chunks(item));
    Nums parts = w.when(
        isSplit, SmallVector<Type>(kSplit, k.builder.getI32Type()),
        [&]() -> Nums {
          Num behind = item.before + chunks(item);
          Num firstBlock = owner(item.before), lastBlock = owner(behind - 1);
          // The item is the first one of its first block, or not.
          Num isLater = item.before != rangeStart(firstBlock);
          Num parts = lastBlock - firstBlock + 1;
          // Blocks whose last item it is have time for the combine.
          Num endsRange = behind == rangeStart(lastBlock + 1);
          Num readers = select(endsRange, parts, parts - 1);
          Num isShort = (rangeChunks << chunkBits) < kShortTiles * shape.warps;
          return {w.i32(1), firstBlock,
                  parts,    select(isLater, w.i32(1), w.i32(0)),
                  readers,  select(isShort, w.i32(1), w.i32(0))};
        },
        [&]() -> Nums {
          return {w.i32(0), block, w.i32(1), w.i32(0), w.i32(0), w.i32(0)};
        });
    Value at = this->at(shared, place * shape.kEntryBytes +
                                    (shape.queueOffset + 4 * kEntry));
    w.storeWords(parts, at);
    w.arrive(queueBarrier(place, QueueBarrier::Split));
  });
}

void AttentionKernel::publishEnd(Nums &queue) {
  Num place = queue[0];
  w.when(warp == shape.warps, [&] {
    w.wait(queueBarrier(place, QueueBarrier::Empty), queue[1],
           shape.hasTryWait);
    w.when(lane == 0, [&] {
      Value at =
          this->at(shared, place * shape.kEntryBytes + shape.queueOffset);
      w.storeWords({w.i32(0)}, at);
    });
    Value full = queueBarrier(place, QueueBarrier::Full);
    w.arriveAfterCopies(full);
    release(full);
  });
}

void AttentionKernel::fetchQuery(const Item &item, Num place) {
  Num pairs = (item.end - item.start) * traits.group;
  Num from = item.tile * shape.columns();
  int64_t chunks = shape.channels[0] / 8, given = traits.keyChannels / 8;
  Num target = place * shape.queryBytes() + shape.queryOffset;
  int64_t all = shape.columns() * chunks;
  for (int64_t i = 0; i < all; i += 32) {
    Num index = lane + i;
    auto copy = [&] {
      Num column = index / chunks, chunk = index % chunks;
      Num pair = from + column;
      Num isThere = pair < pairs;
      pair = min(pair, pairs - 1);
      if (given < chunks) {
        isThere = isThere & (chunk < given);
        chunk = min(chunk, given - 1);
      }
      Num row = item.start + pair / traits.group;
      Num queryHead = head * traits.group + pair % traits.group;
      Num bytes = as(row, 64) * Num(k, k.stride(parameters.queryRow, 2)) +
                  as(queryHead * (traits.keyChannels * 2) + chunk * 16, 64);
      Value source = at(k.parameter(parameters.query), bytes);
      Value to = at(shared, target + column * shape.queryRowBytes() +
                                index % chunks * 16);
      if (parameters.queryAlign >= 16)
        return w.copyIf(isThere, to, source, 16);
      SmallVector<Value> pieces;
      for (int64_t e = 0; e < 8; ++e)
        pieces.push_back(k.loadIf(isThere, at(source, 2 * e), 2));
      k.store(k.join(pieces, 2), to, 16);
    };
    if (i + 32 <= all)
      copy();
    else
      w.when(index < all, copy);
  }
}

Num AttentionKernel::entriesOf(const Work &now, Num unit, Num end) {
  Num request = now.item.request;
  if (shape.boxes) {
    Num mine = unit + lane;
    int64_t perBlock = traits.tokens / shape.kUnit;
    return tableEntry(request, mine / perBlock, mine < end);
  }
  Num key = unit * shape.kUnit + (warp - shape.warps) * 32 + lane;
  return tableEntry(request, key / traits.tokens, key < endKeyOf(now, end));
}

Num AttentionKernel::endKeyOf(const Work &now, Num end) {
  return min(end * shape.kUnit, now.item.length);
}

void AttentionKernel::fetchBoxes(const Work &now, Num first, Num end,
                                 Num entries, Nums &ring) {
  // What is shared is read again; all else is not.
  Num policy = select(isShared, w.evictLast(), w.evictFirst());
  int64_t perBlock = traits.tokens / shape.kUnit;
  Nums next = w.loop(
      first, end, w.i32(shape.warps), {ring[0], ring[1], entries},
      [&](Num unit, const Nums &state) -> Nums {
        Num slot = state[0], parity = state[1];
        Num ahead = entriesOf(now, unit + shape.warps, end);
        Num count = min(end - unit, shape.warps);
        Num entry = as(blockOf(state[2], lane < count), 32);
        Num token = (unit + lane) % perBlock * shape.kUnit;
        for (unsigned side : {0u, 1u}) {
          w.wait(emptyBarrier(slot), parity, shape.hasTryWait);
          Value full = fullBarrier(slot);
          if (side == 0) {
            Value live =
                at(shared, (slot * shape.warps + lane) * 4 + shape.liveOffset);
            w.when(lane < count, [&] {
              k.storeScalar(select(entry >= 0, w.i32(0xffff), w.i32(0)), live);
            });
            w.sync();
          }
          w.when(lane == 0, [&] {
            w.arriveExpecting(full, count * shape.unitBytes(side));
          });
          // The expectation is there before a copy can end.
          w.sync();
          w.when(lane < count, [&] {
            Num to = slot * shape.slotBytes() + lane * shape.unitBytes(side);
            Num zero = w.i32(0);
            w.copyBox(at(shared, to), k.parameter(parameters.sides[side].map),
                      {zero, token, zero, head, entry}, full, policy);
          });
          step(slot, parity, shape.slots);
        }
        return {slot, parity, ahead};
      });
  ring = {next[0], next[1]};
}

Num AttentionKernel::axisBytes(const AxisStrides &axis, Num index) {
  Num outer(k, k.stride(axis.outer, 2));
  if (!axis.cut)
    return as(index, 64) * outer;
  Num inner(k, k.stride(axis.inner, 2));
  return as(index / axis.cut, 64) * outer + as(index % axis.cut, 64) * inner;
}

void AttentionKernel::fetchRows(const Work &now, Num first, Num end,
                                Num entries, Nums &ring) {
  // A lane has a token of the tile, and works out where it is; then the warp
  // copies the tokens of its lanes, chunk by chunk.
  Num number = warp - shape.warps;
  Num own = number * 32 + lane;
  auto keyOf = [&](Num unit) { return unit * shape.kUnit + own; };
  Nums next =
      w.loop(first, end, w.i32(shape.warps), {ring[0], ring[1], entries},
             [&](Num unit, const Nums &state) -> Nums {
               Num slot = state[0], parity = state[1];
               Num ahead = entriesOf(now, unit + shape.warps, end);
               Num entry = blockOf(state[2], keyOf(unit) < endKeyOf(now, end));
               Num isThere = entry >= w.i64(0);
               Num inBlock = as(keyOf(unit) % traits.tokens, 64);
               Num there = w.ballot(isThere);
               for (unsigned side : {0u, 1u}) {
                 const AttentionSide &from = parameters.sides[side];
                 w.wait(emptyBarrier(slot), parity, shape.hasTryWait);
                 Value full = fullBarrier(slot);
                 if (side == 0) {
                   // Two units of a tile are in 32 tokens.
                   Value live =
                       at(shared, (slot * shape.warps + number * 2 + lane) * 4 +
                                      shape.liveOffset);
                   w.when(lane < 2, [&] {
                     k.storeScalar((there >> (lane * 16)) & 0xffff, live);
                   });
                 }
                 Num bytes = entry * Num(k, k.stride(from.block, 2)) +
                             inBlock * Num(k, k.stride(from.token, 2));
                 bytes = select(isThere, bytes, w.i64(0));
                 Value base =
                     at(k.parameter(from.pointer), axisBytes(from.head, head));
                 copyTokens(side, slot, base, bytes, there);
                 w.arriveAfterCopies(full);
                 release(full);
                 step(slot, parity, shape.slots);
               }
               return {slot, parity, ahead};
             });
  ring = {next[0], next[1]};
}

void AttentionKernel::copyTokens(unsigned side, Num slot, Value base, Num bytes,
                                 Num there) {
  const AttentionSide &from = parameters.sides[side];
  int64_t chunks = shape.channels[side] / 8, inner = shape.inner[side] / 8;
  int64_t given = (side ? traits.valueChannels : traits.keyChannels) / 8;
  int64_t turn = inner == 8 ? 0 : inner == 4 ? 1 : 2;
  Num number = warp - shape.warps;
  Num unitBase =
      slot * shape.slotBytes() + number * (2 * shape.unitBytes(side));
  // One chunk of a lane: where it is, where it goes, and whether it exists.
  struct Chunk {
    Value from, to;
    Num isThere, first;
  };
  auto chunkOf = [&](Num index) {
    Num token = index / chunks, chunk = index % chunks;
    Num source = w.fromLane(bytes, token);
    Num inUnit = token & 15;
    Num place = chunk % inner;
    if (inner > 1)
      place = place ^ ((inUnit >> turn) & (inner - 1));
    Num to = unitBase + (token >> 4) * shape.unitBytes(side) +
             chunk / inner * (shape.kUnit * inner * 16) +
             inUnit * (inner * 16) + place * 16;
    Num isThere = ((there >> token) & 1) != 0;
    if (given < chunks)
      isThere = isThere & (chunk < given);
    // What does not exist is not addressed.
    Num channel = (given < chunks ? min(chunk, given - 1) : chunk) * 8;
    return Chunk{at(base, source + axisBytes(from.channel, channel)),
                 at(shared, to), isThere, channel};
  };
  int64_t turns = chunks; // 32 tokens of `chunks` chunks, 32 at a time
  auto copyWide = [&] {
    for (int64_t i = 0; i < turns; ++i) {
      Chunk c = chunkOf(lane + i * 32);
      w.copyIf(c.isThere, c.to, c.from, 16);
    }
  };
  if (from.isWide)
    return copyWide();
  Num width = w.parameter(from.width);
  w.when(width == w.i64(16), copyWide, [&] {
    w.when(
        width == w.i64(4),
        [&] {
          w.loop(w.i32(0), w.i32(turns), w.i32(1), {},
                 [&](Num i, const Nums &) -> Nums {
                   Chunk c = chunkOf(lane + i * 32);
                   for (int64_t word = 0; word < 4; ++word)
                     w.copyIf(c.isThere, at(c.to, 4 * word),
                              at(c.from, 4 * word), 4);
                   return {};
                 });
        },
        [&] {
          w.loop(w.i32(0), w.i32(turns), w.i32(1), {},
                 [&](Num i, const Nums &) -> Nums {
                   Chunk c = chunkOf(lane + i * 32);
                   SmallVector<Value> pieces;
                   Num start = axisBytes(from.channel, c.first);
                   for (int64_t e = 0; e < 8; ++e) {
                     Num step = axisBytes(from.channel, c.first + e) - start;
                     pieces.push_back(k.loadIf(c.isThere, at(c.from, step), 2));
                   }
                   k.store(k.join(pieces, 2), c.to, 16);
                   return {};
                 });
        });
  });
}
