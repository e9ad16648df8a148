// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// index_copy, scatter and gather: rows go to their slots or come from them, all
// sides in one launch.
//
// A row is cut into accesses of the widest width that the facts prove. A block
// of threads covers whole rows, or part of one long row; a thread moves up to
// 16 bytes of each side. The kernel is straight: what does not depend on the
// slots is loaded beside them, and what does is done under a predicate.
//
// docs/kernels/index_copy.md has the measurements behind the schedules.
//
//===----------------------------------------------------------------------===//

#include "../Common/CacheLowering.h"
#include "../Common/CodeBuilder.h"
#include "../Common/SlotCursor.h"
#include "Codecs.h"
#include "Patterns.h"
#include "RowShape.h"
#include "UnitMoves.h"

#include "kvcache/Layout/Numbers.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Remarks.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace kvcache;

namespace {

/// How the work is spread over threads: `#kvcache.copy_schedule`.
struct CopySchedule {
  int64_t threads;
  /// Rows of each side that a thread has in flight.
  int64_t rowsInFlight;
  bool streaming;
};

/// The best from 1 to 32768 tokens on an H200, or within 5% of it.
constexpr CopySchedule kDefaultSchedule = {128, 1, false};

/// What is known of an op before a kernel is built, or what is if numbers of
/// run time are `aligned`.
struct RowFacts {
  RowFacts(CacheType type, ValueRange rows, SlotCursor cursor, bool aligned)
      : type(type), layout(type.getLayout()), cursor(cursor), plan(type),
        elementBytes(type.getElementBytes()) {
    int64_t lanes =
        layout.accessBytes(plan.run, elementBytes, aligned) / elementBytes;
    for (Value row : rows) {
      KnownRows known(row);
      int64_t bytes = known.elementBytes, widest = known.align;
      if (aligned)
        widest = alignmentOf(
            known.knownStride.value_or(0), bytes,
            alignmentOf(plan.rowElements, bytes, Layout::kWidestAccess));
      lanes = std::min(lanes, widest / bytes);
      rowStrides.push_back(known.knownStride);
      rowElementBytes = bytes;
      rowType = cast<MemRefType>(row.getType()).getElementType();
    }
    width = lanes * elementBytes;
    rowWidth = lanes * rowElementBytes;
    accesses = plan.rowElements / lanes;
  }

  int64_t lanes() const { return width / elementBytes; }

  CacheType type;
  const Layout &layout;
  SlotCursor cursor;
  RowPlan plan;
  Type rowType;
  int64_t elementBytes, rowElementBytes;
  int64_t width, rowWidth; ///< bytes of one access, of the cache and of rows
  int64_t accesses;        ///< of one row
  SmallVector<std::optional<int64_t>> rowStrides; ///< in elements
};

/// Where the cache has the row of a token: a slot, or a block and an offset.
struct Places {
  SmallVector<unsigned> lists;  ///< pointers to the numbers
  SmallVector<unsigned> limits; ///< each number is below its own
  SmallVector<Type> types;
};

struct RowParameters {
  SmallVector<unsigned> rows, sides; ///< pointers
  Places places;
  unsigned count;
  SmallVector<StrideSource> rowStrides; ///< per side
  SmallVector<StrideSource> strides;    ///< per listed axis
};

enum class Direction { IntoCache, OutOfCache, OutOfCacheOrZero };

class RowKernel {
public:
  RowKernel(const RowFacts &facts, const RowParameters &parameters,
            const CopySchedule &schedule, Direction direction, StringRef name,
            ModuleOp module, Location loc, ArrayRef<Type> types)
      : facts(facts), parameters(parameters), schedule(schedule),
        direction(direction), shape(shapeOf(facts, schedule)),
        k(module, loc, name, types, shape.threads) {}

  static RowShape shapeOf(const RowFacts &facts, const CopySchedule &schedule) {
    return {facts.accesses, std::max(facts.width, facts.rowWidth),
            schedule.threads};
  }

  SymbolRefAttr build() {
    RowThread thread(k, shape);
    for (const RowThread::Access &access : thread.accesses)
      accesses.push_back(
          {inRow(access), slotPart(access.number), access.isThere});
    int64_t rows = schedule.rowsInFlight;
    Value first =
        k.addi(k.muli(k.extui64(k.blockX()), k.i64(shape.rows * rows)),
               k.extui64(thread.rowInBlock));
    Value count = k.parameter(parameters.count);
    Value last = k.addi(count, k.i64(-1));
    SmallVector<Value> inRange, tokens;
    for (int64_t r = 0; r < rows; ++r) {
      Value token = k.addi(first, k.i64(r * shape.rows));
      // The grid is no larger than needed: a block's first row is there.
      bool isThere = r == 0 && shape.rows == 1;
      inRange.push_back(isThere ? Value() : k.ult(token, count));
      tokens.push_back(isThere ? token : k.select(inRange.back(), token, last));
    }
    if (direction == Direction::IntoCache)
      write(tokens, inRange);
    else
      read(tokens, inRange);
    k.finish();
    return k.symbol();
  }

private:
  /// An access of a row: where it lies from the start of the row and of the
  /// slot in bytes, and whether it is there; null if it always is.
  struct Access {
    Value inRow, inSlot, isThere;
  };

  void write(ArrayRef<Value> tokens, ArrayRef<Value> inRange) {
    SmallVector<SmallVector<Value>> places;
    SmallVector<Value> loaded;
    for (Value token : tokens) {
      places.push_back(loadPlace(token));
      for (auto [side, row] : llvm::enumerate(parameters.rows)) {
        Value start = k.muli(token, rowStride(side));
        for (const Access &access : accesses)
          loaded.push_back(k.load(
              k.byteOffset(k.parameter(row), k.addi(start, access.inRow)),
              facts.rowWidth, schedule.streaming));
      }
    }
    const Value *next = loaded.begin();
    for (auto [place, there] : llvm::zip(places, inRange)) {
      Value live = k.andiIfAny(isInCache(place), there);
      Value start = placeOffset(place);
      for (unsigned side : parameters.sides)
        for (const Access &access : accesses)
          k.storeIf(
              k.andiIfAny(live, access.isThere),
              gpu::convert(k, *next++, facts.lanes(), facts.rowType,
                           facts.type.getElementType()),
              k.byteOffset(k.parameter(side), k.addi(start, access.inSlot)),
              facts.width, schedule.streaming);
    }
  }

  void read(ArrayRef<Value> tokens, ArrayRef<Value> inRange) {
    SmallVector<Value> loaded, live;
    for (Value token : tokens) {
      SmallVector<Value> place = loadPlace(token);
      live.push_back(isInCache(place));
      Value start = placeOffset(place);
      for (unsigned side : parameters.sides)
        for (const Access &access : accesses)
          loaded.push_back(k.loadIf(
              live.back(),
              k.byteOffset(k.parameter(side), k.addi(start, access.inSlot)),
              facts.width));
    }
    const Value *next = loaded.begin();
    for (auto [r, token] : llvm::enumerate(tokens)) {
      Value wanted = inRange[r];
      if (direction == Direction::OutOfCache)
        wanted = k.andiIfAny(live[r], wanted);
      for (auto [side, row] : llvm::enumerate(parameters.rows)) {
        Value start = k.muli(token, rowStride(side));
        for (const Access &access : accesses) {
          Value condition = k.andiIfAny(wanted, access.isThere);
          k.storeIf(condition ? condition : k.i1(true),
                    gpu::convert(k, *next++, facts.lanes(),
                                 facts.type.getElementType(), facts.rowType),
                    k.byteOffset(k.parameter(row), k.addi(start, access.inRow)),
                    facts.rowWidth, schedule.streaming);
        }
      }
    }
  }

  Value rowStride(size_t side) {
    return k.stride(parameters.rowStrides[side], facts.rowElementBytes);
  }
  /// Where an access of a row lies from its start, in bytes.
  Value inRow(const RowThread::Access &access) {
    if (shape.width == facts.rowWidth)
      return access.inRow;
    return k.extui64(k.muli(access.number, k.i32(facts.rowWidth)));
  }
  Value stride(unsigned axis) {
    return k.stride(parameters.strides[axis], facts.elementBytes);
  }
  Value stride(AxisKind kind) { return stride(*facts.layout.find(kind)); }

  SmallVector<Value> loadPlace(Value token) {
    SmallVector<Value> numbers;
    for (auto [list, type] :
         llvm::zip(parameters.places.lists, parameters.places.types))
      numbers.push_back(k.loadEntry(k.parameter(list), token, type));
    return numbers;
  }

  Value isInCache(ArrayRef<Value> place) {
    SmallVector<Value> limits;
    for (unsigned limit : parameters.places.limits)
      limits.push_back(k.parameter(limit));
    return facts.cursor.isLive(k, place, limits);
  }

  /// Where access number `access` of a row lies, in bytes from the start of
  /// its slot.
  Value slotPart(Value access) {
    int64_t perRun = facts.plan.run.elements * facts.elementBytes / facts.width;
    if (facts.plan.axes.empty())
      return k.extui64(k.muli(access, k.i32(facts.width)));
    Value piece = k.divui(access, perRun);
    Value inRun = k.muli(k.remui(access, perRun), k.i32(facts.width));
    Value offset = k.extui64(inRun);
    for (const RowPlan::PieceAxis &axis : llvm::reverse(facts.plan.axes)) {
      bool slowest = &axis == facts.plan.axes.begin();
      Value index = slowest ? piece : k.remui(piece, axis.extent);
      if (!slowest)
        piece = k.divui(piece, axis.extent);
      offset = k.addi(offset, k.muli(k.extui64(index), stride(axis.index)));
    }
    return offset;
  }

  /// Where the row of a place begins, in bytes.
  Value placeOffset(ArrayRef<Value> place) {
    Value tokenStride = stride(AxisKind::Token);
    return facts.cursor.offset(k, place, stride(AxisKind::Block), tokenStride);
  }

  const RowFacts &facts;
  const RowParameters &parameters;
  const CopySchedule &schedule;
  Direction direction;
  RowShape shape;
  KernelBuilder k;
  SmallVector<Access> accesses;
};

/// What the three lowerings share: the host side.
class RowLaunch {
public:
  RowLaunch(CodeBuilder &builder, Operation *op, const CacheValue &cache,
            ValueRange rows, SlotCursor cursor)
      : builder(builder), op(op), loc(op->getLoc()), rows(rows),
        facts(cache.type, rows, cursor, false),
        wide(cache.type, rows, cursor, true), operands(builder, loc),
        cache(cache) {
    for (auto [side, row] : llvm::enumerate(rows)) {
      auto metadata =
          memref::ExtractStridedMetadataOp::create(builder, loc, row);
      parameters.rows.push_back(operands.addPointer(row, metadata.getOffset()));
      parameters.rowStrides.push_back(
          operands.addStride(facts.rowStrides[side], metadata.getStrides()[0]));
    }
    for (int64_t side = 0, e = rows.size(); side < e; ++side) {
      parameters.sides.push_back(
          operands.addPointer(cache.buffer, cache.side(builder, side).offset));
    }
  }

  void addPlace(Value list, Value limit) {
    Value zero = indexConstant(builder, loc, 0);
    Places &places = parameters.places;
    places.lists.push_back(operands.addPointer(list, zero));
    places.limits.push_back(operands.addIndex(limit));
    places.types.push_back(cast<MemRefType>(list.getType()).getElementType());
  }

  void addSlots(Value list) {
    addPlace(list,
             facts.cursor.slotLimit(builder, cache.extent(AxisKind::Block)));
  }

  void emit(StringRef name, Direction direction, Value count,
            CopyScheduleAttr chosen) {
    for (unsigned i = 0; i < facts.layout.rank(); ++i) {
      AxisKind kind = facts.layout.dim(i).axis.kind;
      bool used = kind != AxisKind::Side && kind != AxisKind::Layer;
      parameters.strides.push_back(
          used ? operands.addStride(facts.layout.stride(i), cache.strides[i])
               : StrideSource{0});
    }
    parameters.count = operands.addIndex(count);
    CopySchedule schedule = kDefaultSchedule;
    if (chosen)
      schedule = {chosen.getThreads(), chosen.getRows(), chosen.getStreaming()};
    // A grid of no blocks is an error of the driver.
    Value any = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sgt,
                                      count, indexConstant(builder, loc, 0));
    auto branch = scf::IfOp::create(builder, loc, any);
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(branch.thenBlock());
    if (wide.width == facts.width)
      return launch(facts, name, direction, count, schedule);
    auto choice = scf::IfOp::create(builder, loc, isAligned(),
                                    /*withElseRegion=*/true);
    builder.setInsertionPointToStart(choice.thenBlock());
    launch(wide, name, direction, count, schedule);
    builder.setInsertionPointToStart(choice.elseBlock());
    launch(facts, (name + "_any").str(), direction, count, schedule);
  }

  void remark(StringRef name) {
    bool byNumber = parameters.places.lists.size() == 1;
    std::string text = llvm::formatv(
        "rows of {0} bytes in runs of {1}, accesses of {2} "
        "bytes{4}, {3} addressing",
        facts.plan.rowElements * facts.elementBytes,
        facts.plan.run.elements * facts.elementBytes, facts.width,
        facts.cursor.isScaled()              ? "scaled"
        : byNumber && facts.cursor.isWhole() ? "flat"
                                             : "block and offset",
        wide.width == facts.width
            ? ""
            : " or if all is aligned of " + std::to_string(wide.width));
    auto options = remark::RemarkOpts::name(name).category("kvcache");
    remark::analysis(loc, options) << text;
  }

private:
  void launch(const RowFacts &facts, StringRef name, Direction direction,
              Value count, const CopySchedule &schedule) {
    SymbolRefAttr kernel =
        RowKernel(facts, parameters, schedule, direction, name,
                  op->getParentOfType<ModuleOp>(), loc, operands.types())
            .build();
    RowShape shape = RowKernel::shapeOf(facts, schedule);
    Value perBlock =
        indexConstant(builder, loc, shape.rows * schedule.rowsInFlight);
    Value gridX = arith::CeilDivUIOp::create(builder, loc, count, perBlock);
    Value gridY = indexConstant(builder, loc, shape.parts);
    emitLaunch(builder, loc, kernel, gridX, gridY, /*gridZ=*/Value(),
               shape.threads, operands);
  }

  /// Whether all addresses are multiples of the wide access: one test of the
  /// bits of all bases and strides. Where elements are converted, rows and
  /// cache have accesses of two widths.
  Value isAligned() {
    CodeBuilder emit(builder, loc);
    Value bits = emit.index(0);
    auto add = [&](Value number, int64_t bytes) {
      bits = emit.fold<arith::OrIOp>(bits, emit.muli(number, bytes));
    };
    auto addMemRef = [&](Value buffer, Value offset, int64_t bytes) {
      Value address =
          memref::ExtractAlignedPointerAsIndexOp::create(builder, loc, buffer);
      add(emit.addMul(address, offset, bytes), 1);
    };
    auto rest = [&](int64_t width) {
      return emit.fold<arith::AndIOp>(bits, emit.index(width - 1));
    };
    for (Value row : rows) {
      auto metadata =
          memref::ExtractStridedMetadataOp::create(builder, loc, row);
      addMemRef(metadata.getBaseBuffer(), metadata.getOffset(),
                facts.rowElementBytes);
      add(metadata.getStrides()[0], facts.rowElementBytes);
    }
    Value ofRows;
    if (wide.rowWidth != wide.width) {
      ofRows = rest(wide.rowWidth);
      bits = emit.index(0);
    }
    addMemRef(cache.buffer, cache.offset, facts.elementBytes);
    bits = alignmentBits(emit, bits, cache.strides, facts.elementBytes,
                         [&](unsigned i) { return !facts.layout.stride(i); });
    Value all = rest(wide.width);
    if (ofRows)
      all = emit.fold<arith::OrIOp>(all, ofRows);
    return emit.eq(all, emit.index(0));
  }

public:
  CodeBuilder &builder;
  Operation *op;
  Location loc;
  Values rows;
  RowFacts facts, wide;
  KernelOperands operands;
  CacheValue cache;
  RowParameters parameters;
};

SlotCursor slotCursor(const CacheValue &cache, TypedValue<SlotsType> slots) {
  return {cache.type.getLayout(), slots.getType().getRowsPerBlock()};
}

struct IndexCopyOpLowering : BufferOpLowering<IndexCopyOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(IndexCopyOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Values rows = in[op.getRows()];
    Value slots = in[op.getSlots()];
    CacheValue cache = in.cache(op.getCache());
    SlotCursor cursor = slotCursor(cache, op.getSlots());
    if (op.getScales()) {
      UnitLaunch units(emit, op);
      CacheRows({cache, in.cache(op.getScales())}, rows, cursor)
          .bySlots(slots, op.getSlots().getType())
          .addTo(units, emit, emitRowCount(emit, rows, slots),
                 op.getScheduleAttr());
      return units.launch("index_copy");
    }
    RowLaunch launch(emit, op, cache, rows, cursor);
    launch.addSlots(slots);
    launch.emit("index_copy", Direction::IntoCache,
                emitRowCount(emit, rows, slots), op.getScheduleAttr());
    launch.remark("index-copy");
  }
};

struct ScatterOpLowering : BufferOpLowering<ScatterOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(ScatterOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Values rows = in[op.getRows()];
    Value blocks = in[op.getBlocks()], offsets = in[op.getOffsets()];
    CacheValue cache = in.cache(op.getCache());
    SlotCursor cursor(cache.type.getLayout());
    // Offsets are as many as blocks, or fewer.
    Values counted = rows;
    counted.push_back(offsets);
    if (op.getScales()) {
      UnitLaunch units(emit, op);
      CacheRows({cache, in.cache(op.getScales())}, rows, cursor)
          .byBlocks(blocks, offsets)
          .addTo(units, emit, emitRowCount(emit, counted, blocks),
                 op.getScheduleAttr());
      return units.launch("scatter");
    }
    RowLaunch launch(emit, op, cache, rows, cursor);
    launch.addPlace(blocks, launch.cache.extent(AxisKind::Block));
    launch.addPlace(offsets, launch.cache.extent(AxisKind::Token));
    launch.emit("scatter", Direction::IntoCache,
                emitRowCount(emit, counted, blocks), op.getScheduleAttr());
    launch.remark("scatter");
  }
};

struct GatherOpLowering : BufferOpLowering<GatherOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(GatherOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Values outs = in[op.getOuts()];
    Value slots = in[op.getSlots()];
    CacheValue cache = in.cache(op.getCache());
    SlotCursor cursor = slotCursor(cache, op.getSlots());
    if (op.getScales()) {
      UnitLaunch units(emit, op);
      CacheRows({cache, in.cache(op.getScales())}, outs, cursor,
                op.getZero() ? RowsMove::OutOfCacheOrZero
                             : RowsMove::OutOfCache)
          .bySlots(slots, op.getSlots().getType())
          .addTo(units, emit, emitRowCount(emit, outs, slots),
                 op.getScheduleAttr());
      return units.launch("gather");
    }
    RowLaunch launch(emit, op, cache, outs, cursor);
    launch.addSlots(slots);
    Value count = emitRowCount(emit, outs, slots);
    launch.emit("gather",
                op.getZero() ? Direction::OutOfCacheOrZero
                             : Direction::OutOfCache,
                count, op.getScheduleAttr());
    launch.remark("gather");
  }
};

} // namespace

void kvcache::populateRowOpsToGPU(TypeConverter &converter,
                                  RewritePatternSet &patterns) {
  patterns.add<GatherOpLowering, IndexCopyOpLowering, ScatterOpLowering>(
      converter, patterns.getContext());
}
