// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Requests.h"

#include "../Common/CodeBuilder.h"

using namespace mlir;
using namespace kvcache;

Value IntegerList::partOf(KernelBuilder &k, Value number, int64_t factor,
                          Value part, Value none) const {
  Value isThere = k.ult(number, k.i64(numbersWithParts(type, factor)));
  Value value = k.addi(k.muli(number, k.i64(factor)), part);
  return k.select(isThere, value, none);
}

IntegerList IntegerList::get(KernelOperands &operands, Value memref) {
  return {operands.addBuffer(memref),
          cast<MemRefType>(memref.getType()).getElementType()};
}

BatchParameters::BatchParameters(OpBuilder &builder, Location loc,
                                 KernelOperands &operands,
                                 const BatchValue &batch, Value rows)
    : type(batch.type), starts(IntegerList::get(operands, batch.starts)),
      lengths(IntegerList::get(operands, batch.lengths)),
      rows(operands.addIndex(rows)),
      count(operands.addIndex(batch.numRequests(builder, loc))) {
  CodeBuilder emit(builder, loc);
  // In the sequence of their use: a line of parameters is waited for at the
  // first one.
  entries = operands.addIndex(emit.dim(batch.starts, 0));
  columns = operands.addIndex(emit.dim(batch.table, 1));
  auto metadata =
      memref::ExtractStridedMetadataOp::create(builder, loc, batch.table);
  table = IntegerList::get(operands, batch.table);
  rowStride = operands.addIndex(metadata.getStrides()[0]);
  if (batch.positions) {
    positions = IntegerList::get(operands, batch.positions);
    numPositions = operands.addIndex(emit.dim(batch.positions, 0));
  }
}

KernelRequests::KernelRequests(KernelBuilder &k, const BatchParameters &batch,
                               int64_t threads)
    : k(k), batch(batch), threads(threads) {
  for (Value *memory : {&starts, &lengths})
    *memory = k.shared(8 * threads);
}

Value KernelRequests::entry(Value memory, Value index) {
  return k.loadScalar(k.byteOffset(memory, k.muli(index, k.i64(8))),
                      k.getI64Type());
}

void KernelRequests::put(Value memory, Value value) {
  Value thread = k.extui64(k.threadX());
  k.storeScalar(value, k.byteOffset(memory, k.muli(thread, k.i64(8))));
}

Value KernelRequests::Tile::start(KernelBuilder &k, Value index) const {
  return k.loadScalar(k.byteOffset(starts, k.muli(index, k.i64(8))),
                      k.getI64Type());
}

Value KernelRequests::Tile::length(KernelBuilder &k, Value index) const {
  return k.loadScalar(k.byteOffset(lengths, k.muli(index, k.i64(8))),
                      k.getI64Type());
}

void KernelRequests::makeTrusted(Value number, Value isInOrder) {
  put(starts, number);
  Value all = k.barrierAll(isInOrder);
  k.ifThen(k.noti(all), [&] {
    Value thread = k.extui64(k.threadX());
    // What is rarely run is not to take room among what is: with an end that is
    // not a constant, the loop stays one.
    Value end = k.extui64(k.blockSize());
    k.whileLoop(
        {k.i64(1), k.val(number)},
        [&](const Vals &state) -> CodeBuilder::Tested {
          return {k.slt(state[0], end), state};
        },
        [&](const Vals &state) -> Vals {
          Value distance = state[0];
          Value isFirst = k.slt(thread, distance);
          Value other = k.select(isFirst, thread, k.subi(thread, distance));
          Value most = k.maxsi(state[1], entry(starts, other));
          k.barrier();
          put(starts, most);
          k.barrier();
          return {k.addi(distance, distance), k.val(most)};
        });
  });
}

Value KernelRequests::clampStart(Value raw) {
  return k.maxsi(k.minsi(raw, k.parameter(batch.rows)), k.i64(0));
}

Value KernelRequests::numStarts() {
  return k.minsi(k.addi(k.parameter(batch.count), k.i64(1)),
                 k.parameter(batch.entries));
}

Value KernelRequests::least() {
  Value isThere = k.slt(k.i64(0), k.parameter(batch.entries));
  return clampStart(k.loadEntryIf(isThere, k.parameter(batch.starts.pointer),
                                  k.i64(0), batch.starts.type));
}

Value KernelRequests::most() {
  return k
      .forLoop(k.extui64(k.threadX()), numStarts(), k.i64(threads), {k.i64(0)},
               [&](Value i, ValueRange state) {
                 Value start = clampStart(batch.starts.load(k, i));
                 return SmallVector<Value>{k.maxsi(state[0], start)};
               })
      .front();
}

KernelRequests::Loaded KernelRequests::load(Value first) {
  Value index = k.addi(first, k.extui64(k.threadX()));
  auto start = [&](Value index) {
    Value isThere = k.ult(index, numStarts());
    return k.loadEntryIf(isThere, k.parameter(batch.starts.pointer), index,
                         batch.starts.type);
  };
  Loaded loaded;
  loaded.number = start(index);
  loaded.before = start(k.subi(index, k.i64(1)));
  Value isRequest = k.slt(index, k.parameter(batch.count));
  loaded.length = k.loadEntryIf(isRequest, k.parameter(batch.lengths.pointer),
                                index, batch.lengths.type);
  return loaded;
}

SmallVector<Value> KernelRequests::forTiles(Loaded ready, ValueRange start,
                                            Body body) {
  Value thread = k.extui64(k.threadX());
  Value end = k.addi(k.parameter(batch.count), k.i64(1));
  int64_t tokens = batch.type.getTokens();
  Value most = k.i64(std::numeric_limits<int64_t>::max() / tokens);
  Value room = k.muli(k.minsi(k.parameter(batch.columns), most), k.i64(tokens));
  SmallVector<Value> carried(start);
  carried.push_back(k.i64(0)); // the largest start so far
  carried.append({ready.number, ready.before, ready.length});
  SmallVector<Value> results = k.forLoop(
      k.i64(0), end, k.i64(threads), carried,
      [&](Value first, ValueRange values) {
        ValueRange own = values.drop_back(4), loaded = values.take_back(3);
        Value largest = values[own.size()];
        Value index = k.addi(first, thread);
        // What is behind the list repeats the largest start.
        auto trust = [&](Value index, Value raw) {
          Value isThere = k.ult(index, numStarts());
          return k.select(isThere, clampStart(raw), largest);
        };
        Value number = trust(index, loaded[0]);
        Value before = trust(k.subi(index, k.i64(1)), loaded[1]);
        before = k.select(k.eq(thread, k.i64(0)), largest, before);
        Value length = k.maxsi(k.minsi(loaded[2], room), k.i64(0));
        // The tile before was read.
        k.ifThen(k.slt(k.i64(0), first), [&] { k.barrier(); });
        put(lengths, length);
        makeTrusted(k.maxsi(number, largest), k.sle(before, number));
        SmallVector<Value> next = body(Tile{first, starts, lengths}, own);
        next.push_back(entry(starts, k.i64(threads - 1)));
        Loaded then = load(k.addi(first, k.i64(threads)));
        next.append({then.number, then.before, then.length});
        return next;
      });
  results.resize(start.size());
  return results;
}

SmallVector<Value> KernelRequests::startFind(bool withFirst) {
  SmallVector<Value> carried = {k.i64(0), k.i64(-1), k.i64(0), k.i64(0)};
  if (withFirst)
    carried.append(2, k.i64(0));
  return carried;
}

SmallVector<Value> KernelRequests::stepFind(Value row, const Tile &tile,
                                            ValueRange carried) {
  // The first start past the row: requests before it begin at the row or
  // before, and it is the end of the last of them.
  Value at = k.countFirst(threads, [&](Value i) {
    Value place = k.byteOffset(tile.starts, k.muli(i, k.i32(8)));
    return k.sle(k.loadScalar(place, k.getI64Type()), row);
  });
  Value isHere = k.slt(at, k.i64(threads));
  Value take = k.andi(k.slt(carried[1], k.i64(0)), isHere);
  Value inside = k.select(isHere, at, k.i64(0));
  // The request is the one before, perhaps the last one of the tile before.
  Value isFirst = k.eq(inside, k.i64(0));
  Value before = k.subi(inside, k.select(isFirst, k.i64(0), k.i64(1)));
  Value length = k.select(isFirst, carried[3], tile.length(k, before));
  SmallVector<Value> next = {k.select(take, k.addi(tile.first, at), carried[0]),
                             k.select(take, tile.start(k, inside), carried[1]),
                             k.select(take, length, carried[2]),
                             tile.length(k, k.i64(threads - 1))};
  if (carried.size() > next.size()) {
    Value start = k.select(isFirst, carried[5], tile.start(k, before));
    next.append(
        {k.select(take, start, carried[4]), tile.start(k, k.i64(threads - 1))});
  }
  return next;
}

KernelRequests::Found KernelRequests::endFind(ValueRange carried) {
  // The request before that start; none where there is no such start.
  return {k.subi(carried[0], k.i64(1)), carried[1], carried[2],
          carried.size() > 4 ? carried[4] : Value()};
}

KernelRequests::Found KernelRequests::find(Loaded ready, Value row,
                                           bool withFirst) {
  return endFind(forTiles(ready, startFind(withFirst),
                          [&](const Tile &tile, ValueRange values) {
                            return stepFind(row, tile, values);
                          }));
}

Value KernelRequests::position(Value row, const Found &found) {
  if (!batch.type.hasPositions())
    return k.subi(found.length, k.subi(found.end, row));
  // A list of positions that is too short says nothing of the rows behind it.
  Value isThere =
      k.andi(k.sle(k.i64(0), row), k.slt(row, k.parameter(batch.numPositions)));
  Value given = k.loadEntryIf(isThere, k.parameter(batch.positions.pointer),
                              row, batch.positions.type);
  return k.select(isThere, given, k.i64(-1));
}
