// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "BufferOps.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"

using namespace mlir;
using namespace kvcache;

Type kvcache::findUnbounded(TypeRange types, int64_t most) {
  for (Type type : types) {
    auto shaped = dyn_cast<ShapedType>(type);
    if (!shaped || !shaped.hasRank())
      continue;
    int64_t product = 1;
    for (int64_t extent : shaped.getShape()) {
      if (ShapedType::isDynamic(extent) || extent == 0)
        continue;
      // Bytecode may say what no text can.
      if (extent < 0 || extent > kMaxExtent || extent > most / product)
        return type;
      product *= extent;
    }
  }
  return {};
}

LogicalResult kvcache::verifyExtents(Operation *op) {
  Type type = findUnbounded(op->getOperandTypes());
  if (!type)
    type = findUnbounded(op->getResultTypes());
  if (!type)
    return success();
  return op->emitOpError() << "extents_c1: extents of at most 2^40 and at most "
                              "2^54 elements are expected, got "
                           << type;
}

/// `[?, 8, 128]` of bf16, as it would be written.
static std::string shapeStr(ArrayRef<int64_t> shape, Type elementType) {
  std::string text;
  llvm::raw_string_ostream os(text);
  for (int64_t extent : shape) {
    if (ShapedType::isDynamic(extent))
      os << "?x";
    else
      os << extent << "x";
  }
  os << elementType;
  return text;
}

LogicalResult kvcache::verifyShape(Operation *op, StringRef label,
                                   const Twine &what, Type buffer,
                                   ArrayRef<int64_t> shape, Type elementType,
                                   unsigned leading) {
  auto type = cast<ShapedType>(buffer);
  bool agrees = type.getRank() == static_cast<int64_t>(shape.size()) &&
                (!elementType || type.getElementType() == elementType);
  for (unsigned i = 0; agrees && i < shape.size(); ++i) {
    int64_t extent = type.getDimSize(i);
    if (ShapedType::isDynamic(shape[i]))
      continue;
    agrees =
        extent == shape[i] || (i < leading && ShapedType::isDynamic(extent));
  }
  if (agrees)
    return success();
  return op->emitOpError() << label << ": " << what << " expected to be "
                           << shapeStr(shape, elementType
                                                  ? elementType
                                                  : type.getElementType())
                           << ", got " << buffer;
}

LogicalResult kvcache::verifyRowElement(Operation *op, StringRef label,
                                        Type element) {
  if (isa<FormatTypeInterface>(element) &&
      !isa<ScaledType, StoredType>(element))
    return success();
  return op->emitOpError() << label
                           << ": the elements of rows are expected to be "
                           << KVCacheDialect::listFormats(op->getContext())
                           << ", got " << element;
}

LogicalResult kvcache::verifyIndices(Operation *op, StringRef label,
                                     const Twine &what, Type buffer,
                                     unsigned rank) {
  auto type = cast<ShapedType>(buffer);
  Type element = type.getElementType();
  if (type.getRank() == static_cast<int64_t>(rank) &&
      (element.isSignlessInteger(32) || element.isSignlessInteger(64)))
    return success();
  return op->emitOpError() << label << ": " << what << " expected to be "
                           << rank << "-D, of i32 or i64, got " << buffer;
}

int64_t kvcache::extentInCache(Axis axis, int64_t extent) {
  bool mayBeNone = axis.kind == AxisKind::Block || axis.kind == AxisKind::Layer;
  bool isOpen = ShapedType::isDynamic(extent) || (extent == 0 && mayBeNone);
  return isOpen ? kRunTime : extent;
}

CacheType kvcache::withLayout(CacheType type, const Layout &layout) {
  return CacheType::get(type.getContext(), layout, type.getElementType(),
                        type.getSpace(), type.getAccess());
}

std::optional<std::vector<StridedDim>> kvcache::stridedDims(MemRefType type) {
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(type.getStridesAndOffset(strides, offset)))
    return std::nullopt;
  // Types that come from bytecode are not verified.
  if (int64_t(strides.size()) != type.getRank())
    return std::nullopt;
  std::vector<StridedDim> dims;
  for (auto [extent, stride] : llvm::zip_equal(type.getShape(), strides))
    dims.push_back({ShapedType::isDynamic(extent) ? kRunTime : extent,
                    ShapedType::isDynamic(stride)
                        ? StrideFact::runTime()
                        : StrideFact::constant(stride)});
  return dims;
}

bool kvcache::isContiguous(Type buffer, Contiguity contiguity) {
  auto memref = dyn_cast<MemRefType>(buffer);
  if (!memref)
    return true;
  if (contiguity == Contiguity::All)
    return memref.getLayout().isIdentity();
  std::optional<std::vector<StridedDim>> dims = stridedDims(memref);
  unsigned first = contiguity == Contiguity::Inner ? 1 : memref.getRank() - 1;
  return dims && isRowMajor(*dims, memref.getRank() == 1 ? 0 : first);
}

LogicalResult kvcache::verifyMemory(Operation *op, StringRef label,
                                    ValueRange buffers, Contiguity contiguity) {
  for (Value buffer : buffers) {
    if (!isContiguous(buffer.getType(), contiguity))
      return op->emitOpError()
             << label << ": "
             << (contiguity == Contiguity::All     ? "a contiguous memref is"
                 : contiguity == Contiguity::Inner ? "contiguous inner "
                                                     "dimensions are"
                                                   : "a stride of 1 in the "
                                                     "last dimension is")
             << " expected, got " << buffer.getType();
    auto memref = dyn_cast<MemRefType>(buffer.getType());
    if (memref && memref.getMemorySpace())
      return op->emitOpError()
             << label << ": a memref in the default memory space is expected, "
             << "got " << memref;
  }
  return success();
}

LogicalResult kvcache::verifyOneForm(Operation *op, StringRef label,
                                     ValueRange buffers, ValueRange caches) {
  Type tensor, memref;
  for (Value buffer : buffers)
    (isa<MemRefType>(buffer.getType()) ? memref : tensor) = buffer.getType();
  for (Value cache : caches)
    if (!isa<CacheType>(cache.getType()))
      tensor = cache.getType();
  if (tensor && memref)
    return op->emitOpError()
           << label << ": buffers are expected to be all "
           << "tensors or all memrefs, got " << tensor << " and " << memref;
  return success();
}

LogicalResult kvcache::verifyWindowRight(Operation *op, StringRef label,
                                         IntegerAttr window, bool causal) {
  if (!window)
    return success();
  if (causal)
    return op->emitOpError() << label
                             << ": 'causal' or 'window_right' is "
                                "expected, got both";
  if (window.getInt() < 0 || window.getInt() > kMaxExtent)
    return op->emitOpError() << label
                             << ": 'window_right' is expected to be "
                                "from 0 to 2^40, got "
                             << window.getInt();
  return success();
}

std::optional<int64_t> kvcache::aheadOf(bool causal, IntegerAttr windowRight) {
  if (windowRight)
    return windowRight.getInt();
  return causal ? std::optional<int64_t>(0) : std::nullopt;
}

void kvcache::inferFromDestinations(ValueRange destinations,
                                    SmallVectorImpl<Type> &types) {
  for (Value destination : destinations)
    if (isa<RankedTensorType>(destination.getType()))
      types.push_back(destination.getType());
}

void kvcache::addBufferEffects(
    Operation *op, unsigned first, unsigned count,
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  for (OpOperand &operand : op->getOpOperands()) {
    if (!isa<MemRefType, CacheType, SlotsType, BlockTableType, BatchType>(
            operand.get().getType()))
      continue;
    unsigned number = operand.getOperandNumber();
    auto cache = dyn_cast<CacheType>(operand.get().getType());
    bool isOnlyRead = cache && cache.getAccess() == Access::read;
    if (number >= first && number < first + count && !isOnlyRead)
      effects.emplace_back(MemoryEffects::Write::get(), &operand);
    else
      effects.emplace_back(MemoryEffects::Read::get(), &operand);
  }
}

MutableOperandRange kvcache::destinations(Operation *op, unsigned first,
                                          unsigned count) {
  if (count && isa<CacheType>(op->getOperand(first).getType()))
    count = 0;
  return MutableOperandRange(op, first, count);
}

LogicalResult
kvcache::reifyFromDestinations(Operation *op, OpBuilder &builder,
                               ReifiedRankedShapedTypeDims &shapes) {
  auto into = cast<DestinationStyleOpInterface>(op);
  for (OpOperand &init : into.getDpsInitsMutable())
    if (isa<RankedTensorType>(init.get().getType()))
      shapes.push_back(
          tensor::getMixedSizes(builder, op->getLoc(), init.get()));
  return success();
}

TiedExtents kvcache::leadingExtents(ValueRange values) {
  TiedExtents extents;
  for (Value value : values)
    extents.push_back({value});
  return extents;
}

TiedExtents kvcache::leadingExtents(TypedValue<BatchType> batch,
                                    ValueRange values) {
  TiedExtents extents = leadingExtents(values);
  if (batch.getType().hasPositions())
    extents.insert(extents.begin(), {batch, 0, BatchMember::Positions});
  return extents;
}

LogicalResult kvcache::verifyScales(Operation *op, StringRef label,
                                    CacheType cache, Value scales,
                                    bool isWritten) {
  bool isStored = isa<StoredType>(cache.getElementType());
  if (!scales && !isStored)
    return success();
  if (!scales || !isStored)
    return op->emitOpError()
           << label << ": a cache of scales is expected "
           << (isStored ? "beside stored values, got none of "
                        : "only beside stored values, got one of ")
           << cache;
  auto type = cast<CacheType>(scales.getType());
  if (!type.getElementType().isF32())
    return op->emitOpError()
           << label << ": scales are expected to be f32, got " << type;
  auto isShared = [&](AxisKind kind) {
    return type.getLayout().extent(kind) == 1;
  };
  if (isWritten && type.areGiven() &&
      !(isShared(AxisKind::Block) && isShared(AxisKind::Token)))
    return op->emitOpError()
           << label
           << ": writable scales, or read-only ones of one block and token, "
              "are expected, got "
           << type;
  if (type.getSpace() != cache.getSpace())
    return op->emitOpError()
           << label << ": scales are expected in the space of " << cache
           << ", got " << type;
  const Layout &layout = cache.getLayout(), &own = type.getLayout();
  for (AxisKind kind : {AxisKind::Layer, AxisKind::Side, AxisKind::Block,
                        AxisKind::Token, AxisKind::Head, AxisKind::Channel}) {
    int64_t all = layout.extent(kind), some = own.extent(kind);
    bool isDivided = kind == AxisKind::Channel && all % some == 0;
    bool isEqual = all == some || all == kRunTime || some == kRunTime;
    if (layout.has(kind) == own.has(kind) &&
        (isDivided || isEqual || some == 1))
      continue;
    return op->emitOpError()
           << label << ": scales are expected to have the axes of " << cache
           << ", with the same extents or 1, of D a divisor, got "
           << Axis{kind}.str() << " of " << type;
  }
  return success();
}

LogicalResult kvcache::verifyNoScales(Operation *op, StringRef label,
                                      CacheType cache, StringRef instead) {
  if (!cache.getScaled())
    return success();
  return op->emitOpError() << label << ": a cache without scales is expected, "
                           << "got " << cache << "; " << instead;
}

void kvcache::addScaleTies(Value cache, Value scales,
                           SmallVectorImpl<TiedExtents> &ties) {
  if (!scales)
    return;
  auto layoutOf = [](Value cache) -> const Layout & {
    return cast<CacheType>(cache.getType()).getLayout();
  };
  for (AxisKind kind : {AxisKind::Layer, AxisKind::Block}) {
    std::optional<unsigned> all = layoutOf(cache).find(kind);
    if (all && layoutOf(scales).extent(kind) != 1)
      ties.push_back({{cache, *all}, {scales, *layoutOf(scales).find(kind)}});
  }
}

FailureOr<CacheType> kvcache::verifyCache(Operation *op, StringRef label,
                                          Type type,
                                          std::optional<ArrayAttr> axes) {
  std::string why;
  CacheType cache = CacheType::of(type, axes ? *axes : ArrayAttr(), why);
  if (cache)
    return cache;
  return op->emitOpError() << label << ": " << why;
}
