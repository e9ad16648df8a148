// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The host side: what is known of both ends, and the launch. Rows are a cache
// of blocks of one token, so that all ends are addressed alike.
//
//===----------------------------------------------------------------------===//

#include "ScaledRows.h"

#include "../Common/CodeBuilder.h"
#include "RowShape.h"
#include "ScaledKernel.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Remarks.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::scaled;

namespace {

/// What an end says of accesses to the channels of a head.
struct EndFacts {
  int64_t proven, aligned; ///< elements, the second if all is aligned
  /// What is to be aligned then: an address in bytes and strides in elements.
  SmallVector<Value> addresses, strides;
  int64_t bytes;
};

class ScaledMove {
public:
  ScaledMove(CodeBuilder &emit, Operation *op, KernelOperands &operands)
      : emit(emit), op(op), operands(operands) {}

  void addRows(bool isFrom, ValueRange rows, int64_t heads, int64_t channels) {
    EndFacts known;
    known.proven = known.aligned = Layout::kWidestAccess;
    for (auto [number, row] : llvm::enumerate(rows)) {
      RowBuffer buffer(operands, row);
      auto metadata =
          memref::ExtractStridedMetadataOp::create(emit, emit.getLoc(), row);
      int64_t bytes = known.bytes = buffer.elementBytes;
      int64_t most = alignmentOf(channels, bytes, Layout::kWidestAccess);
      known.proven =
          std::min({known.proven, buffer.align / bytes, most / bytes});
      if (buffer.knownStride)
        most = alignmentOf(*buffer.knownStride, bytes, most);
      else
        known.strides.push_back(metadata.getStrides()[0]);
      known.aligned = std::min(known.aligned, most / bytes);
      known.addresses.push_back(
          addressOf(metadata.getBaseBuffer(), metadata.getOffset(), bytes));
      add(isFrom, number,
          {cast<MemRefType>(row.getType()).getElementType(),
           bytes,
           buffer.pointer,
           {{{AxisKind::Block}, kRunTime, buffer.stride},
            {{AxisKind::Head}, heads, {channels}},
            {{AxisKind::Channel}, channels, {1}}}});
    }
    facts.push_back(known);
  }

  void addCache(bool isFrom, const ScaledCache &cache) {
    const Layout &layout = cache.stored.type.getLayout();
    int64_t bytes = cache.stored.type.getElementBytes();
    Run run = RowPlan(cache.stored.type, {AxisKind::Channel}).run;
    EndFacts known;
    known.bytes = bytes;
    known.proven = layout.accessBytes(run, bytes) / bytes;
    known.aligned = layout.accessBytes(run, bytes, /*aligned=*/true) / bytes;
    known.addresses.push_back(
        addressOf(cache.stored.buffer, cache.stored.offset, bytes));
    for (unsigned i = 0; i < layout.rank(); ++i)
      if (!layout.stride(i))
        known.strides.push_back(cache.stored.strides[i]);
    facts.push_back(known);
    int64_t count = layout.extent(AxisKind::Side);
    for (auto [side, end] : llvm::enumerate(endsOf(cache.stored, count)))
      add(isFrom, side, end);
    if (cache.scales)
      for (auto [side, end] : llvm::enumerate(endsOf(*cache.scales, count)))
        (isFrom ? kernel.sides[side].fromScales : kernel.sides[side].toScales) =
            end;
  }

  void setSchedule(CopyScheduleAttr chosen) {
    if (!chosen)
      return;
    kernel.threads = chosen.getThreads();
    kernel.unitsInFlight = chosen.getRows();
    kernel.streaming = chosen.getStreaming();
  }

  /// `layers` is null of one.
  void build(StringRef name, Value count, Value layers, ItemOf itemOf) {
    int64_t proven = lanesOf(&EndFacts::proven);
    int64_t aligned = lanesOf(&EndFacts::aligned);
    Shape shape = shapeOf(proven), wide = shapeOf(aligned);
    Value work = emit.muli(count, shape.units);
    kernel.end = operands.addIndex(work);
    // A grid of no blocks is an error of the driver.
    Value any = emit.slt(emit.index(0), work);
    if (layers)
      any = emit.andi(any, emit.slt(emit.index(0), layers));
    emit.ifThen(any, [&](CodeBuilder &) {
      if (proven == aligned)
        return launch(shape, name, work, layers, itemOf);
      emit.ifThen(
          isAligned(aligned),
          [&](CodeBuilder &) { launch(wide, name, work, layers, itemOf); },
          [&](CodeBuilder &) {
            launch(shape, (name + "_any").str(), work, layers, itemOf);
          });
    });
    std::string text = llvm::formatv(
        "scales of {0} elements, on {1} threads with accesses of {2} bytes{3}",
        shape.heads * shape.channels, shape.threads, widthsOf(shape),
        proven == aligned
            ? ""
            : llvm::formatv(", or if all is aligned on {0} of {1}",
                            wide.threads, widthsOf(wide))
                  .str());
    std::string hyphened = name.str();
    llvm::replace(hyphened, '_', '-');
    auto options = remark::RemarkOpts::name(hyphened).category("kvcache");
    remark::analysis(emit.getLoc(), options) << text;
  }

private:
  void add(bool isFrom, size_t side, const End &end) {
    if (side >= kernel.sides.size())
      kernel.sides.resize(side + 1);
    (isFrom ? kernel.sides[side].from : kernel.sides[side].to) = end;
  }

  Value addressOf(Value buffer, Value offset, int64_t bytes) {
    Value base = memref::ExtractAlignedPointerAsIndexOp::create(emit, buffer);
    return emit.addMul(base, offset, bytes);
  }

  SmallVector<End> endsOf(const CacheValue &cache, int64_t count) {
    const Layout &layout = cache.type.getLayout();
    End end{cache.type.getElementType(), cache.type.getElementBytes(), 0, {}};
    for (unsigned i = 0; i < layout.rank(); ++i) {
      const LayoutDim &dim = layout.dim(i);
      if (dim.axis.kind != AxisKind::Side && dim.extent != 1)
        end.axes.push_back(
            {dim.axis, dim.extent,
             operands.addStride(layout.stride(i), cache.strides[i])});
    }
    bool isShared = layout.extent(AxisKind::Side) == 1;
    SmallVector<End> ends(count, end);
    for (int64_t side = 0; side < count; ++side)
      ends[side].pointer = operands.addPointer(
          cache.buffer, (isShared ? cache : cache.side(emit, side)).offset);
    return ends;
  }

  /// An access is of one head, of one scale, and of one run.
  int64_t lanesOf(int64_t EndFacts::*known) {
    int64_t lanes = Layout::kWidestAccess;
    const Side &side = kernel.sides.front();
    for (const EndFacts &end : facts)
      lanes = std::min(lanes, end.*known);
    for (const auto *scales : {&side.fromScales, &side.toScales})
      if (*scales)
        lanes = powerOfTwoDivisor(kernel.groupOf(**scales), lanes);
    return lanes;
  }

  /// What is only read is cut at heads, also if they share a scale.
  Shape shapeOf(int64_t lanes) {
    const Side &side = kernel.sides.front();
    const End &scales = side.toScales ? *side.toScales : *side.fromScales;
    bool isShared = side.toScales && scales.extent(AxisKind::Head) == 1;
    return {kernel.heads(), kernel.channels(), isShared ? kernel.heads() : 1,
            kernel.groupOf(scales), lanes};
  }

  std::string widthsOf(const Shape &shape) {
    const Side &side = kernel.sides.front();
    return llvm::formatv("{0} and {1}", shape.lanes * side.from.bytes,
                         shape.lanes * side.to.bytes);
  }

  /// Whether all addresses of both ends are multiples of an access.
  Value isAligned(int64_t lanes) {
    Value rest = emit.index(0);
    for (const EndFacts &end : facts) {
      Value bits = emit.index(0);
      for (Value address : end.addresses)
        bits = emit.ori(bits, address);
      for (Value stride : end.strides)
        bits = emit.ori(bits, emit.muli(stride, end.bytes));
      rest = emit.ori(rest, emit.andi(bits, emit.index(lanes * end.bytes - 1)));
    }
    return emit.eq(rest, emit.index(0));
  }

  void launch(const Shape &shape, StringRef name, Value work, Value layers,
              ItemOf itemOf) {
    KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.getLoc(), name,
                    operands.types(), kernel.threads);
    emitUnits(k, kernel, shape, itemOf);
    k.finish();
    emitLaunch(emit, emit.getLoc(), k.symbol(),
               emit.ceildivui(work, kernel.unitsPerBlock(shape)), emit.index(1),
               layers, kernel.threads, operands);
  }

  CodeBuilder &emit;
  Operation *op;
  KernelOperands &operands;
  SmallVector<EndFacts> facts;
  KernelFacts kernel;
};

} // namespace

Value ScaledCache::extent(CodeBuilder &emit, AxisKind kind) const {
  Value own = stored.extent(kind);
  return scales && scales->type.getLayout().extent(kind) != 1
             ? Value(emit.minsi(own, scales->extent(kind)))
             : own;
}

void ScaledRows::emit(CodeBuilder &emit, StringRef name, Value count,
                      CopyScheduleAttr schedule) const {
  const Layout &layout = cache.stored.type.getLayout();
  bool isFrom = direction == RowsMove::IntoCache;
  KernelOperands operands(emit, emit.getLoc());
  ScaledMove move(emit, op, operands);
  move.setSchedule(schedule);
  move.addRows(isFrom, rows, layout.extent(AxisKind::Head),
               layout.extent(AxisKind::Channel));
  move.addCache(!isFrom, cache);
  Value blocks = cache.extent(emit, AxisKind::Block);
  bool bySlot = lists.size() == 1;
  SmallVector<unsigned> pointers, ends;
  for (Value list : lists)
    pointers.push_back(operands.addBuffer(list));
  ends.push_back(
      operands.addIndex(bySlot ? cursor.slotLimit(emit, blocks) : blocks));
  if (!bySlot)
    ends.push_back(
        operands.addIndex(emit.index(layout.extent(AxisKind::Token))));
  move.build(
      name, count, /*layers=*/Value(), [&](KernelBuilder &k, Value token) {
        Values numbers, limits;
        for (auto [list, pointer] : llvm::zip_equal(lists, pointers))
          numbers.push_back(
              k.loadEntry(k.parameter(pointer), token,
                          cast<MemRefType>(list.getType()).getElementType()));
        for (unsigned end : ends)
          limits.push_back(k.parameter(end));
        Place row{Value(), token, Value()}, place;
        place.block =
            bySlot ? k.divui(numbers[0], rowsPerBlock) : k.val(numbers[0]);
        place.token =
            bySlot ? k.remui(numbers[0], rowsPerBlock) : k.val(numbers[1]);
        Value isLive = cursor.isLive(k, numbers, limits);
        if (isFrom)
          return Item{row, place, Value(), isLive};
        bool writesAll = direction == RowsMove::OutOfCacheOrZero;
        return Item{place, row, isLive, writesAll ? Value() : isLive};
      });
}

void kvcache::emitScaledRelayout(CodeBuilder &emit, Operation *op,
                                 const ScaledCache &from,
                                 const ScaledCache &to) {
  const Layout &layout = from.stored.type.getLayout();
  auto both = [&](AxisKind kind) {
    return emit.minsi(from.extent(emit, kind), to.extent(emit, kind));
  };
  int64_t tokens = layout.extent(AxisKind::Token);
  Value layers = layout.has(AxisKind::Layer) ? both(AxisKind::Layer) : Val();
  KernelOperands operands(emit, emit.getLoc());
  ScaledMove move(emit, op, operands);
  move.addCache(/*isFrom=*/true, from);
  move.addCache(/*isFrom=*/false, to);
  move.build("relayout", emit.muli(both(AxisKind::Block), tokens), layers,
             [&](KernelBuilder &k, Value number) {
               Place place;
               place.layer = layers ? k.extui64(k.blockZ()) : Val();
               place.block = k.divui(number, tokens);
               place.token = k.remui(number, tokens);
               return Item{place, place, Value(), Value()};
             });
}
