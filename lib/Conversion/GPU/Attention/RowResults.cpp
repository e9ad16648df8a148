// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What becomes of a row in the end: its sink and its log-sum-exp, and zeros for
// rows that see no keys.
//
//===----------------------------------------------------------------------===//

#include "WorkSplit.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

WorkSplit::RowTotal WorkSplit::totalOf(Val queryHead, Val maximum, Val sum) {
  RowTotal total{maximum, sum, sum == 0, Val(), Val()};
  if (traits.hasSinks) {
    total.sink = load32(parameters.sinks, queryHead);
    Val x = total.sink * float(M_LOG2E);
    // Parts are put together in two places, which must round alike.
    if (traits.isInvariant)
      x = w.pin({x}).front();
    Val larger = max(maximum, x), share = w.ex2(maximum - larger);
    Val own = w.ex2(x - larger);
    total.sum = traits.isInvariant
                    ? k.val(LLVM::FMAOp::create(k, sum, share, own))
                    : sum * share + own;
    total.maximum = larger;
    total.factor = share * w.rcp(total.sum);
  } else {
    total.factor = w.rcp(sum);
  }
  if (traits.hasValueScale)
    total.factor = total.factor * k.floatParameter(parameters.valueScale);
  if (traits.hasValueFactor)
    total.factor = total.factor *
                   factorOf(*parameters.valueFactor, queryHead / traits.group);
  total.factor = select(total.isEmpty, k.f32(0), total.factor);
  return total;
}

void WorkSplit::storeLse(Val row, Val queryHead, const RowTotal &total) {
  Val known = select(total.isEmpty, k.f32(1), total.sum);
  Val lse = (total.maximum + w.lg2(known)) * float(M_LN2);
  lse = select(total.isEmpty, traits.hasSinks ? total.sink : k.f32(-INFINITY),
               lse);
  k.storeScalar(lse, parameters.lse->at(k, as(row, 64), as(queryHead, 64)));
}

/// Lane i of each four gets word i of all four, which `words` are of a lane.
Vals WorkSplit::transposed(Vals words) {
  for (int64_t bit : {1, 2}) {
    Val isUpper = (lane & bit) != 0;
    for (int64_t i : {0, 1}) {
      Val &low = words[bit == 1 ? 2 * i : i];
      Val &high = words[bit == 1 ? 2 * i + 1 : i + 2];
      Val other = w.shflXor(select(isUpper, low, high), bit);
      Val kept = select(isUpper, high, low);
      low = select(isUpper, other, kept);
      high = select(isUpper, kept, other);
    }
  }
  return words;
}

/// All lanes take part in exchanges, also those that store nothing.
void WorkSplit::storeRow(Val isThere, Val row, Val queryHead, Val maximum,
                         Val sum, ArrayRef<Val> sums) {
  int64_t bytes = traits.outType.getIntOrFloatBitWidth() / 8;
  RowTotal total = totalOf(queryHead, maximum, sum);
  Val place = as(row, 64) * Val(k, k.stride(parameters.outRow, bytes)) +
              as(queryHead, 64) * (traits.valueChannels * bytes);
  Value out = at(k.parameter(parameters.out), place);
  auto number = [&](int64_t column, int64_t j) {
    return sums[2 * column + j] * total.factor;
  };
  auto word = [&](int64_t column) {
    return w.cvtPack(number(column, 0), number(column, 1), traits.outType);
  };
  int64_t columns = traits.valueChannels / 8, column = 0;
  // A lane has two of each eight channels, and stores eight at a time.
  std::vector<Vals> wide;
  if (bytes == 2 && parameters.outAlign >= 16)
    for (; column + 4 <= columns; column += 4)
      wide.push_back(transposed({word(column), word(column + 1),
                                 word(column + 2), word(column + 3)}));
  k.ifThen(isThere, [&] {
    for (auto [number, words] : llvm::enumerate(wide)) {
      Value vector =
          LLVM::PoisonOp::create(k, VectorType::get({4}, k.getI32Type()));
      for (int64_t j = 0; j < 4; ++j)
        vector = LLVM::InsertElementOp::create(k, vector, words[j], k.i32(j));
      k.store(vector, at(out, (lane & 3) * 16 + number * 64), 16);
    }
    for (; column < columns; ++column) {
      Value to = at(out, (lane & 3) * (2 * bytes) + column * 8 * bytes);
      if (bytes == 2 && parameters.outAlign >= 4) {
        k.storeScalar(word(column), to);
      } else if (bytes == 2) {
        Val both = word(column);
        k.storeScalar(as(both, 16), to);
        k.storeScalar(as(both >> 16, 16), at(to, 2));
      } else {
        k.storeScalar(number(column, 0), to);
        k.storeScalar(number(column, 1), at(to, 4));
      }
    }
    if (traits.hasLse)
      k.ifThen((lane & 3) == 0, [&] { storeLse(row, queryHead, total); });
  });
}

void WorkSplit::clearEmptyRows(Val hasEmpty, Val first, Val last) {
  Val number = k.val(k.blockX());
  head = number % traits.heads;
  block = number / traits.heads;
  // Row `row` and this head of the cache: zeros, and what is known of no keys.
  auto clear = [&](Val row, Val from, Val step) {
    int64_t bytes = traits.outType.getIntOrFloatBitWidth() / 8;
    Val rowOut = as(row, 64) * Val(k, k.stride(parameters.outRow, bytes));
    Val wide = as(head, 64);
    int64_t elements = traits.group * traits.valueChannels;
    Value out =
        at(k.parameter(parameters.out), rowOut + wide * (elements * bytes));
    Type integer = k.getIntegerType(8 * bytes);
    Value zero = arith::ConstantIntOp::create(k, integer, 0);
    k.rolledForLoop(from, k.i32(elements), step, {},
                    [&](Val i, const Vals &) -> Vals {
                      k.storeScalar(zero, at(out, as(i, 64) * bytes));
                      return {};
                    });
    if (!traits.hasLse)
      return;
    k.rolledForLoop(
        from, k.i32(traits.group), step, {}, [&](Val i, const Vals &) -> Vals {
          Val queryHead = head * traits.group + i;
          Val value = traits.hasSinks ? load32(parameters.sinks, queryHead)
                                      : k.f32(-INFINITY);
          k.storeScalar(value,
                        parameters.lse->at(k, as(row, 64), as(queryHead, 64)));
          return {};
        });
  };
  Val mine = block * split.consumers + warp;
  Val all = k.val(k.gridX()) / traits.heads * split.consumers;
  Val one = k.i32(1);
  auto clearRange = [&](Val from, Val end) {
    k.rolledForLoop(from + mine, end, all, {},
                    [&](Val row, const Vals &) -> Vals {
                      clear(row, lane, k.i32(32));
                      return {};
                    });
  };
  clearRange(k.i32(0), first);
  clearRange(last, rows);
  // Items without keys; each warp has some requests. Where a row is in two
  // items and sees no key, both write the same.
  k.ifThen(hasEmpty != 0, [&] {
    k.rolledForLoop(k.i32(0), requests, k.i32(32), {k.i32(0)},
                    [&](Val base, const Vals &before) -> Vals {
                      Val starts = loadStart(min(base + lane, requests));
                      for (int64_t distance = 1; distance < 32; distance *= 2) {
                        Val other = w.shflUp(starts, distance);
                        starts = select(lane >= distance, max(starts, other),
                                        starts);
                      }
                      starts = max(starts, before[0]);
                      Val here = min(requests - base, 32);
                      k.rolledForLoop(k.i32(0), here, one, {},
                                      [&](Val i, const Vals &) -> Vals {
                                        Val request = base + i;
                                        Val start = w.shflIdx(starts, i);
                                        k.ifThen(request % all == mine, [&] {
                                          clearRequest(request, start, clear);
                                        });
                                        return {};
                                      });
                      return {w.shflIdx(starts, 31)};
                    });
  });
}

void WorkSplit::clearRequest(Val request, Val start,
                             llvm::function_ref<void(Val, Val, Val)> clear) {
  Val one = k.i32(1), end = max(start, loadStart(request + 1));
  Val length = loadLength(request);
  Vals group = {Val(), Val()};
  if (split.hasPrefixes)
    group = membership(request);
  k.rolledForLoop(k.i32(0), tiles(start, end), one, {},
                  [&](Val tile, const Vals &) -> Vals {
                    Item item{request, tile,  start, end,      length,  Val(),
                              Val(),   Val(), head,  group[0], group[1]};
                    measure(item);
                    k.ifThen(item.units == 0, [&] {
                      Val from = tile * split.columns;
                      Val to = min(from + split.columns,
                                   (end - start) * traits.group);
                      Val first = start + from / traits.group;
                      Val last = start + (to - 1) / traits.group;
                      k.rolledForLoop(first, last + 1, one, {},
                                      [&](Val row, const Vals &) -> Vals {
                                        clear(row, lane, k.i32(32));
                                        return {};
                                      });
                    });
                    return {};
                  });
}
