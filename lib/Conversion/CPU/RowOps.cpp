// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// index_copy, scatter and gather: rows in and out of a cache.
//
// Writes are split among threads by parts of a row, not by tokens: each thread
// goes through all tokens in their sequence, so that of several rows for one
// slot the last one stays. Reads are split by tokens.
//
//===----------------------------------------------------------------------===//

#include "../Common/CacheLowering.h"
#include "../Common/SlotCursor.h"
#include "Converted.h"
#include "Patterns.h"
#include "Runs.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

namespace {

/// A cache and rows of it, taken apart.
struct RowMover {
  RowMover(CodeBuilder &emit, const CacheValue &cache, ValueRange rowMemRefs,
           SlotCursor cursor)
      : cache(cache), cursor(cursor), plan(cache.type),
        pool(flatten(emit, cache.buffer)) {
    for (Value row : rowMemRefs)
      rows.emplace_back(emit, row);
  }

  RowMover(CodeBuilder &emit, const CacheValue &cache, ValueRange rowMemRefs,
           TypedValue<SlotsType> slots)
      : RowMover(emit, cache, rowMemRefs,
                 {cache.type.getLayout(), slots.getType().getRowsPerBlock()}) {}

  Value slotLimit(CodeBuilder &emit) const {
    return cursor.slotLimit(emit, cache.extent(AxisKind::Block));
  }

  /// Where the row of a place begins.
  Value offsetOf(CodeBuilder &emit, SlotCursor::Place place) const {
    return emit.addi(cache.offset,
                     cursor.offset(emit, place, cache.stride(AxisKind::Block),
                                   cache.stride(AxisKind::Token)));
  }

  Value sideOffset(CodeBuilder &emit, Value at, unsigned side) const {
    return side ? emit.addi(at, cache.stride(AxisKind::Side)) : at;
  }

  /// One axis of the pieces, cut in parts; the axes behind it are loops.
  template <typename Move>
  void forPieces(CodeBuilder &emit, ArrayRef<RowPlan::PieceAxis> axes,
                 const Place &inRow, const Place &inCache, Move move) const {
    if (axes.empty())
      return move(emit, inRow, inCache);
    RowPlan::PieceAxis axis = axes.front();
    emit.forLoop(emit.index(axis.extent), [&](CodeBuilder &e, Value i) {
      forPieces(e, axes.drop_front(), inRow.plus(e, e.muli(i, axis.rowStride)),
                inCache.plus(e, e.muli(i, cache.strides[axis.index])), move);
    });
  }

  int64_t rowBytes() const {
    return plan.rowElements * cache.type.getElementBytes();
  }

  CacheValue cache;
  SlotCursor cursor;
  RowPlan plan;
  Value pool;
  SmallVector<Rows> rows;
};

/// Where row t goes, and whether it goes anywhere.
using Target =
    llvm::function_ref<std::pair<Value, Value>(CodeBuilder &, Value)>;

/// Writes rows of all sides, in parallel over sides and parts of a row.
void emitWrite(CodeBuilder &emit, const RowMover &mover, Value count,
               Target target) {
  // The slowest axis of the pieces is what threads share; else long runs are.
  const RowPlan &plan = mover.plan;
  constexpr int64_t kLeastPart = 256; // bytes
  int64_t bytes = mover.cache.type.getElementBytes();
  int64_t parts = 1, run = plan.run.elements;
  ArrayRef<RowPlan::PieceAxis> axes = plan.axes;
  bool byAxis = !axes.empty();
  if (byAxis) {
    parts = axes.front().extent;
  } else {
    while (run % 2 == 0 && run / 2 * bytes >= kLeastPart && parts < 16) {
      run /= 2;
      parts *= 2;
    }
  }
  int64_t sides = mover.rows.size();
  Value all = emit.index(sides * parts);
  Value written = emit.muli(count, mover.rowBytes() * sides);
  Value tasks = emitTaskCount(emit, written, all);
  Value perTask = emit.divui(emit.addi(emit.addi(all, tasks), -1), tasks);

  auto writeTask = [&](CodeBuilder &e, Value task, Stores stores) {
    Value first = e.muli(task, perTask);
    Value end = e.minsi(e.addi(first, perTask), all);
    for (int64_t side = 0; side < sides; ++side) {
      // The parts of this side that are of this task.
      Value from =
          e.clamp(e.subi(first, e.index(side * parts)), e.index(parts));
      Value to = e.clamp(e.subi(end, e.index(side * parts)), e.index(parts));
      Value none = e.cmpi(CodeBuilder::Predicate::sge, from, to);
      Value rows = e.select(none, e.index(0), count);
      Value whole = e.eq(e.subi(to, from), e.index(parts));
      auto writeAll = [&](CodeBuilder &e, bool wholeRow) {
        e.forLoop(rows, [&](CodeBuilder &e, Value t) {
          auto [live, at] = target(e, t);
          e.ifThen(live, [&, at = at](CodeBuilder &e) {
            Place row = mover.rows[side].at(e, t);
            Place slot = {mover.pool, mover.sideOffset(e, at, side)};
            auto copy = [&](int64_t elements) {
              return [=](CodeBuilder &e, const Place &row, const Place &slot) {
                emitRunCopy(e, row, slot, elements, stores);
              };
            };
            if (wholeRow)
              return mover.forPieces(e, axes, row, slot,
                                     copy(plan.run.elements));
            e.forLoop(from, to, 1, [&](CodeBuilder &e, Value part) {
              if (!byAxis) {
                Value shift = e.muli(part, run);
                return emitRunCopy(e, row.plus(e, shift), slot.plus(e, shift),
                                   run, stores);
              }
              RowPlan::PieceAxis axis = axes.front();
              mover.forPieces(
                  e, axes.drop_front(),
                  row.plus(e, e.muli(part, axis.rowStride)),
                  slot.plus(e, e.muli(part, mover.cache.strides[axis.index])),
                  copy(plan.run.elements));
            });
          });
        });
      };
      if (parts == 1)
        writeAll(e, true);
      else
        e.ifThen(
            whole, [&](CodeBuilder &e) { writeAll(e, true); },
            [&](CodeBuilder &e) { writeAll(e, false); });
    }
  };
  emit.parallelLoop(tasks, [&](CodeBuilder &e, Value task) {
    emitWithStores(
        e, written, mover.cache.type, run,
        [&](CodeBuilder &e, Stores stores) { writeTask(e, task, stores); });
  });
}

/// Rows beside a cache with scales.
struct ScaledMover {
  ScaledMover(CodeBuilder &emit, const CacheValue &cache,
              const CacheValue &scales, ValueRange rowMemRefs,
              SlotCursor cursor)
      : cache(cache), scales(scales), cursor(cursor) {
    for (Value row : rowMemRefs)
      rows.emplace_back(emit, row);
  }

  Value blocks(CodeBuilder &emit) const {
    return extentOf(emit, AxisKind::Block, cache, scales);
  }
  TokenElements row(CodeBuilder &emit, unsigned side, Value t) const {
    return {rows[side].at(emit, t), cache.type};
  }
  TokenElements inCache(CodeBuilder &emit, unsigned side,
                        SlotCursor::Place place) const {
    CacheValue values = cache.side(emit, side);
    CacheValue ofSide = scales.side(emit, side);
    auto [block, token] = cursor.blockAndToken(emit, place);
    return {emit, values, &ofSide, block, token};
  }
  int64_t rowBytes() const {
    return RowPlan(cache.type).rowElements * cache.type.getElementBytes();
  }

  CacheValue cache, scales;
  SlotCursor cursor;
  SmallVector<Rows> rows;
};

/// The number of a row in lists, and whether it goes anywhere.
using ScaledTarget =
    llvm::function_ref<std::pair<Value, Values>(CodeBuilder &, Value)>;

/// What shares a scale is written by one thread, which goes through all tokens.
void emitScaledWrite(CodeBuilder &emit, const ScaledMover &mover, Value count,
                     ScaledTarget target) {
  int64_t sides = mover.rows.size();
  Value none = emit.index(0);
  int64_t parts = convertedParts(mover.inCache(emit, 0, Values{none, none}));
  Value all = emit.index(sides * parts);
  Value tasks =
      emitTaskCount(emit, emit.muli(count, mover.rowBytes() * sides), all);
  Value perTask = emit.divui(emit.addi(emit.addi(all, tasks), -1), tasks);
  emit.parallelLoop(tasks, [&](CodeBuilder &e, Value task) {
    Value first = e.muli(task, perTask);
    Value end = e.minsi(e.addi(first, perTask), all);
    for (int64_t side = 0; side < sides; ++side) {
      Value from =
          e.clamp(e.subi(first, e.index(side * parts)), e.index(parts));
      Value to = e.clamp(e.subi(end, e.index(side * parts)), e.index(parts));
      Value isNone = e.cmpi(CodeBuilder::Predicate::sge, from, to);
      e.forLoop(e.select(isNone, e.index(0), count),
                [&](CodeBuilder &e, Value t) {
                  auto [live, place] = target(e, t);
                  e.ifThen(live, [&, place = place](CodeBuilder &e) {
                    TokenElements row = mover.row(e, side, t);
                    TokenElements slot = mover.inCache(e, side, place);
                    e.forLoop(from, to, 1, [&](CodeBuilder &e, Value part) {
                      emitConverted(e, row, slot, part);
                    });
                  });
                });
    }
  });
}

struct IndexCopyOpLowering : BufferOpLowering<IndexCopyOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(IndexCopyOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Value slots = in[op.getSlots()];
    Values rows = in[op.getRows()];
    if (op.getScales())
      return lowerScaled(op, in, emit);
    RowMover mover(emit, in.cache(op.getCache()), rows, op.getSlots());
    Value count = emitRowCount(emit, rows, slots);
    Value capacity = mover.slotLimit(emit);
    emitWrite(emit, mover, count, [&](CodeBuilder &e, Value t) {
      Value slot = e.loadIndex(slots, t);
      return std::pair(mover.cursor.isLive(e, slot, capacity),
                       mover.offsetOf(e, slot));
    });
  }

private:
  static void lowerScaled(IndexCopyOp op, const LoweredOperands &in,
                          CodeBuilder &emit) {
    Value slots = in[op.getSlots()];
    Value count = emitRowCount(emit, in[op.getRows()], slots);
    CacheValue cache = in.cache(op.getCache());
    SlotCursor cursor(cache.type.getLayout(),
                      op.getSlots().getType().getRowsPerBlock());
    ScaledMover mover(emit, cache, in.cache(op.getScales()), in[op.getRows()],
                      cursor);
    Value capacity = cursor.slotLimit(emit, mover.blocks(emit));
    emitScaledWrite(emit, mover, count, [&](CodeBuilder &e, Value t) {
      Value slot = e.loadIndex(slots, t);
      return std::pair<Value, Values>(cursor.isLive(e, slot, capacity), {slot});
    });
  }
};

struct ScatterOpLowering : BufferOpLowering<ScatterOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(ScatterOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Value blockList = in[op.getBlocks()], offsets = in[op.getOffsets()];
    Values rows = in[op.getRows()];
    CacheValue cache = in.cache(op.getCache());
    Value count = emitRowCount(emit, rows, blockList);
    count = emit.minsi(count, emit.dim(offsets, 0));
    SlotCursor cursor(cache.type.getLayout());
    if (op.getScales()) {
      ScaledMover mover(emit, cache, in.cache(op.getScales()), rows, cursor);
      Value limits[] = {mover.blocks(emit), cache.extent(AxisKind::Token)};
      return emitScaledWrite(emit, mover, count, [&](CodeBuilder &e, Value t) {
        Values place = {e.loadIndex(blockList, t), e.loadIndex(offsets, t)};
        Value live = cursor.isLive(e, place, limits);
        return std::pair<Value, Values>(live, place);
      });
    }
    RowMover mover(emit, cache, rows, cursor);
    Value limits[] = {cache.extent(AxisKind::Block),
                      cache.extent(AxisKind::Token)};
    emitWrite(emit, mover, count, [&](CodeBuilder &e, Value t) {
      Value place[] = {e.loadIndex(blockList, t), e.loadIndex(offsets, t)};
      return std::pair(mover.cursor.isLive(e, place, limits),
                       mover.offsetOf(e, place));
    });
  }
};

struct GatherOpLowering : BufferOpLowering<GatherOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(GatherOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    CacheValue cache = in.cache(op.getCache());
    Values outs = in[op.getOuts()];
    if (op.getScales()) {
      SlotCursor cursor(cache.type.getLayout());
      ScaledMover mover(emit, cache, in.cache(op.getScales()), outs, cursor);
      return emitReads(op, in, emit, mover, mover.blocks(emit),
                       [&](CodeBuilder &e, Value slot, Value t) {
                         for (unsigned side = 0; side < outs.size(); ++side)
                           emitConverted(e, mover.inCache(e, side, slot),
                                         mover.row(e, side, t));
                       });
    }
    RowMover mover(emit, cache, outs, op.getSlots());
    emitReads(
        op, in, emit, mover, cache.extent(AxisKind::Block),
        [&](CodeBuilder &e, Value slot, Value t) { read(e, mover, slot, t); });
  }

private:
  /// Reads the slots that are there, in parallel.
  template <typename Mover>
  static void
  emitReads(GatherOp op, const LoweredOperands &in, CodeBuilder &emit,
            const Mover &mover, Value blocks,
            llvm::function_ref<void(CodeBuilder &, Value, Value)> read) {
    Value slots = in[op.getSlots()];
    Value count = emitRowCount(emit, in[op.getOuts()], slots);
    Value capacity = mover.cursor.slotLimit(emit, blocks);
    int64_t sides = mover.rows.size();
    int64_t rowElements = RowPlan(mover.cache.type).rowElements;
    Value tasks =
        emitTaskCount(emit, emit.muli(count, mover.rowBytes() * sides), count);
    Value perTask = emit.divui(emit.addi(emit.addi(count, tasks), -1), tasks);
    emit.parallelLoop(tasks, [&](CodeBuilder &e, Value task) {
      Value first = e.muli(task, perTask);
      e.forLoop(first, e.minsi(e.addi(first, perTask), count), 1,
                [&](CodeBuilder &e, Value t) {
                  Value slot = e.loadIndex(slots, t);
                  e.ifThen(
                      mover.cursor.isLive(e, slot, capacity),
                      [&](CodeBuilder &e) { read(e, slot, t); },
                      [&](CodeBuilder &e) {
                        if (!op.getZero())
                          return;
                        for (const Rows &out : mover.rows)
                          emitRunClear(e, out.at(e, t), rowElements);
                      });
                });
    });
  }

  static void read(CodeBuilder &emit, const RowMover &mover, Value slot,
                   Value t) {
    Value at = mover.offsetOf(emit, slot);
    for (auto [side, out] : llvm::enumerate(mover.rows)) {
      Place from = {mover.pool, mover.sideOffset(emit, at, side)};
      mover.forPieces(
          emit, mover.plan.axes, out.at(emit, t), from,
          [&](CodeBuilder &e, const Place &row, const Place &inCache) {
            emitRunCopy(e, inCache, row, mover.plan.run.elements);
          });
    }
  }
};

} // namespace

void cpu::populateRowOpsToLoops(TypeConverter &converter,
                                RewritePatternSet &patterns) {
  patterns.add<GatherOpLowering, IndexCopyOpLowering, ScatterOpLowering>(
      converter, patterns.getContext());
}
