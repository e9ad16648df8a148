// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// relayout, copy_blocks and transfer: whole blocks, or chunks of tokens, go to
// the places of the same indices in the same or in another pool, in one launch.
// clear_blocks is the same with zeros instead of elements that are read.
//
// Kernels/MovePlan.h says how the elements of a block are spread over accesses;
// here it is decided which blocks there are.
//
//===----------------------------------------------------------------------===//

#include "../Common/CacheLowering.h"
#include "../Common/CodeBuilder.h"
#include "../Common/RuntimeCalls.h"
#include "MoveKernel.h"
#include "Patterns.h"
#include "UnitMoves.h"

#include "kvcache/IR/Sources.h"

#include "mlir/IR/Remarks.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace kvcache;

namespace {

/// A link between memories is busy with few blocks of threads, and the rest of
/// the device is left to others.
constexpr int64_t kBlocksOnLink = 16;

MoveEnd endOf(CacheType type) {
  return {&type.getLayout(), type.getElementBytes()};
}

/// Nothing is read, so no tile makes reads wider.
MovePlan planOfZeros(CacheType type) {
  MovePlan plan(endOf(type), endOf(type),
                type.getLayout().extent(AxisKind::Token), /*ranged=*/false);
  plan.tile.reset();
  return plan;
}

/// A move under construction: the host side, and the kernel once `begin` was
/// called.
class Move {
public:
  Move(CodeBuilder &emit, Operation *op, const CacheValue &from,
       const CacheValue &to, int64_t tokens, bool ranged)
      : emit(emit), op(op), from(from), to(to),
        plan(endOf(from.type), endOf(to.type), tokens, ranged),
        overLink(from.type.getSpace() != to.type.getSpace()),
        shape(plan, from.type.getElementBytes(), overLink),
        operands(emit, emit.getLoc()), fromSide(sideOf(from)),
        toSide(sideOf(to)) {}

  /// Of zeros to one cache.
  Move(CodeBuilder &emit, Operation *op, const CacheValue &cache)
      : emit(emit), op(op), from(cache), to(cache),
        plan(planOfZeros(cache.type)), overLink(false),
        shape(plan, cache.type.getElementBytes(), overLink),
        operands(emit, emit.getLoc()), fromSide(sideOf(to)), toSide(fromSide) {}

  /// Parameters are complete: starts the kernel, which gets the number of an
  /// item (i64) and says what it is.
  void build(StringRef name, Value count, Cleared cleared,
             llvm::function_ref<MoveItem(KernelBuilder &, Value)> itemOf) {
    Value work = emit.muli(count, shape.parts);
    unsigned workParameter = overLink ? operands.addIndex(work) : 0;
    KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.getLoc(), name,
                    operands.types(), shape.threads);
    MoveEmitter mover(k, plan, shape, fromSide, toSide, cleared);
    Value layer = plan.layersAtRunTime ? k.blockZ() : Value();
    if (!overLink) {
      Value block = k.blockX();
      Value item = k.extui64(k.divui(block, shape.parts));
      mover.emit(itemOf(k, item), k.remui(block, shape.parts), layer);
    } else {
      k.forLoop(
          k.extui64(k.blockX()), k.parameter(workParameter),
          k.extui64(k.gridX()), {}, [&](Value number, ValueRange) {
            Value part =
                k.sextOrTrunc(k.remui(number, shape.parts), k.getI32Type());
            mover.emit(itemOf(k, k.divui(number, shape.parts)), part, layer);
            if (plan.tile) // before the next one is written
              k.barrier();
            return SmallVector<Value>();
          });
    }
    k.finish();

    Value layers = plan.layersAtRunTime
                       ? emit.minsi(from.extent(AxisKind::Layer),
                                    to.extent(AxisKind::Layer))
                       : Value();
    // A grid of no blocks is an error of the driver.
    Value any = emit.slt(emit.index(0), work);
    if (layers)
      any = emit.andi(any, emit.slt(emit.index(0), layers));
    emit.ifThen(any, [&](CodeBuilder &e) {
      Value grid = overLink ? e.minsi(work, e.index(kBlocksOnLink)) : work;
      emitLaunch(e, e.getLoc(), k.symbol(), grid, e.index(1), layers,
                 shape.threads, operands);
    });
  }

  /// The distance of blocks, and of tokens, in bytes.
  Value blockStride(KernelBuilder &k, bool isFrom) {
    return strideOf(k, isFrom, AxisKind::Block);
  }
  Value tokenStride(KernelBuilder &k, bool isFrom) {
    return strideOf(k, isFrom, AxisKind::Token);
  }

  void remark(StringRef name, StringRef engine = "") {
    int64_t bytes = from.type.getElementBytes();
    std::string text;
    llvm::raw_string_ostream os(text);
    os << (plan.layersAtRunTime ? "layers" : "items") << " of "
       << plan.elements() * bytes << " bytes in runs of " << plan.run * bytes;
    if (!engine.empty())
      os << ", by " << engine;
    else if (const auto &tile = plan.tile)
      os << ", tiles of " << tile->elements * bytes
         << " bytes in shared memory, "
         << "reads of " << tile->fromLanes * bytes << " bytes, writes of "
         << tile->toLanes * to.type.getElementBytes();
    else
      os << ", accesses of " << plan.lanes * bytes << " bytes";
    if (overLink && engine.empty())
      os << ", over the link on " << kBlocksOnLink << " blocks of threads";
    auto options = remark::RemarkOpts::name(name).category("kvcache");
    remark::analysis(emit.getLoc(), options) << text;
  }

  CodeBuilder &emit;
  Operation *op;
  CacheValue from, to;
  MovePlan plan;
  bool overLink;
  MoveShape shape;
  KernelOperands operands;
  MoveSide fromSide, toSide;

private:
  MoveSide sideOf(const CacheValue &cache) {
    const Layout &layout = cache.type.getLayout();
    MoveSide side;
    side.elementType = cache.type.getMemoryType();
    side.pointer = operands.addPointer(cache.buffer, cache.offset);
    for (unsigned i = 0; i < layout.rank(); ++i)
      side.strides.push_back(
          operands.addStride(layout.stride(i), cache.strides[i]));
    side.layerAxis = layout.find(AxisKind::Layer).value_or(0);
    return side;
  }

  Value strideOf(KernelBuilder &k, bool isFrom, AxisKind kind) {
    const MoveSide &side = isFrom ? fromSide : toSide;
    unsigned axis = *(isFrom ? from : to).type.getLayout().find(kind);
    return k.stride(side.strides[axis], side.elementBytes());
  }
};

struct RelayoutOpLowering : BufferOpLowering<RelayoutOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(RelayoutOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    CacheValue from = in.cache(op.getSource()), to = in.cache(op.getDest());
    auto scales = [&](Value cache) -> std::optional<CacheValue> {
      return cache ? std::optional(in.cache(cache)) : std::nullopt;
    };
    if (op.getSourceScales() || op.getDestScales())
      return emitScaledRelayout(emit, op, {from, scales(op.getSourceScales())},
                                {to, scales(op.getDestScales())});
    Move move(emit, op, from, to, from.type.getLayout().extent(AxisKind::Token),
              /*ranged=*/false);
    Value blocks = move.emit.minsi(move.from.extent(AxisKind::Block),
                                   move.to.extent(AxisKind::Block));
    move.build("relayout", blocks, Cleared::None,
               [&](KernelBuilder &k, Value block) {
                 MoveItem item;
                 item.from = k.muli(block, move.blockStride(k, true));
                 item.to = k.muli(block, move.blockStride(k, false));
                 return item;
               });
    move.remark("relayout");
  }
};

/// A matrix of numbers, as a parameter.
struct PairList {
  PairList(KernelOperands &operands, Value memref)
      : pointer(operands.addBuffer(memref)),
        type(cast<MemRefType>(memref.getType())) {}
  Value load(KernelBuilder &k, Value row, int64_t column) const {
    Value at = k.muli(row, k.i64(type.getDimSize(1)));
    return k.loadEntry(k.parameter(pointer), k.addi(at, k.i64(column)),
                       type.getElementType());
  }
  unsigned pointer;
  MemRefType type;
};

struct CopyBlocksOpLowering : BufferOpLowering<CopyBlocksOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(CopyBlocksOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    CacheValue cache = in[op.getCache()];
    Value list = in[op.getPairs()];
    Move move(emit, op, cache, cache,
              cache.type.getLayout().extent(AxisKind::Token), /*ranged=*/false);
    PairList pairs(move.operands, list);
    unsigned blocks = move.operands.addIndex(move.from.extent(AxisKind::Block));
    move.build("copy_blocks", emit.dim(list, 0), Cleared::None,
               [&](KernelBuilder &k, Value pair) {
                 Value from = pairs.load(k, pair, 0);
                 Value to = pairs.load(k, pair, 1);
                 Value end = k.parameter(blocks);
                 MoveItem item;
                 item.live = k.andi(k.ult(from, end), k.ult(to, end));
                 item.from = k.muli(from, move.blockStride(k, true));
                 item.to = k.muli(to, move.blockStride(k, false));
                 return item;
               });
    move.remark("copy-blocks");
  }
};

/// A block that is named twice is cleared by two blocks of threads, perhaps at
/// once. They store the same zeros to the same places in accesses of one width,
/// and nobody reads them before the kernel has ended, so either may be the
/// last.
struct ClearBlocksOpLowering : BufferOpLowering<ClearBlocksOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(ClearBlocksOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Value numbers = in[op.getBlocks()];
    auto listType = cast<MemRefType>(numbers.getType());
    Move move(emit, op, in[op.getCache()]);
    unsigned list = move.operands.addBuffer(numbers);
    unsigned blocks = move.operands.addIndex(move.to.extent(AxisKind::Block));
    move.build("clear_blocks", emit.dim(numbers, 0), Cleared::All,
               [&](KernelBuilder &k, Value entry) {
                 Value block = k.loadEntry(k.parameter(list), entry,
                                           listType.getElementType());
                 MoveItem item;
                 item.live = k.ult(block, k.parameter(blocks));
                 item.to = k.muli(block, move.blockStride(k, false));
                 item.from = item.to;
                 return item;
               });
    move.remark("clear-blocks");
  }
};

/// Whether the entries of a memref are in memory that host code can read.
bool isInHostMemory(Value memref) {
  Value origin = furthestSource(memref, [](Value value) -> Value {
    auto cast = value.getDefiningOp<memref::CastOp>();
    return cast ? cast.getSource() : Value();
  });
  auto argument = dyn_cast<BlockArgument>(origin);
  if (!argument)
    return false;
  auto function =
      dyn_cast<FunctionOpInterface>(argument.getOwner()->getParentOp());
  return function &&
         argument.getOwner() == &function.getFunctionBody().front() &&
         function.getArgAttr(argument.getArgNumber(),
                             KVCacheDialect::kHostAttr);
}

/// Runs, loops and pools as calls of the run time, which goes through the pairs
/// and hands a list of runs to the driver.
void emitRuns(Move &move, Operation *op, Value pairs, int64_t tokens) {
  CodeBuilder &emit = move.emit;
  auto call = [&](StringRef name, ArrayRef<Value> operands) {
    emitReport(emit, emit.getLoc(), op, name, operands);
  };
  auto address = [&](Value memref, Value offset, int64_t bytes) {
    Value base = memref::ExtractAlignedPointerAsIndexOp::create(emit, memref);
    return emit.addMul(base, offset, bytes);
  };
  int64_t bytes = move.from.type.getElementBytes();
  auto step = [&](const CacheValue &cache, const AxisWalk &walk) {
    return emit.muli(cache.strides[walk.axis], walk.factor * bytes);
  };
  call("kvrt_runs_begin", {address(move.from.buffer, move.from.offset, bytes),
                           address(move.to.buffer, move.to.offset, bytes),
                           emit.index(move.plan.run * bytes)});
  if (move.plan.layersAtRunTime)
    call("kvrt_runs_loop", {emit.minsi(move.from.extent(AxisKind::Layer),
                                       move.to.extent(AxisKind::Layer)),
                            emit.muli(move.from.stride(AxisKind::Layer), bytes),
                            emit.muli(move.to.stride(AxisKind::Layer), bytes)});
  for (const MoveDim &dim : move.plan.dims)
    call("kvrt_runs_loop", {emit.index(dim.extent), step(move.from, dim.from),
                            step(move.to, dim.to)});
  for (bool isFrom : {true, false}) {
    const CacheValue &cache = isFrom ? move.from : move.to;
    int64_t perBlock = cache.type.getLayout().extent(AxisKind::Token) / tokens;
    call("kvrt_runs_pool",
         {emit.index(isFrom),
          emit.mulSat(cache.extent(AxisKind::Block), perBlock),
          emit.index(perBlock), emit.muli(cache.stride(AxisKind::Block), bytes),
          emit.muli(cache.stride(AxisKind::Token), tokens * bytes)});
  }
  auto type = cast<MemRefType>(pairs.getType());
  auto metadata = memref::ExtractStridedMetadataOp::create(emit, pairs);
  int64_t indexBytes = type.getElementType().getIntOrFloatBitWidth() / 8;
  call("kvrt_runs_copy",
       {address(metadata.getBaseBuffer(), metadata.getOffset(), indexBytes),
        emit.index(indexBytes), emit.dim(pairs, 0)});
}

struct TransferOpLowering : BufferOpLowering<TransferOp> {
  TransferOpLowering(TypeConverter &converter, MLIRContext *context,
                     int64_t copyEngineBytes)
      : BufferOpLowering(converter, context), copyEngineBytes(copyEngineBytes) {
  }

  void lower(TransferOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Value list = in[op.getPairs()];
    CacheValue source = in[op.getSource()], dest = in[op.getDest()];
    int64_t fromTokens = source.type.getLayout().extent(AxisKind::Token);
    int64_t toTokens = dest.type.getLayout().extent(AxisKind::Token);
    int64_t tokens = std::min(fromTokens, toTokens);
    bool ranged = cast<MemRefType>(list.getType()).getDimSize(1) == 4;
    Move move(emit, op, source, dest, tokens, ranged);
    if (usesCopyEngine(move, ranged, list)) {
      emitRuns(move, op, list, tokens);
      return move.remark("transfer", "the copy engine");
    }
    PairList pairs(move.operands, list);
    auto chunks = [&](const CacheValue &cache, int64_t inBlock) {
      Value blocks = cache.extent(AxisKind::Block);
      return move.operands.addIndex(emit.mulSat(blocks, inBlock / tokens));
    };
    unsigned fromCount = chunks(move.from, fromTokens);
    unsigned toCount = chunks(move.to, toTokens);
    auto cleared = op.getZero() && ranged ? Cleared::Rest : Cleared::None;
    move.build("transfer", emit.dim(list, 0), cleared,
               [&](KernelBuilder &k, Value pair) {
                 MoveItem item;
                 Value from = pairs.load(k, pair, 0);
                 Value to = pairs.load(k, pair, 1);
                 item.live = k.andi(k.ult(from, k.parameter(fromCount)),
                                    k.ult(to, k.parameter(toCount)));
                 item.from =
                     startOf(k, move, true, from, fromTokens / tokens, tokens);
                 item.to =
                     startOf(k, move, false, to, toTokens / tokens, tokens);
                 if (ranged)
                   setRange(k, item, tokens, pairs.load(k, pair, 2),
                            pairs.load(k, pair, 3));
                 return item;
               });
    move.remark("transfer");
  }

private:
  const int64_t copyEngineBytes;

  /// Long runs, whose places host code can work out.
  bool usesCopyEngine(const Move &move, bool ranged, Value pairs) const {
    bool isNest = llvm::none_of(move.plan.dims, [](const MoveDim &dim) {
      return dim.from.cut || dim.to.cut;
    });
    int64_t bytes = move.plan.run * move.from.type.getElementBytes();
    return move.overLink && !ranged && isNest && isInHostMemory(pairs) &&
           bytes >= copyEngineBytes;
  }

  /// Where a chunk begins.
  static Value startOf(KernelBuilder &k, Move &move, bool isFrom, Value chunk,
                       int64_t perBlock, int64_t tokens) {
    Value at = k.muli(k.divui(chunk, perBlock), move.blockStride(k, isFrom));
    if (perBlock == 1)
      return at;
    Value token = k.muli(k.remui(chunk, perBlock), k.i64(tokens));
    return k.addi(at, k.muli(token, move.tokenStride(k, isFrom)));
  }

  /// The tokens of [start, start + count) that a chunk has. Both may be
  /// anything: the sum is not to wrap.
  static void setRange(KernelBuilder &k, MoveItem &item, int64_t tokens,
                       Value start, Value count) {
    Value all = k.i64(tokens), none = k.i64(0);
    start = k.minsi(start, all);
    Value first = k.maxsi(start, none);
    Value most = k.subi(k.i64(std::numeric_limits<int64_t>::max()), first);
    Value wanted = k.minsi(k.maxsi(count, none), most);
    Value last = k.maxsi(k.minsi(k.addi(start, wanted), all), none);
    item.first = k.sextOrTrunc(first, k.getI32Type());
    item.last = k.sextOrTrunc(last, k.getI32Type());
  }
};

} // namespace

void kvcache::populateBlockOpsToGPU(TypeConverter &converter,
                                    RewritePatternSet &patterns,
                                    int64_t copyEngineBytes) {
  MLIRContext *context = patterns.getContext();
  patterns.add<ClearBlocksOpLowering, CopyBlocksOpLowering, RelayoutOpLowering>(
      converter, context);
  patterns.add<TransferOpLowering>(converter, context, copyEngineBytes);
}
