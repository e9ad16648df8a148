// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Requests.h"

#include "../../Common/Emitter.h"

using namespace mlir;
using namespace kvcache;

IntegerList IntegerList::get(KernelOperands &operands, Value memref) {
  return {operands.addBuffer(memref),
          cast<MemRefType>(memref.getType()).getElementType()};
}

BatchParameters::BatchParameters(OpBuilder &builder, Location loc,
                                 KernelOperands &operands,
                                 const BatchParts &batch, Value rows)
    : type(batch.type), starts(IntegerList::get(operands, batch.starts)),
      lengths(IntegerList::get(operands, batch.lengths)),
      table(IntegerList::get(operands, batch.table)),
      rows(operands.addIndex(rows)),
      count(operands.addIndex(batch.numRequests(builder, loc))) {
  Emitter emit{builder, loc};
  auto metadata =
      memref::ExtractStridedMetadataOp::create(builder, loc, batch.table);
  entries = operands.addIndex(emit.dim(batch.starts, 0));
  columns = operands.addIndex(emit.dim(batch.table, 1));
  rowStride = operands.addIndex(metadata.getStrides()[0]);
  if (batch.positions) {
    positions = IntegerList::get(operands, batch.positions);
    numPositions = operands.addIndex(emit.dim(batch.positions, 0));
  }
}

KernelRequests::KernelRequests(KernelBuilder &k, const BatchParameters &batch,
                               int64_t threads)
    : k(k), batch(batch), threads(threads) {
  for (Value *memory : {&starts, &others, &lengths})
    *memory = k.shared(8 * threads);
}

Value KernelRequests::entry(Value memory, Value index) {
  return k.loadScalar(k.byteOffset(memory, k.mul(index, k.i64(8))),
                      k.builder.getI64Type());
}

void KernelRequests::put(Value memory, Value value) {
  Value thread = k.widen(k.threadX());
  k.storeScalar(value, k.byteOffset(memory, k.mul(thread, k.i64(8))));
}

Value KernelRequests::Tile::start(KernelBuilder &k, Value index) const {
  return k.loadScalar(k.byteOffset(starts, k.mul(index, k.i64(8))),
                      k.builder.getI64Type());
}

Value KernelRequests::Tile::length(KernelBuilder &k, Value index) const {
  return k.loadScalar(k.byteOffset(lengths, k.mul(index, k.i64(8))),
                      k.builder.getI64Type());
}

void KernelRequests::makeTrusted(Value number, Value isInOrder) {
  put(starts, number);
  Value all = k.barrierAll(isInOrder);
  k.ifThen(k.isNot(all), [&] {
    Value thread = k.widen(k.threadX());
    Value from = starts, to = others, most = number;
    // An even number of steps: the last one writes to `starts`.
    for (int64_t distance = 1; distance < threads; distance *= 2) {
      Value isFirst = k.slt(thread, k.i64(distance));
      Value other = k.select(isFirst, thread, k.sub(thread, k.i64(distance)));
      most = k.smax(most, entry(from, other));
      put(to, most);
      std::swap(from, to);
      k.barrier();
    }
  });
}

Value KernelRequests::least() {
  Value isThere = k.slt(k.i64(0), k.parameter(batch.entries));
  Value raw = k.loadEntryIf(isThere, k.parameter(batch.starts.pointer),
                            k.i64(0), batch.starts.type);
  return k.smax(k.smin(raw, k.parameter(batch.rows)), k.i64(0));
}

SmallVector<Value> KernelRequests::forTiles(ValueRange start, Body body) {
  Value thread = k.widen(k.threadX());
  Value rows = k.parameter(batch.rows), count = k.parameter(batch.count);
  Value end = k.add(count, k.i64(1));
  Value room = k.mul(k.parameter(batch.columns), k.i64(batch.type.getTokens()));
  auto clamp = [&](Value number, Value most) {
    return k.smax(k.smin(number, most), k.i64(0));
  };
  SmallVector<Value> carried(start);
  carried.push_back(k.i64(0)); // the largest start so far
  return k.loop(
      k.i64(0), end, k.i64(threads), carried,
      [&](Value first, ValueRange values) {
        Value largest = values.back();
        Value index = k.add(first, thread);
        // What is behind the list repeats the largest start.
        auto load = [&](Value index) {
          Value isThere =
              k.both(k.sle(k.i64(0), index),
                     k.slt(index, k.smin(end, k.parameter(batch.entries))));
          Value raw = k.loadEntryIf(isThere, k.parameter(batch.starts.pointer),
                                    index, batch.starts.type);
          return k.select(isThere, clamp(raw, rows), largest);
        };
        Value number = load(index), before = load(k.sub(index, k.i64(1)));
        Value isRequest = k.slt(index, count);
        Value length =
            k.loadEntryIf(isRequest, k.parameter(batch.lengths.pointer), index,
                          batch.lengths.type);
        Value isFirst = k.eq(thread, k.i64(0));
        before = k.select(isFirst, largest, before);
        k.barrier(); // the tile before was read
        put(lengths, clamp(length, room));
        makeTrusted(k.smax(number, largest), k.sle(before, number));
        Tile tile{first, starts, lengths};
        SmallVector<Value> next = body(tile, values.drop_back());
        next.push_back(entry(starts, k.i64(threads - 1)));
        return next;
      });
}

SmallVector<Value> KernelRequests::startFind() {
  return {k.i64(0), k.i64(-1), k.i64(0), k.i64(0)};
}

SmallVector<Value> KernelRequests::stepFind(Value row, const Tile &tile,
                                            ValueRange carried) {
  // The first start past the row: requests before it begin at the row or
  // before, and it is the end of the last of them.
  Value at = k.searchFirst(k.i64(0), k.i64(threads), [&](Value i) {
    return k.slt(row, tile.start(k, i));
  });
  Value isHere = k.slt(at, k.i64(threads));
  Value take = k.both(k.slt(carried[1], k.i64(0)), isHere);
  Value inside = k.select(isHere, at, k.i64(0));
  // The request is the one before, perhaps the last one of the tile before.
  Value isFirst = k.eq(inside, k.i64(0));
  Value before = k.sub(inside, k.select(isFirst, k.i64(0), k.i64(1)));
  Value length = k.select(isFirst, carried[3], tile.length(k, before));
  return {k.select(take, k.add(tile.first, at), carried[0]),
          k.select(take, tile.start(k, inside), carried[1]),
          k.select(take, length, carried[2]),
          tile.length(k, k.i64(threads - 1))};
}

KernelRequests::Found KernelRequests::endFind(ValueRange carried) {
  // The request before that start; none where there is no such start.
  return {k.sub(carried[0], k.i64(1)), carried[1], carried[2]};
}

KernelRequests::Found KernelRequests::find(Value row) {
  return endFind(
      forTiles(startFind(), [&](const Tile &tile, ValueRange values) {
        return stepFind(row, tile, values);
      }));
}

Value KernelRequests::position(Value row, const Found &found) {
  if (!batch.type.hasPositions())
    return k.sub(found.length, k.sub(found.end, row));
  // A list of positions that is too short says nothing of the rows behind it.
  Value isThere =
      k.both(k.sle(k.i64(0), row), k.slt(row, k.parameter(batch.numPositions)));
  Value given = k.loadEntryIf(isThere, k.parameter(batch.positions.pointer),
                              row, batch.positions.type);
  return k.select(isThere, given, k.i64(-1));
}
