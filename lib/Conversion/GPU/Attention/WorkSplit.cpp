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

#include "WorkSplit.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "llvm/Support/MathExtras.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

static constexpr int64_t kFar = int64_t(1) << 62;
static constexpr int64_t kNear = int64_t(1) << 30;

/// Whether a cache has scales that all its tokens share, or others.
static bool hasScalesOf(AttentionOp op, unsigned cache, bool areShared) {
  Value scales = op.getScalesOf(cache);
  if (!scales)
    return false;
  const Layout &layout = cast<CacheType>(scales.getType()).getLayout();
  bool isOne = layout.extent(AxisKind::Block) == 1 &&
               layout.extent(AxisKind::Token) == 1;
  return isOne == areShared;
}

AttentionTraits::AttentionTraits(AttentionOp op)
    : keyType(op.getKeyType().getMemoryType()),
      valueType(op.getValueType().getMemoryType()),
      queryType(getElementTypeOrSelf(op.getQuery().getType())),
      outType(getElementTypeOrSelf(op.getOut().getType())),
      hasAlibi(bool(op.getAlibi())), hasSinks(bool(op.getSinks())),
      hasMask(bool(op.getMask())), hasLse(bool(op.getLse())),
      hasValueScale(bool(op.getValueScale())),
      // Slopes and windows depend on the position of each row.
      hasPrefixes(op.getPrefixGroups() && !op.getAlibi() && !op.getWindow() &&
                  !op.getBatchInvariant()),
      isInvariant(op.getBatchInvariant()),
      hasKeyScales(hasScalesOf(op, 0, false)),
      hasValueScales(hasScalesOf(op, op.getCaches().size() - 1, false)),
      hasKeyFactor(hasScalesOf(op, 0, true)),
      hasValueFactor(hasScalesOf(op, op.getCaches().size() - 1, true)),
      ahead(op.getAhead()), window(op.getWindow()), scale(op.getScaleValue()) {
  const Layout &keys = op.getKeyType().getLayout();
  heads = keys.extent(AxisKind::Head);
  queryHeads = cast<ShapedType>(op.getQuery().getType()).getDimSize(1);
  group = queryHeads / heads;
  keyChannels = keys.extent(AxisKind::Channel);
  valueChannels = op.getValueType().getLayout().extent(AxisKind::Channel);
  tokens = keys.extent(AxisKind::Token);
  if (op.getSoftcap())
    softcap = op.getSoftcap()->convertToDouble();
}

Val WorkSplit::axisBytes(const AxisStrides &axis, Val index,
                         int64_t elementBytes) {
  Val outer(k, k.stride(axis.outer, elementBytes));
  if (!axis.cut)
    return as(index, 64) * outer;
  Val inner(k, k.stride(axis.inner, elementBytes));
  return as(index / axis.cut, 64) * outer + as(index % axis.cut, 64) * inner;
}

void WorkSplit::begin() {
  shared = k.dynamicShared();
  thread = k.val(k.threadX());
  // Roles are those of whole warps: they are told so.
  warp = w.shflIdx(thread >> 5, int64_t(0));
  lane = thread & 31;
  rows = as(k.parameter(batch.rows), 32);
  requests = as(k.parameter(batch.count), 32);
  room = as(k.parameter(batch.columns), 32) * traits.tokens;
  chunkBits = as(k.parameter(parameters.chunkBits), 32);
  listed = requests;
}

Vals WorkSplit::flat(const Item &i) const {
  Vals numbers = {i.request, i.tile,  i.start,  i.end, i.length,
                  i.first,   i.units, i.before, i.head};
  if (split.hasPrefixes)
    numbers.append({i.group, i.shared});
  return numbers;
}
Vals WorkSplit::flat(const Work &work) const {
  return join(flat(work.item), Vals{work.done, work.left});
}
WorkSplit::Item WorkSplit::item(ArrayRef<Val> n) const {
  Item item{n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], {}, {}};
  if (split.hasPrefixes) {
    item.group = n[9];
    item.shared = n[10];
  }
  return item;
}
WorkSplit::Work WorkSplit::work(ArrayRef<Val> n) const {
  return {item(n), n[itemSize()], n[itemSize() + 1]};
}

SmallVector<Val *> WorkSplit::requestOf(Item &item) const {
  SmallVector<Val *> numbers = {&item.request, &item.start, &item.end,
                                &item.length};
  if (split.hasPrefixes)
    numbers.append({&item.group, &item.shared});
  return numbers;
}

/// Between 0 and `most`, whatever it is.
Val WorkSplit::loadWithin(const IntegerList &list, Val index, Val most) {
  Val raw(k, list.load(k, as(index, 64)));
  if (list.type.getIntOrFloatBitWidth() <= 32)
    return max(min(as(raw, 32), most), 0);
  return as(max(min(raw, as(most, 64)), 0), 32);
}

Val WorkSplit::loadStart(Val index) {
  return loadWithin(batch.starts, index, rows);
}

Val WorkSplit::loadLength(Val request) {
  return loadWithin(batch.lengths, request, room);
}

WorkSplit::Limits WorkSplit::limits(Val row, Val end, Val length) {
  Limits found{k.i32(0), length, Val()};
  if (!batch.type.hasPositions()) {
    Val position = length - (end - row);
    // There are no more rows than that.
    if (traits.ahead && *traits.ahead < kNear)
      found.end = max(min(position + (*traits.ahead + 1), length), 0);
    if (traits.window)
      found.first = max(position - (std::min(*traits.window, kNear) - 1), 0);
    found.position = position;
    return found;
  }
  // A list of positions that is too short says nothing of the rows behind it.
  Val index = as(row, 64);
  Val isThere = isBelow(index, k.parameter(batch.numPositions));
  Val given(k, k.loadEntryIf(isThere, k.parameter(batch.positions.pointer),
                             index, batch.positions.type));
  Val far = k.i64(kFar);
  Val position = select(isThere, max(min(given, far), k.i64(-kFar)), k.i64(-1));
  Val last = as(length, 64);
  if (traits.ahead)
    found.end = as(max(min(position + k.i64(*traits.ahead + 1), last), 0), 32);
  if (traits.window) {
    Val oldest = position - k.i64(std::min(*traits.window, kFar) - 1);
    found.first = as(max(min(oldest, last), 0), 32);
  }
  found.position = as(max(min(position, kNear), -kNear), 32);
  return found;
}

Val WorkSplit::firstBits(Val count) {
  Val some = max(min(count, 32), 0);
  return select(some > 0, some.constant(-1) >> (some.constant(32) - some),
                some.constant(0));
}

Val WorkSplit::isOwn(Val pairs) {
  Val limit = as(k.parameter(parameters.pairLimit), 32);
  return split.requests == WorkShape::Requests::WithFewPairs ? pairs <= limit
                                                             : pairs > limit;
}

Val WorkSplit::tiles(Val start, Val end) {
  Val pairs = (end - start) * traits.group;
  Val count = (pairs + (split.columns - 1)) / split.columns;
  if (split.requests != WorkShape::Requests::All)
    count = select(isOwn(pairs), count, k.i32(0));
  return count;
}

void WorkSplit::measure(Item &item) {
  Val pairs = (item.end - item.start) * traits.group;
  Val from = item.tile * split.columns;
  Val to = min(from + split.columns, pairs);
  Val firstRow = item.start + from / traits.group;
  Val lastRow = item.start + (max(to, 1) - 1) / traits.group;
  Val first, end;
  if (!batch.type.hasPositions()) {
    first = limits(firstRow, item.end, item.length).first;
    end = limits(lastRow, item.end, item.length).end;
  } else {
    Vals range = k.rolledForLoop(
        firstRow, lastRow + 1, k.i32(1), {item.length, k.i32(0)},
        [&](Val row, const Vals &range) -> Vals {
          Limits seen = limits(row, item.end, item.length);
          Val some = seen.first < seen.end;
          return {select(some, min(range[0], seen.first), range[0]),
                  select(some, max(range[1], seen.end), range[1])};
        });
    first = range[0];
    end = range[1];
  }
  if (split.hasPrefixes) {
    // Of starts that are not in order, a group does not know which rows its
    // requests are taken to have: others have no place for their states.
    Val isInside = (item.start >= item.group) & (item.end <= kMostPrefixRows);
    item.group =
        select((item.group >= 0) & !isInside, k.i32(kAlone), item.group);
    end = select(item.group == kPrefix, item.length, end);
  }
  Val some = (from < pairs) & (first < end);
  if (split.requests != WorkShape::Requests::All)
    some = some & isOwn(pairs);
  item.first = first / split.unit;
  Val last = (end + (split.unit - 1)) / split.unit;
  if (split.hasPrefixes) {
    // An item in a group has a unit in any case: its rows are waited for.
    Val inGroup = item.group >= 0;
    item.first =
        select(inGroup, max(min(item.shared, last - 1), 0), item.first);
    last = select(inGroup, max(last, 1), last);
    some = (inGroup & (from < pairs)) | some;
  }
  item.units = select(some, last - item.first, k.i32(0));
}

WorkSplit::Item WorkSplit::nextItem(const Item &item) {
  Val tile = item.tile + 1;
  SmallVector<Type> types(split.hasPrefixes ? 8 : 6, k.getI32Type());
  Vals place = k.ifThen(
      tile < tiles(item.start, item.end), types,
      [&]() -> Vals {
        Vals same = {item.request, tile,        item.start,
                     item.end,     item.length, item.head};
        if (split.hasPrefixes)
          same.append({item.group, item.shared});
        return same;
      },
      [&]() -> Vals {
        Val request = item.request + 1, start = item.end, head = item.head;
        Val isLast = request == listed;
        if (split.crossesHeads) {
          request = select(isLast, k.i32(0), request);
          head = select(isLast, head + 1, head);
        }
        if (split.hasPrefixes) {
          Vals loaded = loadListed(request);
          start = select(request > prefixes, start, loaded[0]);
          return {request,   k.i32(0), start,     max(start, loaded[1]),
                  loaded[2], head,     loaded[3], loaded[4]};
        }
        if (split.crossesHeads)
          start = select(isLast, loadStart(k.i32(0)), start);
        Val end = max(start, loadStart(request + 1));
        return {request, k.i32(0), start, end, loadLength(request), head};
      });
  Item next{place[0], place[1], place[2], place[3],
            place[4], Val(),    Val(),    item.before + chunks(item),
            place[5], {},       {}};
  if (split.hasPrefixes) {
    next.group = place[6];
    next.shared = place[7];
  }
  measure(next);
  return next;
}

void WorkSplit::share(const Vals &loaded, const Later &later) {
  Type i32 = k.getI32Type();
  Lane own = measureLane(k.i32(0), loaded, k.i32(0));
  Val upTo = sumUpTo(own.chunks), first = w.reduxAdd(own.chunks);
  Val total = first + later.chunks, lastRow = max(own.largest, later.largest);
  Val isEmpty = (own.hasEmpty | later.hasEmpty) != 0;
  Val hasEmpty = select(w.voteAny(isEmpty), k.i32(1), k.i32(0));
  // More keys than the pool has: pages are shared, and what is read in a turn
  // is read again.
  Val number = k.val(k.blockX()), grid = k.val(k.gridX());
  int64_t heads = traits.heads, some = heads / split.phases;
  head = number % heads;
  block = number / heads;
  blocks = grid / heads;
  headStep = k.i32(heads);
  isShared = k.val(k.i1(false));
  if (split.phases > 1) {
    Val inPool = k.parameter(parameters.blocks) * traits.tokens / split.unit;
    isShared = Val(k, k.extui64(w.reduxAdd(own.keys + later.keys))) > inPool;
    head = select(isShared, number % some, head);
    block = select(isShared, number / some, block);
    blocks = select(isShared, grid / some, blocks);
    headStep = select(isShared, k.i32(some), headStep);
  }
  Val all = total;
  if (split.crossesHeads) {
    block = number;
    blocks = grid;
    all = total * heads;
  }
  // Equal ranges, the first ones one chunk longer. The quotient is a product,
  // and at most one too low.
  Val scale = select(isShared, as(k.parameter(parameters.sharedScale), 32),
                     as(k.parameter(parameters.scale), 32));
  Val each = as((Val(k, k.extui64(all)) * Val(k, k.extui64(scale))) >> 32, 32);
  longer = all - each * blocks;
  Val isLow = longer >= blocks;
  rangeChunks = select(isLow, each + 1, each);
  longer = select(isLow, longer - blocks, longer);
  rangeFirst = rangeStart(block);
  rangeEnd = rangeStart(block + 1);
  hasWork = rangeFirst < rangeEnd;
  // The chunk among those of its head.
  Val chunk = rangeFirst, before = k.i32(0);
  if (split.crossesHeads) {
    head = rangeFirst / max(total, 1);
    before = head * total;
    chunk = rangeFirst - before;
  }

  // The item of each lane, and the chunks before and behind its request.
  own.item.before = upTo - own.chunks;
  Vals found = join(flat(own.item), Vals{upTo});
  found = k.ifThen(
      w.unlikely((later.turns > 1) & hasWork & (first <= chunk)),
      SmallVector<Type>(found.size(), i32),
      [&]() -> Vals { return findTurn(later, first, own.largest, chunk); },
      [&]() -> Vals { return found; });
  Val source(k, LLVM::CountTrailingZerosOp::create(
                    k, i32, w.voteBallot(found.back() > chunk),
                    /*is_zero_poison=*/false));
  source = source & 31;
  startItem = item(found);
  for (Val *number : requestOf(startItem))
    *number = w.shflIdx(*number, source);
  for (Val *number : {&startItem.first, &startItem.units, &startItem.before})
    *number = w.shflIdx(*number, source);
  startItem.tile = k.i32(0);
  startItem.before = startItem.before + before;
  startItem.head = head;
  Val firstRow = select(
      requests > 0,
      split.hasPrefixes ? loadStart(k.i32(0)) : w.shflIdx(loaded[0], 0), rows);
  Vals rest = {hasEmpty, firstRow, lastRow, head, headStep};
  if (split.hasPrefixes)
    rest.push_back(prefixes);
  k.ifThen((warp == split.consumers) & (lane == 0),
           [&] { w.stSharedWords(rest, restPlace()); });
}

/// The first chunk of a block.
Val WorkSplit::rangeStart(Val block) {
  return block * rangeChunks + min(block, longer);
}

/// The block that has a chunk.
Val WorkSplit::owner(Val chunk) {
  Val ofLonger = longer * (rangeChunks + 1);
  Val isLonger = chunk < ofLonger;
  Val number = select(isLonger, chunk, chunk - ofLonger);
  Val length = select(isLonger, rangeChunks + 1, max(rangeChunks, 1));
  return number / length + select(isLonger, k.i32(0), longer);
}

/// The tile of a request where the range begins: in turns, lanes measure 32 of
/// them.
Vals WorkSplit::findTile() {
  Val count = tiles(startItem.start, startItem.end);
  Vals found = k.whileLoop(
      {k.i32(0), startItem.before},
      [&](const Vals &n) -> CodeBuilder::Tested {
        Item own = startItem;
        own.tile = n[0] + lane;
        measure(own);
        Val upTo =
            n[1] + sumUpTo(select(own.tile < count, chunks(own), k.i32(0)));
        own.before = upTo - chunks(own);
        Val after = w.shflIdx(upTo, 31);
        Val isLast = n[0] + 32 >= count;
        return {(after <= rangeFirst) & !isLast,
                join(flat(own), Vals{upTo, n[0], after})};
      },
      [&](const Vals &n) -> Vals {
        return {n[itemSize() + 1] + 32, n[itemSize() + 2]};
      });
  Val source(k, LLVM::CountTrailingZerosOp::create(
                    k, k.getI32Type(),
                    w.voteBallot(found[itemSize()] > rangeFirst),
                    /*is_zero_poison=*/false));
  Item here = item(found);
  for (Val *number : {&here.tile, &here.first, &here.units, &here.before})
    *number = w.shflIdx(*number, source & 31);
  return flat(here);
}

Vals WorkSplit::firstWork() {
  SmallVector<Type> types(workSize(), k.getI32Type());
  Vals none(workSize(), k.i32(0));
  Vals all = k.ifThen(
      hasWork, types,
      [&]() -> Vals {
        Val isLater = startItem.before + chunks(startItem) <= rangeFirst;
        Vals found = k.ifThen(
            w.unlikely(isLater), SmallVector<Type>(itemSize(), k.getI32Type()),
            [&] { return findTile(); }, [&] { return flat(startItem); });
        Item here = item(found);
        Work work{here, rangeFirst - here.before, rangeEnd - rangeFirst};
        if (split.fixedParts) {
          Val start = roundedCut(here, work.done);
          work.left = work.left + (work.done - start);
          work.done = start;
          work.left = select(ownChunks(work) > 0, work.left, k.i32(0));
          return flat(work);
        }
        return split.leastUnits ? movedStart(work) : flat(work);
      },
      [&]() -> Vals { return none; });
  if (split.leastUnits || split.fixedParts)
    hasWork = all[itemSize() + 1] > 0;
  return all;
}

/// A range that would begin shortly after the beginning of an item begins
/// there, and one that would begin shortly before its end begins with the next
/// one.
Vals WorkSplit::movedStart(const Work &given) {
  Margins margins = marginsOf(given.item);
  Val all = chunks(given.item), done = given.done;
  Val isEarly = done <= margins.begin;
  Work early = given;
  early.done = select(isEarly, k.i32(0), done);
  early.left = given.left + select(isEarly, done, k.i32(0));
  Val isLate = !isEarly & (all - done <= margins.end);
  return k.ifThen(
      w.unlikely(isLate), SmallVector<Type>(workSize(), k.getI32Type()),
      [&]() -> Vals {
        Work next = given;
        Val more = advance(next, all - done);
        next.left = select(more, next.left, k.i32(0));
        return flat(next);
      },
      [&]() -> Vals { return flat(early); });
}

/// The chunks of an item that belong to the block: up to the end of its range,
/// or what that is moved to.
Val WorkSplit::ownChunks(const Work &now) {
  Val toEnd = chunks(now.item) - now.done;
  if (split.fixedParts) {
    Val cut = roundedCut(now.item, now.done + now.left) - now.done;
    return select(now.left < toEnd, cut, toEnd);
  }
  if (!split.leastUnits)
    return min(now.left, toEnd);
  Margins margins = marginsOf(now.item);
  Val isNone = now.done + now.left <= margins.begin;
  Val isAll = toEnd - now.left <= margins.end;
  Val cut = select(isNone, k.i32(0), select(isAll, toEnd, now.left));
  return select(now.left < toEnd, cut, toEnd);
}

Vals WorkSplit::splitOf(const Work &now, Val count, int64_t shortUnits) {
  const Item &item = now.item;
  Val isSplit = (now.done > 0) | (now.done + count < chunks(item));
  return k.ifThen(
      isSplit, SmallVector<Type>(kSplit, k.getI32Type()),
      [&]() -> Vals {
        Val behind = item.before + chunks(item);
        Val first = item.before, last = behind - 1;
        if (split.leastUnits) {
          Margins margins = marginsOf(item);
          first = min(first + margins.begin, last);
          last = max(last - margins.end, first);
        }
        Val firstBlock = owner(first), lastBlock = owner(last);
        // Of two items that a block shares with others, this is the second one.
        Val isLater = split.leastUnits ? k.val(k.i1(true))
                                       : item.before > rangeStart(firstBlock);
        Val parts = lastBlock - firstBlock + 1;
        // Blocks whose last item it is have time for the combine.
        Val endsRange = behind == rangeStart(lastBlock + 1);
        Val readers = select(endsRange, parts, parts - 1);
        Val isShort = (rangeChunks << chunkBits) < shortUnits;
        return {k.i32(1), firstBlock,
                parts,    select(isLater, k.i32(1), k.i32(0)),
                readers,  select(isShort, k.i32(1), k.i32(0))};
      },
      [&]() -> Vals {
        return {k.i32(0), block, k.i32(1), k.i32(0), k.i32(0), k.i32(0)};
      });
}

Val WorkSplit::partChunks(const Item &item) {
  if (split.fixedParts == 1)
    return max(chunks(item), 1);
  // Whole tiles of units, one for each consumer.
  int64_t tileBits = llvm::Log2_64(split.consumers);
  int64_t partBits = llvm::Log2_64(split.fixedParts);
  Val bits = max(k.i32(tileBits) - chunkBits, 0);
  Val tiles = (chunks(item) + ((k.i32(1) << (bits + partBits)) - 1)) >>
              (bits + partBits);
  return max(tiles, 1) << bits;
}

Val WorkSplit::roundedCut(const Item &item, Val chunk) {
  if (split.fixedParts == 1)
    return k.i32(0);
  Val each = partChunks(item);
  return chunk / each * each;
}

Vals WorkSplit::fixedSplitOf(const Work &now, Val count, int64_t shortUnits) {
  const Item &item = now.item;
  Val all = chunks(item), each = partChunks(item);
  Val isSplit = (now.done > 0) | (now.done + count < all);
  Val ownFirst = now.done / each, units = each << chunkBits;
  return k.ifThen(
      isSplit, SmallVector<Type>(kFixedSplit, k.getI32Type()),
      [&]() -> Vals {
        // A part belongs to the block that has its last chunk.
        Val parts = (all + (each - 1)) / each;
        Val firstBlock = owner(item.before + (min(each, all) - 1));
        Val lastBlock = owner(item.before + (all - 1));
        Val ofLast = (rangeStart(lastBlock) - item.before) / each;
        Val endsRange = item.before + all == rangeStart(lastBlock + 1);
        Val isShort = (rangeChunks << chunkBits) < shortUnits;
        return {k.i32(1),
                firstBlock,
                parts,
                ownFirst,
                select(endsRange, parts, ofLast),
                select(isShort, k.i32(1), k.i32(0)),
                units};
      },
      [&]() -> Vals {
        Val none = k.i32(0);
        return {none, block, k.i32(1), none, none, none, units};
      });
}

Vals WorkSplit::findWork(bool hasMaps) {
  if (split.hasPrefixes)
    countPrefixes();
  // Loads are under way while the barriers are made.
  Vals loaded = loadRequests(k.i32(0));
  prefetchTable();
  if (hasMaps)
    for (const AttentionSide &side : parameters.sides)
      w.prefetchTensormap(k.parameter(side.map));
  // Where it has nothing to do, its code is jumped over in that time.
  Later later = measureLater();
  k.barrier();
  share(loaded, later);
  return firstWork();
}

Val WorkSplit::advance(Work &now, Val count) {
  Val left = now.left - count;
  Val more = left > 0;
  Vals given = flat(now), types;
  SmallVector<Value> values = valuesOf(given);
  Vals next = k.ifThen(
      more, llvm::to_vector(ValueRange(values).getTypes()),
      [&]() -> Vals {
        Vals found = k.whileLoop(
            flat(nextItem(now.item)),
            [&](const Vals &n) -> CodeBuilder::Tested {
              return {item(n).units == 0, n};
            },
            [&](const Vals &n) { return flat(nextItem(item(n))); });
        return join(found, Vals{k.i32(0), left});
      },
      [&]() -> Vals { return given; });
  now = work(next);
  return more;
}

Val WorkSplit::factorOf(const AttentionScales &scales, Val head) {
  Val bytes = axisBytes(scales.head, head, 4);
  return k.val(
      k.loadScalar(at(k.parameter(scales.pointer), bytes), k.getF32Type()));
}

Val WorkSplit::load32(unsigned pointer, Val index) {
  return k.val(k.loadScalar(at(k.parameter(pointer), as(index, 64) * 4),
                            k.getF32Type()));
}

void WorkSplit::step(Val &slot, Val &parity, int64_t slots) {
  Val next = slot + 1;
  Val wraps = next == slots;
  slot = select(wraps, k.i32(0), next);
  parity = select(wraps, parity ^ 1, parity);
}

/// The table is needed next: a small one is on its way when lengths are known,
/// a line for each lane of the launch.
void WorkSplit::prefetchTable() {
  int64_t bytes = batch.table.type.getIntOrFloatBitWidth() / 8;
  Val all = as(requests, 64) * k.parameter(batch.rowStride) * bytes;
  Val place = Val(k, k.extui64((k.val(k.blockX()) * 32 + lane) * 128));
  k.ifThen((warp == split.consumers) & (place < all),
           [&] { w.prefetch(at(k.parameter(batch.table.pointer), place)); });
}

/// As the table has it: who looks at it waits for it.
Val WorkSplit::tableEntry(Val request, Val index, Val isThere) {
  Val at = as(request, 64) * k.parameter(batch.rowStride) + as(index, 64);
  return {k, k.loadRawEntryIf(isThere, k.parameter(batch.table.pointer), at,
                              batch.table.type)};
}

/// Numbers that no block has become -1.
Val WorkSplit::blockOf(Val entry, Val isThere) {
  if (entry.getType().getIntOrFloatBitWidth() < 64)
    entry = as(entry, 64);
  Val isBlock = isThere & isBelow(entry, k.parameter(parameters.blocks));
  return select(isBlock, entry, k.i64(-1));
}

/// All lanes have read or written, for LLVM too; one of them says so.
void WorkSplit::release(Value barrier) {
  w.syncWarp();
  k.ifThen(lane == 0, [&] { w.mbarrierArrive(barrier); });
}
