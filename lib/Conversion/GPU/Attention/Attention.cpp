// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// attention: which kernel, and its launch. Kernels/AttentionKernel.h says what
// the fast one does.
//
//===----------------------------------------------------------------------===//

#include "Attention.h"

#include "../../../Runtime/kvrt_records.h"
#include "../../Common/Checks.h"
#include "../../Common/CodeBuilder.h"
#include "../../Common/RuntimeCalls.h"
#include "../Patterns.h"

#include "kvcache/Layout/Numbers.h"

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

AttentionOperands::AttentionOperands(CodeBuilder &emit, AttentionOp op,
                                     const LoweredOperands &in)
    : keys(in.cache(op.getCaches().front())),
      values(in.cache(op.getCaches().back())
                 .side(emit, op.getCaches().size() == 1 ? 1 : 0)),
      batch(in[op.getBatch()]), query(in[op.getQuery()]),
      out(in[op.getOuts().front()]), lse(in[op.getLse()]),
      alibi(in[op.getAlibi()]), sinks(in[op.getSinks()]) {
  rows = emit.minsi(emit.dim(query, 0), emit.dim(out, 0));
  if (lse)
    rows = emit.minsi(rows, emit.dim(lse, 0));
  blocks =
      emit.minsi(keys.extent(AxisKind::Block), values.extent(AxisKind::Block));
}

//===----------------------------------------------------------------------===//
// Which kernel
//===----------------------------------------------------------------------===//

/// Whether the types are those of matrix products.
static bool hasProducts(const AttentionTraits &traits) {
  auto fits = [](int64_t channels) {
    return channels % 8 == 0 && channels <= 256;
  };
  return (traits.keyType.isF16() || traits.keyType.isBF16()) &&
         traits.keyType == traits.valueType &&
         traits.keyType == traits.queryType && fits(traits.keyChannels) &&
         fits(traits.valueChannels) && traits.heads <= kMostHeads;
}

/// Axes of which a side of an attention has one index, in its base.
static AxisSet fixedAxes(AttentionOp op) {
  return op.getCaches().size() == 1 ? AxisSet() : AxisSet{AxisKind::Side};
}

/// How a map permutes the chunks of a token in shared memory, which is how
/// copies of rows do it: within so many bytes, 0 for one chunk.
static int64_t swizzleBytes(int64_t inner) { return inner > 8 ? 2 * inner : 0; }

/// The kernel of matrix products; none where the types or the target have no
/// use for it.
static std::optional<AttentionShape>
shapeOf(AttentionOp op, const AttentionTraits &traits, TargetAttr gpu) {
  if (gpu.getMatrix() != MatrixOps::mma_sync || !hasProducts(traits))
    return std::nullopt;
  auto inner = [&](CacheType type) {
    return boxChannels(type.getLayout(), 2, AttentionShape::kUnit,
                       fixedAxes(op));
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

static int64_t bytesOfParts(const AttentionShape &shape) {
  return 2 * shape.phases * AttentionState::kMaxBlocks * shape.partBytes();
}

void kvcache::allocateAttentionParts(ModuleOp module, TargetAttr gpu) {
  // Also in modules inside of this one, which are converted with it.
  llvm::MapVector<FunctionOpInterface, int64_t> bytesOf;
  module.walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (isa<gpu::GPUModuleOp>(op))
      return WalkResult::skip();
    auto attention = dyn_cast<AttentionOp>(op);
    if (!attention)
      return WalkResult::advance();
    AttentionTraits traits(attention);
    if (std::optional<AttentionShape> shape = shapeOf(attention, traits, gpu)) {
      int64_t &bytes = bytesOf[op->getParentOfType<FunctionOpInterface>()];
      bytes = std::max(bytes, bytesOfParts(*shape));
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

/// The widest copy that all chunks of a side are aligned to: 16, 4 or 2 bytes.
static Value copyWidth(CodeBuilder &emit, const CacheValue &cache) {
  const Layout &layout = cache.type.getLayout();
  Value address =
      memref::ExtractAlignedPointerAsIndexOp::create(emit, cache.buffer);
  return chunkWidth(emit, layout, emit.addMul(address, cache.offset, 2),
                    cache.strides, 2, {AxisKind::Side, AxisKind::Layer});
}

/// Memory of the host function, for `bytes` at most.
static Value allocaInEntry(CodeBuilder &emit, Operation *op, int64_t bytes,
                           int64_t align) {
  OpBuilder::InsertionGuard guard(emit);
  auto function = op->getParentOfType<FunctionOpInterface>();
  emit.setInsertionPointToStart(&function.getFunctionBody().front());
  auto pointer = LLVM::LLVMPointerType::get(emit.getContext());
  auto type = LLVM::LLVMArrayType::get(emit.getI8Type(), bytes);
  Value one = LLVM::ConstantOp::create(emit, emit.getI64Type(), int64_t(1));
  return LLVM::AllocaOp::create(emit, pointer, type, one, align);
}

/// A text of a message, for the run time.
static Value messageText(CodeBuilder &emit, Operation *op, const Twine &text) {
  return emitText(emit, emit.getLoc(), op, text.str());
}

/// A tensor map of one side: (channel, token, part of the channels, head,
/// block), boxes of a unit.
static Value emitMap(CodeBuilder &emit, Operation *op, const CacheValue &cache,
                     int64_t inner) {
  Value map = allocaInEntry(emit, op, KVRT_MAP_BYTES, KVRT_MAP_ALIGN);
  Value shape = allocaInEntry(emit, op, sizeof(kvrt_map_shape), 8);
  const Layout &layout = cache.type.getLayout();
  Value address =
      memref::ExtractAlignedPointerAsIndexOp::create(emit, cache.buffer);
  address = emit.addMul(address, cache.offset, 2);
  int64_t channels = layout.extent(AxisKind::Channel);
  auto outer = layout.find(Axis{AxisKind::Channel, AxisPart::Outer});
  Value part = outer ? cache.strides[*outer] : emit.index(inner);
  auto set = [&](size_t offset, Value word) {
    Value place =
        LLVM::GEPOp::create(emit, shape.getType(), emit.getI8Type(), shape,
                            ArrayRef<LLVM::GEPArg>{int32_t(offset)});
    Value integer = arith::IndexCastOp::create(emit, emit.getI64Type(), word);
    LLVM::StoreOp::create(emit, integer, place);
  };
  auto setList = [&](size_t offset, ArrayRef<Value> words) {
    for (auto [i, word] : llvm::enumerate(words))
      set(offset + i * sizeof(int64_t), word);
  };
  auto bytes = [&](Value stride) { return emit.muli(stride, 2); };
  Value width = emit.index(inner), count = emit.index(channels / inner);
  Value one = emit.index(1);
  Value extents[] = {width, emit.index(layout.extent(AxisKind::Token)), count,
                     emit.index(layout.extent(AxisKind::Head)),
                     cache.extent(AxisKind::Block)};
  Value strides[] = {emit.index(2), bytes(cache.stride(AxisKind::Token)),
                     bytes(part), bytes(cache.stride(AxisKind::Head)),
                     bytes(cache.stride(AxisKind::Block))};
  Value box[] = {width, emit.index(AttentionShape::kUnit), count, one, one};
  static_assert(std::size(extents) <= KVRT_MAP_MAX_RANK);
  set(offsetof(kvrt_map_shape, type), emit.index(KVRT_MAP_FLOAT16));
  set(offsetof(kvrt_map_shape, rank), emit.index(std::size(extents)));
  set(offsetof(kvrt_map_shape, swizzle), emit.index(swizzleBytes(inner)));
  setList(offsetof(kvrt_map_shape, extents), extents);
  setList(offsetof(kvrt_map_shape, strides), strides);
  setList(offsetof(kvrt_map_shape, box), box);
  emitRuntimeCall(
      emit, emit.getLoc(), op, "kvrt_tensor_map",
      {map, address, shape, messageText(emit, op, "tensor map of a cache")});
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
  Value user = messageText(emit, op,
                           "attention with " + Twine(traits.heads) +
                               " heads of the cache");
  Value count = emitQuery(emit, emit.getLoc(), op, "kvrt_multiprocessors",
                          {emit.index(traits.heads), user});
  count = emit.minsi(count, emit.index(AttentionState::kMaxBlocks));
  return emit.muli(emit.divui(count, traits.heads), traits.heads);
}

static void emitProducts(CodeBuilder &emit, AttentionOp op, TargetAttr gpu,
                         const AttentionTraits &traits,
                         const AttentionShape &shape,
                         const AttentionOperands &given) {
  KernelOperands operands(emit, emit.getLoc());
  BatchParameters batch(emit, emit.getLoc(), operands, given.batch, given.rows);
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
      emitQuery(emit, emit.getLoc(), op, "kvrt_workspace_state", {}));
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
  const CacheValue *caches[2] = {&given.keys, &given.values};
  for (unsigned side : {0u, 1u}) {
    if (shape.boxes) {
      Value map = emitMap(emit, op, *caches[side], shape.inner[side]);
      p.sides[side].map = operands.addMap(map);
      continue;
    }
    p.sides[side] = sideParameters(operands, *caches[side]);
    const Layout &layout = caches[side]->type.getLayout();
    p.sides[side].isWide =
        chunkBytes(layout, 2, fixedAxes(op)) == Layout::kWidestAccess;
    if (!p.sides[side].isWide)
      p.sides[side].width = operands.addIndex(copyWidth(emit, *caches[side]));
  }
  KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.getLoc(), "attention",
                  operands.types(), shape.threads());
  for (unsigned map : operands.maps())
    k.markMap(map);
  AttentionKernel(k, gpu, traits, shape, batch, p).build();
  k.finish();

  Value room = emit.muli(emit.dim(given.batch.table, 1), traits.tokens);
  Value isTooLong = emit.slt(emit.index(kMaxTokens), room);
  emit.ifThen(isTooLong, [&](CodeBuilder &e) {
    emitReport(e, e.getLoc(), op, "kvrt_report_room",
               {messageText(e, op, "attention on a GPU"),
                e.dim(given.batch.table, 1), e.index(traits.tokens),
                e.index(kMaxTokens)});
  });
  emit.ifThen(emit.slt(emit.index(0), given.rows), [&](CodeBuilder &e) {
    emitLaunch(e, e.getLoc(), k.symbol(), grid, e.index(1), Value(),
               shape.threads(), operands, shape.sharedBytes,
               LaunchMode::cooperative);
  });
}

namespace {

struct AttentionOpLowering : BufferOpLowering<AttentionOp> {
  AttentionOpLowering(TypeConverter &converter, MLIRContext *context,
                      TargetAttr gpu)
      : BufferOpLowering(converter, context), gpu(gpu) {}

  void lower(AttentionOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    AttentionTraits traits(op);
    AttentionOperands operands(emit, op, in);
    std::string text = "a row and a query head for each block of threads";
    if (std::optional<AttentionShape> shape = shapeOf(op, traits, gpu)) {
      emitProducts(emit, op, gpu, traits, *shape, operands);
      text = llvm::formatv("matrix products of {0} columns, {1} warps, {2} "
                           "slots; keys and values come in {3}",
                           shape->columns(), shape->warps, shape->slots,
                           shape->boxes ? "boxes of a tensor map" : "rows");
    } else {
      emitAttentionRows(emit, op, traits, operands);
    }
    auto options = remark::RemarkOpts::name("attention").category("kvcache");
    remark::analysis(op.getLoc(), options) << text;
  }

private:
  TargetAttr gpu;
};

} // namespace

void kvcache::populateAttentionToGPU(TypeConverter &converter,
                                     RewritePatternSet &patterns,
                                     TargetAttr gpu) {
  patterns.add<AttentionOpLowering>(converter, patterns.getContext(), gpu);
}
