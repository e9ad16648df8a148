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
  for (Value &buffer : memory)
    buffer = k.shared(8 * threads);
}

Value KernelRequests::tileEntry(Value tile, Value index) {
  return k.loadScalar(k.byteOffset(tile, k.mul(index, k.i64(8))),
                      k.builder.getI64Type());
}

Value KernelRequests::scanMax(Value number) {
  Value thread = k.widen(k.threadX());
  auto put = [&](Value buffer, Value value) {
    k.storeScalar(value, k.byteOffset(buffer, k.mul(thread, k.i64(8))));
  };
  k.barrier(); // what is there was read
  put(memory[0], number);
  unsigned current = 0;
  for (int64_t distance = 1; distance < threads; distance *= 2) {
    k.barrier();
    Value isFirst = k.slt(thread, k.i64(distance));
    Value other = k.select(isFirst, thread, k.sub(thread, k.i64(distance)));
    number = k.smax(number, tileEntry(memory[current], other));
    current ^= 1;
    put(memory[current], number);
  }
  k.barrier();
  return memory[current];
}

SmallVector<Value> KernelRequests::forTiles(ValueRange start, Tile body) {
  Value thread = k.widen(k.threadX());
  Value rows = k.parameter(batch.rows);
  Value end = k.add(k.parameter(batch.count), k.i64(1));
  SmallVector<Value> carried(start);
  carried.push_back(k.i64(0)); // the largest start so far
  SmallVector<Value> result =
      k.loop(k.i64(0), end, k.i64(threads), carried,
             [&](Value first, ValueRange values) {
               Value index = k.add(first, thread);
               Value isThere = k.slt(index, k.smin(end, k.parameter(batch.entries)));
               Value raw = k.loadEntryIf(isThere, k.parameter(batch.starts.pointer),
                                         index, batch.starts.type);
               Value number = k.smax(k.smin(raw, rows), values.back());
               Value tile = scanMax(k.select(isThere, number, values.back()));
               SmallVector<Value> next =
                   body(first, tile, values.drop_back());
               next.push_back(tileEntry(tile, k.i64(threads - 1)));
               return next;
             });
  result.pop_back();
  return result;
}

std::pair<Value, Value> KernelRequests::find(Value row) {
  // The first start past the row: requests before it begin at the row or
  // before, and it is the end of the last of them.
  SmallVector<Value> found = forTiles(
      {k.i64(0), k.i64(-1)},
      [&](Value first, Value tile, ValueRange values) {
        Value isOpen = k.slt(values[1], k.i64(0));
        Value at = k.searchFirst(k.i64(0), k.i64(threads), [&](Value i) {
          return k.slt(row, tileEntry(tile, i));
        });
        Value isHere = k.slt(at, k.i64(threads));
        Value inside = k.select(isHere, at, k.i64(0));
        Value take = k.both(isOpen, isHere);
        return SmallVector<Value>{
            k.select(take, k.add(first, at), values[0]),
            k.select(take, tileEntry(tile, inside), values[1])};
      });
  // The request before that start; none where there is no such start.
  return {k.sub(found[0], k.i64(1)), found[1]};
}

Value KernelRequests::length(Value request) {
  Value room = k.mul(k.parameter(batch.columns), k.i64(batch.type.getTokens()));
  Value given = batch.lengths.load(k, request);
  return k.smin(k.smax(given, k.i64(0)), room);
}

Value KernelRequests::position(Value row, Value end, Value length) {
  if (!batch.type.hasPositions())
    return k.sub(length, k.sub(end, row));
  // A list of positions that is too short says nothing of the rows behind it.
  Value isThere = k.slt(row, k.parameter(batch.numPositions));
  Value given = k.loadEntryIf(isThere, k.parameter(batch.positions.pointer),
                              row, batch.positions.type);
  return k.select(isThere, given, k.i64(-1));
}
