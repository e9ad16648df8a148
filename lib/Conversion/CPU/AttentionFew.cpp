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
#include "Codecs.h"
#include "X86Pairs.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

namespace {

class FewRows {
public:
  FewRows(CodeBuilder &emit, const AttentionFacts &facts, const Tile &tile)
      : facts(facts), tile(tile), lanes(facts.lanes), setRows(facts.setRows()),
        keysAtOnce(lanes / setRows),
        channelsAtOnce(facts.keyPairs ? 2 * lanes : lanes),
        paddedChannels((facts.keyChannels + channelsAtOnce - 1) /
                       channelsAtOnce * channelsAtOnce),
        maxSets(facts.taskHeads * facts.setsOf(facts.fewRows)) {
    f32 = emit.getF32Type();
    int64_t room = maxSets * setRows;
    queries = stack(emit, room * paddedChannels,
                    facts.keyPairs ? emit.getBF16Type() : f32);
    if (facts.valuePairs)
      pairs = stack(emit, maxSets * facts.chunkKeys * setRows / 2,
                    emit.getI32Type());
    scores = stack(emit, maxSets * facts.chunkKeys * setRows, f32);
    sums = stack(emit, room * facts.valueChannels, f32);
    maxima = stack(emit, maxSets * lanes, f32);
    totals = stack(emit, maxSets * lanes, f32);
    rescale = stack(emit, maxSets * lanes, f32);
    slopes = stack(emit, maxSets * lanes, f32);
    rowPositions = stack(emit, maxSets * lanes, emit.getI32Type());
    rowsLast = facts.ahead.value_or(0)
                   ? stack(emit, maxSets * lanes, emit.getI32Type())
                   : rowPositions;
    if (facts.window)
      rowsTooOld = stack(emit, maxSets * lanes, emit.getI32Type());
    if (facts.hasMask)
      maskOffsets = stack(emit, maxSets * lanes, emit.getI64Type());
    setsPerHead = emit.ceildivui(tile.rows, setRows);
    numSets = emit.muli(setsPerHead, tile.heads);
    keySide = *tile.keys;
    valueSide = *tile.values;
    if (!keySide->isRun())
      keyBuffer =
          stack(emit, facts.chunkKeys * facts.keyChannels, elementOf(*keySide));
    if (!valueSide->isRun())
      valueBuffer = stack(emit, facts.chunkKeys * facts.valueChannels,
                          elementOf(*valueSide));
  }

  void run(CodeBuilder &emit, Value first, Value end) {
    begin(emit);
    KeyList list(emit, facts, tile);
    list.forChunks(
        emit, first, end,
        [&](CodeBuilder &e, const KeyList::Chunk &c) { chunk(e, list, c); });
    if (facts.valuePairs)
      emit.forLoop(
          emit.muli(numSets, setRows),
          [&](CodeBuilder &e, Value number) { orderChannels(e, number); });
  }

  /// Rows of all heads are numbered set by set; a head has whole sets.
  Value numberOf(CodeBuilder &emit, Value head, Value row) const {
    return emit.addMul(row, emit.muli(head, setsPerHead), setRows);
  }
  /// Maximum and sum of a row.
  RowResult result(CodeBuilder &emit, Value number) const {
    Value set = emit.divui(number, setRows),
          inSet = emit.remui(number, setRows);
    Value at = emit.addMul(inSet, set, lanes);
    Value total = emit.load(totals, at);
    for (int64_t k = 1; k < keysAtOnce; ++k)
      total = addF(emit, total, emit.load(totals, emit.addi(at, k * setRows)));
    return {emit.load(maxima, at), total};
  }
  Place sumsOf(CodeBuilder &emit, Value number) const {
    return {sums, emit.muli(number, facts.valueChannels)};
  }
  Value rowIn(CodeBuilder &emit, Value row) const {
    return emit.addi(tile.firstRow, emit.divui(row, facts.group));
  }
  /// The query head of a row of a head of the task.
  Value headOf(CodeBuilder &emit, Value head, Value row) const {
    return emit.addi(emit.muli(emit.addi(tile.head, head), facts.group),
                     emit.remui(row, facts.group));
  }

private:
  static Type elementOf(const CacheSide &side) {
    return side.cache.type.getMemoryType();
  }

  static Value stack(CodeBuilder &emit, int64_t count, Type type) {
    auto buffer =
        memref::AllocaOp::create(emit, MemRefType::get({count}, type));
    buffer.setAlignment(64);
    return buffer;
  }

  /// The head of the task that a set is of.
  Value headOfSet(CodeBuilder &emit, Value set) const {
    return emit.divui(set, setsPerHead);
  }

  /// Queries into the buffer, and what rows begin with.
  void begin(CodeBuilder &emit) {
    float factor = facts.queryFactor();
    Value padded = emit.muli(numSets, setRows);
    emit.forLoop(padded, [&](CodeBuilder &e, Value number) {
      Value set = e.divui(number, setRows), inSet = e.remui(number, setRows);
      Value head = headOfSet(e, set);
      Value row = e.subi(number, e.muli(e.muli(head, setsPerHead), setRows));
      Place to = {queries, e.muli(number, paddedChannels)};
      emitRunClear(e, to, paddedChannels);
      e.ifThen(e.slt(row, tile.rows), [&](CodeBuilder &e) {
        Place from = tile.queries->at(e, rowIn(e, row), headOf(e, head, row));
        if (facts.keyPairs)
          return emitRunCopy(e, from, to, facts.keyChannels);
        forLanes(facts.keyChannels, lanes, [&](int64_t at, int64_t n) {
          Value x = loadLanes(e, from.plus(e, e.index(at)), n);
          storeLanes(e, mulF(e, x, splat(e, factor, n)),
                     to.plus(e, e.index(at)));
        });
      });
      emitRunClear(e, sumsOf(e, number), facts.valueChannels);
      // What is kept per row is repeated for each key of a vector.
      Value at = e.addMul(inSet, set, lanes);
      Value real = e.minsi(row, e.subi(tile.rows, e.index(1)));
      Value rowAt = rowIn(e, real);
      SmallVector<std::pair<Value, Value>> kept = {
          {tile.rowPosition(e, rowAt), rowPositions}};
      if (rowsLast != rowPositions)
        kept.push_back({tile.lastSeen(e, rowAt, *facts.ahead), rowsLast});
      if (facts.window)
        kept.push_back({tile.lastTooOld(e, rowAt, *facts.window), rowsTooOld});
      if (facts.hasMask)
        kept.push_back({tile.maskOffset(e, rowAt), maskOffsets});
      Value slope = e.f32(0);
      if (tile.alibi)
        slope =
            mulF(e, e.load(tile.alibi, headOf(e, head, real)), e.f32(M_LOG2E));
      for (int64_t k = 0; k < keysAtOnce; ++k) {
        Value lane = e.addi(at, k * setRows);
        e.store(e.f32(kNoMaximum), maxima, lane);
        e.store(e.f32(0), totals, lane);
        e.store(slope, slopes, lane);
        for (auto [number, list] : kept)
          e.store(number, list, lane);
      }
    });
  }

  /// Where channels are: those of a head of the task, for the keys of a list.
  struct Source {
    Value pool, offsets, head, count;
    int64_t channels;
    bool isPacked;
    /// Of a key; those behind the last one are like it.
    Value at(CodeBuilder &emit, Value key, Value begin) const {
      if (!isPacked)
        return emit.addi(emit.load(offsets, emit.addi(begin, key)), head);
      Value last = emit.subi(count, emit.index(1));
      return emit.muli(emit.minsi(key, last), channels);
    }
  };

  /// What a set reads; channels that are not one run are made one.
  Source sourceOf(CodeBuilder &emit, const CacheSide &side, Value offsets,
                  Value buffer, const KeyList::Chunk &c, Value head) {
    Source source = {side.pool,
                     offsets,
                     side.headOffset(emit, emit.addi(tile.head, head)),
                     c.count,
                     side.channels,
                     bool(buffer)};
    if (!buffer)
      return source;
    emit.forLoop(c.count, [&](CodeBuilder &e, Value i) {
      Value from = e.addi(e.load(offsets, e.addi(c.at, i)), source.head);
      side.load(e, from, {buffer, e.muli(i, side.channels)});
    });
    source.pool = buffer;
    return source;
  }

  void chunk(CodeBuilder &emit, const KeyList &list, const KeyList::Chunk &c) {
    Value padded = emit.muli(emit.ceildivui(c.count, keysAtOnce), keysAtOnce);
    emit.forLoop(numSets, [&](CodeBuilder &e, Value set) {
      Value head = headOfSet(e, set);
      Source keys = sourceOf(e, *keySide, list.keys, keyBuffer, c, head);
      Source values =
          sourceOf(e, *valueSide, list.values, valueBuffer, c, head);
      Value oneHead = e.addi(tile.head, head);
      Value keyScales = list.keyScalesOf(e, c, oneHead, padded);
      Value valueScales = list.valueScalesOf(e, c, oneHead, padded);
      score(e, list, c, keys, values, keyScales, set, padded);
      Value mayDiffer = e.i1(false);
      if (facts.rowsDiffer())
        mayDiffer = mask(e, list, c, set, padded);
      forget(e, set, c.count, padded);
      weigh(e, valueScales, set, padded);
      Ahead ahead = aheadOf(e, list, c, set);
      auto add = [&](CodeBuilder &e, bool guarded) {
        if (facts.valuePairs)
          addValuePairs(e, c, values, ahead, set, guarded);
        else
          addValues(e, c, values, ahead, set, guarded);
      };
      if (!facts.rowsDiffer())
        return add(e, false);
      e.ifThen(
          mayDiffer, [&](CodeBuilder &e) { add(e, true); },
          [&](CodeBuilder &e) { add(e, false); });
    });
  }

  /// The keys that are read after those of a set: of the next set, or of the
  /// next chunk.
  struct Ahead {
    Value offsets, begin, head;
  };
  Ahead aheadOf(CodeBuilder &emit, const KeyList &list, const KeyList::Chunk &c,
                Value set) const {
    Value next = emit.addi(set, 1);
    Value isLast = emit.eq(next, numSets);
    Value head = emit.select(isLast, emit.index(0), headOfSet(emit, next));
    return {list.keys, emit.select(isLast, c.next, c.at),
            keySide->headOffset(emit, emit.addi(tile.head, head))};
  }
  void fetchAhead(CodeBuilder &emit, const Ahead &ahead, Value key) const {
    Value at = emit.load(ahead.offsets, emit.addi(ahead.begin, key));
    keySide->prefetch(emit, emit.addi(at, ahead.head));
  }

  Place scoresOf(CodeBuilder &emit, Value set, Value key) const {
    Value at = emit.muli(set, facts.chunkKeys * setRows);
    return {scores, emit.addMul(at, key, setRows)};
  }
  Place ofSet(CodeBuilder &emit, Value buffer, Value set) const {
    return {buffer, emit.muli(set, lanes)};
  }

  /// Products of queries and keys.
  void score(CodeBuilder &emit, const KeyList &list, const KeyList::Chunk &c,
             const Source &keys, const Source &values, Value keyScales,
             Value set, Value padded) {
    Value query = emit.muli(set, setRows * paddedChannels);
    emit.forLoop(
        emit.index(0), padded, keysAtOnce, [&](CodeBuilder &e, Value key) {
          Values places;
          for (int64_t k = 0; k < keysAtOnce; ++k)
            places.push_back(keys.at(e, e.addi(key, k), c.at));
          // Their values are needed next.
          if (!values.isPacked)
            for (int64_t k = 0; k < keysAtOnce; ++k)
              valueSide->prefetch(e, values.at(e, e.addi(key, k), c.at));
          int64_t whole = facts.keyChannels / channelsAtOnce * channelsAtOnce;
          auto step = [&](CodeBuilder &e, Value channel, int64_t n,
                          ValueRange acc) {
            Values rows, next;
            for (int64_t m = 0; m < setRows; ++m) {
              Value at = e.addi(e.addi(query, m * paddedChannels), channel);
              rows.push_back(
                  facts.keyPairs
                      ? x86::loadHalves(e, {queries, at}, channelsAtOnce)
                      : loadLanes(e, {queries, at}, lanes));
            }
            for (int64_t k = 0; k < keysAtOnce; ++k) {
              Place at = {keys.pool, e.addi(places[k], channel)};
              Value x = facts.keyPairs
                            ? x86::loadHalves(e, at, n)
                            : widenLanes(e, loadLanes(e, at, n), lanes);
              for (int64_t m = 0; m < setRows; ++m) {
                Value sum = acc[k * setRows + m];
                next.push_back(facts.keyPairs
                                   ? x86::dotPairs(e, sum, x, rows[m])
                                   : fma(e, x, rows[m], sum));
              }
            }
            return next;
          };
          Values acc(lanes, splat(e, 0.0f, lanes));
          if (whole)
            acc = e.forLoop(e.index(0), e.index(whole), channelsAtOnce, acc,
                            [&](CodeBuilder &e, Value channel, ValueRange acc) {
                              return step(e, channel, channelsAtOnce, acc);
                            });
          if (int64_t n = facts.keyChannels - whole)
            acc = step(e, e.index(whole), n, acc);
          Value x = emitLaneSums(e, acc);
          if (facts.keyPairs)
            x = mulF(e, x, splat(e, facts.queryFactor(), lanes));
          if (keyScales)
            x = mulF(e, x, ofKeys(e, keyScales, key));
          x = facts.capped(e, x);
          if (tile.alibi) {
            Value distance = subI(e, keyPositions(e, list, c, key),
                                  integersOf(e, rowPositions, set));
            Value slope = loadLanes(e, ofSet(e, slopes, set), lanes);
            x = fma(e, e.fold<arith::SIToFPOp>(x.getType(), distance), slope,
                    x);
          }
          storeLanes(e, x, scoresOf(e, set, key));
        });
  }

  Value subI(CodeBuilder &emit, Value a, Value b) const {
    return emit.fold<arith::SubIOp>(a, b);
  }

  /// Integers that are kept for the rows of a set, one per lane.
  Value integersOf(CodeBuilder &emit, Value kept, Value set) const {
    auto list = cast<MemRefType>(kept.getType());
    auto type = VectorType::get({lanes}, list.getElementType());
    return vector::LoadOp::create(emit, type, kept, emit.muli(set, lanes));
  }

  /// Those of some keys, each for all rows of a set.
  Value keyPositions(CodeBuilder &emit, const KeyList &list,
                     const KeyList::Chunk &c, Value key) const {
    return ofKeys(emit, list.positions, emit.addi(c.at, key));
  }

  /// Entries of a list for some keys, each for all rows of a set.
  Value ofKeys(CodeBuilder &emit, Value list, Value at) const {
    Type type = cast<MemRefType>(list.getType()).getElementType();
    Value few = vector::LoadOp::create(
        emit, VectorType::get({keysAtOnce}, type), list, at);
    SmallVector<int64_t> lanesOf;
    for (int64_t lane = 0; lane < lanes; ++lane)
      lanesOf.push_back(lane / setRows);
    return vector::ShuffleOp::create(emit, few, few, lanesOf);
  }

  /// Where not every row sees every key of the chunk, scores of unseen keys
  /// become minus infinity. Gives whether that is so.
  Value mask(CodeBuilder &emit, const KeyList &list, const KeyList::Chunk &c,
             Value set, Value padded) {
    Value differ = hidesKeys(emit, facts, tile, c);
    emit.ifThen(differ, [&](CodeBuilder &e) {
      Value rows = integersOf(e, rowsLast, set);
      e.forLoop(e.index(0), padded, keysAtOnce, [&](CodeBuilder &e, Value key) {
        Value keys = keyPositions(e, list, c, key);
        Place at = scoresOf(e, set, key);
        Value x = loadLanes(e, at, lanes);
        Value unseen = splat(e, -INFINITY, lanes);
        if (facts.ahead)
          x = e.select(e.cmpi(CodeBuilder::Predicate::sle, keys, rows), x,
                       unseen);
        if (facts.window) {
          Value old = integersOf(e, rowsTooOld, set);
          x = e.select(e.cmpi(CodeBuilder::Predicate::sgt, keys, old), x,
                       unseen);
        }
        if (facts.hasMask) {
          Value own = tile.ownNumber(e, keys);
          Value words = tile.maskWords(e, own, integersOf(e, maskOffsets, set));
          x = e.select(tile.isSet(e, words, own), x, unseen);
        }
        storeLanes(e, x, at);
      });
    });
    return differ;
  }

  /// Keys that only fill up a vector count as unseen.
  void forget(CodeBuilder &emit, Value set, Value count, Value padded) {
    emit.forLoop(count, padded, 1, [&](CodeBuilder &e, Value key) {
      Place at = scoresOf(e, set, key);
      for (int64_t m = 0; m < setRows; ++m)
        e.store(e.f32(-INFINITY), scores, e.addi(at.offset, m));
    });
  }

  /// Scores become weights; maximum and sum are brought up to date.
  void weigh(CodeBuilder &emit, Value valueScales, Value set, Value padded) {
    Place maximumAt = ofSet(emit, maxima, set);
    Value before = loadLanes(emit, maximumAt, lanes);
    Value maximum =
        emit.forLoop(emit.index(0), padded, keysAtOnce, before,
                     [&](CodeBuilder &e, Value key, ValueRange m) {
                       Value x = loadLanes(e, scoresOf(e, set, key), lanes);
                       return Values{maxF(e, x, m[0])};
                     })[0];
    for (int64_t step = setRows; step < lanes; step *= 2)
      maximum = maxF(emit, maximum, rotateLanes(emit, maximum, step));
    storeLanes(emit, maximum, maximumAt);
    Value factor = emitExp2(emit, subF(emit, before, maximum));
    storeLanes(emit, factor, ofSet(emit, rescale, set));
    Place totalAt = ofSet(emit, totals, set);
    Value total = mulF(emit, loadLanes(emit, totalAt, lanes), factor);
    total = emit.forLoop(emit.index(0), padded, keysAtOnce, total,
                         [&](CodeBuilder &e, Value key, ValueRange sum) {
                           Place at = scoresOf(e, set, key);
                           Value x = subF(e, loadLanes(e, at, lanes), maximum);
                           Value weight = emitExp2(e, x), scaled = weight;
                           if (valueScales)
                             scaled = scaleWeights(e, weight,
                                                   ofKeys(e, valueScales, key));
                           storeLanes(e, scaled, at);
                           if (facts.valuePairs)
                             storePairs(e, weight, at);
                           return Values{addF(e, sum[0], weight)};
                         })[0];
    storeLanes(emit, total, totalAt);
  }

  /// Weights [key][row] as bf16, those of two keys for one row together.
  void storePairs(CodeBuilder &emit, Value weights, const Place &at) {
    OpBuilder &b = emit;
    SmallVector<int64_t> mask;
    for (int64_t i = 0; i < lanes; ++i)
      mask.push_back((i / (2 * setRows) * 2 + i % 2) * setRows +
                     i / 2 % setRows);
    Value ordered =
        vector::ShuffleOp::create(b, emit.getLoc(), weights, weights, mask);
    Value halves = cpu::emitConvert(emit, ordered, b.getBF16Type());
    Value words = vector::BitCastOp::create(
        b, emit.getLoc(), VectorType::get({lanes / 2}, b.getI32Type()), halves);
    vector::StoreOp::create(b, emit.getLoc(), words, pairs,
                            emit.divui(at.offset, 2));
  }

  /// Adds weighted values, two keys at a time. Channels are kept as
  /// `interleaveHalves` has them.
  void addValuePairs(CodeBuilder &emit, const KeyList::Chunk &c,
                     const Source &values, const Ahead &ahead, Value set,
                     bool guarded) {
    int64_t halves = 2 * lanes, channels = facts.valueChannels;
    int64_t blocks = std::max<int64_t>(1, lanes / setRows / 2);
    Value firstPair = emit.divui(scoresOf(emit, set, emit.index(0)).offset, 2);
    Value firstRow = emit.muli(set, setRows);
    Value count = emit.ceildivui(c.count, 2);
    auto pass = [&](CodeBuilder &e, Value channel, int64_t blocks,
                    bool isFirst) {
      int64_t columns = 2 * blocks;
      Values acc;
      for (int64_t m = 0; m < setRows; ++m) {
        Value factor =
            splat(e, e.load(rescale, e.addi(e.muli(set, lanes), m)), lanes);
        for (int64_t v = 0; v < columns; ++v)
          acc.push_back(mulF(
              e, loadLanes(e, sumAt(e, firstRow, m, channel, v * lanes), lanes),
              factor));
      }
      acc = e.forLoop(
          e.index(0), count, 1, acc,
          [&](CodeBuilder &e, Value pair, ValueRange acc) {
            Value key = e.muli(pair, 2), other = e.addi(key, 1);
            Value a = e.addi(values.at(e, key, c.at), channel);
            Value b = e.addi(values.at(e, other, c.at), channel);
            if (isFirst) {
              fetchAhead(e, ahead, key);
              fetchAhead(e, ahead, other);
            }
            Values columnsOf, sums;
            for (int64_t v = 0; v < blocks; ++v) {
              auto [low, high] = x86::interleaveHalves(
                  e,
                  x86::loadHalves(e, {values.pool, e.addi(a, v * halves)},
                                  halves),
                  x86::loadHalves(e, {values.pool, e.addi(b, v * halves)},
                                  halves));
              columnsOf.append({low, high});
            }
            Value weightAt = e.addMul(firstPair, pair, setRows);
            for (int64_t m = 0; m < setRows; ++m) {
              Value word = e.load(pairs, e.addi(weightAt, m));
              Value weight = halvesOf(e, word);
              for (int64_t v = 0; v < columns; ++v) {
                Value x = columnsOf[v];
                if (guarded)
                  x = keepWeighted(e, x, word);
                sums.push_back(
                    x86::dotPairs(e, acc[m * columns + v], x, weight));
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
      pass(emit, emit.index(0), blocks, true);
    emit.forLoop(emit.index(width), emit.index(whole), width,
                 [&](CodeBuilder &e, Value channel) {
                   pass(e, channel, blocks, false);
                 });
    for (int64_t at = whole; at < channels; at += halves)
      pass(emit, emit.index(at), 1, at == 0);
  }

  /// A word of two bf16 in all lanes.
  Value halvesOf(CodeBuilder &emit, Value word) const {
    return vector::BitCastOp::create(
        emit, VectorType::get({2 * lanes}, emit.getBF16Type()),
        splat(emit, word, lanes));
  }

  /// Pairs of values, 0 where the weight is 0.
  Value keepWeighted(CodeBuilder &emit, Value values, Value word) const {
    OpBuilder &b = emit;
    auto halves = VectorType::get({2 * lanes}, b.getI16Type());
    Value weights = vector::BitCastOp::create(b, emit.getLoc(), halves,
                                              splat(emit, word, lanes));
    Value bits = vector::BitCastOp::create(b, emit.getLoc(), halves, values);
    Value zero =
        arith::ConstantOp::create(b, emit.getLoc(), b.getZeroAttr(halves));
    Value kept = emit.select(emit.eq(weights, zero), zero, bits);
    return vector::BitCastOp::create(b, emit.getLoc(), values.getType(), kept);
  }

  /// Puts the channels of a row in their sequence.
  void orderChannels(CodeBuilder &emit, Value row) const {
    int64_t halves = 2 * lanes;
    emit.forLoop(emit.index(0), emit.index(facts.valueChannels), halves,
                 [&](CodeBuilder &e, Value channel) {
                   Place low = sumsOf(e, row).plus(e, channel);
                   Place high = low.plus(e, e.index(lanes));
                   auto [first, second] = x86::orderHalves(
                       e, loadLanes(e, low, lanes), loadLanes(e, high, lanes));
                   storeLanes(e, first, low);
                   storeLanes(e, second, high);
                 });
  }

  void addValues(CodeBuilder &emit, const KeyList::Chunk &c,
                 const Source &values, const Ahead &ahead, Value set,
                 bool guarded) {
    // As many accumulators as lanes: half of the registers, with 256 bits and
    // with 512.
    int64_t columns = lanes / setRows;
    int64_t channels = facts.valueChannels;
    int64_t width = columns * lanes, whole = channels / width * width;
    Place start = scoresOf(emit, set, emit.index(0));
    Value firstRow = emit.muli(set, setRows);
    // The first pass over the values has the next keys fetched.
    auto columnsAt = [&](CodeBuilder &e, Value channel, int64_t columns,
                         int64_t n, bool isFirst) {
      RegisterBlock block{setRows, columns, n, guarded};
      Values acc;
      for (int64_t m = 0; m < setRows; ++m) {
        Value factor =
            splat(e, e.load(rescale, e.addi(e.muli(set, lanes), m)), n);
        for (int64_t v = 0; v < columns; ++v)
          acc.push_back(
              mulF(e, loadLanes(e, sumAt(e, firstRow, m, channel, v * n), n),
                   factor));
      }
      acc = block.accumulate(
          e, c.count, acc,
          [&](CodeBuilder &e, Value key, int64_t m) {
            Value at = e.addMul(start.offset, key, setRows);
            return e.load(scores, e.addi(at, m));
          },
          [&](CodeBuilder &e, Value key, int64_t v) {
            if (isFirst && v == 0)
              fetchAhead(e, ahead, key);
            Value at = e.addi(values.at(e, key, c.at), channel);
            return loadLanes(e, {values.pool, e.addi(at, v * n)}, n);
          });
      for (int64_t m = 0; m < setRows; ++m)
        for (int64_t v = 0; v < columns; ++v)
          storeLanes(e, acc[m * columns + v],
                     sumAt(e, firstRow, m, channel, v * n));
    };
    if (whole)
      columnsAt(emit, emit.index(0), columns, lanes, true);
    emit.forLoop(emit.index(width), emit.index(whole), width,
                 [&](CodeBuilder &e, Value channel) {
                   columnsAt(e, channel, columns, lanes, false);
                 });
    forLanes(channels - whole, lanes, [&](int64_t at, int64_t n) {
      columnsAt(emit, emit.index(whole + at), 1, n, whole + at == 0);
    });
  }

  Place sumAt(CodeBuilder &emit, Value firstRow, int64_t m, Value channel,
              int64_t more) const {
    Value at = emit.muli(emit.addi(firstRow, m), facts.valueChannels);
    return {sums, emit.addi(emit.addi(at, channel), more)};
  }

  const AttentionFacts &facts;
  const Tile &tile;
  int64_t lanes, setRows, keysAtOnce, channelsAtOnce, paddedChannels, maxSets;
  std::optional<CacheSide> keySide, valueSide;
  Type f32;
  Value queries, scores, pairs, sums, maxima, totals, rescale, slopes,
      rowPositions, rowsLast, rowsTooOld, maskOffsets;
  Value keyBuffer, valueBuffer, setsPerHead, numSets;
};

} // namespace

void cpu::emitFewRows(CodeBuilder &emit, const AttentionFacts &facts,
                      const Tile &tile, Value first, Value end,
                      const Outputs &outputs, const PartialRows &partial,
                      Value part, Value isSplit) {
  FewRows rows(emit, facts, tile);
  rows.run(emit, first, end);
  emit.forLoop(tile.heads, [&](CodeBuilder &e, Value head) {
    e.forLoop(tile.rows, [&](CodeBuilder &e, Value row) {
      Value number = rows.numberOf(e, head, row);
      RowResult result = rows.result(e, number);
      e.ifThen(
          isSplit,
          [&](CodeBuilder &e) {
            Place to =
                partial.at(e, tile.request, e.addi(tile.head, head), part, row);
            e.store(result.maximum, to.memref, to.offset);
            e.store(result.sum, to.memref, e.addi(to.offset, 1));
            emitRunCopy(e, rows.sumsOf(e, number), to.plus(e, e.index(2)),
                        facts.valueChannels);
          },
          [&](CodeBuilder &e) {
            result.store(e, facts, outputs, rows.rowIn(e, row),
                         rows.headOf(e, head, row), rows.sumsOf(e, number));
          });
    });
  });
}
