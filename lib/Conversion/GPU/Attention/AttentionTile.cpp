// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Consumers: both products of a unit, and the softmax between them.
//
//   S^T = K Q^T     16 tokens x 8 columns for each tile of columns
//   O^T = V^T P^T   16 channels x 8 columns, summed over tokens
//
// A lane has the tokens lane / 4 and lane / 4 + 8, and the columns
// lane % 4 * 2 and the next one, of each S^T; sums of a column are kept per
// lane until the segment ends, and rescaled only when its maximum has grown by
// more than 8 (to base 2).
//
//===----------------------------------------------------------------------===//

#include "AttentionKernel.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

/// Where the maximum of a column begins: below all scores, and finite.
static constexpr float kNoMaximum = -1e30f;
static constexpr float kGrowth = 8;

Num AttentionKernel::load32(unsigned pointer, Num index) {
  return w.number(k.loadScalar(at(k.parameter(pointer), as(index, 64) * 4),
                               k.builder.getF32Type()));
}

AttentionKernel::Columns AttentionKernel::columns(const Entry &item,
                                                  Num place) {
  Columns found;
  Num pairs = (item.end - item.start) * traits.group;
  Num from = item.tile * shape.columns();
  // Two steps of 16 channels are four matrices.
  int64_t steps = shape.channels[0] / 16;
  for (int64_t tile = 0; tile < shape.columnTiles; ++tile) {
    Num row = place * shape.queryBytes() +
              ((lane & 7) + 8 * tile) * shape.queryRowBytes() +
              (lane >> 3) * 16 + shape.queryOffset;
    Value source = at(shared, row);
    for (int64_t step = 0; step < steps; step += 2) {
      // Past the last step is padding, or what is next: it is not used.
      Nums matrices = w.loadMatrices(at(source, step * 32), false);
      matrices.resize(2 * std::min<int64_t>(2, steps - step));
      llvm::append_range(found.query, matrices);
    }
  }
  // What the columns of a lane see. Those that are not there are as the last.
  for (int64_t tile = 0; tile < shape.columnTiles; ++tile)
    for (int64_t i = 0; i < 2; ++i) {
      Num pair = min(from + (lane & 3) * 2 + (8 * tile + i), pairs - 1);
      Num row = item.start + pair / traits.group;
      Limits seen = limits(row, item.end, item.length);
      found.first.push_back(seen.first);
      found.end.push_back(seen.end);
      if (traits.hasAlibi) {
        Num queryHead = head * traits.group + pair % traits.group;
        found.slope.push_back(load32(parameters.alibi, queryHead) *
                              float(M_LOG2E));
        found.position.push_back(w.number(arith::SIToFPOp::create(
            k.builder, k.loc, k.builder.getF32Type(), seen.position)));
      }
    }
  found.commonFirst = found.first[0];
  found.commonEnd = found.end[0];
  for (int64_t i = 1; i < numColumns(); ++i) {
    found.commonFirst = max(found.commonFirst, found.first[i]);
    found.commonEnd = min(found.commonEnd, found.end[i]);
  }
  for (int64_t bits : {1, 2}) {
    found.commonFirst =
        max(found.commonFirst, w.fromOther(found.commonFirst, bits));
    found.commonEnd = min(found.commonEnd, w.fromOther(found.commonEnd, bits));
  }
  return found;
}

/// Bytes of the fragments of a lane in a unit, for the steps whose chunks are
/// permuted in different ways.
Nums AttentionKernel::fragmentOffsets(unsigned side, Num token, Num chunk) {
  int64_t inner = shape.inner[side] / 8;
  Num unit = warp * shape.unitBytes(side) + token * (inner * 16);
  if (inner == 1)
    return {unit + chunk * (shape.kUnit * 16)};
  int64_t turn = inner == 8 ? 0 : inner == 4 ? 1 : 2;
  Num turned = (token >> turn) & (inner - 1);
  Nums offsets;
  for (int64_t step = 0; step < inner / 2; ++step)
    offsets.push_back(unit + ((chunk + 2 * step) ^ turned) * 16);
  return offsets;
}

/// Bytes from those to the fragment of a step, 16 channels each.
int64_t AttentionKernel::fragmentStep(unsigned side, int64_t step) const {
  int64_t inner = shape.inner[side] / 8;
  int64_t part = shape.kUnit * inner * 16;
  return inner == 1 ? 2 * step * part : 2 * step / inner * part;
}

Nums AttentionKernel::scores(Num slot, const Columns &columns) {
  Num base = slot * shape.slotBytes();
  Num zero = w.f32(0);
  // Two chains of products each.
  SmallVector<Nums> sums(2 * shape.columnTiles, Nums(4, zero));
  SmallVector<Value> sources;
  for (Num offset : keyOffsets)
    sources.push_back(at(shared, base + offset));
  int64_t steps = shape.channels[0] / 16;
  for (int64_t s = 0; s < steps; ++s) {
    Value source = sources[s % sources.size()];
    Nums keys = w.loadMatrices(at(source, fragmentStep(0, s)), false);
    for (int64_t tile = 0; tile < shape.columnTiles; ++tile) {
      Nums &sum = sums[2 * tile + s % 2];
      size_t query = (tile * steps + s) * 2;
      sum = w.multiply(keys, {columns.query[query], columns.query[query + 1]},
                       sum, traits.keyType);
    }
  }
  Nums all;
  for (int64_t tile = 0; tile < shape.columnTiles; ++tile)
    for (int64_t i = 0; i < 4; ++i)
      all.push_back(sums[2 * tile][i] + sums[2 * tile + 1][i]);
  return all;
}

/// Scores to base 2, from products.
Nums AttentionKernel::weigh(const Columns &columns, ArrayRef<Num> products,
                            Num unit) {
  Nums result;
  for (int64_t i = 0; i < int64_t(products.size()); ++i) {
    Num x = products[i];
    if (traits.softcap) {
      x = w.tanh(x * (traits.scale / *traits.softcap)) *
          float(*traits.softcap * M_LOG2E);
    } else {
      x = x * float(traits.scale * M_LOG2E);
    }
    if (traits.hasAlibi) {
      int64_t column = i / 4 * 2 + i % 2;
      Num key = unit * shape.kUnit + (lane >> 2) + i % 4 / 2 * 8;
      Num place = w.number(arith::SIToFPOp::create(
          k.builder, k.loc, k.builder.getF32Type(), key));
      x = x + columns.slope[column] * (place - columns.position[column]);
    }
    result.push_back(x);
  }
  return result;
}

Nums AttentionKernel::values(Num slot, ArrayRef<Num> weights,
                             ArrayRef<Num> sums, ArrayRef<Num> masks) {
  Num base = slot * shape.slotBytes();
  SmallVector<Value> sources;
  for (Num offset : valueOffsets)
    sources.push_back(at(shared, base + offset));
  Nums result;
  int64_t steps = shape.channels[1] / 16;
  SmallVector<Nums> all(shape.columnTiles);
  for (int64_t s = 0; s < steps; ++s) {
    Value source = sources[s % sources.size()];
    Nums part = w.loadMatrices(at(source, fragmentStep(1, s)), true);
    if (!masks.empty())
      for (int64_t i = 0; i < 4; ++i)
        part[i] = part[i] & masks[i / 2];
    for (int64_t tile = 0; tile < shape.columnTiles; ++tile) {
      size_t sum = (tile * steps + s) * 4;
      Nums next = w.multiply(part, weights.slice(2 * tile, 2),
                             sums.slice(sum, 4), traits.valueType);
      llvm::append_range(all[tile], next);
    }
  }
  for (Nums &tile : all)
    llvm::append_range(result, tile);
  return result;
}

Nums AttentionKernel::tileStep(const Columns &columns, Num tileUnit, Num end,
                               const Nums &state) {
  Type f32 = k.builder.getF32Type(), i32 = k.builder.getI32Type();
  int64_t count = numColumns();
  Num slot = state[0], parity = state[1];
  Nums maxima(state.begin() + 2, state.begin() + 2 + count);
  Nums sums(state.begin() + 2 + count, state.begin() + 2 + 2 * count);
  Nums out(state.begin() + 2 + 2 * count, state.end());
  Num unit = tileUnit + warp, isThere = unit < end;
  Num key = unit * shape.kUnit;
  w.wait(fullBarrier(slot), parity, shape.hasTryWait);
  SmallVector<Type> types(2 * count, f32);
  types.push_back(i32);
  Nums products = w.when(
      isThere, types,
      [&]() -> Nums {
        Num live = w.number(k.loadScalar(
            at(shared, (slot * shape.warps + warp) * 4 + shape.liveOffset),
            i32));
        return join(scores(slot, columns), Nums{live});
      },
      [&]() -> Nums {
        return join(Nums(2 * count, w.f32(0)), Nums{w.i32(0)});
      });
  Num live = products.pop_back_val();
  release(emptyBarrier(slot));
  step(slot, parity, shape.slots);

  // Softmax: new maxima, sums and outputs, the weights, and which tokens are
  // seen.
  Num whole = (key >= columns.commonFirst) &
              (key + shape.kUnit <= columns.commonEnd) & (live == 0xffff);
  types.assign(2 * count + out.size(), f32);
  types.append(count + 1, i32);
  Nums result = w.when(
      isThere, types,
      [&]() -> Nums {
        Nums x = weigh(columns, products, unit);
        types.assign(x.size(), f32);
        types.push_back(i32);
        Nums masked = w.when(
            whole, types,
            [&]() -> Nums { return join(x, Nums{w.i32(0xffff)}); },
            [&]() -> Nums {
              Nums y;
              SmallVector<Num> seen(2, w.number(k.truth(false)));
              for (size_t i = 0; i < x.size(); ++i) {
                int64_t column = i / 4 * 2 + i % 2, second = i % 4 / 2;
                Num token = (lane >> 2) + second * 8;
                Num isSeen = (key + token >= columns.first[column]) &
                             (key + token < columns.end[column]) &
                             (((live >> token) & 1) != 0);
                y.push_back(select(isSeen, x[i], w.f32(-INFINITY)));
                seen[second] = seen[second] | isSeen;
              }
              // A bit for each token that some column sees.
              Num tokens = w.i32(0);
              for (int64_t second : {0, 1}) {
                Num lanes = w.ballot(seen[second]);
                lanes = lanes | (lanes >> 1);
                lanes = lanes | (lanes >> 2);
                // Bits 0, 4, 8, ... side by side.
                Num packed = w.i32(0);
                for (int64_t i = 0; i < 8; ++i)
                  packed = packed | (((lanes >> (4 * i)) & 1) << i);
                tokens = tokens | (packed << (8 * second));
              }
              return join(y, Nums{tokens});
            });
        Num tokens = masked.pop_back_val();
        x = masked;
        Nums largest;
        for (int64_t c = 0; c < count; ++c) {
          Num most = max(x[c / 2 * 4 + c % 2], x[c / 2 * 4 + c % 2 + 2]);
          for (int64_t bits : {4, 8, 16})
            most = max(most, w.fromOther(most, bits));
          largest.push_back(most);
        }
        Num grows = w.number(k.truth(false));
        for (int64_t c = 0; c < count; ++c)
          grows = grows | (largest[c] > maxima[c] + kGrowth);
        Nums old = join(maxima, sums, out);
        Nums scaled = w.when(
            w.any(grows), SmallVector<Type>(old.size(), f32),
            [&]() -> Nums {
              Nums next, factors;
              for (int64_t c = 0; c < count; ++c) {
                next.push_back(max(largest[c], maxima[c]));
                factors.push_back(w.exp2(maxima[c] - next[c]));
              }
              for (int64_t c = 0; c < count; ++c)
                next.push_back(sums[c] * factors[c]);
              int64_t perTile = out.size() / shape.columnTiles;
              for (int64_t i = 0; i < int64_t(out.size()); ++i)
                next.push_back(out[i] * factors[i / perTile * 2 + i % 2]);
              return next;
            },
            [&]() -> Nums { return old; });
        Nums weights;
        for (size_t i = 0; i < x.size(); ++i)
          weights.push_back(w.exp2(x[i] - scaled[i / 4 * 2 + i % 2]));
        for (int64_t c = 0; c < count; ++c)
          scaled[count + c] =
              scaled[count + c] +
              (weights[c / 2 * 4 + c % 2] + weights[c / 2 * 4 + c % 2 + 2]);
        for (size_t i = 0; i < x.size(); i += 2)
          scaled.push_back(w.transpose(
              w.pack(weights[i], weights[i + 1], traits.valueType)));
        scaled.push_back(tokens);
        return scaled;
      },
      [&]() -> Nums {
        return join(maxima, sums, out, Nums(count + 1, w.i32(0)));
      });
  Num tokens = result.pop_back_val();
  Nums weights(result.end() - count, result.end());
  result.resize(result.size() - count);
  Nums softmax(result.begin(), result.begin() + 2 * count);
  out.assign(result.begin() + 2 * count, result.end());

  w.wait(fullBarrier(slot), parity, shape.hasTryWait);
  types.assign(out.size(), f32);
  out = w.when(
      tokens == 0xffff, types,
      [&]() -> Nums { return values(slot, weights, out, {}); },
      [&]() -> Nums {
        return w.when(
            tokens != 0, types,
            [&]() -> Nums {
              // Tokens 2 t, 2 t + 1, and 8 more: what nobody sees is not
              // multiplied, not even with 0.
              Nums masks;
              for (int64_t first : {0, 8}) {
                Num two = tokens >> ((lane & 3) * 2 + first);
                Num low = select((two & 1) != 0, w.i32(0xffff), w.i32(0));
                Num high = select((two & 2) != 0, w.i32(-65536), w.i32(0));
                masks.push_back(low | high);
              }
              return values(slot, weights, out, masks);
            },
            [&]() -> Nums { return out; });
      });
  release(emptyBarrier(slot));
  step(slot, parity, shape.slots);
  return join(Nums{slot, parity}, softmax, out);
}

void AttentionKernel::consume() {
  prepareBarriers();
  k.barrier();
  beginLaunch();
  Num group = lane >> 3, row = lane & 7;
  keyOffsets = fragmentOffsets(0, row + (group & 1) * 8, group >> 1);
  valueOffsets = fragmentOffsets(1, row + (group >> 1) * 8, group & 1);
  auto entryOf = [](ArrayRef<Num> n) {
    return Entry{n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]};
  };
  auto splitOf = [](ArrayRef<Num> n) {
    return Split{n[0], n[1], n[2], n[3], n[4], n[5]};
  };
  // Carried: the slot and the place in the queue, and the last segment.
  Nums none(kEntry + kSplit, w.i32(0));
  Nums end = w.loopWhile(
      join(Nums{w.i32(0), w.i32(0), w.i32(0), w.i32(0)}, none),
      [&](const Nums &state) -> Warp::Tested {
        w.wait(queueBarrier(state[2], QueueBarrier::Full), state[3],
               shape.hasTryWait);
        Value place =
            at(shared, state[2] * shape.kEntryBytes + shape.queueOffset);
        Nums words = w.loadWords(place, kEntry);
        return {words[0] > 0, join(state, words)};
      },
      [&](const Nums &state) -> Nums {
        Nums numbers(state.end() - kEntry, state.end());
        Entry now = entryOf(numbers);
        head = now.head;
        block = now.block;
        Num place = state[2], parity = state[3];
        Columns seen = columns(now, place);
        Num end = now.first + now.count;
        Nums start = {state[0], state[1]};
        start.append(numColumns(), w.f32(kNoMaximum));
        start.append(numColumns(), w.f32(0));
        start.append(shape.columnTiles * shape.channels[1] / 4, w.f32(0));
        Nums done = w.loop(now.first, end, w.i32(shape.warps), start,
                           [&](Num unit, const Nums &state) {
                             return tileStep(seen, unit, end, state);
                           });
        w.wait(queueBarrier(place, QueueBarrier::Split), parity,
               shape.hasTryWait);
        Nums split =
            w.loadWords(at(shared, place * shape.kEntryBytes +
                                       (shape.queueOffset + 4 * kEntry)),
                        kSplit);
        release(queueBarrier(place, QueueBarrier::Empty));
        step(place, parity, shape.kQueue);
        finishSegment(now, splitOf(split), ArrayRef<Num>(done).drop_front(2));
        return join(Nums{done[0], done[1], place, parity}, numbers, split);
      });
  ArrayRef<Num> last = ArrayRef<Num>(end).slice(4, kEntry);
  ArrayRef<Num> split = ArrayRef<Num>(end).slice(4 + kEntry, kSplit);
  Nums words = w.loadWords(restPlace(), 5);
  Rest rest{words[0], words[1], words[2], words[3], words[4]};
  // The last item of each turn is the same one.
  auto combineHead = [&](Num turn) {
    Entry item = entryOf(last);
    head = item.head = turn;
    block = item.block;
    combine(item, splitOf(split));
  };
  if (shape.phases == 1)
    combineHead(rest.firstHead);
  else
    w.loop(rest.firstHead, w.i32(traits.heads), rest.headStep, {},
           [&](Num turn, const Nums &) -> Nums {
             combineHead(turn);
             return {};
           });
  Num hasOthers =
      (rest.hasEmpty != 0) | (rest.firstRow > 0) | (rest.lastRow < rows);
  w.when(w.seldom(hasOthers),
         [&] { clearEmptyRows(rest.hasEmpty, rest.firstRow, rest.lastRow); });
  endLaunch();
}

/// All lanes have read or written, for LLVM too; one of them says so.
void AttentionKernel::release(Value barrier) {
  w.sync();
  w.when(lane == 0, [&] { w.arrive(barrier); });
}
