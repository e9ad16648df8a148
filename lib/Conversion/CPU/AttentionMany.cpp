// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A tile of many rows: both products are blocked matrix products on buffers
// that stay in the cache of a core.
//
//   scores[key][row]   = keys[key][channel] * queries[channel][row]
//   sums[row][channel] = scores[key][row] * values[key][channel]
//
// Lanes of the softmax are rows, so that no sum goes across lanes. The products
// here are those of any CPU, in f32.
//
//===----------------------------------------------------------------------===//

#include "AttentionMany.h"
#include "Codecs.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

Value cpu::emitStack(CodeBuilder &emit, int64_t count, Type type) {
  auto buffer = memref::AllocaOp::create(emit, MemRefType::get({count}, type));
  buffer.setAlignment(64);
  return buffer;
}

ManyRowsState::ManyRowsState(CodeBuilder &emit, const AttentionFacts &facts,
                             const Tile &tile)
    : facts(facts), tile(tile), lanes(facts.lanes), maxRows(facts.maxRows) {
  Type f32 = emit.getF32Type();
  scores = emitStack(emit, facts.chunkKeys * maxRows, f32);
  sums = emitStack(emit, maxRows * facts.valueChannels, f32);
  rescale = emitStack(emit, maxRows, f32);
  int64_t unit = 2 * lanes;
  rows = emit.muli(emit.ceildivui(tile.rows, unit), unit);
}

//===----------------------------------------------------------------------===//
// Products in f32
//===----------------------------------------------------------------------===//

void ValueProduct::multiplyLanes(CodeBuilder &emit, const ManyRowsState &state,
                                 Value count, bool masked, ValuesAt valuesAt) {
  int64_t lanes = state.lanes, rowsAtOnce = lanes / 2;
  int64_t channels = state.facts.valueChannels,
          whole = channels / (2 * lanes) * (2 * lanes);
  auto block = [&](CodeBuilder &e, Value row, Value channel, int64_t columns,
                   int64_t n) {
    RegisterBlock block{rowsAtOnce, columns, n, masked};
    auto sumAt = [&](int64_t m, int64_t v) -> Place {
      Value at = e.addMul(channel, e.addi(row, m), channels);
      return {state.sums, e.addi(at, v * n)};
    };
    Values acc;
    for (int64_t m = 0; m < rowsAtOnce; ++m) {
      Value factor = splat(e, e.load(state.rescale, e.addi(row, m)), n);
      for (int64_t v = 0; v < columns; ++v)
        acc.push_back(mulF(e, loadLanes(e, sumAt(m, v), n), factor));
    }
    acc = block.accumulate(
        e, count, acc,
        [&](CodeBuilder &e, Value key, int64_t m) {
          Value at = e.addMul(row, key, state.maxRows);
          return e.load(state.scores, e.addi(at, m));
        },
        [&](CodeBuilder &e, Value key, int64_t v) {
          return valuesAt(e, key, e.addi(channel, v * n), n);
        });
    for (int64_t m = 0; m < rowsAtOnce; ++m)
      for (int64_t v = 0; v < columns; ++v)
        storeLanes(e, acc[m * columns + v], sumAt(m, v));
  };
  emit.forLoop(emit.index(0), state.rows, rowsAtOnce,
               [&](CodeBuilder &e, Value row) {
                 e.forLoop(e.index(0), e.index(whole), 2 * lanes,
                           [&](CodeBuilder &e, Value channel) {
                             block(e, row, channel, 2, lanes);
                           });
                 forLanes(channels - whole, lanes, [&](int64_t at, int64_t n) {
                   block(e, row, e.index(whole + at), 1, n);
                 });
               });
}

namespace {

class LaneScores : public ScoreProduct {
public:
  LaneScores(CodeBuilder &emit, const ManyRowsState &state)
      : state(state), facts(state.facts), maxRows(state.maxRows) {
    Type f32 = emit.getF32Type();
    queries = emitStack(emit, facts.keyChannels * maxRows, f32);
    keys = emitStack(emit, facts.chunkKeys * facts.keyChannels, f32);
  }

  void takeQueries(CodeBuilder &emit, QueryAt queryAt) override {
    Value factor = emit.f32(facts.queryFactor());
    emit.forLoop(state.rows, [&](CodeBuilder &e, Value row) {
      Place from = queryAt(e, row);
      e.forLoop(e.index(facts.keyChannels), [&](CodeBuilder &e, Value d) {
        Value x = e.load(from.memref, e.addi(from.offset, d));
        x = cpu::emitConvert(e, x, e.getF32Type());
        e.store(mulF(e, x, factor), queries, e.addMul(row, d, maxRows));
      });
    });
  }

  void takeKeys(CodeBuilder &emit, Value count, OffsetAt offsetAt) override {
    emit.forLoop(count, [&](CodeBuilder &e, Value i) {
      state.tile.keys->load(e, offsetAt(e, i),
                            {keys, e.muli(i, facts.keyChannels)});
    });
  }

  void multiply(CodeBuilder &emit, Value count) override {
    int64_t lanes = state.lanes;
    // Keys behind the last one are computed with whatever the buffer holds, and
    // not looked at.
    int64_t keysAtOnce = lanes / 2;
    RegisterBlock block{keysAtOnce, 2, lanes};
    emit.forLoop(
        emit.index(0), state.rows, 2 * lanes, [&](CodeBuilder &e, Value row) {
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
                  for (int64_t v = 0; v < 2; ++v) {
                    Value at = e.addMul(row, e.addi(key, m), maxRows);
                    storeLanes(e, acc[m * 2 + v],
                               {state.scores, e.addi(at, v * lanes)});
                  }
              });
        });
  }

private:
  const ManyRowsState &state;
  const AttentionFacts &facts;
  int64_t maxRows;
  Value queries, keys;
};

class LaneValues : public ValueProduct {
public:
  LaneValues(CodeBuilder &emit, const ManyRowsState &state)
      : state(state), channels(state.facts.valueChannels) {
    values =
        emitStack(emit, state.facts.chunkKeys * channels, emit.getF32Type());
  }

  void takeValues(CodeBuilder &emit, Value count, OffsetAt offsetAt) override {
    emit.forLoop(count, [&](CodeBuilder &e, Value i) {
      state.tile.values->load(e, offsetAt(e, i), {values, e.muli(i, channels)});
    });
  }

  void multiply(CodeBuilder &emit, Value count, bool masked) override {
    multiplyLanes(emit, state, count, masked,
                  [&](CodeBuilder &e, Value key, Value channel, int64_t n) {
                    return loadLanes(
                        e, {values, e.addMul(channel, key, channels)}, n);
                  });
  }

private:
  const ManyRowsState &state;
  int64_t channels;
  Value values;
};

//===----------------------------------------------------------------------===//
// The tile
//===----------------------------------------------------------------------===//

class ManyRows {
public:
  ManyRows(CodeBuilder &emit, const AttentionFacts &facts, const Tile &tile)
      : facts(facts), tile(tile), state(emit, facts, tile), lanes(facts.lanes) {
    if (facts.keyTiles)
      keys = x86::createTileScores(emit, state);
    else
      keys = std::make_unique<LaneScores>(emit, state);
    if (facts.valueTiles)
      values = x86::createTileValues(emit, state);
    else
      values = std::make_unique<LaneValues>(emit, state);
    Type f32 = emit.getF32Type(), i32 = emit.getI32Type();
    maxima = emitStack(emit, facts.maxRows, f32);
    totals = emitStack(emit, facts.maxRows, f32);
    slopes = emitStack(emit, facts.maxRows, f32);
    rowPositions = emitStack(emit, facts.maxRows, i32);
    rowsLast = facts.ahead.value_or(0) ? emitStack(emit, facts.maxRows, i32)
                                       : rowPositions;
    if (facts.window)
      rowsTooOld = emitStack(emit, facts.maxRows, i32);
    if (facts.hasMask)
      maskOffsets = emitStack(emit, facts.maxRows, emit.getI64Type());
  }

  void run(CodeBuilder &emit, Value first, Value end, const Outputs &outputs) {
    begin(emit);
    KeyList list(emit, facts, tile);
    list.forChunks(
        emit, first, end,
        [&](CodeBuilder &e, const KeyList::Chunk &c) { chunk(e, list, c); });
    values->finish(emit);
    emit.forLoop(tile.rows, [&](CodeBuilder &e, Value row) {
      RowResult result = {e.load(maxima, row), e.load(totals, row)};
      result.store(e, facts, outputs, rowIn(e, row), headOf(e, row),
                   {state.sums, e.muli(row, facts.valueChannels)});
    });
  }

private:
  Value rowIn(CodeBuilder &emit, Value row) const {
    return emit.addi(tile.firstRow, emit.divui(row, facts.group));
  }
  Value headOf(CodeBuilder &emit, Value row) const {
    return emit.addi(emit.muli(tile.head, facts.group),
                     emit.remui(row, facts.group));
  }
  /// Rows that only fill up a vector are copies of the last one.
  Value realRow(CodeBuilder &emit, Value row) const {
    return emit.minsi(row, emit.subi(tile.rows, emit.index(1)));
  }

  void begin(CodeBuilder &emit) {
    keys->takeQueries(emit, [&](CodeBuilder &e, Value row) {
      Value real = realRow(e, row);
      return tile.queries->at(e, rowIn(e, real), headOf(e, real));
    });
    emit.forLoop(state.rows, [&](CodeBuilder &e, Value row) {
      Value real = realRow(e, row);
      emitRunClear(e, {state.sums, e.muli(row, facts.valueChannels)},
                   facts.valueChannels);
      e.store(e.f32(kNoMaximum), maxima, row);
      e.store(e.f32(0), totals, row);
      e.store(tile.rowPosition(e, rowIn(e, real)), rowPositions, row);
      if (rowsLast != rowPositions)
        e.store(tile.lastSeen(e, rowIn(e, real), *facts.ahead), rowsLast, row);
      if (facts.window)
        e.store(tile.lastTooOld(e, rowIn(e, real), *facts.window), rowsTooOld,
                row);
      if (facts.hasMask)
        e.store(tile.maskOffset(e, rowIn(e, real)), maskOffsets, row);
      if (tile.alibi)
        e.store(mulF(e, e.load(tile.alibi, headOf(e, real)), e.f32(M_LOG2E)),
                slopes, row);
    });
  }

  void chunk(CodeBuilder &emit, const KeyList &list, const KeyList::Chunk &c) {
    Value count = c.count;
    Value keyHead = tile.keys->headOffset(emit, tile.head);
    Value valueHead = tile.values->headOffset(emit, tile.head);
    keys->takeKeys(emit, count, [&](CodeBuilder &e, Value i) {
      return e.addi(e.load(list.keys, e.addi(c.at, i)), keyHead);
    });
    values->takeValues(emit, count, [&](CodeBuilder &e, Value i) {
      return e.addi(e.load(list.values, e.addi(c.at, i)), valueHead);
    });
    keys->multiply(emit, count);
    keyScales = list.keyScalesOf(emit, c, tile.head, count);
    valueScales = list.valueScalesOf(emit, c, tile.head, count);
    auto rest = [&](CodeBuilder &e, bool masked) {
      weigh(e, list, c, masked);
      values->multiply(e, count, masked);
    };
    if (!facts.rowsDiffer())
      return rest(emit, false);
    emit.ifThen(
        hidesKeys(emit, facts, tile, c), [&](CodeBuilder &e) { rest(e, true); },
        [&](CodeBuilder &e) { rest(e, false); });
  }

  Place scoreAt(CodeBuilder &emit, Value key, Value row) const {
    return {state.scores, emit.addMul(row, key, facts.maxRows)};
  }

  /// Scores become weights, rows being lanes.
  void weigh(CodeBuilder &emit, const KeyList &list, const KeyList::Chunk &c,
             bool masked) {
    Value count = c.count;
    emit.forLoop(
        emit.index(0), state.rows, lanes, [&](CodeBuilder &e, Value row) {
          auto kept = [&](Value list) -> Value {
            Type type = cast<MemRefType>(list.getType()).getElementType();
            return vector::LoadOp::create(e, VectorType::get({lanes}, type),
                                          list, row);
          };
          Value positions = kept(rowPositions);
          Value last = rowsLast == rowPositions ? positions : kept(rowsLast);
          Value tooOld = facts.window ? kept(rowsTooOld) : Value();
          Value slope = loadLanes(e, {slopes, row}, lanes);
          Value before = loadLanes(e, {maxima, row}, lanes);
          bool hasBits = masked && facts.hasMask;
          Value offsets = hasBits ? kept(maskOffsets) : Value();
          Values start = {before};
          if (hasBits)
            start.append({splat(e, e.i32(0), lanes), e.i32(kNoWord)});
          Value maximum = e.forLoop(
              e.index(0), count, 1, start,
              [&](CodeBuilder &e, Value key, ValueRange m) {
                Place at = scoreAt(e, key, row);
                Value x = loadLanes(e, at, lanes);
                if (keys->factor() != 1)
                  x = mulF(e, x, splat(e, keys->factor(), lanes));
                if (keyScales)
                  x = mulF(e, x, splat(e, e.load(keyScales, key), lanes));
                x = facts.capped(e, x);
                Value keyAt =
                    splat(e, e.load(list.positions, e.addi(c.at, key)), lanes);
                if (tile.alibi) {
                  Value distance = e.fold<arith::SubIOp>(keyAt, positions);
                  x = fma(e, e.fold<arith::SIToFPOp>(x.getType(), distance),
                          slope, x);
                }
                Value seen;
                if (masked)
                  seen = isSeen(e, keyAt, last, tooOld);
                Values words;
                if (hasBits) {
                  Value own = tile.ownNumber(e, keyAt);
                  words = nextWords(e, own, offsets, m[1], m[2]);
                  seen = e.andiIfAny(seen, tile.isSet(e, words[0], own));
                }
                if (masked)
                  x = e.select(seen, x, splat(e, -INFINITY, lanes));
                storeLanes(e, x, at);
                Values next = {maxF(e, x, m[0])};
                next.append(words);
                return next;
              })[0];
          storeLanes(e, maximum, {maxima, row});
          Value factor = emitExp2(e, subF(e, before, maximum));
          storeLanes(e, factor, {state.rescale, row});
          Value total = mulF(e, loadLanes(e, {totals, row}, lanes), factor);
          total = e.forLoop(
              e.index(0), count, 1, total,
              [&](CodeBuilder &e, Value key, ValueRange sum) {
                Place at = scoreAt(e, key, row);
                Value weight =
                    emitExp2(e, subF(e, loadLanes(e, at, lanes), maximum));
                Value scaled = weight;
                if (valueScales)
                  scaled = scaleWeights(
                      e, weight, splat(e, e.load(valueScales, key), lanes));
                storeLanes(e, scaled, at);
                return Values{addF(e, sum[0], weight)};
              })[0];
          storeLanes(e, total, {totals, row});
        });
  }

  /// The words of the mask for a key, and the number of the words: most keys
  /// have those of the one before.
  Values nextWords(CodeBuilder &emit, Value own, Value offsets, Value words,
                   Value number) const {
    Value one = vector::ExtractOp::create(emit, own, 0);
    Value next = emit.fold<arith::ShRUIOp>(one, emit.i32(5));
    auto found = scf::IfOp::create(
        emit, emit.eq(next, number),
        [&](OpBuilder &b, Location l) { scf::YieldOp::create(b, l, words); },
        [&](OpBuilder &b, Location l) {
          CodeBuilder e(b, l);
          scf::YieldOp::create(b, l, tile.maskWords(e, own, offsets));
        });
    return {found.getResult(0), next};
  }
  /// More than any number shifted by five.
  static constexpr int64_t kNoWord = -1;

  Value isSeen(CodeBuilder &emit, Value key, Value last, Value tooOld) const {
    Value seen;
    if (facts.ahead)
      seen = emit.cmpi(CodeBuilder::Predicate::sle, key, last);
    if (facts.window) {
      Value isNew = emit.cmpi(CodeBuilder::Predicate::sgt, key, tooOld);
      seen = seen ? emit.andi(seen, isNew) : isNew;
    }
    return seen;
  }

  const AttentionFacts &facts;
  const Tile &tile;
  ManyRowsState state;
  int64_t lanes;
  std::unique_ptr<ScoreProduct> keys;
  std::unique_ptr<ValueProduct> values;
  Value maxima, totals, slopes, rowPositions, rowsLast, rowsTooOld, maskOffsets;
  Value keyScales, valueScales; ///< of the chunk; null if there are none
};

} // namespace

void cpu::emitManyRows(CodeBuilder &emit, const AttentionFacts &facts,
                       const Tile &tile, Value first, Value end,
                       const Outputs &outputs) {
  ManyRows(emit, facts, tile).run(emit, first, end, outputs);
}
