// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The shape, the producer, and segments of consumers.
//
//===----------------------------------------------------------------------===//

#include "WarpKernel.h"

#include "kvcache/Layout/Access.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

WarpShape::WarpShape(const AttentionTraits &traits, int64_t sharedLimit)
    : rowTiles(llvm::alignTo(traits.valueChannels, 16) <= 128 ? 2 : 1) {
  for (unsigned side : {0u, 1u}) {
    int64_t channels =
        llvm::alignTo(side ? traits.valueChannels : traits.keyChannels, 16);
    rows[side] = {2, channels, innerChannels(channels, 2)};
  }
  // More keys of a tile are more products for each fragment of the query, but
  // keys and values of two tiles are to be in slots. With many channels 32 are
  // nearly as good: the producer has no registers for the addresses of more.
  constexpr int64_t kEnough = 4;
  unit = rowTiles == 1 ? 32 : 64;
  place(traits, sharedLimit);
  while (slots < kEnough && unit > 32) {
    unit /= 2;
    place(traits, sharedLimit);
  }
}

void WarpShape::place(const AttentionTraits &traits, int64_t sharedLimit) {
  constexpr int64_t kMostSlots = 8;
  slotBytes =
      unit / UnitRows::kTokens * std::max(rows[0].bytes(), rows[1].bytes());
  auto layOut = [&](int64_t count) {
    slots = count;
    int64_t end = slots * slotBytes;
    auto add = [&](int64_t bytes) {
      int64_t offset = end;
      end += llvm::alignTo(bytes, 16);
      return offset;
    };
    queryOffset = add(queryBytes());
    queueOffset = add(kQueue * kEntryBytes);
    restOffset = add(48);
    rangesOffset = add(kConsumers * kRangesBytes);
    rowsOffset = add(columns() * kRowBytes);
    biasOffset = add(traits.hasAlibi ? columns() * kBiasBytes : 0);
    barrierOffset = add(8 * (2 * slots + 2 * kQueue));
    liveOffset = add(kLiveBytes * slots);
    return sharedBytes = end;
  };
  int64_t count = kMostSlots;
  while (layOut(count) > sharedLimit && count > 0)
    --count;
}

Value WarpKernel::barrier(Barrier which, Val place) {
  int64_t first[] = {0, shape.slots, 2 * shape.slots,
                     2 * shape.slots + shape.kQueue};
  return at(shared, place * 8 + (shape.barrierOffset + 8 * first[int(which)]));
}

Val WarpKernel::next(Val packed) {
  Val next = packed + 1;
  return select(slotOf(next) == shape.slots, (packed & 16) ^ 16, next);
}
void WarpKernel::wait(Barrier which, Val packed) {
  w.mbarrierWait(barrier(which, slotOf(packed)), packed >> 4);
}

void WarpKernel::prepareBarriers() {
  auto init = [&](Barrier which, int64_t count, int64_t arrivals) {
    k.ifThen(thread < count,
             [&] { w.mbarrierInit(barrier(which, thread), arrivals); });
  };
  // The copies of each lane, and that all of them have been asked for.
  init(Barrier::Full, shape.slots, 33);
  init(Barrier::Empty, shape.slots, shape.kConsumers);
  init(Barrier::EntryFull, shape.kQueue, 1);
  init(Barrier::EntryEmpty, shape.kQueue, shape.kConsumers);
  w.fenceMbarrierInit();
}

void WarpKernel::build() {
  k.takeMultiprocessor();
  begin();
  k.ifThen(warp >= shape.kConsumers, [&] { produce(); }, [&] { consume(); });
}

//===----------------------------------------------------------------------===//
// The producer
//===----------------------------------------------------------------------===//

void WarpKernel::produce() {
  Vals first = findWork(/*hasMaps=*/false);
  // Carried: the work, the place in the ring, which is free at first, and the
  // number of the segment.
  Vals state = {k.i32(16), k.i32(0)};
  SmallVector<Type> types(state.size(), k.getI32Type());
  Vals end = k.ifThen(
      hasWork, types,
      [&]() -> Vals {
        Vals last = k.whileLoop(
            join(first, state),
            [&](const Vals &state) -> CodeBuilder::Tested {
              Work now = work(state);
              Vals carried(state.begin() + workSize(), state.end());
              Val count = ownChunks(now);
              Val from = unitOf(now.item, now.done);
              Val end = unitOf(now.item, now.done + count);
              Vals next = k.ifThen(
                  end > now.item.first, types,
                  [&]() -> Vals {
                    Val segment = carried[1];
                    publish(segment, [&]() -> Vals {
                      const Item &item = now.item;
                      return join(Vals{end - from, from, item.tile, item.start,
                                       item.end, item.length, item.head, block},
                                  splitOf(now, count, 0));
                    });
                    return {fetchTiles(now, from, end, carried[0]),
                            segment + 1};
                  },
                  [&]() -> Vals { return carried; });
              Val more = advance(now, chunks(now.item) - now.done);
              return {more, join(flat(now), next)};
            },
            [&](const Vals &state) { return state; });
        return Vals(last.begin() + workSize(), last.end());
      },
      [&]() -> Vals { return state; });
  publish(end[1], [&]() -> Vals { return {k.i32(-1)}; });
}

Value WarpKernel::entryAt(Val segment) {
  static_assert(WarpShape::kQueue == 2, "the place is its last bit");
  return at(shared, (segment & 1) * shape.kEntryBytes + shape.queueOffset);
}

/// Consumers are told of a segment, or of the end, as soon as its place is
/// free.
void WarpKernel::publish(Val segment, function_ref<Vals()> words) {
  Val place = segment & 1;
  w.mbarrierWait(barrier(Barrier::EntryEmpty, place), ((segment >> 1) & 1) ^ 1);
  k.ifThen(lane == 0, [&] {
    w.stSharedWords(words(), entryAt(segment));
    w.mbarrierArrive(barrier(Barrier::EntryFull, place));
  });
}

/// A lane has a token of each 32, and works out where it is; then the warp
/// copies the tokens of its lanes, chunk by chunk.
Val WarpKernel::fetchTiles(const Work &now, Val first, Val end, Val packed) {
  Val endKey = min(end * shape.unit, now.item.length);
  auto keyOf = [&](Val unit, int64_t word) {
    return unit * shape.unit + lane + 32 * word;
  };
  auto entriesOf = [&](Val unit) {
    Vals entries;
    for (int64_t word = 0; word < shape.words(); ++word) {
      Val key = keyOf(unit, word);
      entries.push_back(
          tableEntry(now.item.request, key / traits.tokens, key < endKey));
    }
    return entries;
  };
  Vals last = k.rolledForLoop(
      first, end, k.i32(1), join(Vals{packed}, entriesOf(first)),
      [&](Val unit, const Vals &state) -> Vals {
        Val packed = state[0];
        Vals ahead = entriesOf(unit + 1);
        Vals entries, inBlock, there;
        for (int64_t word = 0; word < shape.words(); ++word) {
          Val key = keyOf(unit, word);
          entries.push_back(blockOf(state[1 + word], key < endKey));
          inBlock.push_back(as(key % traits.tokens, 64));
          there.push_back(w.voteBallot(entries[word] >= k.i64(0)));
        }
        for (unsigned side : {0u, 1u}) {
          const AttentionSide &from = parameters.sides[side];
          const UnitRows &rows = shape.rows[side];
          Val slot = slotOf(packed);
          wait(Barrier::Empty, packed);
          if (side == 0)
            k.ifThen(lane == 0, [&] { w.stSharedWords(there, liveAt(slot)); });
          Value base = at(k.parameter(from.pointer),
                          axisBytes(from.head, now.item.head, 2));
          for (int64_t word = 0; word < shape.words(); ++word) {
            // Otherwise ptxas has so many addresses ready that it spills some.
            if (word)
              w.scheduleFence(packed, kRingEnd);
            Val bytes = entries[word] * Val(k, k.stride(from.block, 2)) +
                        inBlock[word] * Val(k, k.stride(from.token, 2));
            bytes = select(entries[word] >= k.i64(0), bytes, k.i64(0));
            copyTokens(side, rows,
                       slot * shape.slotBytes + word * (2 * rows.bytes()), base,
                       bytes, there[word]);
          }
          Value full = barrier(Barrier::Full, slot);
          w.cpAsyncMbarrierArrive(full);
          release(full);
          packed = next(packed);
        }
        return join(Vals{packed}, ahead);
      });
  return last.front();
}

//===----------------------------------------------------------------------===//
// Segments
//===----------------------------------------------------------------------===//

/// Read again, the numbers of a thread take no registers in the loop over
/// tiles.
void WarpKernel::readThread() {
  thread = w.rereadThreadX();
  lane = thread & 31;
  warp = thread >> 5;
}

WarpKernel::Entry WarpKernel::loadEntry(Val segment) {
  Vals n = w.ldSharedWords(entryAt(segment), kEntry);
  Entry entry{n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], Val()};
  head = entry.head;
  block = entry.block;
  return entry;
}

void WarpKernel::consume() {
  prepareBarriers();
  k.barrier();
  beginLaunch();
  k.ifThen(thread == 0,
           [&] { k.storeScalar(tag, at(restPlace(), kTagPlace)); });
  setWord(kSegmentPlace, k.i32(0));
  // Carried: the place in the ring.
  k.whileLoop(
      {k.i32(0)},
      [&](const Vals &state) -> CodeBuilder::Tested {
        Val segment = wordOf(kSegmentPlace);
        w.mbarrierWait(barrier(Barrier::EntryFull, segment & 1),
                       (segment >> 1) & 1);
        Val count = k.val(k.loadScalar(entryAt(segment), k.getI32Type()));
        return {count >= 0, state};
      },
      [&](const Vals &state) -> Vals {
        readThread();
        Entry now = loadEntry(wordOf(kSegmentPlace));
        writeRows(now);
        fetchQuery(now);
        Vals start = {(now.first << kTileBit) | state[0]};
        start.append(rowsOfLane(), k.f32(kNoMaximum));
        start.append(stateSize() - rowsOfLane(), k.f32(0));
        Vals done = k.whileLoop(
            start,
            [&](const Vals &state) -> CodeBuilder::Tested {
              return {(state[0] >> kTileBit) < wordOf(kEndPlace), state};
            },
            [&](const Vals &state) { return tileStep(state); });
        readThread();
        setWord(kRingPlace, done[0] & (kRingEnd - 1));
        finish(Vals(done.begin() + kLoop, done.end()));
        Val segment = wordOf(kSegmentPlace);
        release(barrier(Barrier::EntryEmpty, segment & 1));
        setWord(kSegmentPlace, segment + 1);
        return {wordOf(kRingPlace)};
      });
  readThread();
  // Only the thread that stored it has a use for it.
  tag = k.val(k.loadScalar(at(restPlace(), kTagPlace), k.getI32Type()));
  Vals rest = w.ldSharedWords(restPlace(), 5);
  Val hasOthers = (rest[0] != 0) | (rest[1] > 0) | (rest[2] < rows);
  k.ifThen(w.unlikely(hasOthers),
           [&] { clearEmptyRows(rest[0], rest[1], rest[2]); });
  endLaunch();
}

/// The rows of this warp.
void WarpKernel::fetchQuery(const Entry &entry) {
  int64_t chunks = shape.rows[0].channels / 8, own = shape.rowsOfWarp();
  Val pairs = pairsOf(entry);
  Val from = entry.tile * shape.columns() + numberOf(warp, k.i32(0));
  Val to = numberOf(warp, k.i32(0)) * shape.queryRowBytes() + shape.queryOffset;
  k.rolledForLoop(
      lane, k.i32(own * chunks), k.i32(32), {},
      [&](Val index, const Vals &) -> Vals {
        Val row = index / chunks, chunk = index % chunks;
        copyQuery(entry.start, pairs, from + row, chunk, chunks,
                  at(shared, to + row * shape.queryRowBytes() + chunk * 16));
        return {};
      });
  w.cpAsyncWaitAll();
  w.syncWarp();
}

/// What each row of this warp sees, and all of them. It is kept in shared
/// memory: in the loop over tiles all registers are taken by sums and scores.
void WarpKernel::writeRows(const Entry &entry) {
  // The segment before is read no more.
  w.syncWarp();
  Val pairs = pairsOf(entry), own = lane & (shape.rowsOfWarp() - 1);
  Val number = numberOf(warp, own);
  Val firstPair = entry.tile * shape.columns() + numberOf(warp, k.i32(0));
  // Those that are not there are as the last.
  Val pair = min(firstPair + own, pairs - 1);
  Val row = entry.start + pair / traits.group;
  Limits seen = limits(row, entry.end, entry.length);
  w.stSharedWords({seen.first, seen.end, row, k.i32(0)}, rowPlace(number));
  if (traits.hasAlibi) {
    Val slope =
        load32(parameters.alibi, head * traits.group + pair % traits.group) *
        float(M_LOG2E);
    Val position =
        k.val(arith::SIToFPOp::create(k, k.getF32Type(), seen.position));
    k.storeScalar(slope, biasPlace(number));
    k.storeScalar(position, at(biasPlace(number), 4));
  }
  Val isSome = seen.first < seen.end;
  Vals range = {select(isSome, seen.first, k.i32(INT32_MAX)),
                select(isSome, seen.end, k.i32(0)), seen.first, seen.end};
  for (int64_t bits : {1, 2, 4, 8, 16})
    for (int64_t i = 0; i < 4; ++i) {
      Val other = w.shflXor(range[i], bits);
      range[i] = i == 0 || i == 3 ? min(range[i], other) : max(range[i], other);
    }
  // A warp without pairs has nothing to do.
  range[1] = select(firstPair < pairs, range[1], k.i32(0));
  if (traits.hasMask)
    range[3] = min(range[3], firstOwnOf(entry));
  k.ifThen(lane == 0, [&] {
    w.stSharedWords(
        join(range, Vals{firstOwnOf(entry), entry.first + entry.count}),
        rangesPlace());
  });
  w.syncWarp();
}

WarpKernel::Ranges WarpKernel::loadRanges() {
  Vals n = w.ldSharedWords(rangesPlace(), traits.hasMask ? 5 : 4);
  return {n[0], n[1], n[2], n[3], traits.hasMask ? n[4] : Val()};
}
