// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// attention: the choice of a kernel, and its launch. AttentionKernel.h
// describes the one for few rows, PromptKernel.h the one for many by
// warpgroups, and WarpKernel.h the one for many on other chips.
//
//===----------------------------------------------------------------------===//

#include "Attention.h"

#include "../../../Runtime/kvrt_records.h"
#include "../../Common/Checks.h"
#include "../../Common/CodeBuilder.h"
#include "../../Common/RuntimeCalls.h"
#include "../Codecs.h"
#include "../Patterns.h"

#include "kvcache/IR/Strides.h"
#include "kvcache/Layout/Numbers.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Remarks.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace kvcache;

/// On the allocation that all attentions of a function share: where parts of
/// the kernels for many rows begin.
static constexpr StringLiteral kPartsName = "attention_parts";
/// Tokens of a request are numbered in 31 bits, and masks go past them.
static constexpr int64_t kMaxTokens = int64_t(1) << 30;
static constexpr int64_t kMostHeads = 64;

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

static AxisStrides axisStrides(KernelOperands &operands,
                               const CacheValue &cache, AxisKind kind) {
  const Layout &layout = cache.type.getLayout();
  auto stride = [&](unsigned i) {
    return operands.addStride(layout.stride(i), cache.strides[i]);
  };
  AxisStrides found;
  if (!layout.has(kind)) {
    found.outer = {0};
    return found;
  }
  if (std::optional<unsigned> whole = layout.find(kind)) {
    found.outer = stride(*whole);
    return found;
  }
  unsigned inner = *layout.find(Axis{kind, AxisPart::Inner});
  found.outer = stride(*layout.find(Axis{kind, AxisPart::Outer}));
  found.inner = stride(inner);
  found.cut = layout.dim(inner).extent;
  return found;
}

AttentionSide kvcache::sideParameters(KernelOperands &operands,
                                      const CacheValue &cache) {
  auto axis = [&](AxisKind kind) { return axisStrides(operands, cache, kind); };
  AttentionSide side;
  side.pointer = operands.addPointer(cache.buffer, cache.offset);
  side.block = axis(AxisKind::Block).outer;
  side.token = axis(AxisKind::Token).outer;
  side.head = axis(AxisKind::Head);
  side.channel = axis(AxisKind::Channel);
  return side;
}

AttentionScales kvcache::scaleParameters(KernelOperands &operands,
                                         const CacheValue &scales) {
  // All indices of an axis of extent 1 share a scale.
  auto axis = [&](AxisKind kind) {
    AxisStrides none;
    none.outer = {0};
    return scales.type.getLayout().extent(kind) == 1
               ? none
               : axisStrides(operands, scales, kind);
  };
  AttentionScales found;
  found.pointer = operands.addPointer(scales.buffer, scales.offset);
  found.block = axis(AxisKind::Block).outer;
  found.token = axis(AxisKind::Token).outer;
  found.head = axis(AxisKind::Head);
  return found;
}

AttentionOperands::AttentionOperands(CodeBuilder &emit, AttentionOp op,
                                     const LoweredOperands &in)
    : keys(in.cache(op.getCaches().front())),
      values(in.cache(op.getCaches().back())
                 .side(emit, op.getCaches().size() == 1 ? 1 : 0)),
      batch(in[op.getBatch()]), query(in[op.getQuery()]),
      out(in[op.getOuts().front()]), lse(in[op.getLse()]),
      alibi(in[op.getAlibi()]), sinks(in[op.getSinks()]),
      mask(in[op.getMask()]), valueScale(in[op.getValueScale()]),
      prefixGroups(in[op.getPrefixGroups()]),
      prefixLengths(in[op.getPrefixLengths()]) {
  rows = emit.minsi(emit.dim(query, 0), emit.dim(out, 0));
  if (lse)
    rows = emit.minsi(rows, emit.dim(lse, op.getHeadsFirst() ? 1 : 0));
  if (mask)
    rows = emit.minsi(rows, emit.dim(mask, 0));
  blocks =
      emit.minsi(keys.extent(AxisKind::Block), values.extent(AxisKind::Block));
  auto take = [&](unsigned cache, int64_t side) -> std::optional<CacheValue> {
    Value scales = op.getScalesOf(cache);
    if (!scales)
      return std::nullopt;
    CacheValue own = in.cache(scales).side(emit, side);
    if (own.type.getLayout().extent(AxisKind::Block) != 1)
      blocks = emit.minsi(blocks, own.extent(AxisKind::Block));
    return own;
  };
  unsigned last = op.getCaches().size() - 1;
  keyScales = take(0, 0);
  valueScales = take(last, last == 0 ? 1 : 0);
}

//===----------------------------------------------------------------------===//
// Which kernel
//===----------------------------------------------------------------------===//

/// Whether the types are those of matrix products, or become so on their way
/// into fragments.
static bool hasProducts(const AttentionTraits &traits, TargetAttr gpu) {
  bool isHalf = traits.queryType.isF16() || traits.queryType.isBF16();
  bool becomesHalf = kvcache::gpu::codecOf(traits.keyType).halves(gpu) !=
                     GPUCodec::Halves::None;
  int64_t chunk = becomesHalf ? 16 : 8;
  auto fits = [&](int64_t channels) {
    return channels % chunk == 0 && channels <= 256;
  };
  return isHalf && traits.keyType == traits.valueType &&
         (becomesHalf || traits.keyType == traits.queryType) &&
         fits(traits.keyChannels) && fits(traits.valueChannels) &&
         traits.heads <= kMostHeads;
}

/// Axes of which a side of an attention has one index, in its base.
static AxisSet fixedAxes(AttentionOp op) {
  return op.getCaches().size() == 1 ? AxisSet() : AxisSet{AxisKind::Side};
}

/// The kernel of matrix products; none where the types or the target have no
/// use for it.
static std::optional<AttentionShape>
shapeOf(AttentionOp op, const AttentionTraits &traits, TargetAttr gpu) {
  if (gpu.getMatrix() != MatrixOps::mma_sync || !hasProducts(traits, gpu))
    return std::nullopt;
  auto inner = [&](CacheType type) {
    return boxChannels(type.getLayout(), type.getElementBytes(),
                       AttentionShape::kUnit, fixedAxes(op));
  };
  int64_t key = inner(op.getKeyType()), value = inner(op.getValueType());
  bool boxes = gpu.getTensorMaps() && key && value;
  AttentionShape shape(traits, boxes, gpu.getSharedBytes(), boxes ? key : 0,
                       boxes ? value : 0);
  // One slot is filled while another one is read.
  if (shape.slots < 2)
    return std::nullopt;
  return shape;
}

/// The kernel for many rows; none where the types, the layout or the target
/// have no use for it.
static std::optional<PromptShape> promptShapeOf(AttentionOp op,
                                                const AttentionTraits &traits,
                                                TargetAttr gpu, Value query,
                                                Value out) {
  if (!gpu.getWarpgroups() || !gpu.getTensorMaps() ||
      !hasProducts(traits, gpu) || !PromptShape::fits(traits) ||
      knownHeadAlignment(query) < 16 || knownRowAlignment(out) < 8)
    return std::nullopt;
  // What no row sees may be anything, and is not found out for any positions.
  if (traits.window && op.getBatch().getType().hasPositions())
    return std::nullopt;
  PromptShape shape(traits, gpu.getSharedBytes(),
                    headNeighbor(op.getKeyType().getLayout()),
                    headNeighbor(op.getValueType().getLayout()));
  if (shape.ofBytes) {
    shape.rawInner[0] = boxChannels(op.getKeyType().getLayout(), 1,
                                    shape.boxTokens, fixedAxes(op));
    shape.rawInner[1] = boxChannels(op.getValueType().getLayout(), 1,
                                    shape.boxTokens, fixedAxes(op));
    if (!shape.rawInner[0] || !shape.rawInner[1])
      return std::nullopt;
  }
  for (CacheType type : {op.getKeyType(), op.getValueType()})
    if (!shape.ofBytes && !hasBoxes(type.getLayout(), 2, shape.boxTokens,
                                    PromptShape::kInner, fixedAxes(op)))
      return std::nullopt;
  if (shape.slots < 2)
    return std::nullopt;
  return shape;
}

/// The kernel for many rows where there is no other one.
static std::optional<WarpShape> warpShapeOf(const AttentionTraits &traits,
                                            TargetAttr gpu) {
  // Items are cut wherever ranges end.
  if (traits.keyType != traits.queryType || traits.isInvariant)
    return std::nullopt;
  WarpShape shape(traits, gpu.getSharedBytes());
  if (shape.slots < 2)
    return std::nullopt;
  return shape;
}

namespace {

/// Memory for parts: of the kernel for few rows, and after it of one for many.
/// Words of one could pass for those that a launch of the other waits for.
struct PartsBytes {
  int64_t few = 0, many = 0;
};

} // namespace

static PartsBytes bytesOfParts(AttentionOp op, TargetAttr gpu) {
  AttentionTraits traits(op);
  std::optional<AttentionShape> few = shapeOf(op, traits, gpu);
  if (!few)
    return {};
  PartsBytes bytes;
  bytes.few = few->allPartsBytes();
  if (traits.isInvariant)
    return bytes; // items of many rows are not cut
  int64_t ofBlock = 0;
  if (std::optional<PromptShape> many =
          promptShapeOf(op, traits, gpu, op.getQuery(), op.getOuts().front()))
    ofBlock = many->partBytes();
  else if (std::optional<WarpShape> many = warpShapeOf(traits, gpu))
    ofBlock = many->partBytes();
  bytes.many = 2 * AttentionState::kMaxBlocks * ofBlock;
  return bytes;
}

void kvcache::allocateAttentionParts(ModuleOp module, TargetAttr gpu) {
  // Also in modules inside of this one, which are converted with it.
  llvm::MapVector<FunctionOpInterface, PartsBytes> bytesOf;
  module.walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (isa<mlir::gpu::GPUModuleOp>(op))
      return WalkResult::skip();
    auto attention = dyn_cast<AttentionOp>(op);
    // One on tensors is refused by the conversion, and has no rows in memory.
    if (!attention ||
        llvm::any_of(op->getOperandTypes(), llvm::IsaPred<TensorType>))
      return WalkResult::advance();
    PartsBytes needed = bytesOfParts(attention, gpu);
    if (needed.few) {
      PartsBytes &bytes = bytesOf[op->getParentOfType<FunctionOpInterface>()];
      bytes.few = std::max(bytes.few, needed.few);
      bytes.many = std::max(bytes.many, needed.many);
    }
    return WalkResult::advance();
  });
  for (auto [function, bytes] : bytesOf) {
    OpBuilder builder =
        OpBuilder::atBlockBegin(&function.getFunctionBody().front());
    auto type = MemRefType::get({bytes.few + bytes.many}, builder.getI8Type());
    auto alloc = memref::AllocOp::create(builder, function->getLoc(), type);
    alloc->setAttr(kPartsName, builder.getIndexAttr(bytes.few));
  }
}

static memref::AllocOp findParts(Operation *op) {
  auto function = op->getParentOfType<FunctionOpInterface>();
  for (auto alloc :
       function.getFunctionBody().front().getOps<memref::AllocOp>())
    if (alloc->hasAttr(kPartsName))
      return alloc;
  llvm_unreachable("allocated before the conversion");
}

//===----------------------------------------------------------------------===//
// The launch
//===----------------------------------------------------------------------===//

/// The widest copy that all chunks of a side are aligned to: 16 or 4 bytes, or
/// an element.
static Value copyWidth(CodeBuilder &emit, const CacheValue &cache) {
  const Layout &layout = cache.type.getLayout();
  Value address =
      memref::ExtractAlignedPointerAsIndexOp::create(emit, cache.buffer);
  int64_t bytes = cache.type.getElementBytes();
  return chunkWidth(emit, layout, emit.addMul(address, cache.offset, bytes),
                    cache.strides, bytes, {AxisKind::Side, AxisKind::Layer});
}

/// A text of a message, for the run time.
static Value messageText(CodeBuilder &emit, Operation *op, const Twine &text) {
  return emitText(emit, emit.getLoc(), op, text.str());
}

/// So many units make a chunk, as a power of two, that the chunks of all items
/// are below 2^31, whatever the lengths are.
static Value chunkBits(CodeBuilder &emit, const AttentionTraits &traits,
                       const WorkShape &work, const AttentionOperands &given) {
  Value requests = given.batch.numRequests(emit, emit.getLoc());
  Value items = emit.addi(
      emit.divui(emit.muli(given.rows, traits.group), work.columns), requests);
  if (work.hasPrefixes) // and those of prefixes, which have two requests each
    items = emit.muli(items, 2);
  Value room = emit.muli(emit.dim(given.batch.table, 1), traits.tokens);
  Value units = emit.muli(
      items,
      emit.addi(emit.muli(emit.ceildivui(room, work.unit), work.mostOfUnit()),
                work.itemChunks));
  if (work.crossesHeads)
    units = emit.muli(units, traits.heads);
  constexpr int64_t kMostBits = 31;
  // Items round up, one each.
  Value over =
      emit.divui(emit.addi(units, items), int64_t(1) << (kMostBits - 1));
  Value bits =
      emit.subi(emit.index(64), emit.fold<math::CountLeadingZerosOp>(over));
  return bits;
}

/// As many blocks of threads for each head as run at the same time.
static Value gridSize(CodeBuilder &emit, AttentionOp op,
                      const AttentionTraits &traits, bool crossesHeads) {
  Value user = messageText(emit, op,
                           "attention with " + Twine(traits.heads) +
                               " heads of the cache");
  Value count = emitQuery(emit, emit.getLoc(), op, "kvrt_multiprocessors",
                          {emit.index(traits.heads), user});
  count = emit.minsi(count, emit.index(AttentionState::kMaxBlocks));
  if (crossesHeads)
    return count;
  return emit.muli(emit.divui(count, traits.heads), traits.heads);
}

namespace {

/// A launch of a kernel of products under construction: the parameters that do
/// not depend on how keys and values come.
struct ProductsLaunch {
  ProductsLaunch(CodeBuilder &emit, AttentionOp op,
                 const AttentionTraits &traits, const WorkShape &work,
                 const AttentionOperands &given, bool ofFew,
                 Value pairLimit = {})
      : emit(emit), op(op), traits(traits), given(given),
        operands(emit, emit.getLoc()),
        batch(emit, emit.getLoc(), operands, given.batch, given.rows) {
    p.chunkBits = operands.addIndex(chunkBits(emit, traits, work, given));
    grid = gridSize(emit, op, traits, work.crossesHeads);
    Value one = emit.index(1);
    auto scale = [&](int64_t heads) {
      return operands.addIndex(emit.divui(
          emit.index(UINT32_MAX), emit.maxsi(emit.divui(grid, heads), one)));
    };
    p.scale = scale(work.crossesHeads ? 1 : traits.heads);
    p.sharedScale = scale(traits.heads / work.phases);
    p.blocks = operands.addIndex(given.blocks);
    p.state = operands.addAddress(
        emitQuery(emit, emit.getLoc(), op, "kvrt_workspace_state", {}));
    memref::AllocOp parts = findParts(op);
    int64_t place = 0;
    if (!ofFew)
      place = parts->getAttrOfType<IntegerAttr>(kPartsName).getInt();
    p.parts = operands.addPointer(parts, emit.index(place));
    RowBuffer query(operands, given.query), out(operands, given.out);
    p.query = query.pointer;
    p.queryRow = query.stride;
    p.queryHead = operands.addStrideOf(given.query, 1);
    p.queryAlign = std::min(query.align, knownHeadAlignment(given.query));
    p.out = out.pointer;
    p.outRow = out.stride;
    p.outAlign = out.align;
    if (given.lse)
      p.lse.emplace(operands, given.lse, op.getHeadsFirst());
    if (given.alibi)
      p.alibi = operands.addBuffer(given.alibi);
    if (given.sinks)
      p.sinks = operands.addBuffer(given.sinks);
    if (given.valueScale)
      p.valueScale = operands.addFloat(given.valueScale);
    if (given.mask)
      p.mask.emplace(operands, given.mask);
    if (work.requests != WorkShape::Requests::All)
      p.pairLimit = operands.addIndex(pairLimit);
  }

  const CacheValue &cache(unsigned side) {
    return side ? given.values : given.keys;
  }

  /// The scales of a side, if it has some.
  void addScales(unsigned side) {
    const std::optional<CacheValue> &scales =
        side ? given.valueScales : given.keyScales;
    if (!scales)
      return;
    bool areShared = side ? traits.hasValueFactor : traits.hasKeyFactor;
    std::optional<AttentionScales> &shared = side ? p.valueFactor : p.keyFactor;
    (areShared ? shared : p.sides[side].scales) =
        scaleParameters(operands, *scales);
  }

  /// A side that is copied by rows.
  void addRows(unsigned side, int64_t elementBytes) {
    AttentionSide &to = p.sides[side];
    to = sideParameters(operands, cache(side));
    to.isWide = chunkBytes(cache(side).type.getLayout(), elementBytes,
                           fixedAxes(op)) == Layout::kWidestAccess;
    if (!to.isWide)
      to.width = operands.addIndex(copyWidth(emit, cache(side)));
  }

  template <typename Kernel, typename Shape>
  void build(StringRef name, TargetAttr gpu, const Shape &shape,
             int64_t threads, LaunchMode mode) {
    KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.getLoc(), name,
                    operands.types(), threads);
    for (unsigned map : operands.maps())
      k.markMap(map);
    Kernel(k, gpu, traits, shape, batch, p).build();
    k.finish();
    emit.ifThen(emit.slt(emit.index(0), given.rows), [&](CodeBuilder &e) {
      emitLaunch(e, e.getLoc(), k.symbol(), grid, e.index(1), Value(), threads,
                 operands, shape.sharedBytes, mode);
    });
  }

  CodeBuilder &emit;
  AttentionOp op;
  const AttentionTraits &traits;
  const AttentionOperands &given;
  KernelOperands operands;
  BatchParameters batch;
  AttentionParameters p = {};
  Value grid;
};

} // namespace

/// How many prefixes lists can have.
static Value numPrefixes(CodeBuilder &emit, const AttentionOperands &given) {
  Value groups = emit.subi(emit.dim(given.prefixGroups, 0), emit.index(1));
  Value most = emit.minsi(groups, emit.dim(given.prefixLengths, 0));
  return emit.maxsi(most, emit.index(0));
}

/// Memory for the states of rows with a prefix, and for windows of them.
static Value allocateStates(CodeBuilder &emit, const AttentionTraits &traits,
                            const PromptShape &shape, Value rows) {
  Value most = emit.minsi(rows, emit.index(kMostPrefixRows));
  Value bytes = emit.muli(most, shape.prefixBytes(traits.queryHeads));
  auto type = MemRefType::get({ShapedType::kDynamic}, emit.getI8Type());
  return memref::AllocOp::create(emit, type, bytes);
}

static void emitProducts(CodeBuilder &emit, AttentionOp op, TargetAttr gpu,
                         const AttentionTraits &traits,
                         const AttentionShape &shape,
                         const AttentionOperands &given, Value pairLimit) {
  ProductsLaunch launch(emit, op, traits, shape.work(), given, /*ofFew=*/true,
                        pairLimit);
  for (unsigned side : {0u, 1u}) {
    AttentionSide &to = launch.p.sides[side];
    const CacheValue &cache = launch.cache(side);
    if (shape.boxes) {
      Value map = emitTokenMap(
          emit, op, cache, shape.inner[side], AttentionShape::kUnit,
          cache.type.getLayout().extent(AxisKind::Channel) / shape.inner[side]);
      to.map = launch.operands.addMap(map);
    } else {
      launch.addRows(side, shape.elementBytes);
    }
    launch.addScales(side);
  }
  launch.build<AttentionKernel>("attention", gpu, shape, shape.threads(),
                                LaunchMode::cooperative);
}

static void emitPrompt(CodeBuilder &emit, AttentionOp op, TargetAttr gpu,
                       const AttentionTraits &traits, const PromptShape &shape,
                       const AttentionOperands &given, Value pairLimit) {
  ProductsLaunch launch(emit, op, traits, shape.work(), given, /*ofFew=*/false,
                        pairLimit);
  for (unsigned side : {0u, 1u}) {
    const CacheValue &cache = launch.cache(side);
    HeadNeighbor neighbor = shape.neighbor[side];
    int64_t inner = shape.rawInner[side];
    Value map = shape.ofBytes
                    ? emitTokenMap(emit, op, cache, inner, shape.boxTokens,
                                   shape.channels[side] / inner)
                : neighbor == HeadNeighbor::None
                    ? emitTokenMap(emit, op, cache, PromptShape::kInner,
                                   shape.boxTokens, 1)
                    : emitGroupMap(emit, op, cache, neighbor, shape.boxTokens);
    launch.p.sides[side].map = launch.operands.addMap(map);
    launch.addScales(side);
  }
  launch.p.queryMap = launch.operands.addMap(
      emitQueryMap(emit, op, given.query, traits, given.rows,
                   shape.queryColumns() / traits.group));
  if (shape.hasPrefixes) {
    KernelOperands &operands = launch.operands;
    launch.p.groups = IntegerList::get(operands, given.prefixGroups);
    launch.p.prefixLengths = IntegerList::get(operands, given.prefixLengths);
    launch.p.numPrefixes = operands.addIndex(numPrefixes(emit, given));
    launch.p.rowStates =
        operands.addBuffer(allocateStates(emit, traits, shape, given.rows));
  }
  launch.build<PromptKernel>("attention_rows", gpu, shape, shape.threads(),
                             LaunchMode::in_order);
}

static void emitWarps(CodeBuilder &emit, AttentionOp op, TargetAttr gpu,
                      const AttentionTraits &traits, const WarpShape &shape,
                      const AttentionOperands &given) {
  ProductsLaunch launch(emit, op, traits, shape.work(), given, /*ofFew=*/false);
  for (unsigned side : {0u, 1u})
    launch.addRows(side, /*elementBytes=*/2);
  launch.build<WarpKernel>("attention_warps", gpu, shape, shape.threads(),
                           LaunchMode::in_order);
}

/// Tokens of a request are numbered in 31 bits.
static void checkRoom(CodeBuilder &emit, AttentionOp op,
                      const AttentionTraits &traits,
                      const AttentionOperands &given) {
  Value room = emit.muli(emit.dim(given.batch.table, 1), traits.tokens);
  Value isTooLong = emit.slt(emit.index(kMaxTokens), room);
  emit.ifThen(isTooLong, [&](CodeBuilder &e) {
    emitReport(e, e.getLoc(), op, "kvrt_report_room",
               {messageText(e, op, "attention on a GPU"),
                e.dim(given.batch.table, 1), e.index(traits.tokens),
                e.index(kMaxTokens)});
  });
}

namespace {

struct AttentionOpLowering : OpLowering<AttentionOp> {
  AttentionOpLowering(TypeConverter &converter, MLIRContext *context,
                      TargetAttr gpu)
      : OpLowering(converter, context), gpu(gpu) {}

  FailureOr<Values> lowerResult(AttentionOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    AttentionTraits traits(op);
    if (std::max(traits.keyChannels, traits.valueChannels) > kMostRowChannels)
      return op.emitOpError()
             << "is not compiled for a GPU with " << traits.keyChannels
             << " channels of keys and " << traits.valueChannels
             << " of values: at most " << kMostRowChannels << " are expected";
    AttentionOperands operands(emit, op, in);
    std::string text = "a row and a query head for each block of threads";
    if (std::optional<AttentionShape> shape = shapeOf(op, traits, gpu)) {
      checkRoom(emit, op, traits, operands);
      text = emitByProducts(emit, op, traits, *shape, operands);
    } else {
      emitAttentionRows(emit, op, traits, operands);
    }
    auto options = remark::RemarkOpts::name("attention").category("kvcache");
    remark::analysis(op.getLoc(), options) << text;
    return Values();
  }

private:
  /// What it returns says how.
  std::string emitByProducts(CodeBuilder &emit, AttentionOp op,
                             const AttentionTraits &traits,
                             AttentionShape shape,
                             const AttentionOperands &operands) const {
    std::string text =
        llvm::formatv("matrix products of {0} columns, {1} warps, {2} slots; "
                      "keys and values come in {3}",
                      shape.columns(), shape.warps, shape.slots,
                      shape.boxes ? "boxes of a tensor map" : "rows");
    std::optional<PromptShape> many =
        promptShapeOf(op, traits, gpu, operands.query, operands.out);
    std::optional<WarpShape> warps;
    if (!many)
      warps = warpShapeOf(traits, gpu);
    if (!many && !warps) {
      emitProducts(emit, op, gpu, traits, shape, operands, Value());
      return text;
    }
    Value pairs = emit.muli(operands.rows, traits.group);
    Value columns = emit.index(shape.columns());
    // A request of one row has the kernel for few rows in any case.
    Value limit = emit.index(std::max(shape.columns(), traits.group));
    // More pairs than a tile of columns has, on average.
    Value requests = operands.batch.numRequests(emit, emit.getLoc());
    Value isMany = emit.slt(emit.muli(requests, columns), pairs);
    if (warps) {
      emit.ifThen(
          isMany,
          [&](CodeBuilder &e) {
            emitWarps(e, op, gpu, traits, *warps, operands);
          },
          [&](CodeBuilder &e) {
            emitProducts(e, op, gpu, traits, shape, operands, Value());
          });
      return text + llvm::formatv("; of many rows, products of {0} rows by "
                                  "warps, {1} slots of {2} keys",
                                  warps->columns(), warps->slots, warps->unit)
                        .str();
    }
    Value hasPrefixes = emit.i1(false);
    if (many->hasPrefixes)
      hasPrefixes = emit.slt(emit.index(0), numPrefixes(emit, operands));
    Value limits[2];
    auto few = [&](CodeBuilder &e) {
      emitProducts(e, op, gpu, traits, shape, operands, limits[0]);
    };
    auto prompt = [&](CodeBuilder &e) {
      emitPrompt(e, op, gpu, traits, *many, operands, limits[1]);
    };
    shape.isLimited = many->isLimited = traits.isInvariant || many->ofBytes;
    if (traits.isInvariant) {
      // Its own rows alone say which kernel a request belongs to.
      limits[0] = limits[1] = limit;
      few(emit);
      emit.ifThen(emit.slt(limit, pairs), prompt);
    } else if (many->ofBytes) {
      // Keys that few pairs read come faster than they can be converted: such
      // requests have the other kernel in any case, but for prefixes.
      isMany = emit.slt(emit.muli(requests, limit), pairs);
      isMany = emit.ori(isMany, hasPrefixes);
      limits[0] = emit.select(isMany, limit, emit.index(INT32_MAX));
      limits[1] = emit.select(hasPrefixes, emit.index(0), limit);
      emit.ifThen(emit.noti(hasPrefixes), few);
      emit.ifThen(isMany, prompt);
    } else {
      emit.ifThen(emit.ori(isMany, hasPrefixes), prompt, few);
    }
    return text +
           llvm::formatv("; of many rows, products of {0} rows, {1} slots",
                         many->rows, many->slots)
               .str();
  }

  TargetAttr gpu;
};

} // namespace

void kvcache::populateAttentionToGPU(TypeConverter &converter,
                                     RewritePatternSet &patterns,
                                     TargetAttr gpu) {
  patterns.add<AttentionOpLowering>(converter, patterns.getContext(), gpu);
}
