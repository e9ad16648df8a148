// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The end of a segment: the warps of a block are put together, and so are the
// blocks that share an item, in the same launch.
//
// A part is made of words of 16 bytes: two numbers, the logarithm of their
// column, and the tag of the launch. A reader takes a word when it has the tag
// of its own launch, so nothing orders the words and nothing needs to be
// cleared. A counter tells when it is worth
// looking. All blocks run at the same time (a cooperative launch), and a wait
// that takes too long ends the program with a message.
//
//===----------------------------------------------------------------------===//

#include "AttentionKernel.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

static constexpr float kNoMaximum = -1e30f;
/// Parts that a lane has in flight.
static constexpr int64_t kPartsInFlight = 4;
/// Looks before a wait is given up: seconds.
static constexpr int64_t kPatience = 1 << 24;

Num AttentionKernel::partAddress(Num block, Num slot, Num head) {
  Num number = (block * 2 + slot) * traits.heads + head;
  return as(number, 64) * shape.partBytes();
}

/// Of four pairs of columns, those that some row has: 1 << bits.
Num AttentionKernel::pairBits(const Entry &item) {
  Num pairs = (item.end - item.start) * traits.group;
  Num used = pairs - item.tile * shape.columns();
  return select(used <= 2, w.i32(0), select(used <= 4, w.i32(1), w.i32(2)));
}
Num AttentionKernel::usedQuads(Num pairBits) {
  return w.i32(shape.quads() / 4) << pairBits;
}
Num AttentionKernel::quadOf(Num index, Num pairBits) {
  return ((index >> pairBits) << 2) | (index & ((w.i32(1) << pairBits) - 1));
}
/// How many warps tell that a part is there.
Num AttentionKernel::arrivals(Num pairBits) {
  return min((usedQuads(pairBits) + 31) >> 5, shape.warps);
}
Value AttentionKernel::counter(const Entry &item, const Split &split) {
  Num number = parity() * AttentionState::kMaxCounters +
               split.firstBlock * traits.heads + item.head;
  return at(k.parameter(parameters.state),
            as(number, 64) * 4 + AttentionState::kCounters);
}

static Nums elementsOf(KernelBuilder &k, Value vector) {
  Nums elements;
  for (int64_t i = 0; i < 4; ++i)
    elements.emplace_back(
        k, LLVM::ExtractElementOp::create(k.builder, k.loc, vector, k.i32(i)));
  return elements;
}

static Value vectorOf(KernelBuilder &k, ArrayRef<Num> elements) {
  auto type = VectorType::get({int64_t(elements.size())}, elements[0].type());
  Value vector = LLVM::PoisonOp::create(k.builder, k.loc, type);
  for (auto [i, element] : llvm::enumerate(elements))
    vector = LLVM::InsertElementOp::create(k.builder, k.loc, vector, element,
                                           k.i32(i));
  return vector;
}

/// The logarithm of a sum, and how much its part weighs.
static Num weightOf(Warp &w, Num logarithm, Num maximum) {
  return select(logarithm > kNoMaximum, w.exp2(logarithm - maximum), w.f32(0));
}

void AttentionKernel::store(const Entry &item, Num quad, Num columnTile,
                            Num maximum0, Num maximum1, Num sum0, Num sum1,
                            ArrayRef<Num> numbers) {
  // A quad: two channels of two columns.
  Num t = quad & 3, g = (quad >> 2) & 7, step = quad >> 5;
  Num pairs = (item.end - item.start) * traits.group;
  Num from = item.tile * shape.columns() + columnTile * 8 + t * 2;
  int64_t bytes = traits.outType.getIntOrFloatBitWidth() / 8;
  for (int64_t i = 0; i < 2; ++i) {
    Num pair = from + i;
    w.when(pair < pairs, [&] {
      Num row = item.start + pair / traits.group;
      Num queryHead = head * traits.group + pair % traits.group;
      Num maximum = i ? maximum1 : maximum0, sum = i ? sum1 : sum0;
      Num isEmpty = sum == 0;
      Num sink, factor;
      if (traits.hasSinks) {
        sink = load32(parameters.sinks, queryHead);
        Num x = sink * float(M_LOG2E);
        Num larger = max(maximum, x), share = w.exp2(maximum - larger);
        sum = sum * share + w.exp2(x - larger);
        maximum = larger;
        factor = share * w.reciprocal(sum);
      } else {
        factor = w.reciprocal(sum);
      }
      factor = select(isEmpty, w.f32(0), factor);
      Num place = as(row, 64) * Num(k, k.stride(parameters.outRow, bytes)) +
                  as(queryHead, 64) * (traits.valueChannels * bytes);
      Num channel = step * 16 + g;
      Value out =
          at(at(k.parameter(parameters.out), place), as(channel, 64) * bytes);
      for (int64_t half = 0; half < 2; ++half) {
        Num number = numbers[i + 2 * half] * factor;
        auto put = [&] {
          Value x = k.fromFloats(number, 1, traits.outType);
          k.store(x, at(out, half * 8 * bytes), bytes);
        };
        if (half && traits.valueChannels % 16)
          w.when(channel + 8 < traits.valueChannels, put);
        else
          put();
      }
      if (!traits.hasLse)
        return;
      w.when((g == 0) & (step == 0), [&] {
        Num known = select(isEmpty, w.f32(1), sum);
        Num lse = (maximum + w.log2(known)) * float(M_LN2);
        lse = select(isEmpty, traits.hasSinks ? sink : w.f32(-INFINITY), lse);
        Num place = as(row, 64) * Num(k, k.stride(parameters.lseRow, 4)) +
                    as(queryHead, 64) * 4;
        k.storeScalar(lse, at(k.parameter(parameters.lse), place));
      });
    });
  }
}

void AttentionKernel::finishSegment(const Entry &item, const Split &split,
                                    ArrayRef<Num> state) {
  Num isSplit = split.isSplit != 0;
  int64_t count = numColumns(), steps = shape.channels[1] / 16;
  Nums maxima(state.take_front(count)), sums(state.slice(count, count));
  ArrayRef<Num> out = state.drop_front(2 * count);
  for (Num &sum : sums)
    for (int64_t bits : {4, 8, 16})
      sum = sum + w.fromOther(sum, bits);
  int64_t consumers = 32 * shape.warps, quads = shape.quads();
  auto sumAddress = [&](Num ofWarp, Num column) {
    return at(shared,
              (ofWarp * shape.columns() + column) * 8 + shape.sumOffset);
  };
  auto quadAddress = [&](Num ofWarp, Num quad) {
    return at(shared, (ofWarp * quads + quad) * 16 + shape.mergeOffset);
  };
  w.barrierOf(1, consumers);
  Num t = lane & 3;
  for (int64_t tile = 0; tile < shape.columnTiles; ++tile) {
    for (int64_t step = 0; step < steps; ++step) {
      int64_t first = tile * steps + step;
      // Lanes are in the sequence of g and t.
      k.store(vectorOf(k, out.slice(first * 4, 4)),
              quadAddress(warp, lane + first * 32), 16);
    }
    w.when((lane >> 2) == 0, [&] {
      k.store(vectorOf(k, {maxima[2 * tile], sums[2 * tile],
                           maxima[2 * tile + 1], sums[2 * tile + 1]}),
              sumAddress(warp, t * 2 + 8 * tile), 16);
    });
  }
  w.barrierOf(1, consumers);

  // A thread has some quads.
  Num number = warp * 32 + lane;
  Num bits = pairBits(item), used = usedQuads(bits);
  auto merge = [&](Num index) {
    Num all = quadOf(index, bits);
    Num columnTile = all / (steps * 32), quad = all % (steps * 32);
    Num column = columnTile * 8 + (quad & 3) * 2;
    Type four = VectorType::get({4}, k.builder.getF32Type());
    auto loadFour = [&](Value address) {
      return elementsOf(
          k, LLVM::LoadOp::create(k.builder, k.loc, four, address, 16));
    };
    SmallVector<Nums> each;
    Num most[2] = {w.f32(kNoMaximum), w.f32(kNoMaximum)};
    for (int64_t i = 0; i < shape.warps; ++i) {
      each.push_back(loadFour(sumAddress(w.i32(i), column)));
      for (int64_t c : {0, 1})
        most[c] = max(most[c], each[i][2 * c]);
    }
    // The sums of two columns, and four numbers.
    Nums merged(6, w.f32(0));
    constexpr int64_t kTogether = 4;
    for (int64_t first = 0; first < shape.warps; first += kTogether) {
      auto mergeSome = [&]() -> Nums {
        Nums next = merged;
        for (int64_t i = first; i < first + kTogether; ++i) {
          Nums part = loadFour(quadAddress(w.i32(i), all));
          for (int64_t c : {0, 1}) {
            Num share = w.exp2(each[i][2 * c] - most[c]);
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
        merged =
            w.when(item.count > first,
                   SmallVector<Type>(merged.size(), k.builder.getF32Type()),
                   mergeSome, [&]() -> Nums { return merged; });
    }
    Num sum[2] = {merged[0], merged[1]};
    Nums numbers(merged.begin() + 2, merged.end());
    w.when(
        isSplit,
        [&] {
          Num logarithm[2];
          Nums shares = numbers;
          for (int64_t c : {0, 1}) {
            Num isEmpty = sum[c] == 0;
            Num known = select(isEmpty, w.f32(1), sum[c]);
            Num factor = w.reciprocal(known);
            logarithm[c] =
                select(isEmpty, w.f32(kNoMaximum), most[c] + w.log2(known));
            for (int64_t j = c; j < 4; j += 2)
              shares[j] = numbers[j] * factor;
          }
          Num isFirst = block == split.firstBlock;
          Num slot = select(isFirst, split.firstSlot, w.i32(0));
          Value part =
              at(k.parameter(parameters.parts), partAddress(block, slot, head));
          Value place = at(part, Num(k, k.widen(all * 32)));
          for (int64_t i : {0, 1})
            w.storeFour({w.bits(shares[2 * i]), w.bits(shares[2 * i + 1]),
                         w.bits(logarithm[i]), tag},
                        at(place, 16 * i));
        },
        [&] {
          store(item, quad, columnTile, most[0], most[1], sum[0], sum[1],
                numbers);
        });
  };
  for (int64_t i = 0; i < quads; i += consumers)
    w.when(number + i < used, [&] { merge(number + i); });
  w.sync();
  w.when(isSplit & (lane == 0) & (warp < arrivals(bits)),
         [&] { w.addRelaxed(counter(item, split), w.i32(1)); });
}

void AttentionKernel::combine(const Entry &item, const Split &split) {
  // A warp has some quads of one pair of columns. Lanes side by side read quads
  // of one part, the others those of other parts; each has some parts in
  // flight. So many lanes for a part that there is one turn for all of it.
  Num lanes =
      select(split.parts <= kPartsInFlight, w.i32(5),
             select(split.parts <= 4 * kPartsInFlight, w.i32(3), w.i32(1)));
  Num list = lane >> lanes, place = lane & ((w.i32(1) << lanes) - 1);
  // First a warp of each block: what a block reads comes through one port.
  Num first = warp * split.readers + (block - split.firstBlock);
  Num bits = pairBits(item);
  int64_t ofPair = shape.channels[1] / 2;
  Num perTile = (((w.i32(1) << lanes) - 1) + ofPair) >> lanes;
  Num items = (perTile * shape.columnTiles) << bits;
  w.when((split.readers > 0) & (first < items), [&] {
    // The counter tells when it is worth looking, as who looks takes time from
    // those that still read keys. The last parts are waited for by looking:
    // that is sooner, and all of them are where no block has much to do.
    Value address = counter(item, split);
    Num wanted = (split.parts * arrivals(bits) * 3) >> 2;
    w.when(split.isShort == 0, [&] {
      w.loopWhile(
          {w.i32(0)},
          [&](const Nums &turns) -> Warp::Tested {
            Num isEarly = w.loadRelaxed(address, 32) < wanted;
            return {isEarly & (turns[0] < kPatience), turns};
          },
          [&](const Nums &turns) -> Nums { return {turns[0] + 1}; });
    });
    w.loop(first, items, split.readers * shape.warps, {},
           [&](Num number, const Nums &) -> Nums {
             Num pair = number & ((w.i32(1) << bits) - 1);
             Num index = number >> bits, columnTile = w.i32(0);
             if (shape.columnTiles > 1) {
               columnTile = select(index < perTile, columnTile, w.i32(1));
               index = index - columnTile * perTile;
             }
             index = (index << lanes) + place;
             Num isThere = index < ofPair;
             Num quad = (select(isThere, index, w.i32(0)) << 2) | pair;
             combineQuad(item, split, columnTile, quad, list, lanes, isThere);
             return {};
           });
  });
}

void AttentionKernel::combineQuad(const Entry &item, const Split &split,
                                  Num columnTile, Num quad, Num list, Num lanes,
                                  Num isThere) {
  Num all = columnTile * (shape.channels[1] / 16 * 32) + quad;
  Value parts = at(k.parameter(parameters.parts),
                   partAddress(split.firstBlock, w.i32(0), item.head));
  // From a block to the next one; the first block may have it in another slot.
  // All parts are some megabytes.
  int64_t partStride = 2 * traits.heads * shape.partBytes();
  Num firstSlot = split.firstSlot * (traits.heads * shape.partBytes());
  Num lists = w.i32(32) >> lanes;
  Nums start = {w.f32(kNoMaximum), w.f32(kNoMaximum)};
  start.append(6, w.f32(0));
  Nums result = w.loop(
      w.i32(0), split.parts, lists * kPartsInFlight, start,
      [&](Num base, const Nums &sofar) -> Nums {
        struct Read {
          Num isThere;
          Value words;
        };
        SmallVector<Read> reads;
        for (int64_t i = 0; i < kPartsInFlight; ++i) {
          Num index = base + list + lists * i;
          Num isThere = index < split.parts;
          index = select(isThere, index, w.i32(0));
          Num offset = index * partStride + all * 32 +
                       select(index == 0, firstSlot, w.i32(0));
          reads.push_back({isThere, at(parts, Num(k, k.widen(offset)))});
        }
        // Words of an earlier launch are on their way.
        auto reload = [&] {
          Nums words;
          for (const Read &read : reads)
            for (int64_t i : {0, 1})
              llvm::append_range(words, w.loadFour(at(read.words, 16 * i)));
          return words;
        };
        Nums words = reload();
        size_t count = words.size();
        words = w.loopWhile(
            join(words, Nums{w.i32(0)}),
            [&](const Nums &n) -> Warp::Tested {
              Num different = w.i32(0);
              for (size_t i = 3; i < count; i += 4)
                different = different | (n[i] ^ tag);
              // Together: what follows is done by all lanes.
              return {w.any(different != 0) & (n[count] < kPatience), n};
            },
            [&](const Nums &n) -> Nums {
              return join(reload(), Nums{n[count] + 1});
            });
        // A wait that was given up is told when all is done: a call here would
        // cost every launch.
        w.when(w.seldom(words[count] >= kPatience),
               [&] { k.storeScalar(w.i32(1), failedFlag()); });
        SmallVector<Nums> parts;
        for (size_t i = 0; i < reads.size(); ++i) {
          // Four numbers and two logarithms.
          Nums numbers;
          for (size_t j : {0, 1, 4, 5, 2, 6})
            numbers.push_back(w.fromBits(words[8 * i + j]));
          for (size_t c = 4; c < 6; ++c)
            numbers[c] =
                select(reads[i].isThere, numbers[c], w.f32(kNoMaximum));
          parts.push_back(numbers);
        }
        Nums next = sofar;
        for (int64_t c : {0, 1}) {
          Num most = parts[0][4 + c];
          for (const Nums &part : ArrayRef<Nums>(parts).drop_front())
            most = max(most, part[4 + c]);
          // All lanes have this column.
          most = max(w.largest(most), sofar[c]);
          Num old = w.exp2(sofar[c] - most);
          next[c] = most;
          next[2 + c] = sofar[2 + c] * old;
          for (int64_t j = c; j < 4; j += 2)
            next[4 + j] = sofar[4 + j] * old;
          for (const Nums &part : parts) {
            Num share = weightOf(w, part[4 + c], most);
            next[2 + c] = next[2 + c] + share;
            for (int64_t j = c; j < 4; j += 2)
              next[4 + j] = next[4 + j] + part[j] * share;
          }
        }
        return next;
      });
  // The lanes that have the same quad of other parts.
  Nums sums(result.begin() + 2, result.end());
  sums = w.loopWhile(
      join(Nums{w.i32(1) << lanes}, sums),
      [&](const Nums &n) -> Warp::Tested { return {n[0] < 32, n}; },
      [&](const Nums &n) -> Nums {
        Nums next = {n[0] << 1};
        for (Num number : ArrayRef<Num>(n).drop_front())
          next.push_back(number + w.fromOther(number, n[0]));
        return next;
      });
  w.when((list == 0) & isThere, [&] {
    store(item, quad, columnTile, result[0], result[1], sums[1], sums[2],
          ArrayRef<Num>(sums).drop_front(3));
  });
}
