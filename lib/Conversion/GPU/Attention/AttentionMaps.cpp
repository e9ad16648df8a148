// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tensor maps of caches and of a query, which the host function makes of
// addresses and strides before each launch.
//
//===----------------------------------------------------------------------===//

#include "Attention.h"

#include "../../../Runtime/kvrt_records.h"
#include "../../Common/Checks.h"
#include "../../Common/CodeBuilder.h"
#include "../../Common/RuntimeCalls.h"

#include "kvcache/IR/Strides.h"

using namespace mlir;
using namespace kvcache;

/// How a map permutes the chunks of a token in shared memory, which is how
/// copies of rows do it: within so many bytes, 0 for one chunk of 16.
static int64_t swizzleBytes(int64_t inner, int64_t elementBytes) {
  int64_t bytes = inner * elementBytes;
  return bytes > 16 ? bytes : 0;
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

namespace {

/// A dimension of a tensor map, the fastest one first.
struct MapDim {
  Value extent, stride; ///< of elements
  int64_t box;
};

} // namespace

static Value emitMap(CodeBuilder &emit, Operation *op, Value address,
                     int64_t elementBytes, ArrayRef<MapDim> dims,
                     int64_t swizzle, StringRef what) {
  Value map = allocaInEntry(emit, op, KVRT_MAP_BYTES, KVRT_MAP_ALIGN);
  Value shape = allocaInEntry(emit, op, sizeof(kvrt_map_shape), 8);
  auto set = [&](size_t offset, Value word) {
    Value place =
        LLVM::GEPOp::create(emit, shape.getType(), emit.getI8Type(), shape,
                            ArrayRef<LLVM::GEPArg>{int32_t(offset)});
    Value integer = arith::IndexCastOp::create(emit, emit.getI64Type(), word);
    LLVM::StoreOp::create(emit, integer, place);
  };
  assert(dims.size() <= KVRT_MAP_MAX_RANK && "a map has few dimensions");
  set(offsetof(kvrt_map_shape, type),
      emit.index(elementBytes == 1 ? KVRT_MAP_UINT8 : KVRT_MAP_FLOAT16));
  set(offsetof(kvrt_map_shape, rank), emit.index(dims.size()));
  set(offsetof(kvrt_map_shape, swizzle), emit.index(swizzle));
  for (auto [i, dim] : llvm::enumerate(dims)) {
    size_t at = i * sizeof(int64_t);
    set(offsetof(kvrt_map_shape, extents) + at, dim.extent);
    set(offsetof(kvrt_map_shape, strides) + at,
        emit.muli(dim.stride, elementBytes));
    set(offsetof(kvrt_map_shape, box) + at, emit.index(dim.box));
  }
  emitRuntimeCall(
      emit, emit.getLoc(), op, "kvrt_tensor_map",
      {map, address, shape,
       emitText(emit, emit.getLoc(), op, ("tensor map of " + what).str())});
  return map;
}

/// Of a cache; `inner` channels of a box lie side by side.
static Value emitMap(CodeBuilder &emit, Operation *op, const CacheValue &cache,
                     ArrayRef<MapDim> dims, int64_t inner) {
  Value address =
      memref::ExtractAlignedPointerAsIndexOp::create(emit, cache.buffer);
  int64_t bytes = cache.type.getElementBytes();
  return emitMap(emit, op, emit.addMul(address, cache.offset, bytes), bytes,
                 dims, swizzleBytes(inner, bytes), "a cache");
}

Value kvcache::emitQueryMap(CodeBuilder &emit, Operation *op, Value query,
                            const AttentionTraits &traits, Value rows,
                            int64_t boxRows) {
  std::vector<StridedDim> known =
      *stridedDims(cast<MemRefType>(query.getType()));
  auto view = memref::ExtractStridedMetadataOp::create(emit, query);
  Value address = memref::ExtractAlignedPointerAsIndexOp::create(emit, query);
  constexpr int64_t kInner = PromptShape::kInner;
  StrideFact headStride = known[1].stride;
  Value head = headStride.kind == StrideFact::Kind::Constant
                   ? Value(emit.index(headStride.value))
                   : view.getStrides()[1];
  MapDim dims[] = {{emit.index(traits.keyChannels), emit.index(1), kInner},
                   {emit.index(traits.queryHeads), head, traits.group},
                   {rows, view.getStrides().front(), boxRows}};
  return emitMap(emit, op, emit.addMul(address, view.getOffset(), 2),
                 /*elementBytes=*/2, dims, swizzleBytes(kInner, 2), "a query");
}

/// The distance of parts of `inner` channels.
static Value partStride(CodeBuilder &emit, const CacheValue &cache,
                        int64_t inner) {
  auto outer =
      cache.type.getLayout().find(Axis{AxisKind::Channel, AxisPart::Outer});
  return outer ? cache.strides[*outer] : Value(emit.index(inner));
}

Value kvcache::emitTokenMap(CodeBuilder &emit, Operation *op,
                            const CacheValue &cache, int64_t inner,
                            int64_t tokens, int64_t parts) {
  const Layout &layout = cache.type.getLayout();
  ChannelDims channels = channelDims(layout, inner);
  MapDim dims[] = {
      {emit.index(channels.adjacent), emit.index(1), inner},
      {emit.index(layout.extent(AxisKind::Token)),
       cache.stride(AxisKind::Token), tokens},
      {emit.index(channels.parts), partStride(emit, cache, inner), parts},
      {emit.index(layout.extent(AxisKind::Head)), cache.stride(AxisKind::Head),
       1},
      {cache.extent(AxisKind::Block), cache.stride(AxisKind::Block), 1}};
  return emitMap(emit, op, cache, dims, inner);
}

Value kvcache::emitGroupMap(CodeBuilder &emit, Operation *op,
                            const CacheValue &cache, HeadNeighbor neighbor,
                            int64_t tokens) {
  const Layout &layout = cache.type.getLayout();
  constexpr int64_t kInner = PromptShape::kInner;
  int64_t parts = layout.extent(AxisKind::Channel) / kInner;
  int64_t heads = layout.extent(AxisKind::Head);
  int64_t groups = layout.extent(AxisKind::Token) / 8;
  bool withParts = neighbor == HeadNeighbor::Channels;
  Value token = cache.stride(AxisKind::Token);
  MapDim dims[] = {
      {emit.index(kInner), emit.index(1), kInner},
      {emit.index(8), token, 8},
      {emit.index(withParts ? heads * parts : parts),
       partStride(emit, cache, kInner), parts},
      {emit.index(withParts ? groups : heads * groups), emit.muli(token, 8),
       tokens / 8},
      {cache.extent(AxisKind::Block), cache.stride(AxisKind::Block), 1}};
  return emitMap(emit, op, cache, dims, kInner);
}
