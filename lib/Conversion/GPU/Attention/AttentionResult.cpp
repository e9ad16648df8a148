// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The end of a segment: the warps of a block are put together, and so are the
// blocks that share an item, in the same launch.
//
// A part is made of words of 16 bytes: two numbers, the logarithm of their
// column, and the tag of the launch. A reader takes a word when it has the tag
// of its own launch, so nothing orders the words and nothing needs to be
// cleared. A counter tells when it is worth looking. All blocks run at the same
// time (a cooperative launch), and a wait that takes too long ends the program
// with a message.
//
//===----------------------------------------------------------------------===//

#include "../Codecs.h"
#include "AttentionKernel.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

/// Looks before a wait is given up: seconds.
static constexpr int64_t kPatience = 1 << 24;

Val AttentionKernel::partAddress(Val block, Val slot, Val head) {
  Val number = (block * 2 + slot) * traits.heads + head;
  return as(number, 64) * shape.partBytes();
}

/// Of four pairs of columns, those that some row has: 1 << bits.
Val AttentionKernel::pairBits(const Entry &item) {
  Val pairs = (item.end - item.start) * traits.group;
  Val used = pairs - item.tile * shape.columns();
  return select(used <= 2, k.i32(0), select(used <= 4, k.i32(1), k.i32(2)));
}
Val AttentionKernel::usedQuads(Val pairBits) {
  return k.i32(shape.quads() / 4) << pairBits;
}
Val AttentionKernel::quadOf(Val index, Val pairBits) {
  return ((index >> pairBits) << 2) | (index & ((k.i32(1) << pairBits) - 1));
}
/// How many warps tell that a part is there.
Val AttentionKernel::arrivals(Val pairBits) {
  return min((usedQuads(pairBits) + 31) >> 5, shape.warps);
}
Value AttentionKernel::counter(const Entry &item, Val firstBlock) {
  Val number = parity() * AttentionState::kMaxCounters +
               firstBlock * traits.heads + item.head;
  return at(k.parameter(parameters.state),
            as(number, 64) * 4 + AttentionState::kCounters);
}

static Vals elementsOf(KernelBuilder &k, Value vector) {
  Vals elements;
  for (int64_t i = 0; i < 4; ++i)
    elements.emplace_back(k,
                          LLVM::ExtractElementOp::create(k, vector, k.i32(i)));
  return elements;
}

static Value vectorOf(KernelBuilder &k, ArrayRef<Val> elements) {
  auto type =
      VectorType::get({int64_t(elements.size())}, elements[0].getType());
  Value vector = LLVM::PoisonOp::create(k, type);
  for (auto [i, element] : llvm::enumerate(elements))
    vector = LLVM::InsertElementOp::create(k, vector, element, k.i32(i));
  return vector;
}

/// How much a part weighs whose sum has a logarithm.
Val AttentionKernel::weightOf(Val logarithm, Val maximum) {
  return select(logarithm > kNoMaximum, w.ex2(logarithm - maximum), k.f32(0));
}

void AttentionKernel::store(const Entry &item, Val quad, Val columnTile,
                            Val maximum0, Val maximum1, Val sum0, Val sum1,
                            ArrayRef<Val> numbers) {
  // A quad: two channels of two columns.
  Val t = quad & 3, g = (quad >> 2) & 7, step = quad >> 5;
  Val pairs = (item.end - item.start) * traits.group;
  Val from = item.tile * shape.columns() + columnTile * 8 + t * 2;
  int64_t bytes = traits.outType.getIntOrFloatBitWidth() / 8;
  for (int64_t i = 0; i < 2; ++i) {
    Val pair = from + i;
    k.ifThen(pair < pairs, [&] {
      Val row = item.start + pair / traits.group;
      Val queryHead = head * traits.group + pair % traits.group;
      RowTotal total =
          totalOf(queryHead, i ? maximum1 : maximum0, i ? sum1 : sum0);
      Val place = as(row, 64) * Val(k, k.stride(parameters.outRow, bytes)) +
                  as(queryHead, 64) * (traits.valueChannels * bytes);
      // Of bytes, rows g and g + 8 of a product are channels side by side.
      bool ofBytes = shape.elementBytes == 1;
      int64_t apart = ofBytes ? 1 : 8;
      Val channel = step * 16 + (ofBytes ? g * 2 : g);
      int64_t padded = ofBytes ? 32 : 16;
      Value out =
          at(at(k.parameter(parameters.out), place), as(channel, 64) * bytes);
      for (int64_t half = 0; half < 2; ++half) {
        Val number = numbers[i + 2 * half] * total.factor;
        auto put = [&] {
          Value x = gpu::codecOf(traits.outType).encode(k, number, 1);
          k.store(x, at(out, half * apart * bytes), bytes);
        };
        if ((half || ofBytes) && traits.valueChannels % padded)
          k.ifThen(channel + half * apart < traits.valueChannels, put);
        else
          put();
      }
      if (traits.hasLse)
        k.ifThen((g == 0) & (step == 0),
                 [&] { storeLse(row, queryHead, total); });
    });
  }
}

void AttentionKernel::mergeWarps(const Entry &item, ArrayRef<Val> state,
                                 function_ref<void(const Merged &)> use) {
  int64_t count = numColumns(), steps = shape.channels[1] / 16;
  Vals maxima(state.take_front(count)), sums(state.slice(count, count));
  ArrayRef<Val> out = state.drop_front(2 * count);
  for (Val &sum : sums)
    for (int64_t bits : {4, 8, 16})
      sum = sum + w.shflXor(sum, bits);
  int64_t consumers = 32 * shape.warps, quads = shape.quads();
  auto sumAddress = [&](Val ofWarp, Val column) {
    return at(shared,
              (ofWarp * shape.columns() + column) * 8 + shape.sumOffset);
  };
  auto quadAddress = [&](Val ofWarp, Val quad) {
    return at(shared, (ofWarp * quads + quad) * 16 + shape.mergeOffset);
  };
  w.barSync(k.i32(1), consumers);
  Val t = lane & 3;
  for (int64_t tile = 0; tile < shape.columnTiles; ++tile) {
    for (int64_t step = 0; step < steps; ++step) {
      int64_t first = tile * steps + step;
      // Lanes are in the sequence of g and t.
      k.store(vectorOf(k, out.slice(first * 4, 4)),
              quadAddress(warp, lane + first * 32), 16);
    }
    k.ifThen((lane >> 2) == 0, [&] {
      k.store(vectorOf(k, {maxima[2 * tile], sums[2 * tile],
                           maxima[2 * tile + 1], sums[2 * tile + 1]}),
              sumAddress(warp, t * 2 + 8 * tile), 16);
    });
  }
  w.barSync(k.i32(1), consumers);

  // A thread has some quads.
  Val number = warp * 32 + lane;
  Val bits = pairBits(item), used = usedQuads(bits);
  auto merge = [&](Val index) {
    Val all = quadOf(index, bits);
    Val columnTile = all / (steps * 32), quad = all % (steps * 32);
    Val column = columnTile * 8 + (quad & 3) * 2;
    Type four = VectorType::get({4}, k.getF32Type());
    auto loadFour = [&](Value address) {
      return elementsOf(k, LLVM::LoadOp::create(k, four, address, 16));
    };
    SmallVector<Vals> each;
    Val most[2] = {k.f32(kNoMaximum), k.f32(kNoMaximum)};
    for (int64_t i = 0; i < shape.warps; ++i) {
      each.push_back(loadFour(sumAddress(k.i32(i), column)));
      for (int64_t c : {0, 1})
        most[c] = max(most[c], each[i][2 * c]);
    }
    // The sums of two columns, and four numbers.
    Vals merged(6, k.f32(0));
    constexpr int64_t kTogether = 4;
    for (int64_t first = 0; first < shape.warps; first += kTogether) {
      auto mergeSome = [&]() -> Vals {
        Vals next = merged;
        for (int64_t i = first; i < first + kTogether; ++i) {
          Vals part = loadFour(quadAddress(k.i32(i), all));
          for (int64_t c : {0, 1}) {
            Val share = w.ex2(each[i][2 * c] - most[c]);
            next[c] = next[c] + each[i][2 * c + 1] * share;
            for (int64_t j = c; j < 4; j += 2)
              next[2 + j] = next[2 + j] + part[j] * share;
          }
        }
        return next;
      };
      // The last warps have nothing of a short segment.
      if (first == 0)
        merged = mergeSome();
      else
        merged = k.ifThen(item.count > first,
                          SmallVector<Type>(merged.size(), k.getF32Type()),
                          mergeSome, [&]() -> Vals { return merged; });
    }
    use({all,
         columnTile,
         quad,
         {most[0], most[1]},
         {merged[0], merged[1]},
         Vals(merged.begin() + 2, merged.end())});
  };
  for (int64_t i = 0; i < quads; i += consumers)
    k.ifThen(number + i < used, [&] { merge(number + i); });
  w.syncWarp();
}

AttentionKernel::Shares AttentionKernel::sharesOf(const Merged &merged) {
  Shares shares{merged.numbers, {}};
  for (int64_t c : {0, 1}) {
    Val isEmpty = merged.sum[c] == 0;
    Val known = select(isEmpty, k.f32(1), merged.sum[c]);
    Val factor = w.rcp(known);
    shares.logarithm[c] =
        select(isEmpty, k.f32(kNoMaximum), merged.most[c] + w.lg2(known));
    for (int64_t j = c; j < 4; j += 2)
      shares.numbers[j] = merged.numbers[j] * factor;
  }
  return shares;
}

void AttentionKernel::writePart(const Shares &shares, Value part, Val index) {
  Value place = at(part, Val(k, k.extui64(index * 32)));
  for (int64_t i : {0, 1})
    w.stRelaxed128({w.bitcastToInt(shares.numbers[2 * i]),
                    w.bitcastToInt(shares.numbers[2 * i + 1]),
                    w.bitcastToInt(shares.logarithm[i]), tag},
                   at(place, 16 * i));
}

/// By each warp that has written some of it.
void AttentionKernel::tellPart(const Entry &item, Val firstBlock) {
  w.atomAdd(counter(item, firstBlock), k.i32(1));
}

void AttentionKernel::finishSegment(const Entry &item, const Split &split,
                                    ArrayRef<Val> state) {
  Val isSplit = split.isSplit != 0;
  mergeWarps(item, state, [&](const Merged &merged) {
    k.ifThen(
        isSplit,
        [&] {
          Shares shares = sharesOf(merged);
          Val isFirst = block == split.firstBlock;
          Val slot = select(isFirst, split.firstSlot, k.i32(0));
          writePart(
              shares,
              at(k.parameter(parameters.parts), partAddress(block, slot, head)),
              merged.index);
        },
        [&] {
          store(item, merged.quad, merged.columnTile, merged.most[0],
                merged.most[1], merged.sum[0], merged.sum[1], merged.numbers);
        });
  });
  k.ifThen(isSplit & (lane == 0) & (warp < arrivals(pairBits(item))),
           [&] { tellPart(item, split.firstBlock); });
}

/// The counter tells when it is worth looking, as who looks takes time from
/// those that still read keys. The last parts are waited for by looking: that
/// is sooner, and all of them are where no block has much to do.
void AttentionKernel::waitForParts(const Entry &item, Val firstBlock,
                                   Val parts) {
  Value address = counter(item, firstBlock);
  Val wanted = (parts * arrivals(pairBits(item)) * 3) >> 2;
  k.whileLoop(
      {k.i32(0)},
      [&](const Vals &turns) -> CodeBuilder::Tested {
        Val isEarly = w.ldRelaxed(address, 32) < wanted;
        return {isEarly & (turns[0] < kPatience), turns};
      },
      [&](const Vals &turns) -> Vals { return {turns[0] + 1}; });
}

void AttentionKernel::combine(const Entry &item, const Split &split) {
  // A warp has some quads of one pair of columns. Lanes side by side read quads
  // of one part, the others those of other parts; each has some parts in
  // flight. So many lanes for a part that there is one turn for all of it.
  Val lanes =
      select(split.parts <= kPartsInFlight, k.i32(5),
             select(split.parts <= 4 * kPartsInFlight, k.i32(3), k.i32(1)));
  Val list = lane >> lanes, place = lane & ((k.i32(1) << lanes) - 1);
  // First a warp of each block: what a block reads comes through one port.
  Val first = warp * split.readers + (block - split.firstBlock);
  Val bits = pairBits(item);
  int64_t ofPair = shape.channels[1] / 2;
  Val perTile = (((k.i32(1) << lanes) - 1) + ofPair) >> lanes;
  Val items = (perTile * shape.columnTiles) << bits;
  k.ifThen((split.readers > 0) & (first < items), [&] {
    k.ifThen(split.isShort == 0,
             [&] { waitForParts(item, split.firstBlock, split.parts); });
    k.rolledForLoop(
        first, items, split.readers * shape.warps, {},
        [&](Val number, const Vals &) -> Vals {
          Val pair = number & ((k.i32(1) << bits) - 1);
          Val index = number >> bits, columnTile = k.i32(0);
          if (shape.columnTiles > 1) {
            columnTile = select(index < perTile, columnTile, k.i32(1));
            index = index - columnTile * perTile;
          }
          index = (index << lanes) + place;
          Val isThere = index < ofPair;
          Val quad = (select(isThere, index, k.i32(0)) << 2) | pair;
          combineQuad(item, split, columnTile, quad, list, lanes, isThere);
          return {};
        });
  });
}

/// Four numbers and two logarithms of each, when they are those of this launch.
SmallVector<Vals> AttentionKernel::takeParts(ArrayRef<Value> places) {
  // Words of an earlier launch are on their way.
  auto reload = [&] {
    Vals words;
    for (Value place : places)
      for (int64_t i : {0, 1})
        llvm::append_range(words, w.ldRelaxed128(at(place, 16 * i)));
    return words;
  };
  Vals words = reload();
  size_t count = words.size();
  words = k.whileLoop(
      join(words, Vals{k.i32(0)}),
      [&](const Vals &n) -> CodeBuilder::Tested {
        Val different = k.i32(0);
        for (size_t i = 3; i < count; i += 4)
          different = different | (n[i] ^ tag);
        // Together: what follows is done by all lanes.
        return {w.voteAny(different != 0) & (n[count] < kPatience), n};
      },
      [&](const Vals &n) -> Vals {
        return join(reload(), Vals{n[count] + 1});
      });
  // A wait that was given up is told when all is done: a call here would cost
  // every launch.
  k.ifThen(w.unlikely(words[count] >= kPatience),
           [&] { k.storeScalar(k.i32(1), failedFlag()); });
  SmallVector<Vals> parts;
  for (size_t i = 0; i < places.size(); ++i) {
    Vals numbers;
    for (size_t j : {0, 1, 4, 5, 2, 6})
      numbers.push_back(w.bitcastToFloat(words[8 * i + j]));
    parts.push_back(numbers);
  }
  return parts;
}

void AttentionKernel::combineQuad(const Entry &item, const Split &split,
                                  Val columnTile, Val quad, Val list, Val lanes,
                                  Val isThere) {
  int64_t quads = shape.channels[1] / 16 * 32;
  Val all = columnTile * quads + quad;
  Value parts = at(k.parameter(parameters.parts),
                   partAddress(split.firstBlock, k.i32(0), item.head));
  // From a block to the next one; the first block may have it in another slot.
  // All parts are some megabytes.
  int64_t partStride = 2 * traits.heads * shape.partBytes();
  Val firstSlot = split.firstSlot * (traits.heads * shape.partBytes());
  Val lists = k.i32(32) >> lanes;
  Vals start = {k.f32(kNoMaximum), k.f32(kNoMaximum)};
  start.append(6, k.f32(0));
  Vals result = k.rolledForLoop(
      k.i32(0), split.parts, lists * kPartsInFlight, start,
      [&](Val base, const Vals &sofar) -> Vals {
        Vals isThere;
        SmallVector<Value> places;
        for (int64_t i = 0; i < kPartsInFlight; ++i) {
          Val index = base + list + lists * i;
          isThere.push_back(index < split.parts);
          index = select(isThere.back(), index, k.i32(0));
          Val offset = index * partStride + all * 32 +
                       select(index == 0, firstSlot, k.i32(0));
          places.push_back(at(parts, Val(k, k.extui64(offset))));
        }
        SmallVector<Vals> parts = takeParts(places);
        for (size_t i = 0; i < parts.size(); ++i)
          for (size_t c = 4; c < 6; ++c)
            parts[i][c] = select(isThere[i], parts[i][c], k.f32(kNoMaximum));
        Vals next = sofar;
        for (int64_t c : {0, 1}) {
          Val most = parts[0][4 + c];
          for (const Vals &part : ArrayRef<Vals>(parts).drop_front())
            most = max(most, part[4 + c]);
          // All lanes have this column.
          most = max(w.reduxMax(most), sofar[c]);
          Val old = w.ex2(sofar[c] - most);
          next[c] = most;
          next[2 + c] = sofar[2 + c] * old;
          for (int64_t j = c; j < 4; j += 2)
            next[4 + j] = sofar[4 + j] * old;
          for (const Vals &part : parts) {
            Val share = weightOf(part[4 + c], most);
            next[2 + c] = next[2 + c] + share;
            for (int64_t j = c; j < 4; j += 2)
              next[4 + j] = next[4 + j] + part[j] * share;
          }
        }
        return next;
      });
  // The lanes that have the same quad of other parts.
  Vals sums(result.begin() + 2, result.end());
  sums = k.whileLoop(
      join(Vals{k.i32(1) << lanes}, sums),
      [&](const Vals &n) -> CodeBuilder::Tested { return {n[0] < 32, n}; },
      [&](const Vals &n) -> Vals {
        Vals next = {n[0] << 1};
        for (Val number : ArrayRef<Val>(n).drop_front())
          next.push_back(number + w.shflXor(number, n[0]));
        return next;
      });
  k.ifThen((list == 0) & isThere, [&] {
    store(item, quad, columnTile, result[0], result[1], sums[1], sums[2],
          ArrayRef<Val>(sums).drop_front(3));
  });
}
