// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "PromptKernel.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

#include <numeric>

using namespace mlir;
using namespace kvcache;

//===----------------------------------------------------------------------===//
// Shape
//===----------------------------------------------------------------------===//

bool PromptShape::fits(const AttentionTraits &traits) {
  return traits.tokens % 8 == 0 && traits.group <= 2 * 64;
}

static int64_t unitOf(const AttentionTraits &traits) {
  return traits.valueChannels <= 128 ? 128 : 64;
}

int64_t PromptShape::boxTokensOf(const AttentionTraits &traits) {
  return std::gcd(traits.tokens, unitOf(traits));
}

PromptShape::PromptShape(const AttentionTraits &traits, int64_t sharedLimit,
                         HeadNeighbor keys, HeadNeighbor values)
    : channels{traits.keyChannels, traits.valueChannels},
      // A thread has half as many sums as there are channels, and half as many
      // scores as a tile has keys.
      warpgroups(channels[1] <= 128 ? 3 : 2), turns(warpgroups == 3 ? 1 : 2),
      rows(64 * warpgroups), unit(unitOf(traits)),
      columns(rows / traits.group * traits.group),
      queryParts(64 % traits.group ? 1 : warpgroups), neighbor{keys, values},
      boxTokens(boxTokensOf(traits)), hasPrefixes(traits.hasPrefixes),
      isInvariant(traits.isInvariant),
      ofBytes(traits.keyType.getIntOrFloatBitWidth() == 8),
      hasScales(traits.hasScales()) {
  // Of one part, a box has all channels as it is.
  for (unsigned side : {0u, 1u})
    if (parts(side) == 1 || !isWhole(side) || ofBytes)
      neighbor[side] = HeadNeighbor::None;
  if ((warpgroups - 1) * blocksOfSums() > parts(0) * spareBlocks())
    fewPairs = 0;
  slotBytes = unit * kRowBytes * std::max(parts(0), parts(1));
  rawSlotBytes = ofBytes ? unit * std::max(channels[0], channels[1]) : 0;
  int64_t rawBytes = llvm::alignTo(kRawSlots * rawSlotBytes, 1024);
  queryBytes = rows * kRowBytes * parts(0);
  constexpr int64_t kMostSlots = 8, kFixed = 4096;
  int64_t rowsBytes = consumers() * 32 * rowBytes(traits);
  slots = std::min(kMostSlots, (sharedLimit - queryBytes - rowsBytes - kFixed -
                                rawBytes - rawScaleBytes()) /
                                   (slotBytes + scaleBytes()));
  int64_t end = slots * slotBytes;
  auto add = [&](int64_t bytes, int64_t align) {
    int64_t offset = llvm::alignTo(end, align);
    end = offset + bytes;
    return offset;
  };
  rawOffset = add(rawBytes, 1024);
  queryOffset = add(queryBytes, 1024);
  rawScaleOffset = add(rawScaleBytes(), 16);
  scaleOffset = add(slots * scaleBytes(), 16);
  queueOffset = add(kQueue * kEntryBytes, 16);
  restOffset = add(48, 16);
  rangesOffset = add(consumers() * rangesBytes(traits), 16);
  rowsOffset = add(rowsBytes, 16);
  // Of the two rows of a lane: maxima, and sums of weights.
  totalsOffset = add((warpgroups - 1) * fewWarps() * kBlockBytes, 16);
  int64_t rawSlots = ofBytes ? kRawSlots : 0;
  barrierOffset =
      add(8 * (2 * slots + 2 * kQueue + 2 * queryParts + 2 * rawSlots), 8);
  deadOffset = add(4 * (slots + rawSlots), 4);
  factorOffset = ofBytes ? add(4 * rows, 4) : 0;
  flagOffset = add(4 * warpgroups, 4);
  maskOffset = traits.hasMask ? add(16 * consumers(), 16) : 0;
  sharedBytes = end;
  assert((slots < 2 || sharedBytes <= sharedLimit) && "kFixed is all the rest");
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
                     2 * shape.slots + 2 * shape.kQueue + shape.queryParts,
                     2 * shape.slots + 2 * shape.kQueue + 2 * shape.queryParts,
                     2 * shape.slots + 2 * shape.kQueue + 2 * shape.queryParts +
                         PromptShape::kRawSlots};
  return at(shared, place * 8 + (shape.barrierOffset + 8 * first[int(which)]));
}
Value PromptKernel::barrier(Barrier which) { return barrier(which, k.i32(0)); }
Value PromptKernel::queryBarrier(Barrier which) {
  return shape.queryParts == 1 ? barrier(which)
                               : barrier(which, w.rereadThreadX() >> 7);
}

void PromptKernel::prepareBarriers() {
  auto init = [&](Barrier which, int64_t count, int64_t arrivals) {
    k.ifThen(thread < count,
             [&] { w.mbarrierInit(barrier(which, thread), arrivals); });
  };
  init(Barrier::Full, shape.slots, 1);
  init(Barrier::Empty, shape.slots, shape.consumers());
  init(Barrier::EntryFull, shape.kQueue, 1);
  init(Barrier::EntryEmpty, shape.kQueue, shape.consumers());
  init(Barrier::QueryFull, shape.queryParts, 1);
  init(Barrier::QueryEmpty, shape.queryParts,
       shape.consumers() / shape.queryParts);
  if (shape.ofBytes) {
    // Copies that lanes make arrive for each of them.
    init(Barrier::RawFull, PromptShape::kRawSlots, 1 + 32 * shape.hasScales);
    init(Barrier::RawEmpty, PromptShape::kRawSlots, 1);
  }
  w.fenceMbarrierInit();
}

/// The same as release; no register holds the number of the lane for it.
void PromptKernel::giveBack(Value barrier) {
  w.syncWarp();
  k.ifThen(w.elect(), [&] { w.mbarrierArrive(barrier); });
}

/// Barrier 1 is that of all consumers.
Val PromptKernel::warpgroupBarrier() { return (w.rereadThreadX() >> 7) + 2; }

void PromptKernel::barWarpgroup() {
  NVVM::BarrierOp::create(k, TypeRange(), warpgroupBarrier(), k.i32(128),
                          NVVM::BarrierReductionAttr(), Value());
}

void PromptKernel::takeTurn() {
  w.barSync(turnBarrier(w.rereadThreadX() >> 7), 256);
}

void PromptKernel::passTurn() {
  Val next = (w.rereadThreadX() >> 7) + 1;
  w.barArrive(turnBarrier(select(next == shape.warpgroups, k.i32(0), next)),
              256);
}

void PromptKernel::build() {
  k.takeMultiprocessor();
  begin();
  warpgroup = warp >> 2;
  k.ifThen(warp >= shape.consumers(), [&] { produce(); }, [&] { consume(); });
}

void PromptKernel::consume() {
  prepareBarriers();
  k.barrier();
  w.setMaxRegisters(shape.consumerRegisters(), true);
  beginLaunch();
  if (shape.hasPrefixes)
    k.ifThen(thread == 0,
             [&] { k.storeScalar(tag, at(restPlace(), kTagPlace)); });
  sharedUnits = w.wgmmaAddress(shared);
  k.ifThen(thread >= 128 * (shape.warpgroups - 1), [&] { passTurn(); });
  auto load = [&](Val segment) {
    Vals n = w.ldSharedWords(entryAt(segment), kEntry);
    Entry entry{n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], Val()};
    if (shape.hasPrefixes)
      entry.group = k.val(k.loadScalar(
          at(entryAt(segment), 4 * (kEntry + kSplit)), k.getI32Type()));
    head = entry.head;
    block = entry.block;
    return entry;
  };
  // Carried: the ring, and the number of the segment.
  k.whileLoop(
      {k.i32(0), k.i32(0)},
      [&](const Vals &state) -> CodeBuilder::Tested {
        Val place = state[1] & 1;
        w.mbarrierWait(barrier(Barrier::EntryFull, place), (state[1] >> 1) & 1);
        Val count = k.val(k.loadScalar(entryAt(state[1]), k.getI32Type()));
        return {count >= 0, state};
      },
      [&](const Vals &state) -> Vals {
        readThread();
        Entry now = load(state[1]);
        writeRows(now, state[1]);
        waitForQuery(state[1] & 1);
        if (hasFactors())
          prepareQuery(now.head);
        Range some = range(kTiles);
        Vals start = {some.first, state[0], some.end};
        start.append(2, k.f32(kNoMaximum));
        start.append(2, k.f32(0));
        start.append(shape.channels[1] / 2, k.f32(0));
        auto tiles = [&](bool isFew) {
          Vals begin = start;
          Val last = (now.first + now.count - 1) * shape.unit;
          begin[1] = skipTiles(isFew, state[0], last, some.first);
          k.ifThen(some.first >= some.end, [&] { waitFull(begin[1]); });
          if (!isFew) {
            SmallVector<Value> values = valuesOf(begin);
            begin = k.ifThen(
                range(kKind).end != 0,
                llvm::to_vector(ValueRange(values).getTypes()),
                [&] { return tileStep(Tile::Half, begin); },
                [&] { return begin; });
          }
          Vals done = k.whileLoop(
              begin,
              [&](const Vals &state) -> CodeBuilder::Tested {
                return {state[0] >= state[2], state};
              },
              [&](const Vals &state) {
                return tileStep(isFew ? Tile::Few : Tile::Whole, state);
              });
          done[1] = skipTiles(isFew, done[1], done[0], range(kSegment).first);
          return done;
        };
        Vals done;
        if (shape.fewPairs) {
          SmallVector<Value> values = valuesOf(start);
          done = k.ifThen(
              range(kKind).first != 0,
              llvm::to_vector(ValueRange(values).getTypes()),
              [&] { return tiles(true); }, [&] { return tiles(false); });
        } else {
          done = tiles(false);
        }
        readThread();
        Val segment = range(kSegment).end;
        some = range(kTiles);
        Val isFew = range(kKind).first != 0;
        k.ifThen((some.first < some.end) & !isFew,
                 [&] { release(queryBarrier(Barrier::QueryEmpty)); });
        Val ring = done[1];
        Vals n = w.ldSharedWords(at(entryAt(segment), 4 * kEntry), kSplit);
        Split parts{n[0], n[1], n[2], n[3], n[4], n[5]};
        finish(load(segment), parts, Vals(done.begin() + kLoop, done.end()));
        release(barrier(Barrier::EntryEmpty, segment & 1));
        return {ring, segment + 1};
      });
  readThread();
  Vals rest = w.ldSharedWords(restPlace(), shape.hasPrefixes ? 6 : 5);
  if (shape.hasPrefixes)
    prefixes = rest[5];
  Val hasOthers = (rest[0] != 0) | (rest[1] > 0) | (rest[2] < rows);
  k.ifThen(w.unlikely(hasOthers),
           [&] { clearEmptyRows(rest[0], rest[1], rest[2]); });
  endLaunch();
}

/// For its own part of the query. Of an item with few pairs all warpgroups read
/// the first part, and write to the others.
void PromptKernel::waitForQuery(Val parity) {
  if (shape.queryParts > 1 && shape.fewPairs)
    k.ifThen(range(kKind).first != 0, [&] {
      for (int64_t part = 0; part < shape.queryParts; ++part)
        w.mbarrierWait(barrier(Barrier::QueryFull, k.i32(part)), parity);
    });
  w.mbarrierWait(queryBarrier(Barrier::QueryFull), parity);
}

/// Read again, the numbers of a thread take no registers in the loop over
/// tiles.
void PromptKernel::readThread() {
  thread = w.rereadThreadX();
  lane = thread & 31;
  warp = thread >> 5;
  warpgroup = warp >> 2;
}

Val PromptKernel::isFew(const Entry &entry) {
  return pairsOf(entry) - entry.tile * shape.columns <= shape.fewPairs;
}
Val PromptKernel::firstRowOfWarp(const Entry &entry) {
  return select(isFew(entry), warp & 3, warp) << 4;
}
Val PromptKernel::rowOf(const Entry &entry, int64_t row) {
  return firstRowOfWarp(entry) + (lane >> 2) + 8 * row;
}
Val PromptKernel::pairOf(const Entry &entry, int64_t row) {
  return entry.tile * shape.columns + rowOf(entry, row);
}
Val PromptKernel::isThere(const Entry &entry, int64_t row) {
  Val pairs = pairsOf(entry);
  Val isThere = pairOf(entry, row) < pairs;
  if (shape.columns < shape.rows)
    isThere = isThere & (rowOf(entry, row) < shape.columns);
  return isThere;
}
