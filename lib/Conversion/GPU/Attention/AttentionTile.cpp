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

#include "../Codecs.h"
#include "AttentionKernel.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

AttentionKernel::Columns AttentionKernel::columns(const Entry &item,
                                                  Val place) {
  Columns found;
  found.query = shape.elementBytes == 1 ? loadQueryOfBytes(place, found.factor)
                                        : loadQuery(place);
  if (traits.hasKeyFactor) {
    Val own = factorOf(*parameters.keyFactor, head);
    if (found.factor.empty())
      found.factor.append(2 * shape.columnTiles, k.f32(1));
    for (Val &factor : found.factor)
      factor = factor * own;
  }
  if (halvesOffset) {
    // What the offset of keys adds to a product is taken away first.
    int64_t steps = shape.channels[0] / 16;
    for (int64_t tile = 0; tile < shape.columnTiles; ++tile) {
      Vals sum(4, k.f32(0));
      for (int64_t step = 0; step < steps; ++step) {
        size_t query = (tile * steps + step) * 2;
        sum = w.mmaSync(offsetFragment(/*isNegative=*/true),
                        {found.query[query], found.query[query + 1]}, sum,
                        productType);
      }
      found.offset.append({sum[0], sum[1]});
    }
  }
  Val pairs = (item.end - item.start) * traits.group;
  Val from = item.tile * shape.columns();
  // What the columns of a lane see. Those that are not there are as the last.
  for (int64_t tile = 0; tile < shape.columnTiles; ++tile)
    for (int64_t i = 0; i < 2; ++i) {
      Val pair = min(from + (lane & 3) * 2 + (8 * tile + i), pairs - 1);
      Val row = item.start + pair / traits.group;
      Limits seen = limits(row, item.end, item.length);
      found.first.push_back(seen.first);
      found.end.push_back(seen.end);
      if (traits.hasAlibi) {
        Val queryHead = head * traits.group + pair % traits.group;
        found.slope.push_back(load32(parameters.alibi, queryHead) *
                              float(M_LOG2E));
        found.position.push_back(
            k.val(arith::SIToFPOp::create(k, k.getF32Type(), seen.position)));
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
        max(found.commonFirst, w.shflXor(found.commonFirst, bits));
    found.commonEnd = min(found.commonEnd, w.shflXor(found.commonEnd, bits));
  }
  if (traits.hasMask)
    found.commonEnd = min(found.commonEnd, firstOwnOf(item));
  found.place = place;
  return found;
}

Vals AttentionKernel::offsetFragment(bool isNegative) {
  llvm::APFloat number(halvesOffset * halvesUnit * (isNegative ? -1 : 1));
  bool loses = false;
  number.convert(llvm::APFloat::IEEEhalf(), llvm::APFloat::rmNearestTiesToEven,
                 &loses);
  auto bits = static_cast<int64_t>(number.bitcastToAPInt().getZExtValue());
  return Vals(4, k.i32(static_cast<int32_t>(bits << 16 | bits)));
}

/// What the columns of a lane see of 16 keys and more, by the mask. Units with
/// own rows are few: no register has the rows of columns for them.
Vals AttentionKernel::maskedColumns(Val place, Val key) {
  Vals n = w.ldSharedWords(
      at(shared, place * shape.kEntryBytes + shape.queueOffset), kEntry);
  Entry item{n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]};
  Val first = item.tile * shape.columns() + (lane & 3) * 2;
  Vals bits;
  for (int64_t column = 0; column < numColumns(); ++column) {
    Val pair =
        min(first + k.i32(column / 2 * 8 + column % 2), pairsOf(item) - 1);
    bits.push_back(
        maskBits(item.start + pair / traits.group, key - firstOwnOf(item)));
  }
  return bits;
}

/// The fragments of the query: two registers for 16 channels.
Vals AttentionKernel::loadQuery(Val place) {
  Vals query;
  // Two steps of 16 channels are four matrices.
  int64_t steps = shape.channels[0] / 16;
  for (int64_t tile = 0; tile < shape.columnTiles; ++tile) {
    Val row = place * shape.queryBytes() +
              ((lane & 7) + 8 * tile) * shape.queryRowBytes() +
              (lane >> 3) * 16 + shape.queryOffset;
    Value source = at(shared, row);
    for (int64_t step = 0; step < steps; step += 2) {
      // Past the last step is padding, or what is next: it is not used.
      Vals matrices = w.ldmatrix(at(source, step * 32), false);
      matrices.resize(2 * std::min<int64_t>(2, steps - step));
      llvm::append_range(query, matrices);
    }
  }
  return query;
}

/// The same for keys of bytes. A lane has channels 4 t .. 4 t + 3 of 16 of a
/// key in one register, where a product takes 2 t, 2 t + 1 and 8 more: it does
/// not matter which channels it sums up, if those of the query are the same,
/// nor which of them share a word.
Vals AttentionKernel::loadQueryOfBytes(Val place, Vals &factor) {
  Vals query;
  int64_t steps = shape.channels[0] / 16;
  for (int64_t tile = 0; tile < shape.columnTiles; ++tile) {
    Val row = place * shape.queryBytes() +
              ((lane >> 2) + 8 * tile) * shape.queryRowBytes() +
              (lane & 3) * 8 + shape.queryOffset;
    Value source = at(shared, row);
    for (int64_t step = 0; step < steps; ++step) {
      Value words = k.load(at(source, step * 32), 8);
      Vals pairs;
      for (int64_t i = 0; i < 2; ++i)
        pairs.push_back(
            k.val(LLVM::ExtractElementOp::create(k, words, k.i32(i))));
      if (areAlternate)
        pairs = {(pairs[0] & 0xffff) | (pairs[1] << 16),
                 (pairs[0] >> 16) | (pairs[1] & -65536)};
      llvm::append_range(query, pairs);
    }
    if (traits.queryType.isBF16())
      toHalves(MutableArrayRef<Val>(query).take_back(2 * steps), factor);
  }
  return query;
}

/// Pairs of bf16 of a column, in all four lanes that have it, become f16; adds
/// the factors of the two columns of this lane.
void AttentionKernel::toHalves(MutableArrayRef<Val> words, Vals &factor) {
  Val own = WorkSplit::toHalves(words, {1, 2});
  for (int64_t i = 0; i < 2; ++i)
    factor.push_back(w.shflIdx(own, ((lane & 3) * 2 + i) * 4));
}

/// Two chunks of 16 tokens: the operands of as many products as they have 16
/// channels.
SmallVector<Vals> AttentionKernel::keyFragments(Value source) {
  Vals words = w.ldmatrix(source, false);
  if (shape.elementBytes == 2)
    return {words};
  SmallVector<Vals> fragments;
  for (int64_t chunk : {0, 1}) {
    Vals low = halvesOf(words[2 * chunk]),
         high = halvesOf(words[2 * chunk + 1]);
    fragments.push_back({low[0], high[0], low[1], high[1]});
  }
  return fragments;
}

/// The same of values, where tokens lie across. A lane has channels 2 g and
/// 2 g + 1 of two tokens in a register: they are the rows g and g + 8 of the
/// product.
SmallVector<Vals> AttentionKernel::valueFragments(Value source) {
  Vals words = w.ldmatrix(source, true);
  if (shape.elementBytes == 2)
    return {words};
  SmallVector<Vals> fragments;
  for (int64_t chunk : {0, 1}) {
    auto halves = [&](Val word) {
      constexpr int64_t kByChannel = 0x3120;
      return halvesOf(areAlternate ? word : w.prmt(word, kByChannel));
    };
    fragments.push_back(join(halves(words[chunk]), halves(words[chunk + 2])));
  }
  return fragments;
}

Vals AttentionKernel::scores(Val slot, const Columns &columns) {
  Val base = slot * shape.slotBytes();
  Val zero = k.f32(0);
  // Two chains of products each.
  SmallVector<Vals> sums(2 * shape.columnTiles, Vals(4, zero));
  for (size_t i = 0; i < columns.offset.size(); i += 2)
    sums[i] = {columns.offset[i], columns.offset[i + 1], columns.offset[i],
               columns.offset[i + 1]};
  SmallVector<Value> sources;
  for (Val offset : keyOffsets)
    sources.push_back(at(shared, base + offset));
  int64_t steps = shape.channels[0] / 16, step = 0;
  UnitRows rows = shape.unitRows(0);
  for (int64_t s = 0; s < rows.chunks() / 2; ++s) {
    Value source = sources[s % sources.size()];
    for (const Vals &keys : keyFragments(at(source, rows.fragmentStep(s)))) {
      for (int64_t tile = 0; tile < shape.columnTiles; ++tile) {
        Vals &sum = sums[2 * tile + step % 2];
        size_t query = (tile * steps + step) * 2;
        sum = w.mmaSync(keys, {columns.query[query], columns.query[query + 1]},
                        sum, productType);
      }
      ++step;
    }
  }
  Vals all;
  for (int64_t tile = 0; tile < shape.columnTiles; ++tile)
    for (int64_t i = 0; i < 4; ++i)
      all.push_back(sums[2 * tile][i] + sums[2 * tile + 1][i]);
  return all;
}

/// Scores to base 2, from products.
Vals AttentionKernel::weigh(const Columns &columns, ArrayRef<Val> products,
                            Val unit, ArrayRef<Val> keyScales) {
  Vals result;
  float scale = traits.scale / halvesUnit;
  for (int64_t i = 0; i < int64_t(products.size()); ++i) {
    Val x = products[i];
    if (!keyScales.empty())
      x = x * keyScales[i % 4 / 2];
    if (!columns.factor.empty())
      x = x * columns.factor[i / 4 * 2 + i % 2];
    if (traits.softcap) {
      x = w.tanh(x * (scale / *traits.softcap)) *
          float(*traits.softcap * M_LOG2E);
    } else {
      x = x * float(scale * M_LOG2E);
    }
    if (traits.hasAlibi) {
      int64_t column = i / 4 * 2 + i % 2;
      int64_t half = i % 4 / 2;
      Val key = unit * shape.kUnit + (lane >> 2) + half * 8;
      Val place = k.val(arith::SIToFPOp::create(k, k.getF32Type(), key));
      x = x + columns.slope[column] * (place - columns.position[column]);
    }
    result.push_back(x);
  }
  return result;
}

Vals AttentionKernel::values(Val slot, ArrayRef<Val> weights,
                             ArrayRef<Val> sums, ArrayRef<Val> masks) {
  Val base = slot * shape.slotBytes();
  SmallVector<Value> sources;
  for (Val offset : valueOffsets)
    sources.push_back(at(shared, base + offset));
  Vals result;
  int64_t steps = shape.channels[1] / 16, step = 0;
  SmallVector<Vals> all(shape.columnTiles);
  UnitRows rows = shape.unitRows(1);
  for (int64_t s = 0; s < rows.chunks() / 2; ++s) {
    Value source = sources[s % sources.size()];
    for (Vals &part : valueFragments(at(source, rows.fragmentStep(s)))) {
      if (!masks.empty())
        for (int64_t i = 0; i < 4; ++i)
          part[i] = part[i] & masks[i / 2];
      for (int64_t tile = 0; tile < shape.columnTiles; ++tile) {
        size_t sum = (tile * steps + step) * 4;
        Vals next = w.mmaSync(part, weights.slice(2 * tile, 2),
                              sums.slice(sum, 4), productType);
        llvm::append_range(all[tile], next);
      }
      ++step;
    }
  }
  for (Vals &tile : all)
    llvm::append_range(result, tile);
  // What the offset of values adds, the same for all channels.
  for (int64_t tile = 0; halvesOffset && tile < shape.columnTiles; ++tile) {
    Vals before(sums.slice(numOuts() + 2 * tile, 2));
    Vals next = w.mmaSync(
        offsetFragment(/*isNegative=*/false), weights.slice(2 * tile, 2),
        {before[0], before[1], before[0], before[1]}, productType);
    result.append({next[0], next[1]});
  }
  return result;
}

Vals AttentionKernel::loadScales(Val slot, unsigned side) {
  Vals scales;
  if (!parameters.sides[side].scales)
    return scales;
  Val first = slot * shape.scaleBytes() + warp * (shape.kUnit * 4) +
              (lane >> 2) * 4 +
              (shape.scaleOffset + side * shape.sideScaleBytes());
  for (int64_t token : {0, 8})
    scales.push_back(
        k.val(k.loadScalar(at(shared, first + token * 4), k.getF32Type())));
  return scales;
}

Vals AttentionKernel::tileStep(const Columns &columns, Val tileUnit, Val end,
                               const Vals &state) {
  Type f32 = k.getF32Type(), i32 = k.getI32Type();
  int64_t count = numColumns();
  Val slot = state[0], parity = state[1];
  Vals maxima(state.begin() + 2, state.begin() + 2 + count);
  Vals sums(state.begin() + 2 + count, state.begin() + 2 + 2 * count);
  Vals out(state.begin() + 2 + 2 * count, state.end());
  Val unit = tileUnit + warp, isThere = unit < end;
  Val key = unit * shape.kUnit;
  w.mbarrierWait(fullBarrier(slot), parity);
  unsigned ofKeys = 2 * traits.hasKeyScales,
           ofValues = 2 * traits.hasValueScales;
  SmallVector<Type> types(2 * count + ofKeys + ofValues, f32);
  types.push_back(i32);
  Vals products = k.ifThen(
      isThere, types,
      [&]() -> Vals {
        Val live = k.val(k.loadScalar(
            at(shared, (slot * shape.warps + warp) * 4 + shape.liveOffset),
            i32));
        Vals scales = join(loadScales(slot, 0), loadScales(slot, 1));
        return join(scores(slot, columns), scales, Vals{live});
      },
      [&]() -> Vals {
        return join(Vals(2 * count + ofKeys + ofValues, k.f32(0)),
                    Vals{k.i32(0)});
      });
  Val live = products.pop_back_val();
  Vals valueScales(products.end() - ofValues, products.end());
  products.resize(products.size() - ofValues);
  Vals keyScales(products.end() - ofKeys, products.end());
  products.resize(products.size() - ofKeys);
  release(emptyBarrier(slot));
  step(slot, parity, shape.slots);

  // Softmax: new maxima, sums and outputs, the weights, and which tokens are
  // seen.
  Val whole = (key >= columns.commonFirst) &
              (key + shape.kUnit <= columns.commonEnd) & (live == 0xffff);
  types.assign(2 * count + out.size(), f32);
  types.append(count + 1, i32);
  Vals result = k.ifThen(
      isThere, types,
      [&]() -> Vals {
        Vals x = weigh(columns, products, unit, keyScales);
        // A score and the logarithm of the scale of its value: their weights
        // are those of stored values.
        Vals logs;
        for (Val one : valueScales)
          logs.push_back(logarithmOfScale(w, one));
        for (size_t i = 0; !logs.empty() && i < x.size(); ++i)
          x[i] = x[i] + logs[i % 4 / 2];
        types.assign(x.size(), f32);
        types.push_back(i32);
        Vals masked = k.ifThen(
            whole, types,
            [&]() -> Vals { return join(x, Vals{k.i32(0xffff)}); },
            [&]() -> Vals {
              Vals y, bits;
              if (traits.hasMask)
                bits = maskedColumns(columns.place, key);
              SmallVector<Val> seen(2, k.val(k.i1(false)));
              for (size_t i = 0; i < x.size(); ++i) {
                int64_t column = i / 4 * 2 + i % 2, second = i % 4 / 2;
                Val token = (lane >> 2) + second * 8;
                Val isSeen = (key + token >= columns.first[column]) &
                             (key + token < columns.end[column]) &
                             (((live >> token) & 1) != 0);
                if (traits.hasMask)
                  isSeen = isSeen & (((bits[column] >> token) & 1) != 0);
                y.push_back(select(isSeen, x[i], k.f32(-INFINITY)));
                seen[second] = seen[second] | isSeen;
              }
              // A bit for each token that some column sees.
              Val tokens = k.i32(0);
              for (int64_t second : {0, 1}) {
                Val lanes = w.voteBallot(seen[second]);
                lanes = lanes | (lanes >> 1);
                lanes = lanes | (lanes >> 2);
                // Bits 0, 4, 8, ... side by side.
                Val packed = k.i32(0);
                for (int64_t i = 0; i < 8; ++i)
                  packed = packed | (((lanes >> (4 * i)) & 1) << i);
                tokens = tokens | (packed << (8 * second));
              }
              return join(y, Vals{tokens});
            });
        Val tokens = masked.pop_back_val();
        x = masked;
        Vals largest;
        for (int64_t c = 0; c < count; ++c) {
          Val most = max(x[c / 2 * 4 + c % 2], x[c / 2 * 4 + c % 2 + 2]);
          for (int64_t bits : {4, 8, 16})
            most = max(most, w.shflXor(most, bits));
          largest.push_back(most);
        }
        Val grows = k.val(k.i1(false));
        for (int64_t c = 0; c < count; ++c)
          grows = grows | (largest[c] > maxima[c] + kGrowth);
        Vals old = join(maxima, sums, out);
        Vals scaled = k.ifThen(
            w.voteAny(grows), SmallVector<Type>(old.size(), f32),
            [&]() -> Vals {
              Vals next, factors;
              for (int64_t c = 0; c < count; ++c) {
                next.push_back(max(largest[c], maxima[c]));
                factors.push_back(w.ex2(maxima[c] - next[c]));
              }
              for (int64_t c = 0; c < count; ++c)
                next.push_back(sums[c] * factors[c]);
              int64_t perTile = numOuts() / shape.columnTiles;
              for (int64_t i = 0; i < int64_t(numOuts()); ++i)
                next.push_back(out[i] * factors[i / perTile * 2 + i % 2]);
              for (size_t i = numOuts(); i < out.size(); ++i)
                next.push_back(out[i] * factors[i - numOuts()]);
              return next;
            },
            [&]() -> Vals { return old; });
        Vals weights;
        for (size_t i = 0; i < x.size(); ++i)
          weights.push_back(w.ex2(x[i] - scaled[i / 4 * 2 + i % 2]));
        Vals shares = weights;
        for (size_t i = 0; !logs.empty() && i < shares.size(); ++i)
          shares[i] = shares[i] * w.ex2(k.f32(0) - logs[i % 4 / 2]);
        for (int64_t c = 0; c < count; ++c)
          scaled[count + c] =
              scaled[count + c] +
              (shares[c / 2 * 4 + c % 2] + shares[c / 2 * 4 + c % 2 + 2]);
        for (size_t i = 0; i < x.size(); i += 2)
          scaled.push_back(
              w.movmatrix(w.cvtPack(weights[i], weights[i + 1], productType)));
        scaled.push_back(tokens);
        return scaled;
      },
      [&]() -> Vals {
        return join(maxima, sums, out, Vals(count + 1, k.i32(0)));
      });
  Val tokens = result.pop_back_val();
  Vals weights(result.end() - count, result.end());
  result.resize(result.size() - count);
  Vals softmax(result.begin(), result.begin() + 2 * count);
  out.assign(result.begin() + 2 * count, result.end());

  w.mbarrierWait(fullBarrier(slot), parity);
  types.assign(out.size(), f32);
  out = k.ifThen(
      tokens == 0xffff, types,
      [&]() -> Vals { return values(slot, weights, out, {}); },
      [&]() -> Vals {
        return k.ifThen(
            tokens != 0, types,
            [&]() -> Vals {
              // Tokens 2 t, 2 t + 1, and 8 more: what nobody sees is not
              // multiplied, not even with 0.
              Vals masks;
              for (int64_t first : {0, 8}) {
                Val two = tokens >> ((lane & 3) * 2 + first);
                Val low = select((two & 1) != 0, k.i32(0xffff), k.i32(0));
                Val high = select((two & 2) != 0, k.i32(-65536), k.i32(0));
                masks.push_back(low | high);
              }
              return values(slot, weights, out, masks);
            },
            [&]() -> Vals { return out; });
      });
  release(emptyBarrier(slot));
  step(slot, parity, shape.slots);
  return join(Vals{slot, parity}, softmax, out);
}

/// The ring, the maxima and the sums of weights, and the sums of values, after
/// the tiles from a unit to another one.
Vals AttentionKernel::tiles(const Columns &columns, Val first, Val end,
                            ArrayRef<Val> ring) {
  Vals start(ring);
  start.append(numColumns(), k.f32(kNoMaximum));
  start.append(numColumns(), k.f32(0));
  start.append(numOuts() + (halvesOffset ? numColumns() : 0), k.f32(0));
  Vals done = k.rolledForLoop(first, end, k.i32(shape.warps), start,
                              [&](Val unit, const Vals &state) {
                                return tileStep(columns, unit, end, state);
                              });
  if (!halvesOffset)
    return done;
  Vals offsets(done.end() - numColumns(), done.end());
  done.resize(done.size() - numColumns());
  int64_t perTile = numOuts() / shape.columnTiles;
  MutableArrayRef<Val> out = MutableArrayRef<Val>(done).take_back(numOuts());
  for (int64_t i = 0; i < int64_t(numOuts()); ++i)
    out[i] = (out[i] - offsets[i / perTile * 2 + i % 2]) * (1 / halvesUnit);
  return done;
}

void AttentionKernel::consume() {
  prepareBarriers();
  k.barrier();
  beginLaunch();
  Val group = lane >> 3, row = lane & 7;
  keyOffsets = fragmentOffsets(shape.unitRows(0), warp * shape.unitBytes(0),
                               row + (group & 1) * 8, group >> 1);
  valueOffsets = fragmentOffsets(shape.unitRows(1), warp * shape.unitBytes(1),
                                 row + (group >> 1) * 8, group & 1);
  auto entryOf = [](ArrayRef<Val> n) {
    return Entry{n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]};
  };
  auto splitOf = [](ArrayRef<Val> n) {
    return Split{n[0], n[1], n[2], n[3], n[4], n[5]};
  };
  auto fixedSplitOf = [](ArrayRef<Val> n) {
    return FixedSplit{n[0], n[1], n[2], n[3], n[4], n[5], n[6]};
  };
  // Carried: the slot and the place in the queue, and the last segment.
  unsigned splitSize = shape.fixedParts ? kFixedSplit : kSplit;
  Vals none(kEntry + splitSize, k.i32(0));
  Vals end = k.whileLoop(
      join(Vals{k.i32(0), k.i32(0), k.i32(0), k.i32(0)}, none),
      [&](const Vals &state) -> CodeBuilder::Tested {
        w.mbarrierWait(queueBarrier(state[2], QueueBarrier::Full), state[3]);
        Value place =
            at(shared, state[2] * shape.kEntryBytes + shape.queueOffset);
        Vals words = w.ldSharedWords(place, kEntry);
        return {words[0] > 0, join(state, words)};
      },
      [&](const Vals &state) -> Vals {
        Vals numbers(state.end() - kEntry, state.end());
        Entry now = entryOf(numbers);
        head = now.head;
        block = now.block;
        Val place = state[2], parity = state[3];
        Columns seen = columns(now, place);
        Vals ring = {state[0], state[1]};
        auto splitWords = [&] {
          w.mbarrierWait(queueBarrier(place, QueueBarrier::Split), parity);
          return w.ldSharedWords(
              at(shared,
                 place * shape.kEntryBytes + (shape.queueOffset + 4 * kEntry)),
              splitSize);
        };
        Vals split;
        if (shape.fixedParts) {
          split = splitWords();
          ring = consumeParts(now, seen, fixedSplitOf(split), ring);
          release(queueBarrier(place, QueueBarrier::Empty));
          step(place, parity, shape.kQueue);
        } else {
          Vals done = tiles(seen, now.first, now.first + now.count, ring);
          split = splitWords();
          release(queueBarrier(place, QueueBarrier::Empty));
          step(place, parity, shape.kQueue);
          finishSegment(now, splitOf(split), ArrayRef<Val>(done).drop_front(2));
          ring = {done[0], done[1]};
        }
        return join(ring, Vals{place, parity}, numbers, split);
      });
  ArrayRef<Val> last = ArrayRef<Val>(end).slice(4, kEntry);
  ArrayRef<Val> split = ArrayRef<Val>(end).slice(4 + kEntry, splitSize);
  Vals words = w.ldSharedWords(restPlace(), 5);
  Rest rest{words[0], words[1], words[2], words[3], words[4]};
  // The last item of each turn is the same one.
  auto combineHead = [&](Val turn) {
    Entry item = entryOf(last);
    head = item.head = turn;
    block = item.block;
    if (shape.fixedParts)
      combineParts(item, fixedSplitOf(split));
    else
      combine(item, splitOf(split));
  };
  if (shape.phases == 1)
    combineHead(rest.firstHead);
  else
    k.rolledForLoop(rest.firstHead, k.i32(traits.heads), rest.headStep, {},
                    [&](Val turn, const Vals &) -> Vals {
                      combineHead(turn);
                      return {};
                    });
  Val hasOthers =
      (rest.hasEmpty != 0) | (rest.firstRow > 0) | (rest.lastRow < rows);
  k.ifThen(w.unlikely(hasOthers),
           [&] { clearEmptyRows(rest.hasEmpty, rest.firstRow, rest.lastRow); });
  endLaunch();
}
