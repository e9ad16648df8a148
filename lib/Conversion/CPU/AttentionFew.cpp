// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A tile of few rows: keys and values are read once, where they lie, at the
// speed of memory.
//
// Rows are taken in sets of 1, 2 or 4. The products of `lanes` pairs of a key
// and a row are added up in registers, lane by lane along the channels, and
// summed across lanes all at once: a vector of scores holds some keys for all
// rows of a set, [key][row]. Maxima and sums are kept in the same form.
//
//===----------------------------------------------------------------------===//

#include "AttentionTile.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

namespace {

class FewRows {
public:
  FewRows(const Emitter &emit, const AttentionFacts &facts, const Tile &tile)
      : facts(facts), tile(tile), lanes(facts.lanes), setRows(facts.setRows()),
        keysAtOnce(lanes / setRows),
        channelsAtOnce(facts.keyPairs ? 2 * lanes : lanes),
        paddedChannels((facts.keyChannels + channelsAtOnce - 1) /
                       channelsAtOnce * channelsAtOnce),
        maxSets(facts.taskHeads * facts.setsOf(facts.fewRows)) {
    f32 = emit.builder.getF32Type();
    int64_t room = maxSets * setRows;
    queries = stack(emit, room * paddedChannels,
                    facts.keyPairs ? emit.builder.getBF16Type() : f32);
    if (facts.valuePairs)
      pairs = stack(emit, maxSets * facts.chunkKeys * setRows / 2,
                    emit.builder.getI32Type());
    scores = stack(emit, maxSets * facts.chunkKeys * setRows, f32);
    sums = stack(emit, room * facts.valueChannels, f32);
    maxima = stack(emit, maxSets * lanes, f32);
    totals = stack(emit, maxSets * lanes, f32);
    rescale = stack(emit, maxSets * lanes, f32);
    slopes = stack(emit, maxSets * lanes, f32);
    rowPositions = stack(emit, maxSets * lanes, emit.builder.getI32Type());
    if (facts.window)
      rowsTooOld = stack(emit, maxSets * lanes, emit.builder.getI32Type());
    setsPerHead = emit.ceilDiv(tile.rows, setRows);
    numSets = emit.mul(setsPerHead, tile.heads);
    keySide = *tile.keys;
    valueSide = *tile.values;
    if (!keySide->isRun())
      keyBuffer =
          stack(emit, facts.chunkKeys * facts.keyChannels, elementOf(*keySide));
    if (!valueSide->isRun())
      valueBuffer = stack(emit, facts.chunkKeys * facts.valueChannels,
                          elementOf(*valueSide));
  }

  void run(const Emitter &emit, Value first, Value end) {
    begin(emit);
    KeyList list(emit, facts, tile);
    list.forChunks(
        emit, first, end,
        [&](const Emitter &e, const KeyList::Chunk &c) { chunk(e, list, c); });
    if (facts.valuePairs)
      emit.loop(
          emit.mul(numSets, setRows),
          [&](const Emitter &e, Value number) { orderChannels(e, number); });
  }

  /// Rows of all heads are numbered set by set; a head has whole sets.
  Value numberOf(const Emitter &emit, Value head, Value row) const {
    return emit.addMul(row, emit.mul(head, setsPerHead), setRows);
  }
  /// Maximum and sum of a row.
  RowResult result(const Emitter &emit, Value number) const {
    Value set = emit.div(number, setRows), inSet = emit.rem(number, setRows);
    Value at = emit.addMul(inSet, set, lanes);
    Value total = emit.load(totals, at);
    for (int64_t k = 1; k < keysAtOnce; ++k)
      total = addF(emit, total, emit.load(totals, emit.add(at, k * setRows)));
    return {emit.load(maxima, at), total};
  }
  Place sumsOf(const Emitter &emit, Value number) const {
    return {sums, emit.mul(number, facts.valueChannels)};
  }
  Value rowIn(const Emitter &emit, Value row) const {
    return emit.add(tile.firstRow, emit.div(row, facts.group));
  }
  /// The query head of a row of a head of the task.
  Value headOf(const Emitter &emit, Value head, Value row) const {
    return emit.add(emit.mul(emit.add(tile.head, head), facts.group),
                    emit.rem(row, facts.group));
  }

private:
  static Type elementOf(const CacheSide &side) {
    return side.parts.type.getElementType();
  }

  static Value stack(const Emitter &emit, int64_t count, Type type) {
    auto buffer = memref::AllocaOp::create(emit.builder, emit.loc,
                                           MemRefType::get({count}, type));
    buffer.setAlignment(64);
    return buffer;
  }

  /// The head of the task that a set is of.
  Value headOfSet(const Emitter &emit, Value set) const {
    return emit.div(set, setsPerHead);
  }

  /// Queries into the buffer, and what rows begin with.
  void begin(const Emitter &emit) {
    float factor = facts.queryFactor();
    Value padded = emit.mul(numSets, setRows);
    emit.loop(padded, [&](const Emitter &e, Value number) {
      Value set = e.div(number, setRows), inSet = e.rem(number, setRows);
      Value head = headOfSet(e, set);
      Value row = e.sub(number, e.mul(e.mul(head, setsPerHead), setRows));
      Place to = {queries, e.mul(number, paddedChannels)};
      emitRunClear(e, to, paddedChannels);
      e.when(e.less(row, tile.rows), [&](const Emitter &e) {
        Place from =
            tile.queries->at(e, rowIn(e, row))
                .plus(e, e.mul(headOf(e, head, row), facts.keyChannels));
        if (facts.keyPairs)
          return emitRunCopy(e, from, to, facts.keyChannels);
        forLanes(facts.keyChannels, lanes, [&](int64_t at, int64_t n) {
          Value x = loadLanes(e, from.plus(e, e.constant(at)), n);
          storeLanes(e, mulF(e, x, splat(e, factor, n)),
                     to.plus(e, e.constant(at)));
        });
      });
      emitRunClear(e, sumsOf(e, number), facts.valueChannels);
      // What is kept per row is repeated for each key of a vector.
      Value at = e.addMul(inSet, set, lanes);
      Value real = e.min(row, e.sub(tile.rows, e.constant(1)));
      Value position = tile.rowPosition(e, rowIn(e, real));
      Value tooOld;
      if (facts.window)
        tooOld = tile.lastTooOld(e, rowIn(e, real), *facts.window);
      Value slope = e.f32(0);
      if (tile.alibi)
        slope =
            mulF(e, e.load(tile.alibi, headOf(e, head, real)), e.f32(M_LOG2E));
      for (int64_t k = 0; k < keysAtOnce; ++k) {
        Value lane = e.add(at, k * setRows);
        e.store(e.f32(kNoMaximum), maxima, lane);
        e.store(e.f32(0), totals, lane);
        e.store(slope, slopes, lane);
        e.store(position, rowPositions, lane);
        if (tooOld)
          e.store(tooOld, rowsTooOld, lane);
      }
    });
  }

  /// Where channels are: those of a head of the task, for the keys of a list.
  struct Source {
    Value pool, offsets, head, count;
    int64_t channels;
    bool isPacked;
    /// Of a key; those behind the last one are like it.
    Value at(const Emitter &emit, Value key, Value begin) const {
      if (!isPacked)
        return emit.add(emit.load(offsets, emit.add(begin, key)), head);
      Value last = emit.sub(count, emit.constant(1));
      return emit.mul(emit.min(key, last), channels);
    }
  };

  /// What a set reads; channels that are not one run are made one.
  Source sourceOf(const Emitter &emit, const CacheSide &side, Value offsets,
                  Value buffer, const KeyList::Chunk &c, Value head) {
    Source source = {side.pool,
                     offsets,
                     side.headOffset(emit, emit.add(tile.head, head)),
                     c.count,
                     side.channels,
                     bool(buffer)};
    if (!buffer)
      return source;
    emit.loop(c.count, [&](const Emitter &e, Value i) {
      Value from = e.add(e.load(offsets, e.add(c.at, i)), source.head);
      side.load(e, from, {buffer, e.mul(i, side.channels)});
    });
    source.pool = buffer;
    return source;
  }

  void chunk(const Emitter &emit, const KeyList &list,
             const KeyList::Chunk &c) {
    Value padded = emit.mul(emit.ceilDiv(c.count, keysAtOnce), keysAtOnce);
    emit.loop(numSets, [&](const Emitter &e, Value set) {
      Value head = headOfSet(e, set);
      Source keys = sourceOf(e, *keySide, list.keys, keyBuffer, c, head);
      Source values =
          sourceOf(e, *valueSide, list.values, valueBuffer, c, head);
      score(e, list, c, keys, values, set, padded);
      Value mayDiffer = e.truth(false);
      if (facts.hasMask())
        mayDiffer = mask(e, list, c, set, padded);
      forget(e, set, c.count, padded);
      weigh(e, set, padded);
      Ahead ahead = aheadOf(e, list, c, set);
      auto add = [&](const Emitter &e, bool guarded) {
        if (facts.valuePairs)
          addValuePairs(e, c, values, ahead, set, guarded);
        else
          addValues(e, c, values, ahead, set, guarded);
      };
      if (!facts.hasMask())
        return add(e, false);
      e.when(
          mayDiffer, [&](const Emitter &e) { add(e, true); },
          [&](const Emitter &e) { add(e, false); });
    });
  }

  /// The keys that are read after those of a set: of the next set, or of the
  /// next chunk.
  struct Ahead {
    Value offsets, begin, head;
  };
  Ahead aheadOf(const Emitter &emit, const KeyList &list,
                const KeyList::Chunk &c, Value set) const {
    Value next = emit.add(set, 1);
    Value isLast = emit.equal(next, numSets);
    Value head = emit.select(isLast, emit.constant(0), headOfSet(emit, next));
    return {list.keys, emit.select(isLast, c.next, c.at),
            keySide->headOffset(emit, emit.add(tile.head, head))};
  }
  void fetchAhead(const Emitter &emit, const Ahead &ahead, Value key) const {
    Value at = emit.load(ahead.offsets, emit.add(ahead.begin, key));
    keySide->prefetch(emit, emit.add(at, ahead.head));
  }

  Place scoresOf(const Emitter &emit, Value set, Value key) const {
    Value at = emit.mul(set, facts.chunkKeys * setRows);
    return {scores, emit.addMul(at, key, setRows)};
  }
  Place ofSet(const Emitter &emit, Value buffer, Value set) const {
    return {buffer, emit.mul(set, lanes)};
  }

  /// Products of queries and keys.
  void score(const Emitter &emit, const KeyList &list, const KeyList::Chunk &c,
             const Source &keys, const Source &values, Value set,
             Value padded) {
    Value query = emit.mul(set, setRows * paddedChannels);
    emit.loop(
        emit.constant(0), padded, keysAtOnce, [&](const Emitter &e, Value key) {
          Values places;
          for (int64_t k = 0; k < keysAtOnce; ++k)
            places.push_back(keys.at(e, e.add(key, k), c.at));
          // Their values are needed next.
          if (!values.isPacked)
            for (int64_t k = 0; k < keysAtOnce; ++k)
              valueSide->prefetch(e, values.at(e, e.add(key, k), c.at));
          int64_t whole = facts.keyChannels / channelsAtOnce * channelsAtOnce;
          auto step = [&](const Emitter &e, Value channel, int64_t n,
                          ValueRange acc) {
            Values rows, next;
            for (int64_t m = 0; m < setRows; ++m) {
              Value at = e.add(e.add(query, m * paddedChannels), channel);
              rows.push_back(facts.keyPairs
                                 ? loadHalves(e, {queries, at}, channelsAtOnce)
                                 : loadLanes(e, {queries, at}, lanes));
            }
            for (int64_t k = 0; k < keysAtOnce; ++k) {
              Place at = {keys.pool, e.add(places[k], channel)};
              Value x = facts.keyPairs
                            ? loadHalves(e, at, n)
                            : widenLanes(e, loadLanes(e, at, n), lanes);
              for (int64_t m = 0; m < setRows; ++m) {
                Value sum = acc[k * setRows + m];
                next.push_back(facts.keyPairs ? dotPairs(e, sum, x, rows[m])
                                              : fma(e, x, rows[m], sum));
              }
            }
            return next;
          };
          Values acc(lanes, splat(e, 0.0f, lanes));
          if (whole)
            acc = e.fold(e.constant(0), e.constant(whole), channelsAtOnce, acc,
                         [&](const Emitter &e, Value channel, ValueRange acc) {
                           return step(e, channel, channelsAtOnce, acc);
                         });
          if (int64_t n = facts.keyChannels - whole)
            acc = step(e, e.constant(whole), n, acc);
          Value x = emitLaneSums(e, acc);
          if (facts.keyPairs)
            x = mulF(e, x, splat(e, facts.queryFactor(), lanes));
          x = facts.capped(e, x);
          if (tile.alibi) {
            Value distance = subI(e, keyPositions(e, list, c, key),
                                  integersOf(e, rowPositions, set));
            Value slope = loadLanes(e, ofSet(e, slopes, set), lanes);
            x = fma(e, e.make<arith::SIToFPOp>(x.getType(), distance), slope,
                    x);
          }
          storeLanes(e, x, scoresOf(e, set, key));
        });
  }

  Value subI(const Emitter &emit, Value a, Value b) const {
    return emit.make<arith::SubIOp>(a, b);
  }

  /// Positions that are kept for the rows of a set, one per lane.
  Value integersOf(const Emitter &emit, Value kept, Value set) const {
    auto type = VectorType::get({lanes}, emit.builder.getI32Type());
    return vector::LoadOp::create(emit.builder, emit.loc, type, kept,
                                  emit.mul(set, lanes));
  }

  /// Those of some keys, each for all rows of a set.
  Value keyPositions(const Emitter &emit, const KeyList &list,
                     const KeyList::Chunk &c, Value key) const {
    Type i32 = emit.builder.getI32Type();
    Value few = vector::LoadOp::create(emit.builder, emit.loc,
                                       VectorType::get({keysAtOnce}, i32),
                                       list.positions, emit.add(c.at, key));
    SmallVector<int64_t> lanesOf;
    for (int64_t lane = 0; lane < lanes; ++lane)
      lanesOf.push_back(lane / setRows);
    return vector::ShuffleOp::create(emit.builder, emit.loc, few, few, lanesOf);
  }

  /// Where not every row sees every key of the chunk, scores of unseen keys
  /// become minus infinity. Gives whether that is so.
  Value mask(const Emitter &emit, const KeyList &list, const KeyList::Chunk &c,
             Value set, Value padded) {
    Value differ = hidesKeys(emit, facts, tile, c);
    emit.when(differ, [&](const Emitter &e) {
      Value rows = integersOf(e, rowPositions, set);
      e.loop(e.constant(0), padded, keysAtOnce,
             [&](const Emitter &e, Value key) {
               Value keys = keyPositions(e, list, c, key);
               Place at = scoresOf(e, set, key);
               Value x = loadLanes(e, at, lanes);
               Value unseen = splat(e, -INFINITY, lanes);
               if (facts.causal)
                 x = e.select(e.compare(Emitter::Predicate::sle, keys, rows), x,
                              unseen);
               if (facts.window) {
                 Value old = integersOf(e, rowsTooOld, set);
                 x = e.select(e.compare(Emitter::Predicate::sgt, keys, old), x,
                              unseen);
               }
               storeLanes(e, x, at);
             });
    });
    return differ;
  }

  /// Keys that only fill up a vector count as unseen.
  void forget(const Emitter &emit, Value set, Value count, Value padded) {
    emit.loop(count, padded, 1, [&](const Emitter &e, Value key) {
      Place at = scoresOf(e, set, key);
      for (int64_t m = 0; m < setRows; ++m)
        e.store(e.f32(-INFINITY), scores, e.add(at.offset, m));
    });
  }

  /// Scores become weights; maximum and sum are brought up to date.
  void weigh(const Emitter &emit, Value set, Value padded) {
    Place maximumAt = ofSet(emit, maxima, set);
    Value before = loadLanes(emit, maximumAt, lanes);
    Value maximum = emit.fold(emit.constant(0), padded, keysAtOnce, before,
                              [&](const Emitter &e, Value key, ValueRange m) {
                                Value x =
                                    loadLanes(e, scoresOf(e, set, key), lanes);
                                return Values{maxF(e, x, m[0])};
                              })[0];
    for (int64_t step = setRows; step < lanes; step *= 2)
      maximum = maxF(emit, maximum, rotateLanes(emit, maximum, step));
    storeLanes(emit, maximum, maximumAt);
    Value factor = emitExp2(emit, subF(emit, before, maximum));
    storeLanes(emit, factor, ofSet(emit, rescale, set));
    Place totalAt = ofSet(emit, totals, set);
    Value total = mulF(emit, loadLanes(emit, totalAt, lanes), factor);
    total = emit.fold(emit.constant(0), padded, keysAtOnce, total,
                      [&](const Emitter &e, Value key, ValueRange sum) {
                        Place at = scoresOf(e, set, key);
                        Value x = subF(e, loadLanes(e, at, lanes), maximum);
                        Value weight = emitExp2(e, x);
                        storeLanes(e, weight, at);
                        if (facts.valuePairs)
                          storePairs(e, weight, at);
                        return Values{addF(e, sum[0], weight)};
                      })[0];
    storeLanes(emit, total, totalAt);
  }

  /// Weights [key][row] as bf16, those of two keys for one row together.
  void storePairs(const Emitter &emit, Value weights, const Place &at) {
    OpBuilder &b = emit.builder;
    SmallVector<int64_t> mask;
    for (int64_t i = 0; i < lanes; ++i)
      mask.push_back((i / (2 * setRows) * 2 + i % 2) * setRows +
                     i / 2 % setRows);
    Value ordered =
        vector::ShuffleOp::create(b, emit.loc, weights, weights, mask);
    Value halves = emitConvert(emit, ordered, b.getBF16Type());
    Value words = vector::BitCastOp::create(
        b, emit.loc, VectorType::get({lanes / 2}, b.getI32Type()), halves);
    vector::StoreOp::create(b, emit.loc, words, pairs, emit.div(at.offset, 2));
  }

  /// Adds weighted values, two keys at a time. Channels are kept as
  /// `interleaveHalves` has them.
  void addValuePairs(const Emitter &emit, const KeyList::Chunk &c,
                     const Source &values, const Ahead &ahead, Value set,
                     bool guarded) {
    int64_t halves = 2 * lanes, channels = facts.valueChannels;
    int64_t blocks = std::max<int64_t>(1, lanes / setRows / 2);
    Value firstPair = emit.div(scoresOf(emit, set, emit.constant(0)).offset, 2);
    Value firstRow = emit.mul(set, setRows);
    Value count = emit.ceilDiv(c.count, 2);
    auto pass = [&](const Emitter &e, Value channel, int64_t blocks,
                    bool isFirst) {
      int64_t columns = 2 * blocks;
      Values acc;
      for (int64_t m = 0; m < setRows; ++m) {
        Value factor =
            splat(e, e.load(rescale, e.add(e.mul(set, lanes), m)), lanes);
        for (int64_t v = 0; v < columns; ++v)
          acc.push_back(mulF(
              e, loadLanes(e, sumAt(e, firstRow, m, channel, v * lanes), lanes),
              factor));
      }
      acc = e.fold(
          e.constant(0), count, 1, acc,
          [&](const Emitter &e, Value pair, ValueRange acc) {
            Value key = e.mul(pair, 2), other = e.add(key, 1);
            Value a = e.add(values.at(e, key, c.at), channel);
            Value b = e.add(values.at(e, other, c.at), channel);
            if (isFirst) {
              fetchAhead(e, ahead, key);
              fetchAhead(e, ahead, other);
            }
            Values columnsOf, sums;
            for (int64_t v = 0; v < blocks; ++v) {
              auto [low, high] = interleaveHalves(
                  e, loadHalves(e, {values.pool, e.add(a, v * halves)}, halves),
                  loadHalves(e, {values.pool, e.add(b, v * halves)}, halves));
              columnsOf.append({low, high});
            }
            Value weightAt = e.addMul(firstPair, pair, setRows);
            for (int64_t m = 0; m < setRows; ++m) {
              Value word = e.load(pairs, e.add(weightAt, m));
              Value weight = halvesOf(e, word);
              for (int64_t v = 0; v < columns; ++v) {
                Value x = columnsOf[v];
                if (guarded)
                  x = keepWeighted(e, x, word);
                sums.push_back(dotPairs(e, acc[m * columns + v], x, weight));
              }
            }
            return sums;
          });
      for (int64_t m = 0; m < setRows; ++m)
        for (int64_t v = 0; v < columns; ++v)
          storeLanes(e, acc[m * columns + v],
                     sumAt(e, firstRow, m, channel, v * lanes));
    };
    int64_t width = blocks * halves, whole = channels / width * width;
    if (whole)
      pass(emit, emit.constant(0), blocks, true);
    emit.loop(emit.constant(width), emit.constant(whole), width,
              [&](const Emitter &e, Value channel) {
                pass(e, channel, blocks, false);
              });
    for (int64_t at = whole; at < channels; at += halves)
      pass(emit, emit.constant(at), 1, at == 0);
  }

  /// A word of two bf16 in all lanes.
  Value halvesOf(const Emitter &emit, Value word) const {
    return vector::BitCastOp::create(
        emit.builder, emit.loc,
        VectorType::get({2 * lanes}, emit.builder.getBF16Type()),
        splat(emit, word, lanes));
  }

  /// Pairs of values, 0 where the weight is 0.
  Value keepWeighted(const Emitter &emit, Value values, Value word) const {
    OpBuilder &b = emit.builder;
    auto halves = VectorType::get({2 * lanes}, b.getI16Type());
    Value weights = vector::BitCastOp::create(b, emit.loc, halves,
                                              splat(emit, word, lanes));
    Value bits = vector::BitCastOp::create(b, emit.loc, halves, values);
    Value zero = arith::ConstantOp::create(b, emit.loc, b.getZeroAttr(halves));
    Value kept = emit.select(emit.equal(weights, zero), zero, bits);
    return vector::BitCastOp::create(b, emit.loc, values.getType(), kept);
  }

  /// Puts the channels of a row in their sequence.
  void orderChannels(const Emitter &emit, Value row) const {
    int64_t halves = 2 * lanes;
    emit.loop(emit.constant(0), emit.constant(facts.valueChannels), halves,
              [&](const Emitter &e, Value channel) {
                Place low = sumsOf(e, row).plus(e, channel);
                Place high = low.plus(e, e.constant(lanes));
                auto [first, second] = orderHalves(e, loadLanes(e, low, lanes),
                                                   loadLanes(e, high, lanes));
                storeLanes(e, first, low);
                storeLanes(e, second, high);
              });
  }

  void addValues(const Emitter &emit, const KeyList::Chunk &c,
                 const Source &values, const Ahead &ahead, Value set,
                 bool guarded) {
    // As many accumulators as lanes: half of the registers, with 256 bits and
    // with 512.
    int64_t columns = lanes / setRows;
    int64_t channels = facts.valueChannels;
    int64_t width = columns * lanes, whole = channels / width * width;
    Place start = scoresOf(emit, set, emit.constant(0));
    Value firstRow = emit.mul(set, setRows);
    // The first pass over the values has the next keys fetched.
    auto columnsAt = [&](const Emitter &e, Value channel, int64_t columns,
                         int64_t n, bool isFirst) {
      RegisterBlock block{setRows, columns, n, guarded};
      Values acc;
      for (int64_t m = 0; m < setRows; ++m) {
        Value factor =
            splat(e, e.load(rescale, e.add(e.mul(set, lanes), m)), n);
        for (int64_t v = 0; v < columns; ++v)
          acc.push_back(
              mulF(e, loadLanes(e, sumAt(e, firstRow, m, channel, v * n), n),
                   factor));
      }
      acc = block.accumulate(
          e, c.count, acc,
          [&](const Emitter &e, Value key, int64_t m) {
            Value at = e.addMul(start.offset, key, setRows);
            return e.load(scores, e.add(at, m));
          },
          [&](const Emitter &e, Value key, int64_t v) {
            if (isFirst && v == 0)
              fetchAhead(e, ahead, key);
            Value at = e.add(values.at(e, key, c.at), channel);
            return loadLanes(e, {values.pool, e.add(at, v * n)}, n);
          });
      for (int64_t m = 0; m < setRows; ++m)
        for (int64_t v = 0; v < columns; ++v)
          storeLanes(e, acc[m * columns + v],
                     sumAt(e, firstRow, m, channel, v * n));
    };
    if (whole)
      columnsAt(emit, emit.constant(0), columns, lanes, true);
    emit.loop(emit.constant(width), emit.constant(whole), width,
              [&](const Emitter &e, Value channel) {
                columnsAt(e, channel, columns, lanes, false);
              });
    forLanes(channels - whole, lanes, [&](int64_t at, int64_t n) {
      columnsAt(emit, emit.constant(whole + at), 1, n, whole + at == 0);
    });
  }

  Place sumAt(const Emitter &emit, Value firstRow, int64_t m, Value channel,
              int64_t more) const {
    Value at = emit.mul(emit.add(firstRow, m), facts.valueChannels);
    return {sums, emit.add(emit.add(at, channel), more)};
  }

  const AttentionFacts &facts;
  const Tile &tile;
  int64_t lanes, setRows, keysAtOnce, channelsAtOnce, paddedChannels, maxSets;
  std::optional<CacheSide> keySide, valueSide;
  Type f32;
  Value queries, scores, pairs, sums, maxima, totals, rescale, slopes,
      rowPositions, rowsTooOld;
  Value keyBuffer, valueBuffer, setsPerHead, numSets;
};

} // namespace

void kvcache::emitFewRows(const Emitter &emit, const AttentionFacts &facts,
                          const Tile &tile, Value first, Value end,
                          const Outputs &outputs, const PartialRows &partial,
                          Value part, Value isSplit) {
  FewRows rows(emit, facts, tile);
  rows.run(emit, first, end);
  emit.loop(tile.heads, [&](const Emitter &e, Value head) {
    e.loop(tile.rows, [&](const Emitter &e, Value row) {
      Value number = rows.numberOf(e, head, row);
      RowResult result = rows.result(e, number);
      e.when(
          isSplit,
          [&](const Emitter &e) {
            Place to =
                partial.at(e, tile.request, e.add(tile.head, head), part, row);
            e.store(result.maximum, to.memref, to.offset);
            e.store(result.sum, to.memref, e.add(to.offset, 1));
            emitRunCopy(e, rows.sumsOf(e, number), to.plus(e, e.constant(2)),
                        facts.valueChannels);
          },
          [&](const Emitter &e) {
            result.store(e, facts, outputs, rows.rowIn(e, row),
                         rows.headOf(e, head, row), rows.sumsOf(e, number));
          });
    });
  });
}

//===----------------------------------------------------------------------===//
// Parts of the keys
//===----------------------------------------------------------------------===//

PartialRows::PartialRows(const Emitter &emit, const AttentionFacts &facts,
                         Value requests, Value parts, Value isSplit)
    : facts(facts), parts(parts) {
  Value rows = emit.mul(emit.mul(requests, facts.heads), parts);
  Value size = emit.mul(rows, facts.fewRows * stride());
  size = emit.select(isSplit, size, emit.constant(0));
  auto type =
      MemRefType::get({ShapedType::kDynamic}, emit.builder.getF32Type());
  buffer = memref::AllocOp::create(emit.builder, emit.loc, type, size);
}

Place PartialRows::at(const Emitter &emit, Value request, Value head,
                      Value part, Value row) const {
  Value number = emit.add(emit.mul(request, facts.heads), head);
  number = emit.add(emit.mul(number, parts), part);
  number = emit.add(emit.mul(number, facts.fewRows), row);
  return {buffer, emit.mul(number, stride())};
}

void PartialRows::merge(const Emitter &emit, const Requests &requests,
                        const Outputs &outputs) const {
  emit.parallel(emit.mul(requests.count, facts.heads), [&](const Emitter &e,
                                                           Value i) {
    Value request = e.div(i, facts.heads), head = e.rem(i, facts.heads);
    // The tile of few rows is the last one of its request.
    Value first = requests.first(e, request);
    Value tokens = e.sub(requests.end(e, request), first);
    Value inTile = e.rem(tokens, facts.tileTokens);
    Value isWhole = e.equal(inTile, e.constant(0));
    inTile =
        e.select(isWhole, e.min(tokens, e.constant(facts.tileTokens)), inTile);
    Value rows = e.mul(inTile, facts.group);
    Value firstRow = e.sub(requests.end(e, request), inTile);
    Value few =
        e.select(e.less(rows, e.constant(facts.fewRows)), rows, e.constant(0));
    e.loop(few, [&](const Emitter &e, Value row) {
      auto place = [&](const Emitter &e, Value part) {
        return at(e, request, head, part, row);
      };
      Value maximum = e.fold(
          e.constant(0), parts, 1, e.f32(kNoMaximum),
          [&](const Emitter &e, Value part, ValueRange m) {
            Place from = place(e, part);
            return Values{maxF(e, e.load(from.memref, from.offset), m[0])};
          })[0];
      // The first part becomes the sum of all.
      Place into = place(e, e.constant(0)).plus(e, e.constant(2));
      Value sum = e.fold(
          e.constant(0), parts, 1, e.f32(0),
          [&](const Emitter &e, Value part, ValueRange sum) {
            Place from = place(e, part);
            Value weight =
                emitExp2(e, subF(e, e.load(from.memref, from.offset), maximum));
            Value isFirst = e.equal(part, e.constant(0));
            Place values = from.plus(e, e.constant(2));
            forLanes(facts.valueChannels, facts.lanes,
                     [&](int64_t offset, int64_t n) {
                       Value shift = e.constant(offset);
                       Value x = mulF(e, loadLanes(e, values.plus(e, shift), n),
                                      splat(e, weight, n));
                       Value before = loadLanes(e, into.plus(e, shift), n);
                       before = e.select(isFirst, splat(e, 0.0f, n), before);
                       storeLanes(e, addF(e, before, x), into.plus(e, shift));
                     });
            Value total = e.load(from.memref, e.add(from.offset, 1));
            return Values{fma(e, total, weight, sum[0])};
          })[0];
      Value queryHead =
          e.add(e.mul(head, facts.group), e.rem(row, facts.group));
      RowResult{maximum, sum}.store(e, facts, outputs,
                                    e.add(firstRow, e.div(row, facts.group)),
                                    queryHead, into);
    });
  });
}
