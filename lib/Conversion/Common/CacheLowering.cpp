// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "CacheLowering.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Func/Transforms/FuncConversions.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SCF/Transforms/Patterns.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;
using namespace kvcache;

Value kvcache::indexConstant(OpBuilder &builder, Location loc, int64_t value) {
  return arith::ConstantIndexOp::create(builder, loc, value);
}

static Value mul(OpBuilder &builder, Location loc, Value a, Value b) {
  return builder.createOrFold<arith::MulIOp>(loc, a, b);
}

CacheTypeConverter::CacheTypeConverter() {
  addConversion([](Type type) { return type; });
  addConversion([](CacheType type) { return type.getMemRefType(); });
  addConversion([](SlotsType type) { return type.getMemRefType(); });
}

void kvcache::dropArgumentAttributes(ModuleOp module) {
  for (auto function : module.getOps<FunctionOpInterface>())
    for (unsigned i = 0; i < function.getNumArguments(); ++i)
      for (StringRef name :
           {KVCacheDialect::kNameAttr, KVCacheDialect::kAlignAttr})
        function.removeArgAttr(i, name);
}

//===----------------------------------------------------------------------===//
// CacheParts
//===----------------------------------------------------------------------===//

CacheParts::CacheParts(OpBuilder &builder, Location loc, CacheType type,
                       Value memref)
    : type(type) {
  auto metadata =
      memref::ExtractStridedMetadataOp::create(builder, loc, memref);
  buffer = metadata.getBaseBuffer();
  offset = metadata.getOffset();
  const Layout &layout = type.getLayout();
  for (unsigned i = 0; i < layout.rank(); ++i) {
    int64_t extent = layout.dim(i).extent;
    extents.push_back(extent == kRunTime ? Value(metadata.getSizes()[i])
                                         : indexConstant(builder, loc, extent));
    std::optional<int64_t> stride = layout.stride(i);
    strides.push_back(stride ? indexConstant(builder, loc, *stride)
                             : Value(metadata.getStrides()[i]));
  }
}

Value CacheParts::extent(AxisKind kind) const {
  return extents[*type.getLayout().find(kind)];
}

Value CacheParts::stride(AxisKind kind) const {
  return strides[*type.getLayout().find(kind)];
}

Value CacheParts::numSlots(OpBuilder &builder, Location loc) const {
  return mul(builder, loc, extent(AxisKind::Block), extent(AxisKind::Token));
}

//===----------------------------------------------------------------------===//
// RowPlan and row operands
//===----------------------------------------------------------------------===//

RowPlan::RowPlan(CacheType type) {
  const Layout &layout = type.getLayout();
  // The listing is canonical, so heads and channels stand there as in a row.
  std::vector<Axis> packed;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    AxisKind kind = layout.dim(i).axis.kind;
    if (kind == AxisKind::Head || kind == AxisKind::Channel)
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
  int64_t row = bytes;
  for (int64_t extent : type.getShape().drop_front()) {
    if (ShapedType::isDynamic(extent))
      return bytes;
    row *= extent;
  }
  return row ? powerOfTwoDivisor(row, Layout::kWidestAccess) : bytes;
}

int64_t kvcache::argumentAlignment(FunctionOpInterface function, unsigned index,
                                   MemRefType type) {
  auto align =
      function.getArgAttrOfType<IntegerAttr>(index, KVCacheDialect::kAlignAttr);
  return align ? align.getInt() : defaultRowAlignment(type);
}

/// The alignment of the rows of a slice: that of the source, and of every step
/// from its base. Run-time strides are known to be aligned for rows only.
static int64_t sliceRowAlignment(memref::SubViewOp slice,
                                 int64_t elementBytes) {
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(slice.getSource().getType().getStridesAndOffset(strides, offset)))
    return elementBytes;
  int64_t align = knownRowAlignment(slice.getSource());
  for (auto [d, start] : llvm::enumerate(slice.getMixedOffsets())) {
    std::optional<int64_t> constant = getConstantIntValue(start);
    if (constant == 0)
      continue;
    if (ShapedType::isStatic(strides[d]))
      align = powerOfTwoDivisor(
          constant.value_or(1) * strides[d] * elementBytes, align);
    else if (d > 0)
      return elementBytes;
  }
  // The rows of the slice are those of the source, or the distance is known.
  SmallVector<int64_t> result;
  if (failed(slice.getType().getStridesAndOffset(result, offset)))
    return elementBytes;
  if (ShapedType::isStatic(result[0]))
    return powerOfTwoDivisor(result[0] * elementBytes, align);
  return slice.getDroppedDims().test(0) ? elementBytes : align;
}

int64_t kvcache::knownRowAlignment(Value memref) {
  auto type = cast<MemRefType>(memref.getType());
  int64_t bytes = type.getElementType().getIntOrFloatBitWidth() / 8;
  if (auto argument = dyn_cast<BlockArgument>(memref)) {
    auto function = dyn_cast_or_null<FunctionOpInterface>(
        argument.getOwner()->getParentOp());
    if (!function || argument.getOwner() != &function.getFunctionBody().front())
      return bytes;
    return argumentAlignment(function, argument.getArgNumber(), type);
  }
  Operation *def = memref.getDefiningOp();
  if (isa<memref::AllocOp>(def))
    return defaultRowAlignment(type);
  if (auto cast = dyn_cast<memref::CastOp>(def))
    return knownRowAlignment(cast.getSource());
  if (auto slice = dyn_cast<memref::SubViewOp>(def))
    return sliceRowAlignment(slice, bytes);
  return bytes;
}

Value kvcache::emitRowCount(OpBuilder &builder, Location loc, ValueRange rows,
                            Value slots) {
  Value zero = indexConstant(builder, loc, 0);
  Value count = builder.createOrFold<memref::DimOp>(loc, slots, zero);
  for (Value row : rows) {
    Value length = builder.createOrFold<memref::DimOp>(loc, row, zero);
    if (length != count)
      count = builder.createOrFold<arith::MinSIOp>(loc, count, length);
  }
  return count;
}

//===----------------------------------------------------------------------===//
// Views
//===----------------------------------------------------------------------===//

namespace {

/// The memref of a cache over a buffer, from the extents and strides of the
/// axes as listed.
Value emitCacheMemRef(OpBuilder &builder, Location loc, CacheType type,
                      Value buffer, OpFoldResult offset,
                      ArrayRef<OpFoldResult> extents,
                      ArrayRef<OpFoldResult> strides) {
  MemRefType result = type.getMemRefType();
  return memref::ReinterpretCastOp::create(builder, loc, result, buffer, offset,
                                           extents, strides);
}

struct ViewOpLowering : OpConversionPattern<ViewOp> {
  using OpConversionPattern::OpConversionPattern;

  LogicalResult
  matchAndRewrite(ViewOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Value memref = op.isByteView() ? lowerBytes(op, adaptor, rewriter)
                                   : lowerElements(op, adaptor, rewriter);
    rewriter.replaceOp(op, memref);
    return success();
  }

private:
  static Value lowerElements(ViewOp op, OpAdaptor adaptor, OpBuilder &builder) {
    Location loc = op.getLoc();
    CacheType type = op.getResult().getType();
    const Layout &layout = type.getLayout();
    auto source = memref::ExtractStridedMetadataOp::create(builder, loc,
                                                           adaptor.getSource());
    SmallVector<OpFoldResult> extents, strides;
    for (unsigned i = 0; i < layout.rank(); ++i) {
      unsigned d = op.sourceDim(i);
      int64_t extent = layout.dim(i).extent;
      extents.push_back(extent == kRunTime ? OpFoldResult(source.getSizes()[d])
                                           : builder.getIndexAttr(extent));
      std::optional<int64_t> stride = layout.stride(i);
      strides.push_back(stride ? OpFoldResult(builder.getIndexAttr(*stride))
                               : source.getStrides()[d]);
    }
    return emitCacheMemRef(builder, loc, type, source.getBaseBuffer(),
                           source.getOffset(), extents, strides);
  }

  /// Makes the call of the entry function fail, with the name of the argument
  /// if the bytes are one.
  static void reportUnless(Value fits, ViewOp op, Value offset, Value end,
                           Value bytes, OpBuilder &builder) {
    Location loc = op.getLoc();
    Type index = builder.getIndexType();
    StringRef name = "kvrt_report_view";
    auto module = op->getParentOfType<ModuleOp>();
    if (!module.lookupSymbol(name)) {
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(module.getBody());
      auto type = builder.getFunctionType({index, index, index, index}, {});
      func::FuncOp::create(builder, loc, name, type).setPrivate();
    }
    auto argument = dyn_cast<BlockArgument>(op.getSource());
    bool isOfFunction =
        argument && argument.getOwner()->isEntryBlock() &&
        isa<FunctionOpInterface>(argument.getOwner()->getParentOp());
    Value number = indexConstant(builder, loc,
                                 isOfFunction ? argument.getArgNumber() : -1);
    Value truth = arith::ConstantIntOp::create(builder, loc, 1, 1);
    Value fails = arith::XOrIOp::create(builder, loc, fits, truth);
    scf::IfOp::create(builder, loc, fails, [&](OpBuilder &b, Location l) {
      func::CallOp::create(b, l, name, TypeRange(),
                           ValueRange{number, offset, end, bytes});
      scf::YieldOp::create(b, l);
    });
  }

  /// Extents and strides come from the operands, the other strides follow from
  /// the order. A view that would leave its buffer, or whose first element is
  /// not aligned as the type says, gets no blocks: whatever is done to it then
  /// touches nothing.
  static Value lowerBytes(ViewOp op, OpAdaptor adaptor, OpBuilder &builder) {
    Location loc = op.getLoc();
    CacheType type = op.getResult().getType();
    const Layout &layout = type.getLayout();
    auto constant = [&](int64_t n) { return indexConstant(builder, loc, n); };
    auto operandOf = [](ArrayAttr names, ValueRange values, Axis axis) {
      for (auto [name, value] : llvm::zip(names, values))
        if (cast<StringAttr>(name).getValue() == axis.str())
          return value;
      return Value();
    };

    unsigned rank = layout.rank();
    SmallVector<Value> extents(rank), strides(rank);
    Value span; // in elements, up to the end of the last element
    Value one = constant(1);
    for (unsigned k = rank; k-- > 0;) {
      unsigned i = layout.orderAt(k);
      const LayoutDim &dim = layout.dim(i);
      Value runTimeExtent =
          operandOf(op.getExtentAxes(), adaptor.getExtents(), dim.axis);
      Value runTimeStride =
          operandOf(op.getStrideAxes(), adaptor.getStrides(), dim.axis);
      extents[i] = runTimeExtent ? runTimeExtent : constant(dim.extent);
      if (std::optional<int64_t> stride = layout.stride(i))
        strides[i] = constant(*stride);
      else if (runTimeStride)
        strides[i] = runTimeStride;
      else
        strides[i] = mul(builder, loc, strides[layout.orderAt(k + 1)],
                         extents[layout.orderAt(k + 1)]);
      Value last = builder.createOrFold<arith::SubIOp>(loc, extents[i], one);
      Value reach = mul(builder, loc, last, strides[i]);
      span = span ? builder.createOrFold<arith::AddIOp>(loc, span, reach)
                  : builder.createOrFold<arith::AddIOp>(loc, reach, one);
    }

    Value offset = adaptor.getOffset() ? adaptor.getOffset() : constant(0);
    Value bytes =
        memref::DimOp::create(builder, loc, adaptor.getSource(), constant(0));
    Value elementBytes = constant(type.getElementBytes());
    Value end = builder.createOrFold<arith::AddIOp>(
        loc, offset, mul(builder, loc, span, elementBytes));
    auto compare = [&](arith::CmpIPredicate predicate, Value a, Value b) {
      return arith::CmpIOp::create(builder, loc, predicate, a, b).getResult();
    };
    auto both = [&](Value a, Value b) {
      return arith::AndIOp::create(builder, loc, a, b).getResult();
    };
    Value zero = constant(0);
    Value fits = both(compare(arith::CmpIPredicate::sge, offset, zero),
                      compare(arith::CmpIPredicate::sle, end, bytes));
    Value misaligned = builder.createOrFold<arith::RemUIOp>(
        loc, offset, constant(layout.align()));
    fits = both(fits, compare(arith::CmpIPredicate::eq, misaligned, zero));
    // The products above may have wrapped: no axis reaches further than there
    // are elements, which is found without multiplying.
    Value room = builder.createOrFold<arith::DivUIOp>(loc, bytes, elementBytes);
    for (unsigned i = 0; i < rank; ++i) {
      const LayoutDim &dim = layout.dim(i);
      if (dim.extent == kRunTime ||
          dim.stride.kind == StrideFact::Kind::RunTime) {
        Value step = arith::MaxUIOp::create(builder, loc, strides[i], one);
        Value most = arith::DivUIOp::create(builder, loc, room, step);
        Value last = builder.createOrFold<arith::SubIOp>(loc, extents[i], one);
        fits = both(fits, compare(arith::CmpIPredicate::sle, last, most));
      }
      if (dim.extent == kRunTime) {
        fits = both(fits, compare(arith::CmpIPredicate::sge, extents[i], zero));
        fits = both(fits, compare(arith::CmpIPredicate::sle, extents[i],
                                  constant(kMaxExtent)));
      }
      if (dim.stride.kind != StrideFact::Kind::RunTime)
        continue;
      Value multiple = constant(dim.stride.value);
      Value rest =
          builder.createOrFold<arith::RemUIOp>(loc, strides[i], multiple);
      fits = both(fits, compare(arith::CmpIPredicate::eq, rest, zero));
      // Blocks do not overlap.
      Value least = one;
      if (std::optional<unsigned> next = layout.nextFaster(i))
        least = mul(builder, loc, strides[*next], extents[*next]);
      fits = both(fits, compare(arith::CmpIPredicate::sge, strides[i], least));
      fits = both(fits, compare(arith::CmpIPredicate::sgt, strides[i], zero));
      fits = both(fits, compare(arith::CmpIPredicate::sle, strides[i],
                                constant(kMaxExtent)));
    }

    reportUnless(fits, op, offset, end, bytes, builder);
    unsigned block = *layout.find(AxisKind::Block);
    Value safeOffset =
        arith::SelectOp::create(builder, loc, fits, offset, zero);
    Value elements = arith::DivUIOp::create(
        builder, loc,
        builder.createOrFold<arith::SubIOp>(loc, bytes, safeOffset),
        elementBytes);
    auto flat = MemRefType::get({ShapedType::kDynamic}, type.getElementType());
    Value typed =
        memref::ViewOp::create(builder, loc, flat, adaptor.getSource(),
                               safeOffset, ValueRange{elements});

    SmallVector<OpFoldResult> sizes, steps;
    for (unsigned i = 0; i < rank; ++i) {
      Value extent = extents[i];
      if (i == block && layout.dim(i).extent == kRunTime)
        extent = arith::SelectOp::create(builder, loc, fits, extent, zero);
      sizes.push_back(layout.dim(i).extent == kRunTime
                          ? OpFoldResult(extent)
                          : builder.getIndexAttr(layout.dim(i).extent));
      std::optional<int64_t> stride = layout.stride(i);
      steps.push_back(stride ? OpFoldResult(builder.getIndexAttr(*stride))
                             : OpFoldResult(strides[i]));
    }
    return emitCacheMemRef(builder, loc, type, typed, builder.getIndexAttr(0),
                           sizes, steps);
  }
};

struct MakeSlotsOpLowering : OpConversionPattern<MakeSlotsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(MakeSlotsOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (!isa<MemRefType>(adaptor.getSource().getType()))
      return rewriter.notifyMatchFailure(op, "the source is still a tensor");
    rewriter.replaceOp(op, adaptor.getSource());
    return success();
  }
};

} // namespace

void kvcache::populateCommonPatterns(TypeConverter &converter,
                                     RewritePatternSet &patterns,
                                     ConversionTarget &target) {
  patterns.add<ViewOpLowering, MakeSlotsOpLowering>(converter,
                                                    patterns.getContext());
  populateFunctionOpInterfaceTypeConversionPattern<func::FuncOp>(patterns,
                                                                 converter);
  populateCallOpTypeConversionPattern(patterns, converter);
  populateReturnOpTypeConversionPattern(patterns, converter);
  populateBranchOpInterfaceTypeConversionPattern(patterns, converter);
  scf::populateSCFStructuralTypeConversionsAndLegality(converter, patterns,
                                                       target);
  target.addIllegalDialect<KVCacheDialect>();
  target.addDynamicallyLegalOp<func::FuncOp>([&](func::FuncOp op) {
    return converter.isSignatureLegal(op.getFunctionType()) &&
           converter.isLegal(&op.getBody());
  });
  target.addDynamicallyLegalOp<func::CallOp, func::ReturnOp>(
      [&](Operation *op) { return converter.isLegal(op); });
  target.markUnknownOpDynamicallyLegal(
      [&](Operation *op) { return converter.isLegal(op); });
}
