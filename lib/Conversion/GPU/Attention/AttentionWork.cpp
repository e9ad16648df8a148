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

/// Between 0 and `most`, whatever it is.
Num AttentionKernel::loadWithin(const IntegerList &list, Num index, Num most) {
  Num raw(k, list.load(k, as(index, 64)));
  if (list.type.getIntOrFloatBitWidth() <= 32)
    return max(min(as(raw, 32), most), 0);
  return as(max(min(raw, as(most, 64)), 0), 32);
}

Num AttentionKernel::loadStart(Num index) {
  return loadWithin(batch.starts, index, rows);
}

Num AttentionKernel::loadLength(Num request) {
  return loadWithin(batch.lengths, request, room);
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

Nums AttentionKernel::loadRequests(Num turn) {
  return w.when(
      requests > 0, SmallVector<Type>(3, k.builder.getI32Type()),
      [&]() -> Nums {
        Num request = turn * 32 + lane;
        return {loadStart(min(request, requests)),
                loadStart(min(request + 1, requests)),
                loadLength(min(request, requests - 1))};
      },
      [&]() -> Nums { return Nums(3, w.i32(0)); });
}

AttentionKernel::Lane
AttentionKernel::measureLane(Num turn, ArrayRef<Num> loaded, Num largest) {
  Type i32 = k.builder.getI32Type();
  Num start = loaded[0], next = loaded[1], length = loaded[2];
  Num isMixed = (start > next) | (start < largest);
  Nums rows = w.when(
      w.seldom(w.any(isMixed)), {i32, i32},
      [&]() -> Nums {
        Num most = max(start, largest);
        for (int64_t distance = 1; distance < 32; distance *= 2) {
          Num other = w.fromBelow(most, distance);
          most = select(lane >= distance, max(most, other), most);
        }
        return {most, max(most, next)};
      },
      [&]() -> Nums { return {start, next}; });
  Num request = turn * 32 + lane, isThere = request < requests;
  Lane own;
  own.item = {request, w.i32(0), rows[0], rows[1],
              length,  Num(),    Num(),   w.i32(0)};
  measure(own.item);
  own.item.units = select(isThere, own.item.units, w.i32(0));
  own.largest = w.fromLane(rows[1], 31);
  // The first tile is all that most requests have.
  Num count = select(isThere, tiles(rows[0], rows[1]), w.i32(0));
  Num isEmpty = (count > 0) & (own.item.units == 0);
  Nums sums = {chunks(own.item), select(isEmpty, w.i32(1), w.i32(0))};
  sums = w.when(
      w.seldom(w.any(count > 1)), {i32, i32},
      [&]() -> Nums {
        return w.loop(w.i32(1), count, w.i32(1), sums,
                      [&](Num tile, const Nums &sums) -> Nums {
                        Item item = own.item;
                        item.tile = tile;
                        measure(item);
                        return {sums[0] + chunks(item),
                                select(item.units == 0, w.i32(1), sums[1])};
                      });
      },
      [&]() -> Nums { return sums; });
  own.chunks = sums[0];
  own.hasEmpty = sums[1];
  own.keys = select(count > 0, length / shape.kUnit, w.i32(0));
  return own;
}

Num AttentionKernel::sumUpTo(Num value) {
  for (int64_t distance = 1; distance < 32; distance *= 2) {
    Num other = w.fromBelow(value, distance);
    value = value + select(lane >= distance, other, w.i32(0));
  }
  return value;
}

AttentionKernel::Later AttentionKernel::measureLater() {
  Num turns = (requests + 31) / 32;
  Nums none(kLater, w.i32(0));
  none[0] = turns;
  none[1] = (turns + 31) / 32;
  Nums later = w.when(
      w.seldom(turns > 1), SmallVector<Type>(kLater, k.builder.getI32Type()),
      [&]() -> Nums { return measureTurns(turns, none[1]); },
      [&]() -> Nums { return none; });
  return {later[0], later[1], later[2], later[3],
          later[4], later[5], later[6], later[7]};
}

void AttentionKernel::share(const Nums &loaded, const Later &later) {
  Type i32 = k.builder.getI32Type();
  Lane own = measureLane(w.i32(0), loaded, w.i32(0));
  Num upTo = sumUpTo(own.chunks), first = w.sum(own.chunks);
  Num total = first + later.chunks, lastRow = max(own.largest, later.largest);
  Num isEmpty = (own.hasEmpty | later.hasEmpty) != 0;
  Num hasEmpty = select(w.any(isEmpty), w.i32(1), w.i32(0));
  // More keys than the pool has: pages are shared, and what is read in a turn
  // is read again.
  Num number = w.number(k.blockX()), grid = w.number(k.gridX());
  int64_t heads = traits.heads, some = heads / shape.phases;
  head = number % heads;
  block = number / heads;
  blocks = grid / heads;
  headStep = w.i32(heads);
  isShared = w.number(k.truth(false));
  if (shape.phases > 1) {
    Num inPool = w.parameter(parameters.blocks) * traits.tokens / shape.kUnit;
    isShared = Num(k, k.widen(w.sum(own.keys + later.keys))) > inPool;
    head = select(isShared, number % some, head);
    block = select(isShared, number / some, block);
    blocks = select(isShared, grid / some, blocks);
    headStep = select(isShared, w.i32(some), headStep);
  }
  // Equal ranges, the first ones one chunk longer. The quotient is a product,
  // and at most one too low.
  Num scale = select(isShared, as(w.parameter(parameters.sharedScale), 32),
                     as(w.parameter(parameters.scale), 32));
  Num each = as((Num(k, k.widen(total)) * Num(k, k.widen(scale))) >> 32, 32);
  longer = total - each * blocks;
  Num isLow = longer >= blocks;
  rangeChunks = select(isLow, each + 1, each);
  longer = select(isLow, longer - blocks, longer);
  rangeFirst = rangeStart(block);
  rangeEnd = rangeStart(block + 1);
  hasWork = rangeFirst < rangeEnd;

  // The item of each lane, and the chunks before and behind its request.
  own.item.before = upTo - own.chunks;
  Nums found = join(flat(own.item), Nums{upTo});
  found = w.when(
      w.seldom((later.turns > 1) & hasWork & (first <= rangeFirst)),
      SmallVector<Type>(found.size(), i32),
      [&]() -> Nums { return findTurn(later, first, own.largest); },
      [&]() -> Nums { return found; });
  Num source(k, LLVM::CountTrailingZerosOp::create(
                    k.builder, k.loc, i32, w.ballot(found.back() > rangeFirst),
                    /*is_zero_poison=*/false));
  source = source & 31;
  startItem = item(found);
  for (Num *number :
       {&startItem.request, &startItem.start, &startItem.end, &startItem.length,
        &startItem.first, &startItem.units, &startItem.before})
    *number = w.fromLane(*number, source);
  startItem.tile = w.i32(0);
  Num firstRow = select(requests > 0, w.fromLane(loaded[0], 0), rows);
  w.when((warp == shape.warps) & (lane == 0), [&] {
    w.storeWords({hasEmpty, firstRow, lastRow, head, headStep}, restPlace());
  });
}

Nums AttentionKernel::measureTurns(Num turns, Num group) {
  SmallVector<Type> three(3, k.builder.getI32Type());
  // Of the first turn only the largest start counts here.
  Num before = loadStart(lane), none = w.i32(0);
  for (int64_t bits = 1; bits < 32; bits *= 2)
    before = max(before, w.fromOther(before, bits));
  Nums all = w.loop(
      w.i32(1), turns, w.i32(1),
      join(loadRequests(w.i32(1)),
           Nums{none, before, none, none, none, before}),
      [&](Num turn, const Nums &carried) -> Nums {
        // Without a next turn nothing is loaded: the warp would wait for it.
        Nums next = w.when(
            turn + 1 < turns, three,
            [&]() -> Nums { return loadRequests(turn + 1); },
            [&]() -> Nums { return Nums(3, w.i32(0)); });
        Num sum = carried[3], largest = carried[4];
        Num isFirst = lane * group == turn;
        Num sumBefore = select(isFirst, sum, carried[7]);
        Num largestBefore = select(isFirst, largest, carried[8]);
        ArrayRef<Num> loaded = ArrayRef<Num>(carried).take_front(3);
        Lane own = measureLane(turn, loaded, largest);
        return join(next, Nums{sum + w.sum(own.chunks), own.largest,
                               carried[5] | own.hasEmpty, carried[6] + own.keys,
                               sumBefore, largestBefore});
      });
  return join(Nums{turns, group}, Nums(all.begin() + 3, all.end()));
}

/// The turn where the range of the block begins, which is not the first one: of
/// a group, those before it are added up.
Nums AttentionKernel::findTurn(const Later &later, Num first, Num largest) {
  // Lane 0 has the turns of the first group behind the first turn.
  Num turn = select(lane == 0, w.i32(1), lane * later.group);
  Num sumBefore = later.chunksBefore + first;
  Num isBefore = (turn < later.turns) & (sumBefore <= rangeFirst);
  Num which = w.bitCount(w.ballot(isBefore)) - 1;
  Num largestBefore = select(lane == 0, largest, later.largestBefore);
  Nums found = w.loopWhile(
      {w.fromLane(turn, which), w.fromLane(sumBefore, which),
       w.fromLane(largestBefore, which)},
      [&](const Nums &n) -> Warp::Tested {
        Num turn = n[0], before = n[1];
        Lane own = measureLane(turn, loadRequests(turn), n[2]);
        Num upTo = before + sumUpTo(own.chunks);
        own.item.before = upTo - own.chunks;
        Num behind = w.fromLane(upTo, 31);
        return {behind <= rangeFirst,
                join(flat(own.item), Nums{upTo, turn, behind, own.largest})};
      },
      [&](const Nums &n) -> Nums {
        return {n[kItem + 1] + 1, n[kItem + 2], n[kItem + 3]};
      });
  found.resize(kItem + 1);
  return found;
}

/// The first chunk of a block.
Num AttentionKernel::rangeStart(Num block) {
  return block * rangeChunks + min(block, longer);
}

/// The block that has a chunk.
Num AttentionKernel::owner(Num chunk) {
  Num ofLonger = longer * (rangeChunks + 1);
  Num isLonger = chunk < ofLonger;
  Num number = select(isLonger, chunk, chunk - ofLonger);
  Num length = select(isLonger, rangeChunks + 1, max(rangeChunks, 1));
  return number / length + select(isLonger, w.i32(0), longer);
}

Nums AttentionKernel::firstWork() {
  SmallVector<Type> types(kWork, k.builder.getI32Type());
  return w.when(
      hasWork, types,
      [&]() -> Nums {
        Nums found = w.loopWhile(
            flat(startItem),
            [&](const Nums &n) -> Warp::Tested {
              Item here = item(n);
              Num isBehind = here.before + chunks(here) <= rangeFirst;
              return {w.seldom(isBehind), n};
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
