// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The end of a segment: the warps of a block are put together, and so are the
// blocks that share an item, in the same launch.
//
// A part is made of words that hold a number and the tag of the launch. A
// reader takes a word when it has the tag of its own launch, so nothing orders
// the words and nothing needs to be cleared. A counter tells when it is worth
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
  Num number = parity * AttentionState::kMaxCounters +
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
    for (int64_t i = 0; i < shape.warps; ++i)
      each.push_back(loadFour(sumAddress(w.i32(i), column)));
    Num most[2] = {each[0][0], each[0][2]};
    for (int64_t i = 1; i < shape.warps; ++i)
      for (int64_t c : {0, 1})
        most[c] = max(most[c], each[i][2 * c]);
    Num sum[2] = {w.f32(0), w.f32(0)};
    Nums numbers(4, w.f32(0));
    for (int64_t i = 0; i < shape.warps; ++i) {
      Nums part = loadFour(quadAddress(w.i32(i), all));
      Num share[2];
      for (int64_t c : {0, 1}) {
        share[c] = w.exp2(each[i][2 * c] - most[c]);
        sum[c] = sum[c] + each[i][2 * c + 1] * share[c];
      }
      for (int64_t j = 0; j < 4; ++j)
        numbers[j] = numbers[j] + part[j] * share[j % 2];
    }
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
          auto word = [&](Num x) {
            return (Num(k, k.widen(tag)) << 32) | Num(k, k.widen(w.bits(x)));
          };
          Value place = at(part, as(all, 64) * 32);
          w.storePair(word(shares[0]), word(shares[1]), place);
          w.storePair(word(shares[2]), word(shares[3]), at(place, 16));
          w.when((quad >> 2) == 0, [&] {
            Value sums = at(part, as(column, 64) * 8 + 32 * quads);
            w.storePair(word(logarithm[0]), word(logarithm[1]), sums);
          });
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
  // Lanes side by side read quads of one part, the others those of other parts;
  // each has some parts in flight. So many lanes for a part that there is one
  // turn for all of it.
  Num lanes =
      select(split.parts <= kPartsInFlight, w.i32(5),
             select(split.parts <= 4 * kPartsInFlight, w.i32(3), w.i32(1)));
  Num list = lane >> lanes, place = lane & ((w.i32(1) << lanes) - 1);
  Num lists = w.i32(32) >> lanes;
  Num first = (block - split.firstBlock) * shape.warps + warp;
  Num bits = pairBits(item), used = usedQuads(bits);
  Num items = (used + ((w.i32(1) << lanes) - 1)) >> lanes;
  w.when((split.readers > 0) & (first < items), [&] {
    Value address = counter(item, split);
    Num wanted = split.parts * arrivals(bits);
    w.loopWhile(
        {w.i32(0)},
        [&](const Nums &turns) -> Warp::Tested {
          Num isEarly = w.loadRelaxed(address, 32) < wanted;
          return {isEarly & (turns[0] < kPatience), turns};
        },
        [&](const Nums &turns) -> Nums { return {turns[0] + 1}; });
    w.loop(first, items, split.readers * shape.warps, {},
           [&](Num number, const Nums &) -> Nums {
             Num index = (number << lanes) + place;
             Num isThere = index < used;
             Num all = quadOf(min(index, used - 1), bits);
             combineQuad(item, split, all, list, lists, lanes, isThere);
             return {};
           });
  });
}

void AttentionKernel::combineQuad(const Entry &item, const Split &split,
                                  Num all, Num list, Num lists, Num lanes,
                                  Num isThere) {
  int64_t steps = shape.channels[1] / 16, quads = shape.quads();
  Num columnTile = all / (steps * 32), quad = all % (steps * 32);
  Num column = columnTile * 8 + (quad & 3) * 2;
  Nums start = {w.f32(kNoMaximum), w.f32(kNoMaximum)};
  start.append(6, w.f32(0));
  Nums result = w.loop(
      list, split.parts, lists * kPartsInFlight, start,
      [&](Num base, const Nums &sofar) -> Nums {
        struct Read {
          Num isThere;
          Value numbers, sums;
        };
        SmallVector<Read> reads;
        for (int64_t i = 0; i < kPartsInFlight; ++i) {
          Num index = base + lists * i;
          Num isThere = index < split.parts;
          index = select(isThere, index, w.i32(0));
          Num slot = select(index == 0, split.firstSlot, w.i32(0));
          Value part =
              at(k.parameter(parameters.parts),
                 partAddress(split.firstBlock + index, slot, item.head));
          Value numbers = at(part, as(all, 64) * 32);
          Value sums = at(part, as(column, 64) * 8 + 32 * quads);
          reads.push_back({isThere, numbers, sums});
        }
        // Words of an earlier launch are on their way.
        auto reload = [&] {
          Nums words;
          for (const Read &read : reads)
            llvm::append_range(words, join(w.loadPair(read.numbers),
                                           w.loadPair(at(read.numbers, 16)),
                                           w.loadPair(read.sums)));
          return words;
        };
        Nums words = reload();
        size_t count = words.size();
        words = w.loopWhile(
            join(words, Nums{w.i32(0)}),
            [&](const Nums &n) -> Warp::Tested {
              Num isOld = w.number(k.truth(false));
              for (size_t i = 0; i < count; ++i)
                isOld = isOld | (as(n[i] >> 32, 32) != tag);
              return {isOld & (n[count] < kPatience), n};
            },
            [&](const Nums &n) -> Nums {
              return join(reload(), Nums{n[count] + 1});
            });
        // A wait that was given up is told when all is done: a call here would
        // cost every launch.
        w.when(words[count] >= kPatience,
               [&] { k.storeScalar(w.i32(1), failedFlag()); });
        SmallVector<Nums> parts;
        for (size_t i = 0; i < reads.size(); ++i) {
          Nums numbers;
          for (size_t j = 0; j < 6; ++j)
            numbers.push_back(w.fromBits(as(words[6 * i + j], 32)));
          for (size_t c = 4; c < 6; ++c)
            numbers[c] =
                select(reads[i].isThere, numbers[c], w.f32(kNoMaximum));
          parts.push_back(numbers);
        }
        Nums next = sofar;
        for (int64_t c : {0, 1}) {
          Num most = sofar[c];
          for (const Nums &part : parts)
            most = max(most, part[4 + c]);
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
  w.sync();
  // The lanes that have the same quad of other parts.
  result = w.loopWhile(
      join(Nums{w.i32(1) << lanes}, result),
      [&](const Nums &n) -> Warp::Tested { return {n[0] < 32, n}; },
      [&](const Nums &n) -> Nums {
        Nums next = {n[0] << 1}, other;
        for (Num number : ArrayRef<Num>(n).drop_front())
          other.push_back(w.fromOther(number, n[0]));
        Nums sum(8, Num());
        ArrayRef<Num> own = ArrayRef<Num>(n).drop_front();
        for (int64_t c : {0, 1}) {
          Num most = max(own[c], other[c]);
          Num a = w.exp2(own[c] - most), b = w.exp2(other[c] - most);
          sum[c] = most;
          sum[2 + c] = own[2 + c] * a + other[2 + c] * b;
          for (int64_t j = c; j < 4; j += 2)
            sum[4 + j] = own[4 + j] * a + other[4 + j] * b;
        }
        return join(next, sum);
      });
  result.erase(result.begin());
  w.when((list == 0) & isThere, [&] {
    store(item, quad, columnTile, result[0], result[1], result[2], result[3],
          ArrayRef<Num>(result).drop_front(4));
  });
}
