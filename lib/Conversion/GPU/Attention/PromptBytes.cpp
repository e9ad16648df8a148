// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Caches of bytes: products of warpgroups take operands of f16. One warp
// fetches bytes, one converts those of keys and one those of values. A query of
// bf16 becomes f16 where it is, when it has arrived.
//
//===----------------------------------------------------------------------===//

#include "../Codecs.h"
#include "PromptKernel.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;
using namespace kvcache;

Vals WorkSplit::halvesOf(Val word) {
  auto [first, second] = gpu::codecOf(traits.keyType).decodeHalves(k, word);
  return {k.val(first), k.val(second)};
}

Vals PromptKernel::orderedHalvesOf(Val word) {
  auto [first, second] =
      gpu::codecOf(traits.keyType).decodeOrderedHalves(k, word);
  return {k.val(first), k.val(second)};
}

Val WorkSplit::toHalves(MutableArrayRef<Val> words, ArrayRef<int64_t> lanes) {
  Val most = k.i32(0);
  for (Val word : words)
    most = max(max(most, word & 0x7fff), (word >> 16) & 0x7fff);
  for (int64_t bits : lanes)
    most = max(most, w.shflXor(most, bits));
  constexpr int64_t kBias = 127, kWanted = kBias + 14;
  // The exponent of neither factor leaves the normal numbers.
  Val shift = max((most >> 7) - kWanted, -120);
  auto powerOf2 = [&](Val exponent) {
    return w.bitcastToFloat((exponent + kBias) << 23);
  };
  Val down = powerOf2(k.i32(0) - shift);
  for (Val &word : words)
    word = w.cvtPack(w.bitcastToFloat(word << 16) * down,
                     w.bitcastToFloat(word & -65536) * down, k.getF16Type());
  return powerOf2(shift);
}

/// Keys and values of a tile in turn, from the last tile to the first.
Val PromptKernel::fetchBytes(const Work &now, Val first, Val end, Val raw) {
  Val isOnly = tiles(now.item.start, now.item.end) <= 1;
  Val policy =
      select(isOnly, w.createPolicyEvictFirst(), w.createPolicyEvictLast());
  Val row = shape.hasPrefixes ? tableRow(now.item) : now.item.request;
  Vals last = k.rolledForLoop(
      first, end, k.i32(1), {raw, entryOf(now, row, end - 1)},
      [&](Val number, const Vals &state) -> Vals {
        Val unit = end - 1 - (number - first);
        Val ahead = entryOf(now, row, max(unit - 1, first));
        Boxes boxes = boxesOf(now, unit, state[1]);
        auto [isBox, entry, dead, token] = boxes;
        Val raw = state[0];
        for (unsigned side : {0u, 1u}) {
          Ring ring = ringOf(raw);
          w.mbarrierWait(barrier(Barrier::RawEmpty, ring.slot), ring.parity);
          Value full = barrier(Barrier::RawFull, ring.slot);
          if (shape.hasScales) {
            if (side == 0)
              fetchScales(boxes, now.item.head);
            w.cpAsyncMbarrierArrive(full);
          }
          k.ifThen(lane == 0, [&] {
            k.storeScalar(side == 0 ? dead : k.i32(0), rawWord(ring.slot));
            w.mbarrierArriveExpectTx(full,
                                     k.i32(shape.unit * shape.channels[side]));
          });
          w.syncWarp();
          k.ifThen(isBox, [&] {
            Val zero = k.i32(0);
            Val to = ring.slot * shape.rawSlotBytes +
                     lane * (shape.boxTokens * shape.channels[side]) +
                     shape.rawOffset;
            w.tmaLoad(at(shared, to), k.parameter(parameters.sides[side].map),
                      {zero, token, zero, now.item.head, entry}, full, policy);
          });
          raw = nextOf(raw, PromptShape::kRawSlots);
        }
        return {raw, ahead};
      });
  return last.front();
}

/// Both converters are told.
void PromptKernel::endBytes(Val raw) {
  for (int64_t side = 0; side < PromptShape::kRawSlots; ++side) {
    Ring ring = ringOf(raw);
    w.mbarrierWait(barrier(Barrier::RawEmpty, ring.slot), ring.parity);
    if (shape.hasScales)
      w.cpAsyncMbarrierArrive(barrier(Barrier::RawFull, ring.slot));
    k.ifThen(lane == 0, [&] {
      k.storeScalar(k.i32(kNoMore), rawWord(ring.slot));
      w.mbarrierArrive(barrier(Barrier::RawFull, ring.slot));
    });
    raw = nextOf(raw, PromptShape::kRawSlots);
  }
}

/// Tile by tile, whatever they belong to.
void PromptKernel::convertTiles(unsigned side) {
  static_assert(PromptShape::kRawSlots == 2, "a side has always the same one");
  Val rawSlot = k.i32(side);
  Value full = barrier(Barrier::RawFull, rawSlot);
  // Carried: the ring, and the parity of the bytes.
  k.whileLoop(
      {k.i32(16 + int64_t(side)), k.i32(0)},
      [&](const Vals &state) -> CodeBuilder::Tested {
        w.mbarrierWait(full, state[1]);
        Val word = k.val(k.loadScalar(rawWord(rawSlot), k.getI32Type()));
        return {word != kNoMore, state};
      },
      [&](const Vals &state) -> Vals {
        Ring ring = ringOf(state[0]);
        w.mbarrierWait(barrier(Barrier::Empty, ring.slot), ring.parity);
        if (side == 0)
          k.ifThen(lane == 0, [&] {
            Val dead = k.val(k.loadScalar(rawWord(rawSlot), k.getI32Type()));
            k.storeScalar(dead, at(shared, ring.slot * 4 + shape.deadOffset));
          });
        if (side == 0 && shape.hasScales)
          convertScales(ring.slot);
        convertTile(side, ring.slot);
        // Products run beside the code.
        w.fenceProxyAsync();
        release(barrier(Barrier::RawEmpty, rawSlot));
        release(barrier(Barrier::Full, ring.slot));
        return {nextInRing(nextInRing(state[0])), state[1] ^ 1};
      });
}

/// Four chunks of two tokens for every eight lanes: tokens t and t ^ 5 of
/// eight. Their chunks of 16 bytes are in different banks, and so are those of
/// f16.
void PromptKernel::convertTile(unsigned side, Val slot) {
  int64_t inner = shape.rawInner[side] / 16, chunks = shape.rawChunks(side);
  int64_t turn = inner == 8 ? 0 : inner == 4 ? 1 : 2;
  Val token = (lane >> 3) ^ (((lane >> 2) & 1) * 5);
  int64_t rawPlace = side * shape.rawSlotBytes + shape.rawOffset;
  Val place = slot * shape.slotBytes + token * PromptShape::kRowBytes;
  constexpr int64_t kLanes = 4;
  for (int64_t some = 0; some < chunks; some += kLanes) {
    Val chunk = (lane & (kLanes - 1)) + some;
    auto convert = [&] {
      Val inPart = inner > 1 ? (chunk % inner) ^ ((token >> turn) & (inner - 1))
                             : k.i32(0);
      // In a box, parts of the channels follow each other.
      Val from = chunk / inner * (shape.boxTokens * inner * 16) + inPart * 16 +
                 rawPlace;
      Val to = place + (chunk >> 2) * shape.partStride(side);
      Val first = to + (((chunk & 3) * 2) ^ token) * 16;
      Val second = to + (((chunk & 3) * 2 + 1) ^ token) * 16;
      constexpr int64_t kTogether = 2;
      k.rolledForLoop(
          k.i32(0), k.i32(shape.unit / 8), k.i32(kTogether), {},
          [&](Val group, const Vals &) -> Vals {
            SmallVector<Vals> words;
            for (int64_t i = 0; i < kTogether; ++i) {
              Val number = group + i, inTile = number * 8 + token;
              Val offset = inTile / shape.boxTokens *
                               (shape.boxTokens * shape.channels[side]) +
                           inTile % shape.boxTokens * (inner * 16);
              if (inner == chunks)
                offset = inTile * (inner * 16);
              words.push_back(w.ldSharedWords(at(shared, from + offset), 4));
            }
            for (int64_t i = 0; i < kTogether; ++i) {
              Val offset = (group + i) * shape.groupStride(side);
              for (int64_t half : {0, 1}) {
                Vals halves = join(orderedHalvesOf(words[i][2 * half]),
                                   orderedHalvesOf(words[i][2 * half + 1]));
                w.stSharedWords(halves,
                                at(shared, (half ? second : first) + offset));
              }
            }
            return {};
          });
    };
    if (some + kLanes <= chunks)
      convert();
    else
      k.ifThen(chunk < chunks, convert);
  }
}

/// Two threads have a row of the query, every second chunk each.
void PromptKernel::convertQuery(Val ofWarpgroup, Val head) {
  Val thread = w.rereadThreadX(), lane = thread & 31;
  Val row = ofWarpgroup * 64 + ((thread >> 5) & 3) * 16 + (lane & 15);
  Val own = lane >> 4;
  auto store = [&](Val factor) {
    if (traits.hasKeyFactor)
      factor = factor * factorOf(*parameters.keyFactor, head);
    k.ifThen(own == 0, [&] {
      k.storeScalar(factor, at(shared, row * 4 + shape.factorOffset));
    });
  };
  if (!traits.queryType.isBF16())
    return store(k.f32(1));
  SmallVector<Value> places;
  Vals words;
  for (int64_t i = 0; i < shape.channels[0] / 16; ++i) {
    Val chunk = own + 2 * i;
    Val place = row * PromptShape::kRowBytes +
                (i >> 2) * (shape.rows * PromptShape::kRowBytes) +
                (((chunk & 7) ^ (row & 7)) * 16) + shape.queryOffset;
    places.push_back(at(shared, place));
    llvm::append_range(words, w.ldSharedWords(places.back(), 4));
  }
  Val factor = toHalves(words, {16});
  for (auto [i, place] : llvm::enumerate(places))
    w.stSharedWords(Vals(words.begin() + 4 * i, words.begin() + 4 * i + 4),
                    place);
  store(factor);
  w.fenceProxyAsync();
}

/// All warpgroups read the rows of an item with few pairs.
void PromptKernel::prepareQuery(Val head) {
  auto ownRows = [&] {
    convertQuery(w.rereadThreadX() >> 7, head);
    barWarpgroup();
  };
  if (!shape.fewPairs)
    return ownRows();
  k.ifThen(
      range(kKind).first != 0,
      [&] {
        k.ifThen((w.rereadThreadX() >> 7) == 0,
                 [&] { convertQuery(k.i32(0), head); });
        w.barSync(k.i32(1), 32 * shape.consumers());
      },
      ownRows);
}
