// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The products of a tile of many rows by the tiles of an x86 with AMX, for
// keys, queries and values in bf16.
//
// A product of tiles sums over pairs of bf16: queries are pairs of channels,
// [channel / 2][row][2], and values pairs of keys, [key / 2][channel][2]. Keys
// are as they are in the cache. Weights are rounded to bf16 and transposed, in
// blocks of 16 rows and 16 pairs of keys.
//
//===----------------------------------------------------------------------===//

#include "AttentionMany.h"
#include "X86Pairs.h"
#include "X86Tiles.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

namespace {

constexpr int64_t kPairs = 16; ///< of bf16 in a vector
constexpr int64_t kHalves = 2 * kPairs;

Value bitcast(CodeBuilder &emit, Value value, int64_t lanes, Type element) {
  return vector::BitCastOp::create(emit, VectorType::get({lanes}, element),
                                   value);
}

/// 32 bf16 as 16 i32.
Value loadPairs(CodeBuilder &emit, const Place &place) {
  return bitcast(emit, x86::loadHalves(emit, place, kHalves), kPairs,
                 emit.getI32Type());
}
void storePairs(CodeBuilder &emit, Value pairs, const Place &place) {
  vector::StoreOp::create(emit,
                          bitcast(emit, pairs, kHalves, emit.getBF16Type()),
                          place.memref, place.offset);
}

class TileScores : public ScoreProduct {
public:
  TileScores(CodeBuilder &emit, const ManyRowsState &state)
      : state(state), channels(state.facts.keyChannels) {
    Type bf16 = emit.getBF16Type();
    queries = emitStack(emit, channels * state.maxRows, bf16);
    keys = emitStack(emit, state.facts.chunkKeys * channels, bf16);
    someQueries = emitStack(emit, x86::kTileRows * channels, bf16);
  }

  /// Queries are products as they are: rounded after a multiplication they
  /// would be less exact.
  float factor() const override { return state.facts.queryFactor(); }

  void takeQueries(CodeBuilder &emit, QueryAt queryAt) override {
    emit.forLoop(
        emit.index(0), state.rows, x86::kTileRows,
        [&](CodeBuilder &e, Value row) {
          e.forLoop(e.index(x86::kTileRows), [&](CodeBuilder &e, Value i) {
            emitRunCopy(e, queryAt(e, e.addi(row, i)),
                        {someQueries, e.muli(i, channels)}, channels);
          });
          e.forLoop(e.index(0), e.index(channels), kHalves,
                    [&](CodeBuilder &e, Value channel) {
                      Values pairs;
                      for (int64_t i = 0; i < x86::kTileRows; ++i)
                        pairs.push_back(loadPairs(
                            e, {someQueries, e.addi(channel, i * channels)}));
                      pairs = x86::transpose(e, pairs);
                      Value first = e.divui(channel, 2);
                      for (int64_t i = 0; i < kPairs; ++i) {
                        Value at =
                            e.addMul(row, e.addi(first, i), state.maxRows);
                        storePairs(e, pairs[i], {queries, e.muli(at, 2)});
                      }
                    });
        });
  }

  void takeKeys(CodeBuilder &emit, Value count, OffsetAt offsetAt) override {
    emit.forLoop(count, [&](CodeBuilder &e, Value i) {
      state.tile.keys->load(e, offsetAt(e, i), {keys, e.muli(i, channels)});
    });
  }

  void multiply(CodeBuilder &emit, Value count) override {
    x86::TileMatrix scores{state.scores, state.maxRows}, a{keys, channels},
        b{queries, 2 * state.maxRows};
    emit.forLoop(emit.index(0), state.rows, x86::kBlockRows,
                 [&](CodeBuilder &e, Value row) {
                   e.forLoop(e.index(0), count, x86::kBlockRows,
                             [&](CodeBuilder &e, Value key) {
                               x86::multiplyBlock(e, scores, a, b, key, row, 2,
                                                  channels,
                                                  /*accumulate=*/false);
                             });
                 });
  }

private:
  const ManyRowsState &state;
  int64_t channels;
  Value queries, keys, someQueries;
};

class TileValues : public ValueProduct {
public:
  TileValues(CodeBuilder &emit, const ManyRowsState &state)
      : state(state), channels(state.facts.valueChannels),
        whole(channels / kHalves * kHalves) {
    Type bf16 = emit.getBF16Type();
    values = emitStack(emit, state.facts.chunkKeys * channels, bf16);
    weights = emitStack(emit, state.maxRows * state.facts.chunkKeys, bf16);
    if (!state.tile.values->isRun())
      twoValues = emitStack(emit, 2 * channels, bf16);
  }

  void takeValues(CodeBuilder &emit, Value count, OffsetAt offsetAt) override {
    const CacheSide &side = *state.tile.values;
    emit.forLoop(emit.ceildivui(count, 2), [&](CodeBuilder &e, Value pair) {
      Place places[2];
      for (int64_t i = 0; i < 2; ++i) {
        Value offset = offsetAt(e, e.addi(e.muli(pair, 2), i));
        places[i] = {side.pool, offset};
        if (twoValues) {
          places[i] = {twoValues, e.index(i * channels)};
          side.load(e, offset, places[i]);
        }
      }
      auto load = [&](CodeBuilder &e, int64_t i, Value channel, int64_t n) {
        return x86::loadHalves(e, places[i].plus(e, channel), n);
      };
      e.forLoop(e.index(0), e.index(whole), kHalves,
                [&](CodeBuilder &e, Value channel) {
                  auto [first, second] =
                      x86::interleaveHalves(e, load(e, 0, channel, kHalves),
                                            load(e, 1, channel, kHalves));
                  Place to = pairAt(e, pair, channel);
                  vector::StoreOp::create(e, first, to.memref, to.offset);
                  to = to.plus(e, e.index(kHalves));
                  vector::StoreOp::create(e, second, to.memref, to.offset);
                });
      if (whole == channels)
        return;
      Value channel = e.index(whole);
      Place to = pairAt(e, pair, channel);
      Value both = x86::zipHalves(e, load(e, 0, channel, kPairs),
                                  load(e, 1, channel, kPairs));
      vector::StoreOp::create(e, both, to.memref, to.offset);
    });
    // Zeros behind the last key: a product of a weight of 0 with what the
    // buffer holds could be NaN.
    emit.forLoop(emit.divui(count, 2), emit.index(state.facts.chunkKeys / 2), 1,
                 [&](CodeBuilder &e, Value pair) {
                   Value hasFirst = e.slt(e.muli(pair, 2), count);
                   Value kept = e.select(hasFirst, e.i32(0xffff), e.i32(0));
                   e.forLoop(e.index(0), e.index(channels), kPairs,
                             [&](CodeBuilder &e, Value channel) {
                               Place at = pairAt(e, pair, channel);
                               Value pairs = e.andi(loadPairs(e, at),
                                                    splat(e, kept, kPairs));
                               storePairs(e, pairs, at);
                             });
                 });
  }

  void multiply(CodeBuilder &emit, Value count, bool masked) override {
    if (!masked)
      return multiplyTiles(emit, count);
    emit.ifThen(
        hasInfinity(emit, count),
        [&](CodeBuilder &e) {
          multiplyLanes(e, state, count, masked,
                        [&](CodeBuilder &e, Value key, Value channel, int64_t) {
                          return valuesAt(e, key, channel);
                        });
        },
        [&](CodeBuilder &e) { multiplyTiles(e, count); });
  }

  void finish(CodeBuilder &emit) override {
    emit.forLoop(state.tile.rows, [&](CodeBuilder &e, Value row) {
      e.forLoop(e.index(0), e.index(whole), kHalves,
                [&](CodeBuilder &e, Value channel) {
                  Place first = {state.sums, e.addMul(channel, row, channels)};
                  Place second = first.plus(e, e.index(kPairs));
                  auto [low, high] =
                      x86::orderHalves(e, loadLanes(e, first, kPairs),
                                       loadLanes(e, second, kPairs));
                  storeLanes(e, low, first);
                  storeLanes(e, high, second);
                });
    });
  }

private:
  Place pairAt(CodeBuilder &emit, Value pair, Value channel) const {
    return {values, emit.muli(emit.addMul(channel, pair, channels), 2)};
  }
  /// Values of a key as f32, in the sequence that they are in.
  Value valuesAt(CodeBuilder &emit, Value key, Value channel) const {
    Value pairs = loadPairs(emit, pairAt(emit, emit.divui(key, 2), channel));
    Value isSecond = emit.eq(emit.remui(key, 2), emit.index(1));
    Value distance = emit.select(isSecond, emit.i32(0), emit.i32(16));
    Value bits = emit.fold<arith::ShLIOp>(pairs, splat(emit, distance, kPairs));
    Value high = emit.integer(int64_t(0xffff0000), 32);
    bits = emit.andi(bits, splat(emit, high, kPairs));
    return bitcast(emit, bits, kPairs, emit.getF32Type());
  }

  /// Whether some value is infinite or NaN.
  Value hasInfinity(CodeBuilder &emit, Value count) const {
    auto all = [&](CodeBuilder &e, int64_t n) {
      return splat(e, e.integer(n, 16), kHalves);
    };
    constexpr int64_t kExponent = 0x7f80;
    Value largest = emit.forLoop(
        emit.index(0), emit.ceildivui(count, 2), 1, all(emit, 0),
        [&](CodeBuilder &e, Value pair, ValueRange before) {
          return e.forLoop(e.index(0), e.index(channels), kPairs, before,
                           [&](CodeBuilder &e, Value channel, ValueRange most) {
                             Value x = x86::loadHalves(
                                 e, pairAt(e, pair, channel), kHalves);
                             x = e.andi(bitcast(e, x, kHalves, e.getI16Type()),
                                        all(e, kExponent));
                             return Values{e.maxui(most[0], x)};
                           });
        })[0];
    Value most = vector::ReductionOp::create(emit, vector::CombiningKind::MAXUI,
                                             largest);
    return emit.eq(most, emit.integer(kExponent, 16));
  }

  void multiplyTiles(CodeBuilder &emit, Value count) {
    const ManyRowsState &s = state;
    int64_t end = s.facts.chunkKeys;
    emit.forLoop(count, emit.index(end), 1, [&](CodeBuilder &e, Value key) {
      emitRunClear(e, {s.scores, e.muli(key, s.maxRows)}, s.maxRows);
    });
    packWeights(emit);
    emit.forLoop(s.rows, [&](CodeBuilder &e, Value row) {
      Value factor = e.load(s.rescale, row);
      // Most chunks have no new maximum.
      Value isOne =
          e.fold<arith::CmpFOp>(arith::CmpFPredicate::OEQ, factor, e.f32(1));
      e.ifThen(e.noti(isOne), [&](CodeBuilder &e) {
        Value factors = splat(e, factor, kPairs);
        e.forLoop(e.index(0), e.index(channels), kPairs,
                  [&](CodeBuilder &e, Value channel) {
                    Place at = {s.sums, e.addMul(channel, row, channels)};
                    storeLanes(e, mulF(e, loadLanes(e, at, kPairs), factors),
                               at);
                  });
      });
    });
    x86::TileMatrix sums{s.sums, channels}, a{weights, s.facts.chunkKeys},
        b{values, 2 * channels};
    emit.forLoop(
        emit.index(0), s.rows, x86::kBlockRows, [&](CodeBuilder &e, Value row) {
          e.forLoop(e.index(0), e.index(whole), kHalves,
                    [&](CodeBuilder &e, Value channel) {
                      x86::multiplyBlock(e, sums, a, b, row, channel, 2, end,
                                         /*accumulate=*/true);
                    });
          if (whole < channels)
            x86::multiplyBlock(e, sums, a, b, row, e.index(whole), 1, end,
                               /*accumulate=*/true);
        });
  }

  /// The weights as bf16, one row after the other.
  void packWeights(CodeBuilder &emit) {
    int64_t keys = state.facts.chunkKeys;
    emit.forLoop(
        emit.index(0), state.rows, x86::kTileRows,
        [&](CodeBuilder &e, Value row) {
          e.forLoop(e.index(0), e.index(keys), kHalves,
                    [&](CodeBuilder &e, Value key) {
                      auto weightsOf = [&](int64_t i) {
                        Value at = e.addMul(row, e.addi(key, i), state.maxRows);
                        return loadLanes(e, {state.scores, at}, kPairs);
                      };
                      Values pairs;
                      for (int64_t i = 0; i < kHalves; i += 2)
                        pairs.push_back(
                            x86::pairsOf(e, weightsOf(i), weightsOf(i + 1)));
                      pairs = x86::transpose(e, pairs);
                      for (int64_t i = 0; i < x86::kTileRows; ++i)
                        storePairs(
                            e, pairs[i],
                            {weights, e.addMul(key, e.addi(row, i), keys)});
                    });
        });
  }

  const ManyRowsState &state;
  int64_t channels;
  int64_t whole; ///< channels that are interleaved by two vectors
  Value values, weights, twoValues;
};

} // namespace

std::unique_ptr<ScoreProduct>
x86::createTileScores(CodeBuilder &emit, const ManyRowsState &state) {
  return std::make_unique<TileScores>(emit, state);
}
std::unique_ptr<ValueProduct>
x86::createTileValues(CodeBuilder &emit, const ManyRowsState &state) {
  return std::make_unique<TileValues>(emit, state);
}
