// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// attention: which kernel, and its launch. Kernels/AttentionKernel.h says what
// the fast one does.
//
//===----------------------------------------------------------------------===//

#include "Attention.h"

#include "../../Common/CodeBuilder.h"
#include "../../Common/RuntimeCalls.h"
#include "../Patterns.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Remarks.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace kvcache;

/// On the allocation that all attentions of a function share.
static constexpr StringLiteral kPartsName = "attention_parts";
/// Tokens of a request are numbered in 31 bits, and masks go past them.
static constexpr int64_t kMaxTokens = int64_t(1) << 30;
static constexpr int64_t kMostHeads = 64;

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

AttentionCache::AttentionCache(OpBuilder &builder, Location loc, CacheType type,
                               Value memref, bool isSecondSide)
    : parts(builder, loc, type, memref), offset(parts.offset) {
  if (isSecondSide)
    offset =
        CodeBuilder(builder, loc).addi(offset, parts.stride(AxisKind::Side));
}

AxisStrides AttentionCache::axis(KernelOperands &operands,
                                 AxisKind kind) const {
  const Layout &layout = parts.type.getLayout();
  auto stride = [&](unsigned i) {
    return operands.addStride(layout.stride(i), parts.strides[i]);
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

AttentionSide AttentionCache::parameters(KernelOperands &operands) const {
  AttentionSide side;
  side.pointer = operands.addPointer(parts.buffer, offset);
  side.block = axis(operands, AxisKind::Block).outer;
  side.token = axis(operands, AxisKind::Token).outer;
  side.head = axis(operands, AxisKind::Head);
  side.channel = axis(operands, AxisKind::Channel);
  return side;
}

AttentionOperands::AttentionOperands(OpBuilder &builder, Location loc,
                                     AttentionOp op,
                                     ArrayRef<ValueRange> operands)
    : keys(builder, loc, op.getKeyType(), operands[1].front(), false),
      values(builder, loc, op.getValueType(),
             operands[op.getCaches().size()].front(),
             op.getCaches().size() == 1),
      batch(op.getBatch().getType(), operands[1 + op.getCaches().size()]) {
  CodeBuilder emit(builder, loc);
  query = operands[0].front();
  unsigned next = 2 + op.getCaches().size();
  if (op.getAlibi())
    alibi = operands[next++].front();
  if (op.getSinks())
    sinks = operands[next++].front();
  out = operands[next++].front();
  rows = emit.minsi(emit.dim(query, 0), emit.dim(out, 0));
  if (op.getLse()) {
    lse = operands[next++].front();
    rows = emit.minsi(rows, emit.dim(lse, 0));
  }
  blocks = emit.minsi(keys.parts.extent(AxisKind::Block),
                      values.parts.extent(AxisKind::Block));
}

//===----------------------------------------------------------------------===//
// Which kernel
//===----------------------------------------------------------------------===//

/// What a chip has for one block of threads.
static int64_t sharedLimit(StringRef chip) {
  if (chip == "sm_80" || chip == "sm_87")
    return 163 << 10;
  return chip.starts_with("sm_8") ? 99 << 10 : 227 << 10;
}

static bool takesProducts(const AttentionTraits &traits) {
  auto fits = [](int64_t channels) {
    return channels % 8 == 0 && channels <= 256;
  };
  return (traits.keyType.isF16() || traits.keyType.isBF16()) &&
         traits.keyType == traits.valueType &&
         traits.keyType == traits.queryType && fits(traits.keyChannels) &&
         fits(traits.valueChannels) && traits.heads <= kMostHeads;
}

/// The channels that lie side by side in a box of a tensor map, 0 if the facts
/// do not allow boxes.
static int64_t boxInner(CacheType type, bool hasSide) {
  const Layout &layout = type.getLayout();
  auto isAligned = [&](unsigned i) {
    return layout.strideMultiple(i) * type.getElementBytes() % 16 == 0;
  };
  if (layout.align() < 16 || layout.extent(AxisKind::Token) % 16 ||
      layout.extent(AxisKind::Channel) % 16 || !layout.find(AxisKind::Head) ||
      (layout.has(AxisKind::Layer) && !layout.find(AxisKind::Layer)))
    return 0;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    AxisKind kind = layout.dim(i).axis.kind;
    bool isInner =
        kind == AxisKind::Channel && layout.dim(i).axis.part != AxisPart::Outer;
    if (isInner ? layout.stride(i) != 1
                : (kind != AxisKind::Side || hasSide) && !isAligned(i))
      return 0;
  }
  int64_t channels = layout.extent(AxisKind::Channel);
  if (auto inner = layout.find(Axis{AxisKind::Channel, AxisPart::Inner})) {
    int64_t extent = layout.dim(*inner).extent;
    return extent == 8 || extent == 16 || extent == 32 || extent == 64 ? extent
                                                                       : 0;
  }
  return innerChannels(channels);
}

static AttentionShape shapeOf(AttentionOp op, const AttentionTraits &traits,
                              StringRef chip) {
  bool isNew = !chip.starts_with("sm_8");
  bool hasSides = op.getCaches().size() == 1;
  int64_t key = boxInner(op.getKeyType(), hasSides);
  int64_t value = boxInner(op.getValueType(), hasSides);
  bool boxes = isNew && key && value;
  return AttentionShape(traits, boxes, isNew, sharedLimit(chip),
                        boxes ? key : 0, boxes ? value : 0);
}

static int64_t bytesOfParts(const AttentionShape &shape) {
  return 2 * shape.phases * AttentionState::kMaxBlocks * shape.partBytes();
}

void kvcache::allocateAttentionParts(ModuleOp module, StringRef chip) {
  // Also in modules inside of this one, which are converted with it.
  llvm::MapVector<FunctionOpInterface, int64_t> bytesOf;
  module.walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (isa<gpu::GPUModuleOp>(op))
      return WalkResult::skip();
    if (auto attention = dyn_cast<AttentionOp>(op))
      if (AttentionTraits traits(attention); takesProducts(traits)) {
        int64_t &bytes = bytesOf[op->getParentOfType<FunctionOpInterface>()];
        bytes = std::max(bytes, bytesOfParts(shapeOf(attention, traits, chip)));
      }
    return WalkResult::advance();
  });
  for (auto [function, bytes] : bytesOf) {
    OpBuilder builder =
        OpBuilder::atBlockBegin(&function.getFunctionBody().front());
    auto type = MemRefType::get({bytes}, builder.getI8Type());
    auto alloc = memref::AllocOp::create(builder, function->getLoc(), type);
    alloc->setAttr(kPartsName, builder.getUnitAttr());
  }
}

static Value findParts(Operation *op) {
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

/// The axis whose elements are 16-byte chunks of channels, if there are such.
static std::optional<unsigned> chunkAxis(const Layout &layout) {
  std::optional<unsigned> channel = layout.find(AxisKind::Channel);
  if (!channel)
    channel = layout.find(Axis{AxisKind::Channel, AxisPart::Inner});
  if (layout.stride(*channel) != 1 || layout.dim(*channel).extent % 8)
    return std::nullopt;
  return channel;
}

/// Whether the type proves that all chunks are aligned to 16 bytes.
static bool isWide(CacheType type, bool hasSide) {
  const Layout &layout = type.getLayout();
  std::optional<unsigned> channel = chunkAxis(layout);
  if (!channel || layout.align() < 16)
    return false;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    AxisKind kind = layout.dim(i).axis.kind;
    bool isUsed = i != *channel && (kind != AxisKind::Side || hasSide);
    if (isUsed && layout.strideMultiple(i) * type.getElementBytes() % 16)
      return false;
  }
  return true;
}

/// The widest copy that all chunks of a side are aligned to: 16, 4 or 2 bytes.
static Value copyWidth(CodeBuilder &emit, const AttentionCache &cache) {
  const Layout &layout = cache.parts.type.getLayout();
  std::optional<unsigned> channel = chunkAxis(layout);
  if (!channel)
    return emit.index(2);
  Value address =
      memref::ExtractAlignedPointerAsIndexOp::create(emit, cache.parts.buffer);
  Value bits = emit.addMul(address, cache.offset, 2);
  for (unsigned i = 0; i < layout.rank(); ++i) {
    AxisKind kind = layout.dim(i).axis.kind;
    if (i != *channel && kind != AxisKind::Side && kind != AxisKind::Layer)
      bits = emit.ori(bits, emit.muli(cache.parts.strides[i], 2));
  }
  auto divides = [&](int64_t n) {
    return emit.eq(emit.remui(bits, n), emit.index(0));
  };
  return emit.select(divides(16), emit.index(16),
                     emit.select(divides(4), emit.index(4), emit.index(2)));
}

/// A tensor map of one side: (channel, token, part of the channels, head,
/// block), boxes of a unit.
static Value emitMap(CodeBuilder &emit, Operation *op,
                     const AttentionCache &cache, int64_t inner) {
  Value map = [&] {
    OpBuilder::InsertionGuard guard(emit);
    auto function = op->getParentOfType<FunctionOpInterface>();
    emit.setInsertionPointToStart(&function.getFunctionBody().front());
    auto pointer = LLVM::LLVMPointerType::get(emit.getContext());
    auto type = LLVM::LLVMArrayType::get(emit.getI8Type(), 128);
    Value one = LLVM::ConstantOp::create(emit, emit.getI64Type(), int64_t(1));
    return LLVM::AllocaOp::create(emit, pointer, type, one, 64).getResult();
  }();
  const CacheParts &parts = cache.parts;
  const Layout &layout = parts.type.getLayout();
  Value address =
      memref::ExtractAlignedPointerAsIndexOp::create(emit, parts.buffer);
  address = emit.addMul(address, cache.offset, 2);
  int64_t channels = layout.extent(AxisKind::Channel);
  auto outer = layout.find(Axis{AxisKind::Channel, AxisPart::Outer});
  Value part = outer ? parts.strides[*outer] : emit.index(inner);
  auto bytes = [&](Value stride) { return emit.muli(stride, 2); };
  SmallVector<Value> operands = {map,
                                 address,
                                 emit.index(inner),
                                 emit.index(layout.extent(AxisKind::Token)),
                                 emit.index(channels / inner),
                                 emit.index(layout.extent(AxisKind::Head)),
                                 parts.extent(AxisKind::Block),
                                 bytes(parts.stride(AxisKind::Token)),
                                 bytes(part),
                                 bytes(parts.stride(AxisKind::Head)),
                                 bytes(parts.stride(AxisKind::Block)),
                                 emit.index(AttentionShape::kUnit)};
  emitRuntimeCall(emit, emit.getLoc(), op, "kvrt_tensor_map", operands);
  return map;
}

/// So many units make a chunk, as a power of two, that the chunks of all items
/// are below 2^31, whatever the lengths are.
static Value chunkBits(CodeBuilder &emit, const AttentionTraits &traits,
                       const AttentionShape &shape,
                       const AttentionOperands &given) {
  Value requests = given.batch.numRequests(emit, emit.getLoc());
  Value items = emit.addi(
      emit.divui(emit.muli(given.rows, traits.group), shape.columns()),
      requests);
  Value room = emit.muli(emit.dim(given.batch.table, 1), traits.tokens);
  Value units = emit.muli(items, emit.ceildivui(room, AttentionShape::kUnit));
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
                      const AttentionTraits &traits) {
  Value count = emitQuery(emit, emit.getLoc(), op, "kvrt_multiprocessors",
                          {emit.index(traits.heads)});
  count = emit.minsi(count, emit.index(AttentionState::kMaxBlocks));
  return emit.muli(emit.divui(count, traits.heads), traits.heads);
}

static void emitProducts(OpBuilder &builder, AttentionOp op,
                         const AttentionTraits &traits,
                         const AttentionShape &shape,
                         const AttentionOperands &given) {
  CodeBuilder emit(builder, op.getLoc());
  KernelOperands operands(builder, emit.getLoc());
  BatchParameters batch(builder, emit.getLoc(), operands, given.batch,
                        given.rows);
  AttentionParameters p = {};
  p.chunkBits = operands.addIndex(chunkBits(emit, traits, shape, given));
  Value grid = gridSize(emit, op, traits);
  Value one = emit.index(1);
  auto scale = [&](int64_t heads) {
    return operands.addIndex(emit.divui(
        emit.index(UINT32_MAX), emit.maxsi(emit.divui(grid, heads), one)));
  };
  p.scale = scale(traits.heads);
  p.sharedScale = scale(traits.heads / shape.phases);
  p.blocks = operands.addIndex(given.blocks);
  p.state = operands.addAddress(
      emitQuery(builder, emit.getLoc(), op, "kvrt_workspace_state", {}));
  p.parts = operands.addBuffer(findParts(op));
  RowBuffer query(operands, given.query), out(operands, given.out);
  p.query = query.pointer;
  p.queryRow = query.stride;
  p.queryAlign = query.align;
  p.out = out.pointer;
  p.outRow = out.stride;
  if (given.lse) {
    RowBuffer lse(operands, given.lse);
    p.lse = lse.pointer;
    p.lseRow = lse.stride;
  }
  if (given.alibi)
    p.alibi = operands.addBuffer(given.alibi);
  if (given.sinks)
    p.sinks = operands.addBuffer(given.sinks);
  const AttentionCache *caches[2] = {&given.keys, &given.values};
  for (unsigned side : {0u, 1u}) {
    if (shape.boxes) {
      Value map = emitMap(emit, op, *caches[side], shape.inner[side]);
      p.sides[side].map = operands.addMap(map);
      continue;
    }
    p.sides[side] = caches[side]->parameters(operands);
    p.sides[side].isWide =
        isWide(caches[side]->parts.type, op.getCaches().size() == 1);
    if (!p.sides[side].isWide)
      p.sides[side].width = operands.addIndex(copyWidth(emit, *caches[side]));
  }
  KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.getLoc(), "attention",
                  operands.types(), shape.threads());
  for (unsigned map : operands.maps())
    k.markMap(map);
  AttentionKernel(k, traits, shape, batch, p).build();
  k.finish();

  Value room = emit.muli(emit.dim(given.batch.table, 1), traits.tokens);
  Value isTooLong = emit.slt(emit.index(kMaxTokens), room);
  emit.ifThen(isTooLong, [&](CodeBuilder &e) {
    emitReport(e, e.getLoc(), op, "kvrt_report_room",
               {e.dim(given.batch.table, 1), e.index(traits.tokens),
                e.index(kMaxTokens)});
  });
  emit.ifThen(emit.slt(emit.index(0), given.rows), [&](CodeBuilder &e) {
    emitLaunch(e, e.getLoc(), k.symbol(), grid, e.index(1), Value(),
               shape.threads(), operands, shape.sharedBytes,
               /*cooperative=*/true);
  });
}

namespace {

struct AttentionOpLowering : OpConversionPattern<AttentionOp> {
  AttentionOpLowering(TypeConverter &converter, MLIRContext *context,
                      StringRef chip)
      : OpConversionPattern(converter, context), chip(chip) {}

  LogicalResult
  matchAndRewrite(AttentionOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    SmallVector<ValueRange> lists(adaptor.getOperands());
    for (ValueRange values : lists)
      for (Value value : values)
        if (isa<TensorType>(value.getType()))
          return rewriter.notifyMatchFailure(op, "an operand is a tensor");
    AttentionTraits traits(op);
    AttentionOperands operands(rewriter, op.getLoc(), op, lists);
    std::string text = "a row and a query head for each block of threads";
    if (takesProducts(traits)) {
      AttentionShape shape = shapeOf(op, traits, chip);
      emitProducts(rewriter, op, traits, shape, operands);
      text = llvm::formatv("matrix products of {0} columns, {1} warps, {2} "
                           "slots; keys and values come in {3}",
                           shape.columns(), shape.warps, shape.slots,
                           shape.boxes ? "boxes of a tensor map" : "rows");
    } else {
      emitAttentionRows(rewriter, op, traits, operands);
    }
    auto options = remark::RemarkOpts::name("attention").category("kvcache");
    remark::analysis(op.getLoc(), options) << text;
    rewriter.eraseOp(op);
    return success();
  }

private:
  std::string chip;
};

} // namespace

void kvcache::populateAttentionToGPU(TypeConverter &converter,
                                     RewritePatternSet &patterns,
                                     StringRef chip) {
  patterns.add<AttentionOpLowering>(converter, patterns.getContext(), chip);
}
