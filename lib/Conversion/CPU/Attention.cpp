// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// attention: one pass over the keys, with the maximum and the sum of the
// softmax carried along.
//
// The rows of a request are cut into tiles: some tokens, all query heads that
// share a head of the cache, so that each key is loaded once for all of them. A
// tile and a head of the cache make a task; tasks run on any thread. Keys come
// in chunks, for which a list of offsets is made from the block table: one load
// of the table per block, no division, and nothing behind the list knows how
// the cache is laid out. The order of all sums follows from extents and
// lengths, so every layout gives the same bits; only where channels are not
// contiguous and so many that their copies do not fit the stack, are chunks
// shorter.
//
// Two ways to compute a tile, by its number of rows:
//
//   few rows (decode)   keys are read where they lie, and dotted with the
//                       queries along the channels (AttentionFew.cpp)
//   many rows           keys and values are converted into buffers, and both
//                       products are blocked matrix products
//                       (AttentionMany.cpp)
//
// A request of few rows may be split along its keys, where there are not enough
// tasks for the threads; the parts are merged afterwards.
//
//===----------------------------------------------------------------------===//

#include "../Common/RuntimeCalls.h"
#include "AttentionTile.h"
#include "Patterns.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

//===----------------------------------------------------------------------===//
// What a tile is made of
//===----------------------------------------------------------------------===//

AttentionFacts::AttentionFacts(AttentionOp op, TargetAttr cpu)
    : lanes(cpu.getLanes()), ahead(op.getAhead()), hasMask(bool(op.getMask())),
      scale(op.getScaleValue()) {
  const Layout &keys = op.getKeyType().getLayout();
  const Layout &values = op.getValueType().getLayout();
  auto query = cast<ShapedType>(op.getQuery().getType());
  queryHeads = query.getDimSize(1);
  keyChannels = keys.extent(AxisKind::Channel);
  valueChannels = values.extent(AxisKind::Channel);
  tokens = keys.extent(AxisKind::Token);
  bool hasPairs = cpu.getMatrix() == MatrixOps::avx512_bf16;
  keyPairs = hasPairs && op.getKeyType().getElementType().isBF16() &&
             query.getElementType().isBF16();
  valuePairs = hasPairs && op.getValueType().getElementType().isBF16() &&
               valueChannels % 32 == 0;
  bool hasTiles = cpu.getMatrix() == MatrixOps::amx_bf16;
  keyTiles = hasTiles && op.getKeyType().getElementType().isBF16() &&
             query.getElementType().isBF16() && keyChannels % 32 == 0;
  valueTiles = hasTiles && op.getValueType().getElementType().isBF16() &&
               valueChannels % 16 == 0;
  // Copies of keys and values take as long as the products: they are for more
  // rows.
  if (keyTiles && valueTiles)
    tileRows = 128;
  auto packedBytes = [](CacheType type) -> int64_t {
    RowPlan plan(type, {AxisKind::Channel});
    return plan.axes.empty() ? 0 : type.getElementBytes();
  };
  keyBytes = packedBytes(op.getKeyType());
  valueBytes = packedBytes(op.getValueType());
  int64_t cacheHeads = keys.extent(AxisKind::Head);
  taskHeads = std::min(taskHeads, cacheHeads);
  setTile(cacheHeads, queryHeads / cacheHeads);
  hasRoom = fitsFrame() || shrinkTile(cacheHeads);
  if (op.getWindow())
    window = std::min(static_cast<int64_t>(*op.getWindow()), kFarPosition);
  if (op.getSoftcap())
    softcap = op.getSoftcap()->convertToDouble();
}

/// Groups of at most so many query heads, and as many tokens as make the rows
/// of a tile.
void AttentionFacts::setTile(int64_t cacheHeads, int64_t most) {
  int64_t whole = queryHeads / cacheHeads;
  group = std::min(whole, most);
  while (whole % group)
    --group;
  sharing = whole / group;
  heads = cacheHeads * sharing;
  tileTokens = std::max<int64_t>(1, tileRows / group);
  int64_t unit = 2 * lanes;
  maxRows = (tileTokens * group + unit - 1) / unit * unit;
}

/// Long rows, or very many of them: fewer at the same time, down to one. Chunks
/// get shorter last, as sums are cut where they end.
bool AttentionFacts::shrinkTile(int64_t cacheHeads) {
  taskHeads = 1;
  for (tileRows = 64; tileRows >= 2 * lanes; tileRows /= 2) {
    setTile(cacheHeads, tileRows);
    if (fitsFrame())
      return true;
  }
  onlyFew = true;
  for (chunkKeys = 64; chunkKeys >= lanes; chunkKeys /= 2)
    for (fewRows = tileRows = 16; tileRows >= 1; fewRows = tileRows /= 2) {
      setTile(cacheHeads, tileRows);
      if (fitsFrame())
        return true;
    }
  return false;
}

/// What AttentionMany.cpp and AttentionFew.cpp have in buffers. Lists of
/// positions and the like are small.
bool AttentionFacts::fitsFrame() const {
  int64_t channels = keyChannels + valueChannels, bytes = 0;
  if (!onlyFew)
    bytes += 4 * ((maxRows + chunkKeys) * channels + chunkKeys * maxRows);
  if (!onlyFew && valueTiles)
    bytes += 2 * chunkKeys * maxRows; // the weights again
  int64_t few = taskHeads * setsOf(fewRows) * setRows();
  int64_t padding = 2 * lanes;
  bytes += 4 * few * (channels + padding + 2 * chunkKeys);
  bytes += chunkKeys * (keyChannels * keyBytes + valueChannels * valueBytes);
  return bytes <= kFrameBytes;
}

Value Tile::rowPosition(CodeBuilder &emit, Value row) const {
  constexpr int64_t kBound = 1 << 30;
  Value at = emit.maxsi(position(emit, row), emit.index(-kBound));
  return emit.indexCast(emit.minsi(at, emit.index(kBound)), emit.getI32Type());
}

Value Tile::shifted(CodeBuilder &emit, Value row, int64_t by) const {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  Value last = emit.addi(position(emit, row), by);
  last = emit.minsi(emit.maxsi(last, emit.index(-1)), emit.index(kMost));
  return emit.indexCast(last, emit.getI32Type());
}

Value Tile::lastSeen(CodeBuilder &emit, Value row, int64_t ahead) const {
  return ahead ? shifted(emit, row, ahead) : rowPosition(emit, row);
}

Value Tile::lastTooOld(CodeBuilder &emit, Value row, int64_t window) const {
  return shifted(emit, row, -window);
}

Value cpu::hidesKeys(CodeBuilder &emit, const AttentionFacts &facts,
                     const Tile &tile, const KeyList::Chunk &chunk) {
  Value hides = emit.i1(false);
  if (facts.ahead)
    hides = emit.slt(emit.addi(tile.leastPosition, *facts.ahead),
                     emit.addi(chunk.end, -1));
  if (facts.window) {
    Value oldest = emit.addi(tile.greatestPosition, -*facts.window);
    hides = emit.ori(
        hides, emit.cmpi(CodeBuilder::Predicate::sle, chunk.first, oldest));
  }
  if (facts.hasMask)
    hides = emit.ori(hides, emit.slt(tile.firstOwn, chunk.end));
  return hides;
}

/// The channels of one token and head, which are one run or several.
static void copyChannels(CodeBuilder &emit, const CacheSide &side,
                         const Place &from, const Place &to,
                         ArrayRef<RowPlan::PieceAxis> axes) {
  if (axes.empty())
    return emitRunCopy(emit, from, to, side.plan.run.elements);
  RowPlan::PieceAxis axis = axes.front();
  emit.forLoop(emit.index(axis.extent), [&](CodeBuilder &e, Value i) {
    copyChannels(e, side,
                 from.plus(e, e.muli(i, side.cache.strides[axis.index])),
                 to.plus(e, e.muli(i, axis.rowStride)), axes.drop_front());
  });
}

CacheSide::CacheSide(CodeBuilder &emit, const CacheValue &cache, int64_t side)
    : cache(cache.side(emit, side)), plan(cache.type, {AxisKind::Channel}),
      pool(flatten(emit, cache.buffer)),
      channels(cache.type.getLayout().extent(AxisKind::Channel)) {}

Value CacheSide::headOffset(CodeBuilder &emit, Value head) const {
  return cache.indexOffset(emit, AxisKind::Head, emit.divui(head, sharing));
}

void CacheSide::prefetch(CodeBuilder &emit, Value offset) const {
  if (!isRun())
    return;
  int64_t line = 64 / cache.type.getElementBytes();
  for (int64_t at = 0; at < channels; at += line)
    memref::PrefetchOp::create(emit, pool, emit.addi(offset, at),
                               /*isWrite=*/false,
                               /*localityHint=*/3, /*isDataCache=*/true);
}

void CacheSide::load(CodeBuilder &emit, Value offset, const Place &to) const {
  copyChannels(emit, *this, {pool, offset}, to, plan.axes);
}

//===----------------------------------------------------------------------===//
// Chunks of keys
//===----------------------------------------------------------------------===//

KeyList::KeyList(CodeBuilder &emit, const AttentionFacts &facts,
                 const Tile &tile)
    : facts(facts), tile(tile) {
  auto lists = [&](Type type) -> Value {
    return memref::AllocaOp::create(emit, MemRefType::get({2 * room()}, type));
  };
  keys = lists(emit.getIndexType());
  values = lists(emit.getIndexType());
  positions = lists(emit.getI32Type());
  auto factors = [&]() -> Value {
    return memref::AllocaOp::create(
        emit, MemRefType::get({room()}, emit.getF32Type()));
  };
  if (tile.keyScales) {
    keyScales = lists(emit.getIndexType());
    keyFactors = factors();
  }
  if (tile.valueScales) {
    valueScales = lists(emit.getIndexType());
    valueFactors = factors();
  }
}

Value KeyList::scalesOf(CodeBuilder &emit, const CacheSide *side, Value list,
                        Value buffer, const Chunk &chunk, Value head,
                        Value count) const {
  if (!side)
    return {};
  Value offset = side->headOffset(emit, head);
  emit.forLoop(count, [&](CodeBuilder &e, Value i) {
    Value at = e.addi(e.load(list, e.addi(chunk.at, i)), offset);
    e.store(e.load(side->pool, at), buffer, i);
  });
  return buffer;
}

Value cpu::scaleWeights(CodeBuilder &emit, Value weights, Value scales) {
  auto type = cast<VectorType>(weights.getType());
  Value zero = splat(emit, 0.0f, type.getNumElements());
  Value isNone =
      emit.fold<arith::CmpFOp>(arith::CmpFPredicate::OEQ, weights, zero);
  return emit.select(isNone, zero, mulF(emit, weights, scales));
}

/// Lists some keys, beginning at `at`. Gives their number and the cursor behind
/// them.
SmallVector<Value> KeyList::fill(CodeBuilder &emit, const Cursor &cursor,
                                 Value at, Value end) const {
  const CacheSide &k = *tile.keys, &v = *tile.values;
  OpBuilder &b = emit;
  Location l = emit.getLoc();
  Value zero = emit.index(0), perBlock = emit.index(facts.tokens);
  SmallVector<Type> types(4, b.getIndexType());
  auto loop = scf::WhileOp::create(
      b, l, types, ValueRange{zero, cursor.key, cursor.block, cursor.start},
      [&](OpBuilder &b, Location l, ValueRange in) {
        CodeBuilder e(b, l);
        Value isFree = e.slt(in[0], e.index(facts.chunkKeys));
        scf::ConditionOp::create(b, l, e.andi(isFree, e.slt(in[1], end)), in);
      },
      [&](OpBuilder &b, Location l, ValueRange in) {
        CodeBuilder e(b, l);
        Value count = in[0], key = in[1], block = in[2], start = in[3];
        Value take = e.minsi(e.subi(perBlock, start), e.subi(end, key));
        take = e.minsi(take, e.subi(e.index(facts.chunkKeys), count));
        Value entry = e.loadIndex(tile.table, {tile.request, block});
        Value taken = e.select(e.ult(entry, cursor.blocks), take, zero);
        Value keyAt =
            e.addMul(k.cache.offset, entry, k.cache.stride(AxisKind::Block));
        Value valueAt =
            e.addMul(v.cache.offset, entry, v.cache.stride(AxisKind::Block));
        auto scalesAt = [&](const CacheSide *side) {
          return e.addi(side->cache.offset,
                        side->cache.indexOffset(e, AxisKind::Block, entry));
        };
        Value to = e.addi(at, count);
        e.forLoop(taken, [&](CodeBuilder &e, Value i) {
          Value token = e.addi(start, i), here = e.addi(to, i);
          e.store(e.addMul(keyAt, token, k.cache.stride(AxisKind::Token)), keys,
                  here);
          e.store(e.addMul(valueAt, token, v.cache.stride(AxisKind::Token)),
                  values, here);
          e.store(e.indexCast(e.addi(key, i), e.getI32Type()), positions, here);
          for (auto [side, list] : {std::pair(tile.keyScales, keyScales),
                                    std::pair(tile.valueScales, valueScales)})
            if (side)
              e.store(e.addi(scalesAt(side), side->cache.indexOffset(
                                                 e, AxisKind::Token, token)),
                      list, here);
        });
        Value next = e.addi(start, take);
        Value isDone = e.eq(next, perBlock);
        scf::YieldOp::create(
            b, l,
            ValueRange{e.addi(count, taken), e.addi(key, take),
                       e.select(isDone, e.addi(block, 1), block),
                       e.select(isDone, zero, next)});
      });
  Value count = loop.getResult(0);
  emit.ifThen(emit.slt(zero, count), [&](CodeBuilder &e) {
    Value last = e.addi(e.addi(at, count), -1);
    e.forLoop(
        e.addi(last, 1), e.addi(at, room()), 1, [&](CodeBuilder &e, Value i) {
          for (Value list : {keys, values, positions, keyScales, valueScales})
            if (list)
              e.store(e.load(list, last), list, i);
        });
  });
  return loop.getResults();
}

void KeyList::forChunks(CodeBuilder &emit, Value first, Value end,
                        Body body) const {
  const CacheSide &k = *tile.keys, &v = *tile.values;
  Cursor cursor;
  cursor.blocks = emit.minsi(k.cache.extent(AxisKind::Block),
                             v.cache.extent(AxisKind::Block));
  for (const CacheSide *side : {tile.keyScales, tile.valueScales})
    if (side && side->cache.type.getLayout().extent(AxisKind::Block) != 1)
      cursor.blocks =
          emit.minsi(cursor.blocks, side->cache.extent(AxisKind::Block));
  cursor.key = first;
  cursor.block = emit.divui(first, facts.tokens);
  cursor.start = emit.remui(first, facts.tokens);
  Value zero = emit.index(0);
  SmallVector<Value> begin = fill(emit, cursor, zero, end);

  // What is listed: where, how many, its range; then the cursor.
  SmallVector<Value> state = {zero,     begin[0], first,
                              begin[1], begin[2], begin[3]};
  SmallVector<Type> types(state.size(), emit.getIndexType());
  scf::WhileOp::create(
      emit, types, state,
      [&](OpBuilder &b, Location l, ValueRange in) {
        scf::ConditionOp::create(b, l, CodeBuilder(b, l).slt(in[2], in[3]), in);
      },
      [&](OpBuilder &b, Location l, ValueRange in) {
        CodeBuilder e(b, l);
        Value at = in[0], count = in[1], from = in[2], to = in[3];
        Cursor next = cursor;
        next.key = to;
        next.block = in[4];
        next.start = in[5];
        Value other = e.subi(e.index(room()), at);
        SmallVector<Value> filled = fill(e, next, other, end);
        // Blocks that are not there leave holes: a chunk may be empty.
        e.ifThen(e.slt(zero, count), [&](CodeBuilder &e) {
          Value hasNext = e.slt(zero, filled[0]);
          body(e, {count, from, to, at, e.select(hasNext, other, at)});
        });
        scf::YieldOp::create(
            b, l,
            ValueRange{other, filled[0], to, filled[1], filled[2], filled[3]});
      });
}

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

float AttentionFacts::queryFactor() const {
  // Scores are logarithms to base 2, but for the soft cap.
  return softcap ? scale : scale * M_LOG2E;
}

Value AttentionFacts::capped(CodeBuilder &emit, Value score) const {
  if (!softcap)
    return score;
  int64_t lanes = cast<VectorType>(score.getType()).getNumElements();
  Value inside = mulF(emit, score, splat(emit, float(1 / *softcap), lanes));
  return mulF(emit, emitTanh(emit, inside),
              splat(emit, float(*softcap * M_LOG2E), lanes));
}

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

void RowResult::store(CodeBuilder &emit, const AttentionFacts &facts,
                      const Outputs &outputs, Value row, Value head,
                      const Place &sums) const {
  Value maximum = this->maximum, sum = this->sum, weight = emit.f32(1);
  if (outputs.sinks) {
    Value sink = emit.load(outputs.sinks, head);
    sink = mulF(emit, sink, emit.f32(M_LOG2E));
    Value larger = maxF(emit, sink, maximum);
    weight = emitExp2(emit, subF(emit, maximum, larger));
    sum = addF(emit, mulF(emit, sum, weight),
               emitExp2(emit, subF(emit, sink, larger)));
    maximum = larger;
  }
  Value zero = emit.f32(0);
  // Nothing was seen where the sum is zero; NaN is no zero.
  Value isEmpty =
      emit.fold<arith::CmpFOp>(arith::CmpFPredicate::OEQ, this->sum, zero);
  Value factor = divF(emit, weight, sum);
  if (outputs.valueScale)
    factor = mulF(emit, factor, outputs.valueScale);
  Value offset = emit.muli(head, facts.valueChannels);
  Place out = outputs.out->at(emit, row).plus(emit, offset);
  emit.ifThen(
      isEmpty,
      [&](CodeBuilder &e) { emitRunClear(e, out, facts.valueChannels); },
      [&](CodeBuilder &e) {
        forLanes(facts.valueChannels, facts.lanes, [&](int64_t at, int64_t n) {
          Value x = loadLanes(e, sums.plus(e, e.index(at)), n);
          storeLanes(e, mulF(e, x, splat(e, factor, n)),
                     out.plus(e, e.index(at)));
        });
      });
  if (!outputs.lse)
    return;
  Value none = emit.fold<arith::CmpFOp>(arith::CmpFPredicate::OEQ, sum, zero);
  Value safe = emit.select(none, emit.f32(1), sum);
  Value lse = mulF(emit, addF(emit, maximum, emit.fold<math::Log2Op>(safe)),
                   emit.f32(M_LN2));
  lse = emit.select(none, emit.f32(-INFINITY), lse);
  if (outputs.sinks)
    lse = emit.select(isEmpty, emit.load(outputs.sinks, head), lse);
  Place at = outputs.lse->at(emit, row, head);
  emit.store(lse, at.memref, at.offset);
}

/// What a row that sees no key gets.
static void storeEmptyRow(CodeBuilder &emit, const AttentionFacts &facts,
                          const Outputs &outputs, Value row) {
  emitRunClear(emit, outputs.out->at(emit, row),
               facts.queryHeads * facts.valueChannels);
  if (!outputs.lse)
    return;
  emit.forLoop(emit.index(facts.queryHeads), [&](CodeBuilder &e, Value head) {
    Value lse = e.f32(-INFINITY);
    if (outputs.sinks)
      lse = e.load(outputs.sinks, head);
    Place at = outputs.lse->at(e, row, head);
    e.store(lse, at.memref, at.offset);
  });
}

//===----------------------------------------------------------------------===//
// The lowering
//===----------------------------------------------------------------------===//

namespace {

/// A quotient of positive numbers below 2^40. A division of integers stays
/// where it is, as it traps for 0; this one and what follows from it, such as
/// the size of a buffer, can move in front of a loop over layers.
Value divideAnywhere(CodeBuilder &emit, Value a, Value b) {
  OpBuilder &builder = emit;
  auto number = [&](Value value) -> Value {
    value = arith::IndexCastOp::create(builder, emit.getLoc(),
                                       builder.getI64Type(), value);
    return arith::SIToFPOp::create(builder, emit.getLoc(), builder.getF64Type(),
                                   value);
  };
  Value quotient =
      arith::DivFOp::create(builder, emit.getLoc(), number(a), number(b));
  quotient = arith::FPToSIOp::create(builder, emit.getLoc(),
                                     builder.getI64Type(), quotient);
  return arith::IndexCastOp::create(builder, emit.getLoc(),
                                    builder.getIndexType(), quotient);
}

/// How many threads a parallel loop runs on.
Value emitThreadCount(CodeBuilder &emit, Operation *op) {
  auto call = emitRuntimeCall(emit, emit.getLoc(), op, "kvrt_thread_count", {},
                              emit.getI64Type());
  return emit.indexCast(call.getResult(0));
}

/// So many that an uneven distribution of work does not matter much.
constexpr int64_t kTasksPerThread = 4;

/// The least and the greatest position of the rows of a tile.
std::pair<Value, Value>
positionRange(CodeBuilder &emit, const Requests &requests, const Tile &tile) {
  auto at = [&](CodeBuilder &e, Value row) { return tile.position(e, row); };
  Value first = at(emit, tile.firstRow);
  if (!requests.batch.positions) {
    Value steps = emit.subi(tile.tokens, emit.index(1));
    return {first, emit.addi(first, steps)};
  }
  Values range = emit.forLoop(
      emit.index(1), tile.tokens, 1, {first, first},
      [&](CodeBuilder &e, Value i, ValueRange range) {
        Value position = at(e, e.addi(tile.firstRow, i));
        return Values{e.minsi(range[0], position), e.maxsi(range[1], position)};
      });
  return {range[0], range[1]};
}

struct AttentionOpLowering : OpLowering<AttentionOp> {
  AttentionOpLowering(TypeConverter &converter, MLIRContext *context,
                      TargetAttr cpu)
      : OpLowering(converter, context), cpu(cpu) {}

  FailureOr<Values> lowerResult(AttentionOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    AttentionFacts facts(op, cpu);
    if (!facts.hasRoom)
      return op.emitOpError()
             << "is not compiled for a CPU with " << facts.keyChannels
             << " channels of keys and " << facts.valueChannels
             << " of values, which are not contiguous: a row of each is "
                "expected to fit a stack of "
             << kFrameBytes << " bytes with a few keys and values";
    CacheSide keys(emit, in.cache(op.getCaches().front()), 0);
    CacheSide values(emit, in.cache(op.getCaches().back()),
                     op.getCaches().size() == 1 ? 1 : 0);
    keys.sharing = values.sharing = facts.sharing;
    std::optional<CacheSide> keyScales, valueScales;
    if (Value scales = op.getScalesOf(0))
      keyScales.emplace(emit, in.cache(scales), 0);
    unsigned last = op.getCaches().size() - 1;
    if (Value scales = op.getScalesOf(last))
      valueScales.emplace(emit, in.cache(scales), last == 0 ? 1 : 0);
    for (std::optional<CacheSide> *scales : {&keyScales, &valueScales})
      if (*scales)
        (*scales)->sharing = facts.sharing;
    Value query = in[op.getQuery()], out = in[op.getOuts().front()];
    HeadRows queries(emit, query, 0, 1);
    Rows outRows(emit, out);
    std::optional<HeadRows> lseRows;
    Value numRows = emit.minsi(emit.dim(query, 0), emit.dim(out, 0));
    if (op.getLse()) {
      Value lse = in[op.getOuts()[1]];
      unsigned rowDim = op.getHeadsFirst() ? 1 : 0;
      lseRows.emplace(emit, lse, rowDim, 1 - rowDim);
      numRows = emit.minsi(numRows, emit.dim(lse, rowDim));
    }
    std::optional<Rows> maskRows;
    Value maskWords;
    if (Value mask = in[op.getMask()]) {
      maskRows.emplace(emit, mask);
      maskWords = Tile::wordCount(emit, emit.dim(mask, 1));
      numRows = emit.minsi(numRows, emit.dim(mask, 0));
    }
    Outputs outputs = {&outRows, lseRows ? &*lseRows : nullptr,
                       in[op.getSinks()], in[op.getValueScale()]};
    BatchValue batch = in[op.getBatch()];
    Requests requests(emit, batch, numRows);

    requests.forRowsOutside(emit, [&](CodeBuilder &e, Value row) {
      storeEmptyRow(e, facts, outputs, row);
    });

    // Tiles of request r are numbered from firstTile(r) on: that leaves gaps,
    // but needs no table.
    auto firstTile = [&](CodeBuilder &e, Value r) {
      return e.addi(e.divui(requests.first(e, r), facts.tileTokens), r);
    };
    Value tiles =
        emit.addi(emit.divui(numRows, facts.tileTokens), requests.count);
    Value hasRequests = emit.slt(emit.index(0), requests.count);
    tiles = emit.select(hasRequests, tiles, emit.index(0));

    // A request of few rows is split along its keys if there is little else to
    // do at the same time.
    constexpr int64_t kEnoughTasks = 64, kLeastKeys = 1024;
    Value perPart =
        emit.maxsi(emit.muli(requests.count, facts.heads), emit.index(1));
    Value wanted =
        divideAnywhere(emit, emit.addi(perPart, kEnoughTasks - 1), perPart);
    Value room = emit.mulSat(emit.dim(batch.table, 1), facts.tokens);
    Value parts = emit.minsi(wanted, emit.divui(room, kLeastKeys));
    // If nothing may follow from the rest of the batch, parts are of so many
    // keys, or of an eighth where that is more. Those after the last key, which
    // follow from the width of the table, add zeros.
    constexpr int64_t kMostFixedParts = 8, kFixedKeys = 4096;
    if (op.getBatchInvariant())
      parts = emit.minsi(emit.index(kMostFixedParts),
                         emit.ceildivui(room, kFixedKeys));
    // The parts of a request have a place for one tile.
    parts = facts.onlyFew ? emit.index(1) : emit.maxsi(parts, emit.index(1));
    // A single part is put together too then: a sum that is -0 would stay so.
    Value isSplit = op.getBatchInvariant() && !facts.onlyFew
                        ? emit.i1(true)
                        : emit.slt(emit.index(1), parts);
    PartialRows partial(emit, facts, requests.count, parts, isSplit);

    // A task has several heads, as long as there are tasks for all threads.
    Value threads = emitThreadCount(emit, op);
    Value perThread =
        emit.divui(emit.muli(emit.muli(tiles, facts.heads), parts),
                   emit.muli(threads, kTasksPerThread));
    Value taskHeads = emit.clamp(perThread, emit.index(facts.taskHeads));
    taskHeads = emit.maxsi(taskHeads, emit.index(1));
    Value groups = emit.divui(emit.addi(taskHeads, facts.heads - 1), taskHeads);

    Value tasks = emit.muli(emit.muli(tiles, groups), parts);
    emit.parallelLoop(tasks, [&](CodeBuilder &e, Value task) {
      Tile tile;
      tile.keys = &keys;
      tile.values = &values;
      tile.keyScales = keyScales ? &*keyScales : nullptr;
      tile.valueScales = valueScales ? &*valueScales : nullptr;
      tile.queries = &queries;
      tile.alibi = in[op.getAlibi()];
      tile.mask = maskRows ? &*maskRows : nullptr;
      tile.words = maskWords;
      tile.table = batch.table;
      Value part = e.remui(task, parts);
      Value rest = e.divui(task, parts);
      tile.head = e.muli(e.remui(rest, groups), taskHeads);
      tile.heads = e.minsi(taskHeads, e.subi(e.index(facts.heads), tile.head));
      Value number = e.divui(rest, groups);
      tile.request = requests.lastAtMost(e, requests.count, number, firstTile);
      Value inRequest = e.subi(number, firstTile(e, tile.request));
      tile.end = requests.end(e, tile.request);
      tile.firstRow = e.addi(requests.first(e, tile.request),
                             e.muli(inRequest, facts.tileTokens));
      Value left = e.subi(tile.end, tile.firstRow);
      // Rows before the first request are in no tile.
      Value isTile =
          e.andi(e.slt(e.index(-1), inRequest), e.slt(e.index(0), left));
      e.ifThen(isTile, [&](CodeBuilder &e) {
        tile.tokens = e.minsi(left, e.index(facts.tileTokens));
        tile.rows = e.muli(tile.tokens, facts.group);
        tile.length = requests.length(e, tile.request);
        Value ownRows = e.subi(tile.end, requests.first(e, tile.request));
        tile.firstOwn = e.subi(tile.length, ownRows);
        tile.position = [&](CodeBuilder &e, Value row) {
          // Given positions may be anything, also what wraps below.
          Value position = requests.position(e, row, tile.end, tile.length);
          return e.minsi(e.maxsi(position, e.index(-kFarPosition)),
                         e.index(kFarPosition));
        };
        auto [least, greatest] = positionRange(e, requests, tile);
        tile.leastPosition = least;
        tile.greatestPosition = greatest;
        Value first = e.index(0), end = tile.length;
        if (facts.window)
          first = e.clamp(e.addi(least, 1 - *facts.window), end);
        if (facts.ahead)
          end = e.clamp(e.addi(greatest, 1 + *facts.ahead), end);
        first = e.minsi(first, end);
        Value isFew = facts.onlyFew ? e.i1(true)
                                    : e.slt(tile.rows, e.index(facts.fewRows));
        e.ifThen(
            isFew,
            [&](CodeBuilder &e) {
              // The keys of this part.
              Value count = e.subi(end, first);
              Value each =
                  op.getBatchInvariant()
                      ? e.maxsi(e.ceildivui(count, kMostFixedParts),
                                e.index(kFixedKeys))
                      : e.divui(e.addi(e.addi(count, parts), -1), parts);
              each =
                  e.muli(e.ceildivui(each, facts.chunkKeys), facts.chunkKeys);
              Value from = e.minsi(e.addMul(first, part, each), end);
              Value to = e.minsi(e.addi(from, each), end);
              emitFewRows(e, facts, tile, from, to, outputs, partial, part,
                          isSplit);
            },
            [&](CodeBuilder &e) {
              if (facts.onlyFew)
                return;
              Value heads =
                  e.select(e.eq(part, e.index(0)), tile.heads, e.index(0));
              e.forLoop(heads, [&](CodeBuilder &e, Value i) {
                Tile one = tile;
                one.head = e.addi(tile.head, i);
                emitManyRows(e, facts, one, first, end, outputs);
              });
            });
      });
    });
    emit.ifThen(isSplit,
                [&](CodeBuilder &e) { partial.merge(e, requests, outputs); });
    return Values();
  }

private:
  TargetAttr cpu;
};

} // namespace

void cpu::populateAttentionToLoops(TypeConverter &converter,
                                   RewritePatternSet &patterns,
                                   TargetAttr cpu) {
  patterns.add<AttentionOpLowering>(converter, patterns.getContext(), cpu);
}
