// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "CacheLowering.h"

#include "kvcache/Conversion/Patterns.h"

#include "CodeBuilder.h"

#include "kvcache/Layout/Numbers.h"

#include "kvcache/IR/Sources.h"
#include "kvcache/IR/Strides.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Transforms/RegionUtils.h"

using namespace mlir;
using namespace kvcache;

Value kvcache::indexConstant(OpBuilder &builder, Location loc, int64_t value) {
  return arith::ConstantIndexOp::create(builder, loc, value);
}

void kvcache::populateKVCacheTypeConversions(TypeConverter &converter) {
  converter.addConversion([](Type type) { return type; });
  converter.addConversion([](CacheType type) {
    return type.getScaled() ? Type() : type.getMemRefType();
  });
  converter.addConversion([](SlotsType type) { return type.getMemRefType(); });
  converter.addConversion(
      [](BlockTableType type) { return type.getMemRefType(); });
  converter.addConversion([](BatchType type, SmallVectorImpl<Type> &members) {
    llvm::append_range(members, type.getMemRefTypes());
    return success();
  });
}

CacheTypeConverter::CacheTypeConverter() {
  populateKVCacheTypeConversions(*this);
}

void kvcache::dropArgumentAttributes(ModuleOp module) {
  module.walk([](FunctionOpInterface function) {
    for (unsigned i = 0; i < function.getNumArguments(); ++i)
      for (StringRef name :
           {KVCacheDialect::kNameAttr, KVCacheDialect::kAlignAttr,
            KVCacheDialect::kHostAttr, KVCacheDialect::kNoAliasAttr})
        function.removeArgAttr(i, name);
  });
}

LogicalResult kvcache::dropUnreachable(ModuleOp module) {
  IRRewriter rewriter(module.getContext());
  (void)eraseUnreachableBlocks(rewriter, module->getRegions());
  auto isOurs = [](Type type) {
    return isa<KVCacheDialect>(type.getDialect());
  };
  WalkResult walk = module.walk([&](Operation *op) {
    // Calls are converted with the function, its address is not.
    auto address = dyn_cast<func::ConstantOp>(op);
    auto type = address ? cast<FunctionType>(address.getType()) : nullptr;
    if (type && (llvm::any_of(type.getInputs(), isOurs) ||
                 llvm::any_of(type.getResults(), isOurs))) {
      op->emitOpError() << "is the address of a function with kvcache types, "
                           "which is lowered only where it is called by name; "
                           "got "
                        << type;
      return WalkResult::interrupt();
    }
    if (!isa_and_present<KVCacheDialect>(op->getDialect()))
      return WalkResult::advance();
    // A function around the module that an operation is in has no values for
    // it.
    auto function = op->getParentOfType<FunctionOpInterface>();
    Operation *isolated =
        op->getParentWithTrait<OpTrait::IsIsolatedFromAbove>();
    if (function && (!isolated || isolated->isAncestor(function)))
      return WalkResult::advance();
    op->emitOpError() << "is expected to be in a function";
    return WalkResult::interrupt();
  });
  return failure(walk.wasInterrupted());
}

Operation *kvcache::findScales(ModuleOp module) {
  Operation *found = nullptr;
  auto isScaled = [](Type type) {
    auto cache = dyn_cast<CacheType>(type);
    return cache && cache.getScaled();
  };
  module.walk([&](Operation *op) {
    bool has = llvm::any_of(op->getOperandTypes(), isScaled) ||
               llvm::any_of(op->getResultTypes(), isScaled);
    if (auto function = dyn_cast<FunctionOpInterface>(op))
      has |= llvm::any_of(function.getArgumentTypes(), isScaled) ||
             llvm::any_of(function.getResultTypes(), isScaled);
    for (Region &region : op->getRegions())
      for (Block &block : region)
        has |= llvm::any_of(block.getArgumentTypes(), isScaled);
    if (has)
      found = op;
    return has ? WalkResult::interrupt() : WalkResult::advance();
  });
  return found;
}

LogicalResult kvcache::prepareLowering(ModuleOp module) {
  if (failed(dropUnreachable(module)))
    return failure();
  if (Operation *op = findScales(module))
    return op->emitOpError() << "has a cache with scales, which "
                                "'kvcache-split-parts' is expected "
                                "to have made two caches";
  return success();
}

//===----------------------------------------------------------------------===//
// CacheValue
//===----------------------------------------------------------------------===//

CacheValue::CacheValue(CodeBuilder &emit, CacheType type, ValueRange memrefs)
    : type(type) {
  auto metadata =
      memref::ExtractStridedMetadataOp::create(emit, memrefs.front());
  buffer = metadata.getBaseBuffer();
  offset = metadata.getOffset();
  const Layout &layout = type.getLayout();
  for (unsigned i = 0; i < layout.rank(); ++i) {
    int64_t extent = layout.dim(i).extent;
    extents.push_back(extent == kRunTime ? Value(metadata.getSizes()[i])
                                         : emit.index(extent));
  }
  strides = stridesOf(emit, layout, extents,
                      std::vector<Value>(metadata.getStrides().begin(),
                                         metadata.getStrides().end()));
}

Value CacheValue::extent(AxisKind kind) const {
  return extents[*type.getLayout().find(kind)];
}

Value CacheValue::stride(AxisKind kind) const {
  return strides[*type.getLayout().find(kind)];
}

Value CacheValue::indexOffset(CodeBuilder &emit, AxisKind kind,
                              Value index) const {
  const Layout &layout = type.getLayout();
  Value offset = emit.index(0);
  // From the inner part of a split axis outwards.
  for (unsigned i = layout.rank(); i-- > 0;) {
    const LayoutDim &dim = layout.dim(i);
    if (dim.axis.kind != kind)
      continue;
    bool isOuter = dim.axis.part != AxisPart::Inner;
    if (dim.extent != 1)
      offset = emit.addMul(
          offset, isOuter ? index : emit.remui(index, dim.extent), strides[i]);
    if (!isOuter)
      index = emit.divui(index, dim.extent);
  }
  return offset;
}

CacheValue CacheValue::as(CacheType other) const {
  CacheValue result(other, buffer, offset);
  for (const LayoutDim &dim : other.getLayout().listing()) {
    unsigned axis = *type.getLayout().find(dim.axis);
    result.extents.push_back(extents[axis]);
    result.strides.push_back(strides[axis]);
  }
  return result;
}

CacheValue CacheValue::from(CodeBuilder &emit, AxisKind kind,
                            Value index) const {
  CacheValue result = *this;
  if (type.getLayout().extent(kind) != 1)
    result.offset = emit.addMul(offset, index, stride(kind));
  return result;
}

CacheValue CacheValue::side(CodeBuilder &emit, int64_t side) const {
  return side ? from(emit, AxisKind::Side, emit.index(side)) : *this;
}

Values CacheValue::memrefs(CodeBuilder &emit) const {
  const Layout &layout = type.getLayout();
  SmallVector<OpFoldResult> sizes, steps;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    int64_t extent = layout.dim(i).extent;
    std::optional<int64_t> stride = layout.stride(i);
    sizes.push_back(extent == kRunTime ? OpFoldResult(extents[i])
                                       : emit.getIndexAttr(extent));
    steps.push_back(stride ? OpFoldResult(emit.getIndexAttr(*stride))
                           : OpFoldResult(strides[i]));
  }
  return {memref::ReinterpretCastOp::create(emit, type.getMemRefType(), buffer,
                                            getAsOpFoldResult(offset), sizes,
                                            steps)};
}

//===----------------------------------------------------------------------===//
// LoweredOperands
//===----------------------------------------------------------------------===//

ValueRange LoweredOperands::parts(Value operand) const {
  auto found = llvm::find(op->getOperands(), operand);
  assert(found != op->operand_end() && "an operand of the operation");
  return lowered[found.getIndex()];
}

Value LoweredOperands::smallest(const TiedExtents &extents) const {
  Value least = builder.index(Layout::kMaxSpan);
  for (const OperandExtent &extent : extents)
    least =
        builder.minsi(least, builder.dim((*this)[extent.value], extent.dim));
  return least;
}

Values LoweredOperands::operator[](ValueRange operands) const {
  return llvm::map_to_vector(operands,
                             [&](Value operand) { return (*this)[operand]; });
}

//===----------------------------------------------------------------------===//
// BatchValue
//===----------------------------------------------------------------------===//

BatchValue::BatchValue(BatchType type, ValueRange members)
    : type(type), starts(members[0]), lengths(members[1]), table(members[2]),
      positions(members.size() > 3 ? members[3] : Value()) {}

Value BatchValue::numRequests(OpBuilder &builder, Location loc) const {
  CodeBuilder emit(builder, loc);
  Value starts = emit.subi(emit.dim(this->starts, 0), emit.index(1));
  Value rows = emit.minsi(emit.dim(lengths, 0), emit.dim(table, 0));
  return emit.maxsi(emit.minsi(starts, rows), emit.index(0));
}

Value BatchValue::length(OpBuilder &builder, Location loc,
                         Value request) const {
  CodeBuilder emit(builder, loc);
  Value room = emit.mulSat(emit.dim(table, 1), type.getTokens());
  return emit.clamp(emit.loadIndex(lengths, request), room);
}

//===----------------------------------------------------------------------===//
// RowPlan and row operands
//===----------------------------------------------------------------------===//

RowPlan::RowPlan(CacheType type, ArrayRef<AxisKind> kinds) {
  const Layout &layout = type.getLayout();
  // The listing is canonical, so heads and channels stand there as in a row.
  std::vector<Axis> packed;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    AxisKind kind = layout.dim(i).axis.kind;
    if (llvm::is_contained(kinds, kind))
      packed.push_back(layout.dim(i).axis);
  }
  run = layout.commonRun(packed);
  for (size_t k = packed.size(); k-- > 0;) {
    unsigned index = *layout.find(packed[k]);
    int64_t extent = layout.dim(index).extent;
    bool inRun = rowElements < run.elements;
    if (!inRun && extent != 1) {
      axes.insert(axes.begin(), {index, extent, rowElements});
      pieces *= extent;
    }
    rowElements *= extent;
  }
}

static int64_t defaultRowAlignment(MemRefType type) {
  int64_t bytes = type.getElementType().getIntOrFloatBitWidth() / 8;
  if (type.getRank() < 2)
    return bytes;
  int64_t align = powerOfTwoDivisor(bytes, Layout::kWidestAccess);
  for (int64_t extent : type.getShape().drop_front()) {
    if (ShapedType::isDynamic(extent) || extent == 0)
      return bytes;
    align = alignmentOf(extent, align, Layout::kWidestAccess);
  }
  return align;
}

int64_t kvcache::argumentAlignment(FunctionOpInterface function, unsigned index,
                                   MemRefType type) {
  auto align =
      function.getArgAttrOfType<IntegerAttr>(index, KVCacheDialect::kAlignAttr);
  return align ? align.getInt() : defaultRowAlignment(type);
}

/// The alignment of the rows of a slice: that of the source, and of every step
/// from its base. Run-time strides are known to be aligned for rows only.
static int64_t sliceRowAlignment(memref::SubViewOp slice, int64_t elementBytes,
                                 int64_t align) {
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(slice.getSource().getType().getStridesAndOffset(strides, offset)))
    return elementBytes;
  for (auto [d, start] : llvm::enumerate(slice.getMixedOffsets())) {
    std::optional<int64_t> constant = getConstantIntValue(start);
    if (constant == 0)
      continue;
    if (ShapedType::isStatic(strides[d]))
      align = alignmentOf(constant.value_or(1),
                          alignmentOf(strides[d], elementBytes, align), align);
    else if (d > 0)
      return elementBytes;
  }
  // The rows of the slice are those of the source, or the distance is known.
  SmallVector<int64_t> result;
  if (failed(slice.getType().getStridesAndOffset(result, offset)))
    return elementBytes;
  if (ShapedType::isStatic(result[0]))
    return alignmentOf(result[0], elementBytes, align);
  return slice.getDroppedDims().test(0) ? elementBytes : align;
}

/// The alignment of the rows of what is no cast or slice of something else.
static int64_t rootRowAlignment(Value memref) {
  auto type = cast<MemRefType>(memref.getType());
  int64_t bytes = type.getElementType().getIntOrFloatBitWidth() / 8;
  if (auto argument = dyn_cast<BlockArgument>(memref)) {
    auto function = dyn_cast_or_null<FunctionOpInterface>(
        argument.getOwner()->getParentOp());
    if (!function || argument.getOwner() != &function.getFunctionBody().front())
      return bytes;
    return argumentAlignment(function, argument.getArgNumber(), type);
  }
  return memref.getDefiningOp<memref::AllocOp>() ? defaultRowAlignment(type)
                                                 : bytes;
}

int64_t kvcache::knownRowAlignment(Value memref) {
  SmallVector<memref::SubViewOp> slices;
  Value root = furthestSource(memref, [&](Value value) -> Value {
    if (auto slice = value.getDefiningOp<memref::SubViewOp>()) {
      slices.push_back(slice);
      return slice.getSource();
    }
    auto cast = value.getDefiningOp<memref::CastOp>();
    return cast && isa<MemRefType>(cast.getSource().getType())
               ? cast.getSource()
               : Value();
  });
  int64_t align = rootRowAlignment(root);
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  for (memref::SubViewOp slice : llvm::reverse(slices))
    align =
        sliceRowAlignment(slice, element.getIntOrFloatBitWidth() / 8, align);
  return align;
}

int64_t kvcache::knownHeadAlignment(Value memref) {
  auto type = cast<MemRefType>(memref.getType());
  int64_t bytes = type.getElementType().getIntOrFloatBitWidth() / 8;
  int64_t align = knownRowAlignment(memref);
  std::vector<StridedDim> dims = *stridedDims(type);
  StrideFact row = dims[0].stride, head = dims[1].stride;
  if (row.kind == StrideFact::Kind::Constant)
    align = alignmentOf(row.value, bytes, align);
  if (head.kind == StrideFact::Kind::Constant)
    return alignmentOf(head.value, bytes, align);
  auto argument = dyn_cast<BlockArgument>(memref);
  auto function = argument ? dyn_cast_or_null<FunctionOpInterface>(
                                 argument.getOwner()->getParentOp())
                           : FunctionOpInterface();
  bool isPromised =
      function && argument.getOwner() == &function.getFunctionBody().front() &&
      function.getArgAttr(argument.getArgNumber(), KVCacheDialect::kAlignAttr);
  return isPromised ? align : bytes;
}

int64_t kvcache::numbersWithParts(Type integer, int64_t factor) {
  unsigned bits = integer.isIndex() ? 64 : integer.getIntOrFloatBitWidth();
  return static_cast<int64_t>((uint64_t(1) << (bits - 1)) / factor);
}

Value kvcache::emitRowCount(CodeBuilder &emit, ValueRange rows, Value slots) {
  Value count = emit.dim(slots, 0);
  for (Value row : rows) {
    Value length = emit.dim(row, 0);
    if (length != count)
      count = emit.minsi(count, length);
  }
  return count;
}
