// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A tile of many rows: both products are blocked matrix products on buffers of
// f32 that stay in the cache of a core.
//
//   scores[key][row]   = keys[key][channel] * queries[channel][row]
//   sums[row][channel] = scores[key][row] * values[key][channel]
//
// Lanes of the softmax are rows, so that no sum goes across lanes.
//
//===----------------------------------------------------------------------===//

#include "AttentionTile.h"
#include "Codecs.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

namespace {

class ManyRows {
public:
  ManyRows(CodeBuilder &emit, const AttentionFacts &facts, const Tile &tile)
      : facts(facts), tile(tile), lanes(facts.lanes), maxRows(facts.maxRows) {
    Type f32 = emit.getF32Type();
    queries = stack(emit, facts.keyChannels * maxRows, f32);
    keys = stack(emit, facts.chunkKeys * facts.keyChannels, f32);
    values = stack(emit, facts.chunkKeys * facts.valueChannels, f32);
    scores = stack(emit, facts.chunkKeys * maxRows, f32);
    sums = stack(emit, maxRows * facts.valueChannels, f32);
    maxima = stack(emit, maxRows, f32);
    totals = stack(emit, maxRows, f32);
    rescale = stack(emit, maxRows, f32);
    slopes = stack(emit, maxRows, f32);
    rowPositions = stack(emit, maxRows, emit.getI32Type());
    if (facts.window)
      rowsTooOld = stack(emit, maxRows, emit.getI32Type());
    int64_t unit = 2 * lanes;
    rows = emit.muli(emit.ceildivui(tile.rows, unit), unit);
  }

  void run(CodeBuilder &emit, Value first, Value end, const Outputs &outputs) {
    begin(emit);
    KeyList list(emit, facts, tile);
    list.forChunks(
        emit, first, end,
        [&](CodeBuilder &e, const KeyList::Chunk &c) { chunk(e, list, c); });
    emit.forLoop(tile.rows, [&](CodeBuilder &e, Value row) {
      RowResult result = {e.load(maxima, row), e.load(totals, row)};
      result.store(e, facts, outputs, rowIn(e, row), headOf(e, row),
                   {sums, e.muli(row, facts.valueChannels)});
    });
  }

private:
  static Value stack(CodeBuilder &emit, int64_t count, Type type) {
    auto buffer =
        memref::AllocaOp::create(emit, MemRefType::get({count}, type));
    buffer.setAlignment(64);
    return buffer;
  }
  Value rowIn(CodeBuilder &emit, Value row) const {
    return emit.addi(tile.firstRow, emit.divui(row, facts.group));
  }
  Value headOf(CodeBuilder &emit, Value row) const {
    return emit.addi(emit.muli(tile.head, facts.group),
                     emit.remui(row, facts.group));
  }

  void begin(CodeBuilder &emit) {
    Value factor = emit.f32(facts.queryFactor());
    emit.forLoop(rows, [&](CodeBuilder &e, Value row) {
      // Rows that only fill up a vector are copies of the last one.
      Value real = e.minsi(row, e.subi(tile.rows, e.index(1)));
      Place from = tile.queries->at(e, rowIn(e, real))
                       .plus(e, e.muli(headOf(e, real), facts.keyChannels));
      e.forLoop(e.index(facts.keyChannels), [&](CodeBuilder &e, Value d) {
        Value x = e.load(from.memref, e.addi(from.offset, d));
        x = cpu::emitConvert(e, x, e.getF32Type());
        e.store(mulF(e, x, factor), queries, e.addMul(row, d, maxRows));
      });
      emitRunClear(e, {sums, e.muli(row, facts.valueChannels)},
                   facts.valueChannels);
      e.store(e.f32(kNoMaximum), maxima, row);
      e.store(e.f32(0), totals, row);
      e.store(tile.rowPosition(e, rowIn(e, real)), rowPositions, row);
      if (facts.window)
        e.store(tile.lastTooOld(e, rowIn(e, real), *facts.window), rowsTooOld,
                row);
      if (tile.alibi)
        e.store(mulF(e, e.load(tile.alibi, headOf(e, real)), e.f32(M_LOG2E)),
                slopes, row);
    });
  }

  void chunk(CodeBuilder &emit, const KeyList &list, const KeyList::Chunk &c) {
    Value count = c.count;
    Value keyHead = tile.keys->headOffset(emit, tile.head);
    Value valueHead = tile.values->headOffset(emit, tile.head);
    emit.forLoop(count, [&](CodeBuilder &e, Value i) {
      Value at = e.addi(c.at, i);
      tile.keys->load(e, e.addi(e.load(list.keys, at), keyHead),
                      {keys, e.muli(i, facts.keyChannels)});
      tile.values->load(e, e.addi(e.load(list.values, at), valueHead),
                        {values, e.muli(i, facts.valueChannels)});
    });
    score(emit, count);
    auto rest = [&](CodeBuilder &e, bool masked) {
      weigh(e, list, c, masked);
      addValues(e, count, masked);
    };
    if (!facts.hasMask())
      return rest(emit, false);
    emit.ifThen(
        hidesKeys(emit, facts, tile, c), [&](CodeBuilder &e) { rest(e, true); },
        [&](CodeBuilder &e) { rest(e, false); });
  }

  Place scoreAt(CodeBuilder &emit, Value key, Value row) const {
    return {scores, emit.addMul(row, key, maxRows)};
  }

  void score(CodeBuilder &emit, Value count) {
    // Keys behind the last one are computed with whatever the buffer holds, and
    // not looked at.
    int64_t keysAtOnce = lanes / 2;
    RegisterBlock block{keysAtOnce, 2, lanes};
    emit.forLoop(
        emit.index(0), rows, 2 * lanes, [&](CodeBuilder &e, Value row) {
          e.forLoop(
              e.index(0), count, keysAtOnce, [&](CodeBuilder &e, Value key) {
                Value base = e.muli(key, facts.keyChannels);
                Values acc = block.accumulate(
                    e, e.index(facts.keyChannels), block.zeros(e),
                    [&](CodeBuilder &e, Value d, int64_t m) {
                      return e.load(
                          keys, e.addi(e.addi(base, m * facts.keyChannels), d));
                    },
                    [&](CodeBuilder &e, Value d, int64_t v) {
                      Value at = e.addMul(row, d, maxRows);
                      return loadLanes(e, {queries, e.addi(at, v * lanes)},
                                       lanes);
                    });
                for (int64_t m = 0; m < keysAtOnce; ++m)
                  for (int64_t v = 0; v < 2; ++v)
                    storeLanes(
                        e, acc[m * 2 + v],
                        scoreAt(e, e.addi(key, m), e.addi(row, v * lanes)));
              });
        });
  }

  /// Scores become weights, rows being lanes.
  void weigh(CodeBuilder &emit, const KeyList &list, const KeyList::Chunk &c,
             bool masked) {
    Value count = c.count;
    auto integers = VectorType::get({lanes}, emit.getI32Type());
    emit.forLoop(emit.index(0), rows, lanes, [&](CodeBuilder &e, Value row) {
      auto kept = [&](Value list) -> Value {
        return vector::LoadOp::create(e, integers, list, row);
      };
      Value positions = kept(rowPositions);
      Value tooOld = facts.window ? kept(rowsTooOld) : Value();
      Value slope = loadLanes(e, {slopes, row}, lanes);
      Value before = loadLanes(e, {maxima, row}, lanes);
      Value maximum = e.forLoop(
          e.index(0), count, 1, before,
          [&](CodeBuilder &e, Value key, ValueRange m) {
            Place at = scoreAt(e, key, row);
            Value x = facts.capped(e, loadLanes(e, at, lanes));
            Value keyAt =
                splat(e, e.load(list.positions, e.addi(c.at, key)), lanes);
            if (tile.alibi) {
              Value distance = e.fold<arith::SubIOp>(keyAt, positions);
              x = fma(e, e.fold<arith::SIToFPOp>(x.getType(), distance), slope,
                      x);
            }
            if (masked)
              x = e.select(isSeen(e, keyAt, positions, tooOld), x,
                           splat(e, -INFINITY, lanes));
            storeLanes(e, x, at);
            return Values{maxF(e, x, m[0])};
          })[0];
      storeLanes(e, maximum, {maxima, row});
      Value factor = emitExp2(e, subF(e, before, maximum));
      storeLanes(e, factor, {rescale, row});
      Value total = mulF(e, loadLanes(e, {totals, row}, lanes), factor);
      total = e.forLoop(e.index(0), count, 1, total,
                        [&](CodeBuilder &e, Value key, ValueRange sum) {
                          Place at = scoreAt(e, key, row);
                          Value weight = emitExp2(
                              e, subF(e, loadLanes(e, at, lanes), maximum));
                          storeLanes(e, weight, at);
                          return Values{addF(e, sum[0], weight)};
                        })[0];
      storeLanes(e, total, {totals, row});
    });
  }

  Value isSeen(CodeBuilder &emit, Value key, Value position,
               Value tooOld) const {
    Value seen;
    if (facts.causal)
      seen = emit.cmpi(CodeBuilder::Predicate::sle, key, position);
    if (facts.window) {
      Value isNew = emit.cmpi(CodeBuilder::Predicate::sgt, key, tooOld);
      seen = seen ? emit.andi(seen, isNew) : isNew;
    }
    return seen;
  }

  void addValues(CodeBuilder &emit, Value count, bool guarded) {
    int64_t rowsAtOnce = lanes / 2;
    int64_t channels = facts.valueChannels,
            whole = channels / (2 * lanes) * (2 * lanes);
    auto block = [&](CodeBuilder &e, Value row, Value channel, int64_t columns,
                     int64_t n) {
      RegisterBlock block{rowsAtOnce, columns, n, guarded};
      auto sumAt = [&](int64_t m, int64_t v) -> Place {
        Value at = e.addMul(channel, e.addi(row, m), channels);
        return {sums, e.addi(at, v * n)};
      };
      Values acc;
      for (int64_t m = 0; m < rowsAtOnce; ++m) {
        Value factor = splat(e, e.load(rescale, e.addi(row, m)), n);
        for (int64_t v = 0; v < columns; ++v)
          acc.push_back(mulF(e, loadLanes(e, sumAt(m, v), n), factor));
      }
      acc = block.accumulate(
          e, count, acc,
          [&](CodeBuilder &e, Value key, int64_t m) {
            Place at = scoreAt(e, key, row);
            return e.load(scores, e.addi(at.offset, m));
          },
          [&](CodeBuilder &e, Value key, int64_t v) {
            Value at = e.addMul(channel, key, channels);
            return loadLanes(e, {values, e.addi(at, v * n)}, n);
          });
      for (int64_t m = 0; m < rowsAtOnce; ++m)
        for (int64_t v = 0; v < columns; ++v)
          storeLanes(e, acc[m * columns + v], sumAt(m, v));
    };
    emit.forLoop(
        emit.index(0), rows, rowsAtOnce, [&](CodeBuilder &e, Value row) {
          e.forLoop(e.index(0), e.index(whole), 2 * lanes,
                    [&](CodeBuilder &e, Value channel) {
                      block(e, row, channel, 2, lanes);
                    });
          forLanes(channels - whole, lanes, [&](int64_t at, int64_t n) {
            block(e, row, e.index(whole + at), 1, n);
          });
        });
  }

  const AttentionFacts &facts;
  const Tile &tile;
  int64_t lanes, maxRows;
  Value queries, keys, values, scores, sums;
  Value maxima, totals, rescale, slopes, rowPositions, rowsTooOld, rows;
};

} // namespace

void cpu::emitManyRows(CodeBuilder &emit, const AttentionFacts &facts,
                       const Tile &tile, Value first, Value end,
                       const Outputs &outputs) {
  ManyRows(emit, facts, tile).run(emit, first, end, outputs);
}
