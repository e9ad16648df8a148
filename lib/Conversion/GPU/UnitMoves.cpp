// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The host side: what is known of both ends, and the launch. Rows are a cache
// of blocks of one token, so that all ends are addressed alike.
//
//===----------------------------------------------------------------------===//

#include "UnitMoves.h"

#include "../Common/CodeBuilder.h"
#include "RowShape.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Remarks.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::units;

/// From so many bytes of rows on, that are computed, streaming accesses are
/// faster; less is slower with them (docs/kernels/moves-gpu.md).
static constexpr int64_t kLargeBytes = 4 << 20;

Value ScaledCache::extent(CodeBuilder &emit, AxisKind kind) const {
  Value own = stored.extent(kind);
  return scales && scales->type.getLayout().extent(kind) != 1
             ? Value(emit.minsi(own, scales->extent(kind)))
             : own;
}

//===----------------------------------------------------------------------===//
// UnitMove
//===----------------------------------------------------------------------===//

void UnitMove::add(bool isFrom, size_t side, const End &end) {
  if (side >= kernel.sides.size())
    kernel.sides.resize(side + 1);
  (isFrom ? kernel.sides[side].from : kernel.sides[side].to) = end;
}

Value UnitMove::addressOf(Value buffer, Value offset, int64_t bytes) {
  Value base = memref::ExtractAlignedPointerAsIndexOp::create(emit, buffer);
  return emit.addMul(base, offset, bytes);
}

void UnitMove::addRows(bool isFrom, ValueRange rows, int64_t heads,
                       int64_t channels) {
  // Chains of steps may begin with rows of different formats.
  for (auto [number, row] : llvm::enumerate(rows)) {
    RowBuffer buffer(operands, row);
    auto metadata =
        memref::ExtractStridedMetadataOp::create(emit, emit.getLoc(), row);
    EndFacts known;
    int64_t bytes = known.bytes = buffer.elementBytes;
    int64_t most = alignmentOf(channels, bytes, Layout::kWidestAccess);
    known.proven = std::min(buffer.align / bytes, most / bytes);
    if (buffer.knownStride)
      most = alignmentOf(*buffer.knownStride, bytes, most);
    else
      known.strides.push_back(metadata.getStrides()[0]);
    known.aligned = most / bytes;
    known.addresses.push_back(
        addressOf(metadata.getBaseBuffer(), metadata.getOffset(), bytes));
    facts.push_back(known);
    add(isFrom, number,
        {cast<MemRefType>(row.getType()).getElementType(),
         bytes,
         buffer.pointer,
         {{{AxisKind::Block}, kRunTime, buffer.stride},
          {{AxisKind::Head}, heads, {channels}},
          {{AxisKind::Channel}, channels, {1}}}});
  }
}

SmallVector<End> UnitMove::endsOf(const CacheValue &cache, int64_t count) {
  const Layout &layout = cache.type.getLayout();
  End end{cache.type.getElementType(), cache.type.getElementBytes(), 0, {}};
  for (unsigned i = 0; i < layout.rank(); ++i) {
    const LayoutDim &dim = layout.dim(i);
    if (dim.axis.kind != AxisKind::Side && dim.extent != 1)
      end.axes.push_back(
          {dim.axis, dim.extent,
           operands.addStride(layout.stride(i), cache.strides[i])});
  }
  SmallVector<End> ends(count, end);
  for (int64_t side = 0; side < count; ++side)
    ends[side].pointer =
        operands.addPointer(cache.buffer, cache.side(emit, side).offset);
  return ends;
}

void UnitMove::addCache(bool isFrom, const ScaledCache &cache) {
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
  if (!cache.scales)
    return;
  for (auto [number, end] : llvm::enumerate(endsOf(*cache.scales, count))) {
    Side &side = kernel.sides[number];
    (isFrom ? side.fromScales : side.toScales) = end;
    if (!isFrom)
      side.isGiven = cache.scales->type.areGiven();
  }
}

/// `within` elements of a row are where accesses begin. An access is at most as
/// wide as one of an end, so that no other width has to be aligned.
Factors UnitMove::addFactors(Value memref, int64_t within) {
  auto type = cast<MemRefType>(memref.getType());
  auto metadata =
      memref::ExtractStridedMetadataOp::create(emit, emit.getLoc(), memref);
  int64_t bytes = type.getElementType().getIntOrFloatBitWidth() / 8;
  EndFacts known;
  known.bytes = bytes;
  known.addresses.push_back(
      addressOf(metadata.getBaseBuffer(), metadata.getOffset(), bytes));
  int64_t most = alignmentOf(within, bytes, Layout::kWidestAccess);
  int64_t align = knownRowAlignment(memref), wide = most;
  if (type.getRank() > 1) {
    KnownRows rows(memref);
    align = rows.align;
    if (rows.knownStride)
      wide = alignmentOf(*rows.knownStride, bytes, wide);
    else
      known.strides.push_back(metadata.getStrides()[0]);
  }
  align = std::min(align, wide);
  known.proven = align / bytes;
  known.aligned = wide / bytes;
  factorFacts.push_back(known);
  return {type.getElementType(), bytes, operands.addBuffer(memref), align,
          wide};
}

void UnitMove::addNormalize(unsigned side, NormalizeOp op, Value weight,
                            Type rounded) {
  NormalizeStep step{op.getEpsilon().convertToFloat(), op.getPlusOne(), {}};
  if (weight)
    step.weight = addFactors(weight, kernel.channels());
  kernel.sides[side].steps.push_back({step, rounded});
}

void UnitMove::addRotate(unsigned side, RotateOp op, Value table,
                         Value positions, Type rounded) {
  RotateStep step;
  step.turned = op.getNumRotated();
  step.interleaved = op.getInterleaved();
  step.table = addFactors(table, step.turned / 2);
  step.stride = operands.addStrideOf(table, 0);
  step.rows = operands.addExtent(table, 0);
  if (positions) {
    step.positions = operands.addBuffer(positions);
    step.positionType = cast<MemRefType>(positions.getType()).getElementType();
  }
  kernel.sides[side].steps.push_back({step, rounded});
}

void UnitMove::setSchedule(CopyScheduleAttr schedule) {
  if (!schedule)
    return;
  kernel.threads = schedule.getThreads();
  kernel.unitsInFlight = schedule.getRows();
  kernel.streaming = schedule.getStreaming();
  isScheduled = true;
}

void UnitMove::setItems(Value items, ItemOf of) {
  count = items;
  itemOf = std::move(of);
}

bool UnitMove::hasSteps() const {
  return llvm::any_of(kernel.sides,
                      [](const Side &side) { return !side.steps.empty(); });
}

int64_t UnitMove::rowBytes() const {
  return kernel.sides.size() * kernel.heads() * kernel.channels() *
         kernel.sides.front().from.bytes;
}

static const RotateStep *findRotation(const KernelFacts &kernel) {
  for (const Side &side : kernel.sides)
    for (const Step &step : side.steps)
      if (const auto *rotate = std::get_if<RotateStep>(&step.what))
        return rotate;
  return nullptr;
}

/// An access is of one head, of one scale, of one run, and of channels that are
/// all turned or all not.
int64_t UnitMove::lanesOf(int64_t EndFacts::*known) const {
  int64_t lanes = Layout::kWidestAccess;
  const Side &side = kernel.sides.front();
  for (const EndFacts &end : facts)
    lanes = std::min(lanes, end.*known);
  for (const auto *scales : {&side.fromScales, &side.toScales})
    if (*scales)
      lanes = powerOfTwoDivisor(kernel.groupOf(**scales), lanes);
  if (const RotateStep *rotate = findRotation(kernel))
    lanes = powerOfTwoDivisor(
        rotate->interleaved ? rotate->turned : rotate->turned / 2, lanes);
  return lanes;
}

std::optional<Pairing> UnitMove::pairingOf(int64_t lanes) const {
  const RotateStep *rotate = findRotation(kernel);
  if (!rotate || (rotate->interleaved && lanes > 1))
    return std::nullopt;
  return Pairing{rotate->interleaved ? 0 : rotate->turned / 2};
}

/// Where no scale is computed, units are cut at heads, also if they share one.
Shape UnitMove::shapeOf(bool isWide) const {
  const Side &side = kernel.sides.front();
  const std::optional<End> &scales =
      side.toScales ? side.toScales : side.fromScales;
  bool isShared =
      side.toScales && !side.isGiven && scales->extent(AxisKind::Head) == 1;
  int64_t lanes = lanesOf(isWide ? &EndFacts::aligned : &EndFacts::proven);
  return {kernel.heads(),
          kernel.channels(),
          isShared ? kernel.heads() : 1,
          scales ? kernel.groupOf(*scales) : kernel.channels(),
          lanes,
          isWide,
          pairingOf(lanes)};
}

bool UnitMove::hasWider() const {
  auto isWider = [](const EndFacts &end) { return end.proven < end.aligned; };
  return lanesOf(&EndFacts::proven) != lanesOf(&EndFacts::aligned) ||
         llvm::any_of(factorFacts, isWider);
}

Value UnitMove::isAligned() const {
  Value rest = emit.index(0);
  auto add = [&](const EndFacts &end, int64_t bytes) {
    Value bits = emit.index(0);
    for (Value address : end.addresses)
      bits = emit.ori(bits, address);
    for (Value stride : end.strides)
      bits = emit.ori(bits, emit.muli(stride, end.bytes));
    rest = emit.ori(rest, emit.andi(bits, emit.index(bytes - 1)));
  };
  int64_t lanes = lanesOf(&EndFacts::aligned);
  for (const EndFacts &end : facts)
    add(end, lanes * end.bytes);
  for (const EndFacts &end : factorFacts)
    add(end, end.aligned * end.bytes);
  return emit.eq(rest, emit.index(0));
}

std::string UnitMove::describe() const {
  auto widthsOf = [&](const Shape &shape) {
    const Side &side = kernel.sides.front();
    return llvm::formatv("{0} and {1}", shape.lanes * side.from.bytes,
                         shape.lanes * side.to.bytes)
        .str();
  };
  Shape shape = shapeOf(false), wide = shapeOf(true);
  const Side &side = kernel.sides.front();
  bool hasScales = side.fromScales || side.toScales;
  std::string text = llvm::formatv(
      "{0} of {1} elements, on {2} threads with accesses of {3} bytes",
      hasScales ? "scales" : "heads", shape.heads * shape.channels,
      shape.threads, widthsOf(shape));
  if (shape.lanes != wide.lanes)
    text += llvm::formatv(", or if all is aligned on {0} of {1}", wide.threads,
                          widthsOf(wide));
  return text;
}

//===----------------------------------------------------------------------===//
// UnitLaunch
//===----------------------------------------------------------------------===//

UnitMove &UnitLaunch::add() {
  moves.push_back(std::make_unique<UnitMove>(emit, operands));
  return *moves.back();
}

void UnitLaunch::launch(StringRef name, Value layers) {
  // A grid of no blocks is an error of the driver.
  Value any, aligned;
  std::vector<std::string> texts;
  for (const std::unique_ptr<UnitMove> &move : moves) {
    move->work = emit.muli(move->count, move->shapeOf(false).units);
    move->kernel.end = operands.addIndex(move->work);
    Value isWork = emit.slt(emit.index(0), move->work);
    any = any ? emit.ori(any, isWork) : isWork;
    if (move->hasWider())
      aligned = emit.andiIfAny(aligned, move->isAligned());
    texts.push_back(move->describe());
  }
  if (layers)
    any = emit.andi(any, emit.slt(emit.index(0), layers));
  emit.ifThen(any, [&](CodeBuilder &) {
    if (!aligned)
      return launchBySize(name, /*isWide=*/false, layers);
    emit.ifThen(
        aligned,
        [&](CodeBuilder &) { launchBySize(name, /*isWide=*/true, layers); },
        [&](CodeBuilder &) {
          launchShapes((name + "_any").str(), /*isWide=*/false,
                       /*isLarge=*/false, layers);
        });
  });
  std::string hyphened = name.str();
  llvm::replace(hyphened, '_', '-');
  auto options = remark::RemarkOpts::name(hyphened).category("kvcache");
  remark::analysis(emit.getLoc(), options) << llvm::join(texts, "; ");
}

/// Rows that are computed have a kernel of their own for many bytes.
void UnitLaunch::launchBySize(StringRef name, bool isWide, Value layers) {
  Value bytes = emit.index(0);
  for (const std::unique_ptr<UnitMove> &move : moves)
    bytes = emit.addSat(bytes, emit.mulSat(move->count, move->rowBytes()));
  auto isStandard = [](const std::unique_ptr<UnitMove> &move) {
    return move->hasSteps() && !move->isScheduled;
  };
  if (llvm::none_of(moves, isStandard))
    return launchShapes(name, isWide, /*isLarge=*/false, layers);
  emit.ifThen(
      emit.slt(bytes, emit.index(kLargeBytes)),
      [&](CodeBuilder &) { launchShapes(name, isWide, false, layers); },
      [&](CodeBuilder &) {
        launchShapes((name + "_large").str(), isWide, true, layers);
      });
}

/// The blocks of threads of the moves follow each other.
void UnitLaunch::launchShapes(StringRef name, bool isWide, bool isLarge,
                              Value layers) {
  SmallVector<Shape> shapes;
  KernelOperands all = operands;
  Value blocks = emit.index(0);
  SmallVector<unsigned> firsts;
  for (const std::unique_ptr<UnitMove> &move : moves) {
    shapes.push_back(move->shapeOf(isWide));
    firsts.push_back(firsts.empty() ? 0 : all.addIndex(blocks));
    int64_t perBlock = move->kernel.unitsPerBlock(shapes.back());
    blocks = emit.addi(blocks, emit.ceildivui(move->work, perBlock));
  }
  int64_t threads = moves.front()->kernel.threads;
  KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.getLoc(), name,
                  all.types(), threads);
  Value block = k.extui64(k.blockX());
  std::function<void(size_t)> emitFrom = [&](size_t i) {
    auto emitOne = [&] {
      Value own = i ? Value(k.subi(block, k.parameter(firsts[i]))) : block;
      KernelFacts facts = moves[i]->kernel;
      facts.streaming |= isLarge;
      emitUnits(k, facts, shapes[i], own, moves[i]->itemOf);
    };
    if (i + 1 == moves.size())
      return emitOne();
    k.ifThen(k.ult(block, k.parameter(firsts[i + 1])), emitOne,
             [&] { emitFrom(i + 1); });
  };
  emitFrom(0);
  k.finish();
  emitLaunch(emit, emit.getLoc(), k.symbol(), blocks, emit.index(1), layers,
             threads, all);
}

//===----------------------------------------------------------------------===//
// Moves
//===----------------------------------------------------------------------===//

UnitMove &CacheRows::addTo(UnitLaunch &launch, CodeBuilder &emit, Value count,
                           CopyScheduleAttr schedule) const {
  const Layout &layout = cache.stored.type.getLayout();
  bool isFrom = direction == RowsMove::IntoCache;
  UnitMove &move = launch.add();
  move.setSchedule(schedule);
  move.addRows(isFrom, rows, layout.extent(AxisKind::Head),
               layout.extent(AxisKind::Channel));
  move.addCache(!isFrom, cache);
  Value blocks = cache.extent(emit, AxisKind::Block);
  bool bySlot = lists.size() == 1;
  KernelOperands &operands = launch.parameters();
  SmallVector<unsigned> pointers, ends;
  SmallVector<Type> types;
  for (Value list : lists) {
    pointers.push_back(operands.addBuffer(list));
    types.push_back(cast<MemRefType>(list.getType()).getElementType());
  }
  ends.push_back(
      operands.addIndex(bySlot ? cursor.slotLimit(emit, blocks) : blocks));
  if (!bySlot)
    ends.push_back(
        operands.addIndex(emit.index(layout.extent(AxisKind::Token))));
  move.setItems(
      count, [=, cursor = cursor, direction = direction,
              rowsPerBlock = rowsPerBlock](KernelBuilder &k, Value token) {
        Values numbers, limits;
        for (auto [pointer, type] : llvm::zip_equal(pointers, types))
          numbers.push_back(k.loadEntry(k.parameter(pointer), token, type));
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
  return move;
}

UnitMove &kvcache::addRowMove(UnitLaunch &launch, Value from, Value to,
                              Value count) {
  ArrayRef<int64_t> shape = cast<MemRefType>(from.getType()).getShape();
  int64_t heads = shape.size() == 3 ? shape[1] : 1;
  UnitMove &move = launch.add();
  move.addRows(/*isFrom=*/true, from, heads, shape.back());
  move.addRows(/*isFrom=*/false, to, heads, shape.back());
  move.setItems(count, [](KernelBuilder &, Value token) {
    Place row{Value(), token, Value()};
    return Item{row, row, Value(), Value()};
  });
  return move;
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
  UnitLaunch launch(emit, op);
  UnitMove &move = launch.add();
  move.addCache(/*isFrom=*/true, from);
  move.addCache(/*isFrom=*/false, to);
  bool hasLayers = bool(layers);
  move.setItems(emit.muli(both(AxisKind::Block), tokens),
                [=](KernelBuilder &k, Value number) {
                  Place place;
                  place.layer = hasLayers ? k.extui64(k.blockZ()) : Val();
                  place.block = k.divui(number, tokens);
                  place.token = k.remui(number, tokens);
                  return Item{place, place, Value(), Value()};
                });
  launch.launch("relayout", layers);
}
