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
  auto fits = [](int64_t channels) {
    return channels % kInner == 0 && channels <= 128;
  };
  return fits(traits.keyChannels) && fits(traits.valueChannels) &&
         traits.tokens % 8 == 0;
}

PromptShape::PromptShape(const AttentionTraits &traits, int64_t sharedLimit,
                         HeadNeighbor keys, HeadNeighbor values)
    : channels{traits.keyChannels, traits.valueChannels},
      neighbor{keys, values}, boxTokens(std::gcd(traits.tokens, kUnit)) {
  // Of one part, a box has all channels as it is.
  for (unsigned side : {0u, 1u})
    if (parts(side) == 1)
      neighbor[side] = HeadNeighbor::None;
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

void PromptKernel::consume() {
  prepareBarriers();
  k.barrier();
  w.setMaxRegisters(PromptShape::kConsumerRegisters, true);
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
