// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which part of the work a block of threads has.
//
// Each warp finds it out for itself: a lane adds up the units of some requests,
// and the lanes are added up by shuffles. Numbers of the batch are trusted no
// further than on a CPU: a start counts as at least the one before and at most
// the number of rows, a length as what the table has room for.
//
//===----------------------------------------------------------------------===//

#include "AttentionKernel.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace kvcache;

static constexpr int64_t kFar = int64_t(1) << 62;
static constexpr int64_t kNear = int64_t(1) << 30;

Nums AttentionKernel::flat(const Item &i) {
  return {i.request, i.tile,  i.start, i.end,
          i.length,  i.first, i.units, i.before};
}
Nums AttentionKernel::flat(const Work &work) {
  return join(flat(work.item), Nums{work.done, work.left});
}
AttentionKernel::Item AttentionKernel::item(ArrayRef<Num> n) {
  return {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]};
}
AttentionKernel::Work AttentionKernel::work(ArrayRef<Num> n) {
  return {item(n), n[8], n[9]};
}

Num AttentionKernel::loadStart(Num index) {
  Num raw(k, k.loadEntry(w.parameter(batch.starts.pointer), as(index, 64),
                         batch.starts.type));
  return as(max(min(raw, as(rows, 64)), 0), 32);
}

Num AttentionKernel::loadLength(Num request) {
  Num raw(k, k.loadEntry(w.parameter(batch.lengths.pointer), as(request, 64),
                         batch.lengths.type));
  return as(max(min(raw, as(room, 64)), 0), 32);
}

AttentionKernel::Limits AttentionKernel::limits(Num row, Num end, Num length) {
  Limits found{w.i32(0), length, Num()};
  if (!batch.type.hasPositions()) {
    Num position = length - (end - row);
    if (traits.causal)
      found.end = max(min(position + 1, length), 0);
    if (traits.window)
      found.first = max(position - (std::min(*traits.window, kNear) - 1), 0);
    found.position = position;
    return found;
  }
  // A list of positions that is too short says nothing of the rows behind it.
  Num index = as(row, 64);
  Num isThere = isBelow(index, w.parameter(batch.numPositions));
  Num given(k, k.loadEntryIf(isThere, k.parameter(batch.positions.pointer),
                             index, batch.positions.type));
  Num far = w.i64(kFar);
  Num position = select(isThere, max(min(given, far), w.i64(-kFar)), w.i64(-1));
  Num last = as(length, 64);
  if (traits.causal)
    found.end = as(max(min(position + 1, last), 0), 32);
  if (traits.window) {
    Num oldest = position - w.i64(std::min(*traits.window, kFar) - 1);
    found.first = as(max(min(oldest, last), 0), 32);
  }
  found.position = as(max(min(position, kNear), -kNear), 32);
  return found;
}

Num AttentionKernel::tiles(Num start, Num end) {
  return ((end - start) * traits.group + (shape.columns() - 1)) /
         shape.columns();
}

void AttentionKernel::measure(Item &item) {
  Num pairs = (item.end - item.start) * traits.group;
  Num from = item.tile * shape.columns();
  Num to = min(from + shape.columns(), pairs);
  Num firstRow = item.start + from / traits.group;
  Num lastRow = item.start + (max(to, 1) - 1) / traits.group;
  Num first, end;
  if (!batch.type.hasPositions()) {
    first = limits(firstRow, item.end, item.length).first;
    end = limits(lastRow, item.end, item.length).end;
  } else {
    Nums range =
        w.loop(firstRow, lastRow + 1, w.i32(1), {item.length, w.i32(0)},
               [&](Num row, const Nums &range) -> Nums {
                 Limits seen = limits(row, item.end, item.length);
                 Num some = seen.first < seen.end;
                 return {select(some, min(range[0], seen.first), range[0]),
                         select(some, max(range[1], seen.end), range[1])};
               });
    first = range[0];
    end = range[1];
  }
  Num some = (from < pairs) & (first < end);
  item.first = first / shape.kUnit;
  Num units = (end + (shape.kUnit - 1)) / shape.kUnit - item.first;
  item.units = select(some, units, w.i32(0));
}

AttentionKernel::Item AttentionKernel::nextItem(const Item &item) {
  Num tile = item.tile + 1;
  Nums place = w.when(
      tile < tiles(item.start, item.end),
      SmallVector<Type>(5, k.builder.getI32Type()),
      [&]() -> Nums {
        return {item.request, tile, item.start, item.end, item.length};
      },
      [&]() -> Nums {
        Num request = item.request + 1;
        Num end = max(item.end, loadStart(request + 1));
        return {request, w.i32(0), item.end, end, loadLength(request)};
      });
  Item next{place[0], place[1], place[2], place[3],
            place[4], Num(),    Num(),    item.before + chunks(item)};
  measure(next);
  return next;
}

void AttentionKernel::share() {
  Num each = (requests + 31) / 32;
  Num first = lane * each;
  // What a lane needs first is loaded at once: most batches need no more.
  Type i32 = k.builder.getI32Type();
  Nums loaded = w.when(
      requests > 0, SmallVector<Type>(5, i32),
      [&]() -> Nums {
        return {loadStart(min(first, requests)),
                loadStart(min(first + 1, requests)),
                loadLength(min(first, requests - 1)), loadStart(w.i32(0)),
                loadStart(requests)};
      },
      [&]() -> Nums { return Nums(5, w.i32(0)); });
  Num largest = w.loop(w.i32(1), each, w.i32(1), {loaded[0]},
                       [&](Num i, const Nums &most) -> Nums {
                         Num start = loadStart(min(first + i, requests));
                         return {max(most[0], start)};
                       })[0];
  Num below = largest;
  for (int64_t distance = 1; distance < 32; distance *= 2) {
    Num other = w.fromBelow(below, distance);
    below = select(lane >= distance, max(below, other), below);
  }
  firstRow = select(requests > 0, loaded[3], rows);
  lastRow = max(w.fromLane(below, 31), loaded[4]);
  below = select(lane == 0, w.i32(0), w.fromBelow(below, 1));
  startRow = max(below, loaded[0]);
  startEnd = max(startRow, loaded[1]);
  startLength = loaded[2];

  Nums sums = w.loop(
      w.i32(0), each, w.i32(1),
      {startRow, w.i32(0), w.i32(0), loaded[1], startLength, w.i32(0)},
      [&](Num i, const Nums &carried) -> Nums {
        Num request = first + i, start = carried[0], length = carried[4];
        Num end = max(start, carried[3]);
        Num count = select(request < requests, tiles(start, end), w.i32(0));
        Nums sum = w.loop(
            w.i32(0), count, w.i32(1), {carried[1], carried[2]},
            [&](Num tile, const Nums &sum) -> Nums {
              Item item{request, tile, start, end, length, Num(), Num(), Num()};
              measure(item);
              Num isEmpty = item.units == 0;
              return {sum[0] + chunks(item), select(isEmpty, w.i32(1), sum[1])};
            });
        // Without a next one nothing is loaded: the warp would wait for it.
        Nums next = w.when(
            i + 1 < each, SmallVector<Type>(2, i32),
            [&]() -> Nums {
              return {loadStart(min(request + 2, requests)),
                      loadLength(min(request + 1, requests - 1))};
            },
            [&]() -> Nums { return {w.i32(0), w.i32(0)}; });
        // In units: all of them fit 32 bits.
        Num keys =
            carried[5] + select(count > 0, length / shape.kUnit, w.i32(0));
        return {end, sum[0], sum[1], next[0], next[1], keys};
      });
  Num own = sums[1], upTo = own;
  hasEmpty = select(w.any(sums[2] != 0), w.i32(1), w.i32(0));
  for (int64_t distance = 1; distance < 32; distance *= 2) {
    Num other = w.fromBelow(upTo, distance);
    upTo = select(lane >= distance, upTo + other, upTo);
  }
  total = w.fromLane(upTo, 31);
  // More keys than the pool has: pages are shared, and what is read in a turn
  // is read again.
  Num number = w.number(k.blockX()), grid = w.number(k.gridX());
  int64_t all = traits.heads, some = all / shape.phases;
  head = number % all;
  block = number / all;
  blocks = grid / all;
  headStep = w.i32(all);
  isShared = w.number(k.truth(false));
  if (shape.phases > 1) {
    Num inPool = w.parameter(parameters.blocks) * traits.tokens / shape.kUnit;
    isShared = Num(k, k.widen(w.sum(sums[5]))) > inPool;
    head = select(isShared, number % some, head);
    block = select(isShared, number / some, block);
    blocks = select(isShared, grid / some, blocks);
    headStep = select(isShared, w.i32(some), headStep);
  }
  firstHead = head;
  ranges = min(blocks, total);
  hasWork = block < ranges;
  rangeFirst = rangeStart(block);
  rangeEnd = rangeStart(block + 1);
  Num found = w.ballot(upTo > rangeFirst);
  Num source(k, LLVM::CountTrailingZerosOp::create(
                    k.builder, k.loc, k.builder.getI32Type(), found,
                    /*is_zero_poison=*/false));
  source = source & 31;
  startRequest = w.fromLane(first, source);
  startBefore = w.fromLane(upTo - own, source);
  startRow = w.fromLane(startRow, source);
  startEnd = w.fromLane(startEnd, source);
  startLength = w.fromLane(startLength, source);
}

Num AttentionKernel::rangeStart(Num block) {
  return block * total / max(ranges, 1);
}

Num AttentionKernel::owner(Num unit) {
  return ((unit + 1) * ranges + total - 1) / total - 1;
}

Nums AttentionKernel::firstWork() {
  SmallVector<Type> types(kWork, k.builder.getI32Type());
  return w.when(
      hasWork, types,
      [&]() -> Nums {
        Item start{startRequest, w.i32(0), startRow, startEnd,
                   startLength,  Num(),    Num(),    startBefore};
        measure(start);
        Nums found = w.loopWhile(
            flat(start),
            [&](const Nums &n) -> Warp::Tested {
              Item here = item(n);
              return {here.before + chunks(here) <= rangeFirst, n};
            },
            [&](const Nums &n) { return flat(nextItem(item(n))); });
        Item here = item(found);
        return join(found,
                    Nums{rangeFirst - here.before, rangeEnd - rangeFirst});
      },
      [&]() -> Nums { return Nums(kWork, w.i32(0)); });
}

Num AttentionKernel::advance(Work &now, Num count) {
  Num left = now.left - count;
  Num more = left > 0;
  Nums given = flat(now), types;
  SmallVector<Value> values = valuesOf(given);
  Nums next = w.when(
      more, llvm::to_vector(ValueRange(values).getTypes()),
      [&]() -> Nums {
        Nums found = w.loopWhile(
            flat(nextItem(now.item)),
            [&](const Nums &n) -> Warp::Tested {
              return {item(n).units == 0, n};
            },
            [&](const Nums &n) { return flat(nextItem(item(n))); });
        return join(found, Nums{w.i32(0), left});
      },
      [&]() -> Nums { return given; });
  now = work(next);
  return more;
}

void AttentionKernel::clearEmptyRows(Num hasEmpty, Num first, Num last) {
  Num number = w.number(k.blockX());
  head = number % traits.heads;
  block = number / traits.heads;
  // Row `row` and this head of the cache: zeros, and what is known of no keys.
  auto clear = [&](Num row, Num from, Num step) {
    int64_t bytes = traits.outType.getIntOrFloatBitWidth() / 8;
    Num rowOut = as(row, 64) * Num(k, k.stride(parameters.outRow, bytes));
    Num wide = as(head, 64);
    int64_t elements = traits.group * traits.valueChannels;
    Value out =
        at(k.parameter(parameters.out), rowOut + wide * (elements * bytes));
    Type integer = k.builder.getIntegerType(8 * bytes);
    Value zero = arith::ConstantIntOp::create(k.builder, k.loc, integer, 0);
    w.loop(from, w.i32(elements), step, {}, [&](Num i, const Nums &) -> Nums {
      k.storeScalar(zero, at(out, as(i, 64) * bytes));
      return {};
    });
    if (!traits.hasLse)
      return;
    w.loop(from, w.i32(traits.group), step, {},
           [&](Num i, const Nums &) -> Nums {
             Num queryHead = head * traits.group + i;
             Num value = traits.hasSinks ? load32(parameters.sinks, queryHead)
                                         : w.f32(-INFINITY);
             Num offset = as(row, 64) * Num(k, k.stride(parameters.lseRow, 4)) +
                          as(queryHead, 64) * 4;
             k.storeScalar(value, at(k.parameter(parameters.lse), offset));
             return {};
           });
  };
  Num mine = block * shape.warps + warp;
  Num all = w.number(k.gridX()) / traits.heads * shape.warps;
  Num one = w.i32(1);
  auto clearRange = [&](Num from, Num end) {
    w.loop(from + mine, end, all, {}, [&](Num row, const Nums &) -> Nums {
      clear(row, lane, w.i32(32));
      return {};
    });
  };
  clearRange(w.i32(0), first);
  clearRange(last, rows);
  // Items without keys; each warp has some requests. Where a row is in two
  // items and sees no key, both write the same.
  w.when(hasEmpty != 0, [&] {
    w.loop(w.i32(0), requests, w.i32(32), {w.i32(0)},
           [&](Num base, const Nums &before) -> Nums {
             Num starts = loadStart(min(base + lane, requests));
             for (int64_t distance = 1; distance < 32; distance *= 2) {
               Num other = w.fromBelow(starts, distance);
               starts = select(lane >= distance, max(starts, other), starts);
             }
             starts = max(starts, before[0]);
             Num here = min(requests - base, 32);
             w.loop(w.i32(0), here, one, {}, [&](Num i, const Nums &) -> Nums {
               Num request = base + i;
               Num start = w.fromLane(starts, i);
               w.when(request % all == mine,
                      [&] { clearRequest(request, start, clear); });
               return {};
             });
             return {w.fromLane(starts, 31)};
           });
  });
}

void AttentionKernel::clearRequest(
    Num request, Num start, llvm::function_ref<void(Num, Num, Num)> clear) {
  Num one = w.i32(1), end = max(start, loadStart(request + 1));
  Num length = loadLength(request);
  w.loop(w.i32(0), tiles(start, end), one, {},
         [&](Num tile, const Nums &) -> Nums {
           Item item{request, tile, start, end, length, Num(), Num(), Num()};
           measure(item);
           w.when(item.units == 0, [&] {
             Num from = tile * shape.columns();
             Num to = min(from + shape.columns(), (end - start) * traits.group);
             Num first = start + from / traits.group;
             Num last = start + (to - 1) / traits.group;
             w.loop(first, last + 1, one, {},
                    [&](Num row, const Nums &) -> Nums {
                      clear(row, lane, w.i32(32));
                      return {};
                    });
           });
           return {};
         });
}
