// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "PromptKernel.h"

#include "../Codecs.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

#include <cmath>
#include <numeric>

using namespace mlir;
using namespace kvcache;

/// Where the maximum of a row begins: below all scores, and finite.
static constexpr float kNoMaximum = -1e30f;
/// Sums are rescaled when a maximum has grown by more, to base 2.
static constexpr float kGrowth = 8;
/// Of a thread: four warpgroups of 128 threads share 64 K registers.
static constexpr int64_t kConsumerRegisters = 160, kProducerRegisters = 32;
static constexpr int64_t kRowBytes = 2 * PromptShape::kInner;

//===----------------------------------------------------------------------===//
// Shape
//===----------------------------------------------------------------------===//

bool PromptShape::fits(const AttentionTraits &traits) {
  auto fits = [](int64_t channels) {
    return channels % kInner == 0 && channels <= 128;
  };
  return fits(traits.keyChannels) && fits(traits.valueChannels) &&
         traits.tokens % 8 == 0;
}

PromptShape::PromptShape(const AttentionTraits &traits, int64_t sharedLimit,
                         Boxes keys, Boxes values)
    : channels{traits.keyChannels, traits.valueChannels}, form{keys, values},
      boxTokens(std::gcd(traits.tokens, kUnit)) {
  slotBytes = kUnit * 2 * std::max(channels[0], channels[1]);
  queryBytes = kColumns * 2 * channels[0];
  constexpr int64_t kMostSlots = 8, kFixed = 1024;
  int64_t rowsBytes = kConsumers * 32 * rowBytes(traits);
  slots = std::min(kMostSlots,
                   (sharedLimit - queryBytes - rowsBytes - kFixed) / slotBytes);
  int64_t end = slots * slotBytes;
  auto add = [&](int64_t bytes, int64_t align) {
    int64_t offset = llvm::alignTo(end, align);
    end = offset + bytes;
    return offset;
  };
  queryOffset = add(queryBytes, 1024);
  queueOffset = add(kQueue * kEntryBytes, 16);
  restOffset = add(48, 16);
  rangesOffset = add(kConsumers * 32, 16);
  rowsOffset = add(rowsBytes, 16);
  barrierOffset = add(8 * (2 * slots + 2 * kQueue + 2), 8);
  deadOffset = add(4 * slots, 4);
  flagOffset = add(4 * kWarpgroups, 4);
  sharedBytes = end;
}

//===----------------------------------------------------------------------===//
// The kernel
//===----------------------------------------------------------------------===//

Value PromptKernel::barrier(Barrier which, Val place) {
  int64_t first[] = {0,
                     shape.slots,
                     2 * shape.slots,
                     2 * shape.slots + shape.kQueue,
                     2 * shape.slots + 2 * shape.kQueue,
                     2 * shape.slots + 2 * shape.kQueue + 1};
  return at(shared, place * 8 + (shape.barrierOffset + 8 * first[int(which)]));
}
Value PromptKernel::barrier(Barrier which) { return barrier(which, k.i32(0)); }

void PromptKernel::prepareBarriers() {
  auto init = [&](Barrier which, int64_t count, int64_t arrivals) {
    k.ifThen(thread < count,
             [&] { w.mbarrierInit(barrier(which, thread), arrivals); });
  };
  init(Barrier::Full, shape.slots, 1);
  init(Barrier::Empty, shape.slots, shape.kConsumers);
  init(Barrier::EntryFull, shape.kQueue, 1);
  init(Barrier::EntryEmpty, shape.kQueue, shape.kConsumers);
  init(Barrier::QueryFull, 1, 64);
  init(Barrier::QueryEmpty, 1, shape.kConsumers);
  w.fenceMbarrierInit();
}

/// The same as release; no register holds the number of the lane for it.
void PromptKernel::giveBack(Value barrier) {
  w.syncWarp();
  k.ifThen(w.elect(), [&] { w.mbarrierArrive(barrier); });
}

void PromptKernel::barWarpgroup() {
  // Barrier 1 is that of all consumers.
  NVVM::BarrierOp::create(k, TypeRange(), (w.rereadThreadX() >> 7) + 2,
                          k.i32(128), NVVM::BarrierReductionAttr(), Value());
}

void PromptKernel::build() {
  k.takeMultiprocessor();
  begin();
  warpgroup = warp >> 2;
  k.ifThen(warp >= shape.kConsumers, [&] { produce(); }, [&] { consume(); });
}

//===----------------------------------------------------------------------===//
// Producers
//===----------------------------------------------------------------------===//

void PromptKernel::produce() {
  Vals loaded = loadRequests(k.i32(0));
  prefetchTable();
  for (const AttentionSide &side : parameters.sides)
    w.prefetchTensormap(k.parameter(side.map));
  Later later = measureLater();
  k.barrier();
  share(loaded, later);
  Vals first = firstWork();
  w.setMaxRegisters(kProducerRegisters, false);
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
                    publish(now, from, count, place, parity);
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

void PromptKernel::publish(const Work &now, Val first, Val count, Val place,
                           Val parity) {
  const Item &item = now.item;
  w.mbarrierWait(barrier(Barrier::EntryEmpty, place), parity);
  k.ifThen(lane == 0, [&] {
    Val end = min(first + (count << chunkBits), item.first + item.units);
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
        Val to = (chunk >> 3) * (shape.kColumns * kRowBytes) +
                 column * kRowBytes + place * 16 + shape.queryOffset;
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
  using Boxes = PromptShape::Boxes;
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
          if (shape.form[side] == Boxes::Parts) {
            for (int64_t part = 0; part < shape.parts(side); ++part)
              w.tmaLoad(at(shared, to + part * shape.partStride(side)), map,
                        {zero, token, k.i32(part), head, entry}, full, policy);
            return;
          }
          Val part = zero, group = token >> 3;
          if (shape.form[side] == Boxes::HeadsWithParts)
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

//===----------------------------------------------------------------------===//
// Consumers
//===----------------------------------------------------------------------===//

void PromptKernel::consume() {
  prepareBarriers();
  k.barrier();
  w.setMaxRegisters(kConsumerRegisters, true);
  beginLaunch();
  sharedUnits = w.wgmmaAddress(shared);
  auto entryAt = [&](Val place) {
    return at(shared, place * shape.kEntryBytes + shape.queueOffset);
  };
  auto load = [&](Val place) {
    Vals n = w.ldSharedWords(entryAt(place), kEntry);
    Entry entry{n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]};
    head = entry.head;
    block = entry.block;
    return entry;
  };
  // Carried: the ring, and the number of the segment.
  static_assert(PromptShape::kQueue == 2, "the place is its last bit");
  k.whileLoop(
      {k.i32(0), k.i32(0)},
      [&](const Vals &state) -> CodeBuilder::Tested {
        Val place = state[1] & 1;
        w.mbarrierWait(barrier(Barrier::EntryFull, place), (state[1] >> 1) & 1);
        Val count = k.val(k.loadScalar(entryAt(place), k.getI32Type()));
        return {count > 0, state};
      },
      [&](const Vals &state) -> Vals {
        Entry now = load(state[1] & 1);
        writeRows(now, state[1]);
        w.mbarrierWait(barrier(Barrier::QueryFull), state[1] & 1);
        Vals start = {now.first, state[0]};
        start.append(2, k.f32(kNoMaximum));
        start.append(2, k.f32(0));
        start.append(shape.channels[1] / 2, k.f32(0));
        Vals done = k.whileLoop(
            start,
            [&](const Vals &state) -> CodeBuilder::Tested {
              return {state[0] < range(kUnits).first, state};
            },
            [&](const Vals &state) { return tileStep(state); });
        Val segment = range(kUnits).end, place = segment & 1;
        release(barrier(Barrier::QueryEmpty));
        Vals n = w.ldSharedWords(at(entryAt(place), 4 * kEntry), kSplit);
        Split parts{n[0], n[1], n[2], n[3], n[4], n[5]};
        finish(load(place), parts, Vals(done.begin() + 2, done.end()));
        release(barrier(Barrier::EntryEmpty, place));
        return {done[1], segment + 1};
      });
  Vals rest = w.ldSharedWords(restPlace(), 5);
  Val hasOthers = (rest[0] != 0) | (rest[1] > 0) | (rest[2] < rows);
  k.ifThen(w.unlikely(hasOthers),
           [&] { clearEmptyRows(rest[0], rest[1], rest[2]); });
  endLaunch();
}

/// Of the first row of a lane, or of the second one.
Val PromptKernel::pairOf(const Entry &entry, int64_t row) {
  return entry.tile * shape.kColumns + (warp << 4) + (lane >> 2) + 8 * row;
}

/// What the rows of a lane and of its warp see, and what else is looked at once
/// for each tile. It is kept in shared memory: in the loop over tiles all
/// registers are taken by sums and scores.
void PromptKernel::writeRows(const Entry &item, Val segment) {
  Val pairs = (item.end - item.start) * traits.group;
  auto limitsOf = [&](Val pair) {
    Val row = item.start + min(pair, pairs - 1) / traits.group;
    return limits(row, item.end, item.length);
  };
  Vals own, bias;
  for (int64_t i : {0, 1}) {
    // Those that are not there are as the last.
    Val pair = pairOf(item, i);
    Limits seen = limitsOf(pair);
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
  Val someFirst = k.i32(0), seenFirst = k.i32(0), someEnd, seenEnd;
  if (!batch.type.hasPositions()) {
    // Suffixes see more and more keys, and the last one all of them.
    Val from = item.tile * shape.kColumns + warpgroup * 64;
    if (traits.window) {
      someFirst = limitsOf(from).first;
      seenFirst = limits(item.start, item.end, item.length).first;
    }
    someEnd = select(from < pairs, limitsOf(from + 63).end, k.i32(0));
    seenEnd = item.length;
  } else {
    // Positions may be anything: a lane has some rows of the item.
    Val from = item.tile * shape.kColumns;
    Val firstRow = item.start + from / traits.group;
    Val lastRow =
        item.start + (min(from + shape.kColumns, pairs) - 1) / traits.group;
    seenEnd =
        k.rolledForLoop(firstRow + lane, lastRow + 1, k.i32(32), {k.i32(0)},
                        [&](Val row, const Vals &sofar) -> Vals {
                          Val end = limits(row, item.end, item.length).end;
                          return {max(sofar[0], end)};
                        })
            .front();
    for (int64_t bits : {1, 2, 4, 8, 16})
      seenEnd = max(seenEnd, w.shflXor(seenEnd, bits));
    someEnd = seenEnd;
  }
  k.ifThen(lane == 0, [&] {
    w.stSharedWords({someFirst, someEnd, seenFirst, seenEnd, commonFirst,
                     commonEnd, item.first + item.count, segment},
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
Val PromptKernel::nextInRing(Val packed) {
  Val next = packed + 1;
  Val wraps = (next & 15) == shape.slots;
  return select(wraps, (packed & 16) ^ 16, next);
}

Vals PromptKernel::tileStep(const Vals &state) {
  Val unit = state[0];
  Vals softmax(state.begin() + 2, state.end());
  Val key = unit * shape.kUnit;
  // The same for all warps of a warpgroup.
  Range some = range(kSome);
  Val isNeeded = (key < some.end) & (key + shape.kUnit > some.first);
  SmallVector<Type> types(softmax.size(), k.getF32Type());
  Vals result = k.ifThen(
      isNeeded, types,
      [&]() -> Vals { return multiplied(unit, state[1], softmax); },
      [&]() -> Vals {
        for (Val packed : {state[1], nextInRing(state[1])}) {
          Ring ring = ringOf(packed);
          w.mbarrierWait(barrier(Barrier::Full, ring.slot), ring.parity);
          giveBack(barrier(Barrier::Empty, ring.slot));
        }
        return softmax;
      });
  return join(Vals{unit + 1, nextInRing(nextInRing(state[1]))}, result);
}

Val PromptKernel::descriptor(Val low, int64_t stride) {
  return k.val(k.extui64(low)) | k.i64(NvvmOps::wgmmaHigh(stride) << 32);
}

Vals PromptKernel::scores(Val slot) {
  Val keys = sharedUnits + slot * (shape.slotBytes >> 4);
  Val queries = sharedUnits + (w.rereadThreadX() >> 7) * (64 * kRowBytes >> 4) +
                (shape.queryOffset >> 4);
  Value undefined = LLVM::UndefOp::create(k, k.getF32Type());
  Vals sums(shape.kUnit / 2, k.val(undefined));
  w.wgmmaFence();
  for (int64_t step = 0; step < shape.channels[0] / 16; ++step) {
    int64_t part = step / 4, inRow = step % 4 * 2;
    Val query = queries + ((part * shape.kColumns * kRowBytes >> 4) + inRow);
    Val key = keys + ((part * shape.partStride(0) >> 4) + inRow);
    sums = w.wgmma({descriptor(query, 1024)},
                   descriptor(key, shape.groupStride(0)), sums, step == 0,
                   false, traits.keyType);
  }
  w.wgmmaCommit();
  w.wgmmaWait();
  return w.pin(sums);
}

/// Scores of keys that a row does not see become -infinity.
Vals PromptKernel::masked(Val unit, Val dead, const Vals &given) {
  Vals rows = w.ldSharedWords(rowPlace(), 4);
  Val base = unit * shape.kUnit + (w.rereadThreadX() & 3) * 2;
  Val first[] = {rows[0] - base, rows[2] - base};
  Val end[] = {rows[1] - base, rows[3] - base};
  Vals result;
  for (int64_t i = 0; i < int64_t(given.size()); ++i) {
    int64_t row = i % 4 / 2, column = i / 4 * 8 + i % 2;
    Val isSeen = (first[row] <= column) & (end[row] > column);
    result.push_back(select(isSeen, given[i], k.f32(-INFINITY)));
  }
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

/// Tokens that no row of the request sees may be anything, and 0 times NaN is
/// NaN. Each warpgroup writes the same zeros before it reads them.
void PromptKernel::clearUnseen(Val slot, Val unit) {
  Range seen = range(kSeen);
  Val first = seen.first - unit * shape.kUnit;
  Val end = seen.end - unit * shape.kUnit;
  // Boxes past the end are zeros already.
  Val hasUnseen = end < shape.kUnit;
  if (!batch.type.hasPositions())
    hasUnseen = hasUnseen & ((end & (shape.boxTokens - 1)) != 0);
  if (traits.window)
    hasUnseen = hasUnseen | (first > 0);
  // A thread has a chunk of 16 bytes of every 16th row.
  Val own = w.rereadThreadX() & 127;
  auto clear = [&](Val from, Val to) {
    k.rolledForLoop(from + (own >> 3), to, k.i32(16), {},
                    [&](Val row, const Vals &) -> Vals {
                      Val place = slot * shape.slotBytes +
                                  (row >> 3) * shape.groupStride(1) +
                                  (row & 7) * kRowBytes + (own & 7) * 16;
                      for (int64_t part = 0; part < shape.parts(1); ++part)
                        k.store(k.zero(16),
                                at(shared, place + part * shape.partStride(1)),
                                16);
                      return {};
                    });
  };
  k.ifThen(w.unlikely(hasUnseen), [&] {
    if (traits.window)
      clear(k.i32(0), min(first, shape.kUnit));
    clear(max(end, 0), k.i32(shape.kUnit));
    w.fenceProxyAsync();
    barWarpgroup();
  });
}

Vals PromptKernel::multiplied(Val unit, Val packed, const Vals &softmax) {
  Type f32 = k.getF32Type();
  Ring ring = ringOf(packed);
  w.mbarrierWait(barrier(Barrier::Full, ring.slot), ring.parity);
  Vals x = scores(ring.slot);
  Val dead = k.val(k.loadScalar(at(shared, ring.slot * 4 + shape.deadOffset),
                                k.getI32Type()));
  giveBack(barrier(Barrier::Empty, ring.slot));

  // To base 2: x * scale.
  float scale = traits.scale * float(M_LOG2E);
  if (traits.softcap || traits.hasAlibi || !(scale > 0)) {
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
        Val key = unit * shape.kUnit + (w.rereadThreadX() & 3) * 2 +
                  (i / 4 * 8 + i % 2);
        Val place = k.val(arith::SIToFPOp::create(k, f32, key));
        int64_t row = i % 4 / 2;
        x[i] = x[i] + w.bitcastToFloat(bias[2 * row]) *
                          (place - w.bitcastToFloat(bias[2 * row + 1]));
      }
    }
    scale = 1;
  }
  Val key = unit * shape.kUnit;
  Range common = range(kCommon);
  Val isWhole =
      (key >= common.first) & (key + shape.kUnit <= common.end) & (dead == 0);
  x = k.ifThen(
      isWhole, SmallVector<Type>(x.size(), f32), [&]() -> Vals { return x; },
      [&]() -> Vals { return masked(unit, dead, x); });

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
    for (int64_t bits : {1, 2})
      largest[row] = max(largest[row], w.shflXor(largest[row], bits));
    if (scale != 1)
      largest[row] = largest[row] * scale;
  }
  Val grows =
      (largest[0] > softmax[0] + kGrowth) | (largest[1] > softmax[1] + kGrowth);
  Vals scaled = k.ifThen(
      w.voteAny(grows), SmallVector<Type>(softmax.size(), f32),
      [&]() -> Vals {
        Val factor[2];
        Vals next = softmax;
        for (int64_t row : {0, 1}) {
          next[row] = max(largest[row], softmax[row]);
          factor[row] = w.ex2(softmax[row] - next[row]);
          next[2 + row] = softmax[2 + row] * factor[row];
        }
        for (size_t i = kSoftmax; i < softmax.size(); ++i)
          next[i] = softmax[i] * factor[(i - kSoftmax) % 4 / 2];
        return next;
      },
      [&]() -> Vals { return softmax; });
  // Pairs are packed at once: scores give their registers back.
  Val sums[2][2];
  Vals weights;
  for (int64_t i = 0; i < int64_t(x.size()); i += 2) {
    int64_t row = i % 4 / 2;
    Val pair[2];
    for (int64_t j : {0, 1}) {
      Val exponent =
          scale == 1 ? x[i + j] - scaled[row] : x[i + j] * scale - scaled[row];
      pair[j] = w.ex2(exponent);
      sums[row][j] = i < 4 ? pair[j] : sums[row][j] + pair[j];
    }
    weights.push_back(w.cvtPack(pair[0], pair[1], traits.valueType));
  }
  for (int64_t row : {0, 1})
    scaled[2 + row] = scaled[2 + row] + (sums[row][0] + sums[row][1]);

  ring = ringOf(nextInRing(packed));
  w.mbarrierWait(barrier(Barrier::Full, ring.slot), ring.parity);
  clearUnseen(ring.slot, unit);
  Vals out = w.pin(Vals(scaled.begin() + kSoftmax, scaled.end()));
  // Values are contiguous in channels, of which 64 are a row.
  Val values = sharedUnits + ring.slot * (shape.slotBytes >> 4) +
               NvvmOps::wgmmaLow(shape.partStride(1));
  w.wgmmaFence();
  for (int64_t step = 0; step < shape.kUnit / 16; ++step) {
    ArrayRef<Val> a = ArrayRef<Val>(weights).slice(4 * step, 4);
    // 16 tokens.
    Val value = values + (step * 2 * shape.groupStride(1) >> 4);
    out = w.wgmma(a, descriptor(value, shape.groupStride(1)), out, false, true,
                  traits.valueType);
  }
  w.wgmmaCommit();
  w.wgmmaWait();
  out = w.pin(join(out, weights));
  out.resize(shape.channels[1] / 2);
  giveBack(barrier(Barrier::Empty, ring.slot));
  scaled.resize(kSoftmax);
  return join(scaled, out);
}

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

Value PromptKernel::partOf(const Entry &entry, Val ofBlock, Val slot) {
  Val number = (ofBlock * 2 + slot) * traits.heads + entry.head;
  return at(k.parameter(parameters.parts),
            as(number, 64) * shape.partBytes() +
                as(warpgroup * shape.shareBytes(), 64));
}

Value PromptKernel::counter(const Entry &entry, const Split &split) {
  Val number = (split.firstBlock * traits.heads + entry.head) *
                   PromptShape::kWarpgroups +
               warpgroup;
  return at(k.parameter(parameters.state),
            as(number, 64) * 4 + AttentionState::kArrivals);
}

void PromptKernel::finish(const Entry &entry, const Split &split, Vals state) {
  for (int64_t row : {0, 1})
    for (int64_t bits : {1, 2})
      state[2 + row] = state[2 + row] + w.shflXor(state[2 + row], bits);
  Type f32 = k.getF32Type(), four = VectorType::get({4}, f32);
  int64_t quads = shape.channels[1] / 8;
  Val own = thread & 127;
  // Sums of a lane side by side with those of others, then the rows.
  auto quadAt = [&](Value part, int64_t quad) {
    return at(part, own * 16 + quad * (128 * 16));
  };
  auto rowAt = [&](Value part, int64_t row) {
    Val number = ((warp & 3) << 4) + (lane >> 2) + 8 * row;
    return at(part, number * 8 + quads * (128 * 16));
  };
  k.ifThen(
      split.isSplit == 0, [&] { store(entry, state); },
      [&] {
        Val isFirst = block == split.firstBlock;
        Value part =
            partOf(entry, block, select(isFirst, split.firstSlot, k.i32(0)));
        for (int64_t quad = 0; quad < quads; ++quad) {
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
        // The last warpgroup to arrive puts the parts together.
        w.fenceDevice();
        barWarpgroup();
        Value flag = at(shared, warpgroup * 4 + shape.flagOffset);
        Value arrivals = counter(entry, split);
        k.ifThen(own == 0, [&] {
          Val before = w.atomAddAcqRel(arrivals, k.i32(1));
          Val isLast = before == split.parts - 1;
          k.ifThen(isLast, [&] { k.storeScalar(k.i32(0), arrivals); });
          k.storeScalar(select(isLast, k.i32(1), k.i32(0)), flag);
        });
        barWarpgroup();
        Val isLast = k.val(k.loadScalar(flag, k.getI32Type())) != 0;
        // Nobody writes the flag before all have read it.
        barWarpgroup();
        k.ifThen(isLast, [&] {
          w.fenceDevice();
          auto partAt = [&](Val number) {
            Val slot = select(number == 0, split.firstSlot, k.i32(0));
            return partOf(entry, split.firstBlock + number, slot);
          };
          auto load = [&](Value pointer) {
            return k.val(k.loadScalar(pointer, f32));
          };
          Vals most = k.rolledForLoop(
              k.i32(0), split.parts, k.i32(1), Vals(2, k.f32(kNoMaximum)),
              [&](Val number, const Vals &sofar) -> Vals {
                Value part = partAt(number);
                return {max(sofar[0], load(rowAt(part, 0))),
                        max(sofar[1], load(rowAt(part, 1)))};
              });
          Vals merged = k.rolledForLoop(
              k.i32(0), split.parts, k.i32(1),
              join(most, Vals(state.size() - 2, k.f32(0))),
              [&](Val number, const Vals &sofar) -> Vals {
                Value part = partAt(number);
                Vals next = sofar;
                Val share[2];
                for (int64_t row : {0, 1}) {
                  Value at = rowAt(part, row);
                  share[row] = w.ex2(load(at) - most[row]);
                  next[2 + row] =
                      sofar[2 + row] + load(this->at(at, 4)) * share[row];
                }
                for (int64_t quad = 0; quad < quads; ++quad) {
                  Value vector =
                      LLVM::LoadOp::create(k, four, quadAt(part, quad), 16);
                  for (int64_t j = 0; j < 4; ++j) {
                    Val x = k.val(
                        LLVM::ExtractElementOp::create(k, vector, k.i32(j)));
                    Val &sum = next[kSoftmax + 4 * quad + j];
                    sum = sum + x * share[j / 2];
                  }
                }
                return next;
              });
          store(entry, merged);
        });
      });
}

void PromptKernel::store(const Entry &entry, const Vals &state) {
  Val pairs = (entry.end - entry.start) * traits.group;
  int64_t bytes = traits.outType.getIntOrFloatBitWidth() / 8;
  for (int64_t i : {0, 1}) {
    Val pair = pairOf(entry, i);
    k.ifThen(pair < pairs, [&] {
      Val row = entry.start + pair / traits.group;
      Val queryHead = head * traits.group + pair % traits.group;
      Val maximum = state[i], sum = state[2 + i], isEmpty = sum == 0;
      Val sink, factor;
      if (traits.hasSinks) {
        sink = load32(parameters.sinks, queryHead);
        Val x = sink * float(M_LOG2E);
        Val larger = max(maximum, x), share = w.ex2(maximum - larger);
        sum = sum * share + w.ex2(x - larger);
        maximum = larger;
        factor = share * w.rcp(sum);
      } else {
        factor = w.rcp(sum);
      }
      factor = select(isEmpty, k.f32(0), factor);
      Val place = as(row, 64) * Val(k, k.stride(parameters.outRow, bytes)) +
                  as(queryHead, 64) * (traits.valueChannels * bytes) +
                  as((lane & 3) * (2 * bytes), 64);
      Value out = at(k.parameter(parameters.out), place);
      for (int64_t column = 0; column < shape.channels[1] / 8; ++column) {
        Val low = state[kSoftmax + 4 * column + 2 * i] * factor;
        Val high = state[kSoftmax + 4 * column + 2 * i + 1] * factor;
        Value to = at(out, column * 8 * bytes);
        if (bytes == 2) {
          k.storeScalar(w.cvtPack(low, high, traits.outType), to);
        } else {
          k.storeScalar(low, to);
          k.storeScalar(high, at(to, 4));
        }
      }
      if (!traits.hasLse)
        return;
      k.ifThen((lane & 3) == 0, [&] {
        Val known = select(isEmpty, k.f32(1), sum);
        Val lse = (maximum + w.lg2(known)) * float(M_LN2);
        lse = select(isEmpty, traits.hasSinks ? sink : k.f32(-INFINITY), lse);
        Val place = as(row, 64) * Val(k, k.stride(parameters.lseRow, 4)) +
                    as(queryHead, 64) * 4;
        k.storeScalar(lse, at(k.parameter(parameters.lse), place));
      });
    });
  }
}
