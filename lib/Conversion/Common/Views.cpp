// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lowering of views, facts and function boundaries: a cache becomes a strided
// memref whose dimensions are its axes as listed.
//
//===----------------------------------------------------------------------===//

#include "CacheLowering.h"
#include "CodeBuilder.h"
#include "RuntimeCalls.h"

#include "kvcache/Layout/Numbers.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/ControlFlow/Transforms/StructuralTypeConversions.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Func/Transforms/FuncConversions.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SCF/Transforms/Patterns.h"

using namespace mlir;
using namespace kvcache;

namespace {

/// Calls a function of the run time that makes the call of the entry function
/// fail, where a condition does not hold.
void reportUnless(OpBuilder &builder, Operation *op, Value holds,
                  StringRef name, ValueRange operands) {
  Location loc = op->getLoc();
  Value truth = arith::ConstantIntOp::create(builder, loc, 1, 1);
  Value fails = arith::XOrIOp::create(builder, loc, holds, truth);
  scf::IfOp::create(builder, loc, fails, [&](OpBuilder &b, Location l) {
    emitReport(b, l, op, name, operands);
    scf::YieldOp::create(b, l);
  });
}

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

/// The memref as one of a type that says something else of its extents and
/// strides. Of an axis of extent 1 the strides may differ, as they are never
/// used, which a cast does not allow.
Value castCache(OpBuilder &builder, Location loc, CacheType from, CacheType to,
                Value memref) {
  MemRefType type = to.getMemRefType();
  if (memref.getType() == type)
    return memref;
  if (memref::CastOp::areCastCompatible(memref.getType(), type))
    return memref::CastOp::create(builder, loc, type, memref);
  CacheParts parts(builder, loc, from, memref);
  const Layout &layout = to.getLayout();
  SmallVector<OpFoldResult> extents, strides;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    int64_t extent = layout.dim(i).extent;
    extents.push_back(extent == kRunTime ? OpFoldResult(parts.extents[i])
                                         : builder.getIndexAttr(extent));
    std::optional<int64_t> stride = layout.stride(i);
    strides.push_back(stride ? OpFoldResult(builder.getIndexAttr(*stride))
                             : OpFoldResult(parts.strides[i]));
  }
  return emitCacheMemRef(builder, loc, to, parts.buffer, parts.offset, extents,
                         strides);
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

  /// The number of the argument of the entry function that the bytes are, as a
  /// caller counts, who passes a batch as its members; -1 if they are none. The
  /// source is the one of the converted function, if it is converted already.
  static Value argumentNumber(ViewOp op, Value source, OpBuilder &builder) {
    int64_t number = -1;
    auto argument = dyn_cast<BlockArgument>(source);
    auto function = op->getParentOfType<FunctionOpInterface>();
    // A function that others call has arguments of theirs.
    bool isOfEntry =
        argument && function && function.isPublic() &&
        argument.getOwner() == &function.getFunctionBody().front() &&
        SymbolTable::symbolKnownUseEmpty(function, function->getParentOp());
    if (isOfEntry) {
      number = 0;
      for (BlockArgument before :
           argument.getOwner()->getArguments().take_front(
               argument.getArgNumber())) {
        auto batch = dyn_cast<BatchType>(before.getType());
        number += batch ? batch.getMemRefTypes().size() : 1;
      }
    }
    return indexConstant(builder, op.getLoc(), number);
  }

  /// Extents and strides come from the operands, the other strides follow from
  /// the order. A view that would leave its buffer, or whose first element is
  /// not aligned as the type says, gets no blocks: whatever is done to it then
  /// touches nothing.
  static Value lowerBytes(ViewOp op, OpAdaptor adaptor, OpBuilder &builder) {
    Location loc = op.getLoc();
    CodeBuilder emit(builder, loc);
    CacheType type = op.getResult().getType();
    const Layout &layout = type.getLayout();
    auto operandOf = [](ArrayAttr names, ValueRange values, Axis axis) {
      for (auto [name, value] : llvm::zip(names, values))
        if (cast<StringAttr>(name).getValue() == axis.str())
          return value;
      return Value();
    };

    Value zero = emit.index(0), fits = emit.i1(true);
    auto require = [&](Value condition) { fits = emit.andi(fits, condition); };
    std::vector<Value> givenExtents, givenStrides;
    for (const LayoutDim &dim : layout.listing()) {
      givenExtents.push_back(
          operandOf(op.getExtentAxes(), adaptor.getExtents(), dim.axis));
      givenStrides.push_back(
          operandOf(op.getStrideAxes(), adaptor.getStrides(), dim.axis));
    }
    auto [extents, strides, span] =
        boundedNumbers(emit, layout, givenExtents, givenStrides, require);

    Value offset = adaptor.getOffset() ? adaptor.getOffset() : zero;
    Value bytes = emit.dim(adaptor.getSource(), 0);
    Value end = emit.addSat(emit.maxsi(offset, zero),
                            emit.mulSat(span, type.getElementBytes()));
    require(emit.sge(offset, zero));
    require(emit.sge(bytes, end));
    require(emit.eq(emit.remui(offset, layout.align()), zero));

    reportUnless(
        builder, op, fits, "kvrt_report_view",
        {argumentNumber(op, adaptor.getSource(), builder), offset, end, bytes});
    unsigned block = *layout.find(AxisKind::Block);
    Value safeOffset = emit.select(fits, offset, zero);
    Value elements =
        emit.divui(emit.subi(bytes, safeOffset), type.getElementBytes());
    auto flat = MemRefType::get({ShapedType::kDynamic}, type.getElementType());
    Value typed =
        memref::ViewOp::create(builder, loc, flat, adaptor.getSource(),
                               safeOffset, ValueRange{elements});

    SmallVector<OpFoldResult> sizes, steps;
    for (unsigned i = 0; i < layout.rank(); ++i) {
      Value extent = extents[i];
      if (i == block)
        extent = emit.select(fits, extent, zero);
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

struct StorageOpLowering : OpConversionPattern<StorageOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(StorageOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    CacheType type = op.getCache().getType();
    const Layout &layout = type.getLayout();
    CacheParts parts(rewriter, loc, type, adaptor.getCache());
    auto result = cast<MemRefType>(op.getResult().getType());
    SmallVector<int64_t> shape(layout.rank()), knownStrides(layout.rank()),
        wanted;
    int64_t offset;
    LogicalResult hasStrides = result.getStridesAndOffset(wanted, offset);
    assert(succeeded(hasStrides) && "checked by the verifier");
    (void)hasStrides;
    SmallVector<OpFoldResult> extents(layout.rank()), strides(layout.rank());
    for (unsigned i = 0; i < layout.rank(); ++i) {
      unsigned d = op.resultDim(i);
      int64_t extent = layout.dim(i).extent;
      std::optional<int64_t> stride = layout.stride(i);
      // The stride of an axis of extent 1 is never used, so both may differ.
      bool isOther = extent == 1 && ShapedType::isStatic(wanted[d]);
      if (isOther)
        stride = wanted[d];
      shape[d] = extent == kRunTime ? ShapedType::kDynamic : extent;
      knownStrides[d] = stride.value_or(ShapedType::kDynamic);
      extents[d] = getAsOpFoldResult(parts.extents[i]);
      strides[d] = isOther ? OpFoldResult(rewriter.getIndexAttr(*stride))
                           : getAsOpFoldResult(parts.strides[i]);
    }
    auto strided = StridedLayoutAttr::get(getContext(), ShapedType::kDynamic,
                                          knownStrides);
    auto known = MemRefType::get(shape, type.getElementType(), strided);
    Value memref = memref::ReinterpretCastOp::create(
        rewriter, loc, known, parts.buffer, parts.offset, extents, strides);
    if (memref.getType() != result)
      memref = memref::CastOp::create(rewriter, loc, result, memref);
    rewriter.replaceOp(op, memref);
    return success();
  }
};

/// The part of a cache with one axis fixed: the offset moves, the other axes
/// stay. `isInside` is nothing where the index is known to be in range;
/// otherwise a slice outside of the cache has no blocks.
Value emitSlice(OpBuilder &builder, Location loc, CacheType from, Value memref,
                AxisKind kind, Value index, CacheType to, Value isInside) {
  CodeBuilder emit(builder, loc);
  CacheParts parts(builder, loc, from, memref);
  const Layout &layout = from.getLayout(), &left = to.getLayout();
  Value zero = emit.index(0);
  if (isInside)
    index = emit.select(isInside, index, zero);
  Value offset = emit.addMul(parts.offset, index, parts.stride(kind));
  SmallVector<OpFoldResult> extents, strides;
  for (unsigned i = 0; i < left.rank(); ++i) {
    unsigned parent = *layout.find(left.dim(i).axis);
    Value extent = parts.extents[parent];
    if (isInside && left.dim(i).axis.kind == AxisKind::Block)
      extent = emit.select(isInside, extent, zero);
    extents.push_back(getAsOpFoldResult(extent));
    std::optional<int64_t> stride = left.stride(i);
    strides.push_back(stride ? OpFoldResult(builder.getIndexAttr(*stride))
                             : OpFoldResult(parts.strides[parent]));
  }
  return emitCacheMemRef(builder, loc, to, parts.buffer, offset, extents,
                         strides);
}

/// A constant that no call gets past, unless it never comes here.
void warnOutside(LayerOp op, int64_t index) {
  int64_t layers = op.getCache().getType().getLayout().extent(AxisKind::Layer);
  if (index < 0 || layers != kRunTime)
    op.emitWarning() << "the index " << index << " is not one of "
                     << (layers == kRunTime ? "the" : Twine(layers))
                     << " layers: a call that comes here fails";
}

struct LayerOpLowering : OpConversionPattern<LayerOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(LayerOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    CacheType type = op.getCache().getType();
    Value index = adaptor.getIndex(), isInside;
    if (!op.isKnownInRange()) {
      CacheParts parts(rewriter, loc, type, adaptor.getCache());
      Value count = parts.extent(AxisKind::Layer);
      if (std::optional<int64_t> constant = getConstantIntValue(op.getIndex()))
        warnOutside(op, *constant);
      isInside = arith::CmpIOp::create(rewriter, loc, arith::CmpIPredicate::ult,
                                       index, count);
      reportUnless(rewriter, op, isInside, "kvrt_report_layer", {index, count});
    }
    rewriter.replaceOp(op, emitSlice(rewriter, loc, type, adaptor.getCache(),
                                     AxisKind::Layer, index,
                                     op.getResult().getType(), isInside));
    return success();
  }
};

struct SideOpLowering : OpConversionPattern<SideOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(SideOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Value index = indexConstant(rewriter, op.getLoc(), op.getSide());
    rewriter.replaceOp(op,
                       emitSlice(rewriter, op.getLoc(), op.getCache().getType(),
                                 adaptor.getCache(), AxisKind::Side, index,
                                 op.getResult().getType(), Value()));
    return success();
  }
};

struct CastOpLowering : OpConversionPattern<CastOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(CastOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    rewriter.replaceOp(op,
                       castCache(rewriter, op.getLoc(), op.getCache().getType(),
                                 op.getResult().getType(), adaptor.getCache()));
    return success();
  }
};

/// `dim` and `stride`: one of the parts of a cache.
template <typename Op, std::vector<Value> CacheParts::*values>
struct AxisQueryOpLowering : OpConversionPattern<Op> {
  using OpConversionPattern<Op>::OpConversionPattern;
  LogicalResult
  matchAndRewrite(Op op, typename Op::Adaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    CacheType type = op.getCache().getType();
    CacheParts parts(rewriter, op.getLoc(), type, adaptor.getCache());
    Axis axis = *Axis::parse(std::string_view(op.getAxis()));
    rewriter.replaceOp(op, (parts.*values)[*type.getLayout().find(axis)]);
    return success();
  }
};
using DimOpLowering = AxisQueryOpLowering<kvcache::DimOp, &CacheParts::extents>;
using StrideOpLowering = AxisQueryOpLowering<StrideOp, &CacheParts::strides>;

struct HasFactsOpLowering : OpConversionPattern<HasFactsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(HasFactsOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    CodeBuilder emit(rewriter, op.getLoc());
    CacheType type = op.getCache().getType();
    const Layout &facts = cast<CacheType>(op.getFacts()).getLayout();
    CacheParts parts(rewriter, emit.getLoc(), type, adaptor.getCache());
    Value all = emit.i1(true);
    auto require = [&](Value condition) { all = emit.andi(all, condition); };
    for (unsigned i = 0; i < facts.rank(); ++i) {
      const LayoutDim &dim = facts.dim(i);
      if (dim.extent != kRunTime)
        require(emit.eq(parts.extents[i], emit.index(dim.extent)));
      if (dim.extent == 1)
        continue;
      // The stride of an axis of extent 1 is never used.
      Value unused = emit.eq(parts.extents[i], emit.index(1));
      require(emit.ori(strideHolds(emit, facts, i, parts), unused));
    }
    Value base = memref::ExtractAlignedPointerAsIndexOp::create(
        rewriter, emit.getLoc(), parts.buffer);
    Value first = emit.addMul(base, parts.offset, type.getElementBytes());
    require(isMultiple(emit, first, facts.align()));
    rewriter.replaceOp(op, all);
    return success();
  }

private:
  static Value isMultiple(CodeBuilder &emit, Value value, int64_t of) {
    return emit.eq(emit.remui(value, of), emit.index(0));
  }

  static Value strideHolds(CodeBuilder &emit, const Layout &facts, unsigned i,
                           const CacheParts &parts) {
    if (std::optional<int64_t> stride = facts.stride(i))
      return emit.eq(parts.strides[i], emit.index(*stride));
    if (facts.dim(i).stride.kind == StrideFact::Kind::RunTime)
      return isMultiple(emit, parts.strides[i], facts.dim(i).stride.value);
    // Compact over something that is known at run time only.
    return isSpan(emit, facts, facts.nextFaster(i), parts, parts.strides[i]);
  }

  /// Whether a stride is what an axis and those below it span. An axis of
  /// extent 1 spans one stride of its own, whatever that is in the cache: any
  /// that the facts allow.
  static Value isSpan(CodeBuilder &emit, const Layout &facts,
                      std::optional<unsigned> i, const CacheParts &parts,
                      Value stride) {
    if (!i)
      return emit.eq(stride, emit.index(1));
    const LayoutDim &dim = facts.dim(*i);
    Value many, one;
    if (dim.extent != 1)
      many = emit.eq(stride, emit.muli(parts.strides[*i], parts.extents[*i]));
    if (dim.extent != 1 && dim.extent != kRunTime)
      return many;
    switch (dim.stride.kind) {
    case StrideFact::Kind::Compact:
      one = isSpan(emit, facts, facts.nextFaster(*i), parts, stride);
      break;
    case StrideFact::Kind::Constant:
      one = emit.eq(stride, emit.index(dim.stride.value));
      break;
    case StrideFact::Kind::RunTime:
      one = isMultiple(emit, stride, dim.stride.value);
      break;
    }
    if (dim.extent == 1)
      return one;
    Value isOne = emit.eq(parts.extents[*i], emit.index(1));
    return emit.select(isOne, one, many);
  }
};

/// Blocks `first` to `first + count - 1`, or none if they are not all there.
struct SubpoolOpLowering : OpConversionPattern<SubpoolOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(SubpoolOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    CodeBuilder emit(rewriter, op.getLoc());
    CacheType type = op.getCache().getType();
    CacheType result = op.getResult().getType();
    CacheParts parts(rewriter, emit.getLoc(), type, adaptor.getCache());
    Value first = adaptor.getFirst(), count = adaptor.getCount();
    Value blocks = parts.extent(AxisKind::Block), zero = emit.index(0);
    Value starts = emit.cmpi(CodeBuilder::Predicate::ule, first, blocks);
    Value ends =
        emit.cmpi(CodeBuilder::Predicate::ule, count, emit.subi(blocks, first));
    Value isInside = emit.andi(starts, ends);
    reportUnless(rewriter, op, isInside, "kvrt_report_blocks",
                 {first, count, blocks});
    first = emit.select(isInside, first, zero);
    count = emit.select(isInside, count, zero);
    unsigned block = *type.getLayout().find(AxisKind::Block);
    rewriter.replaceOp(op,
                       emitNarrowed(emit, parts, result, block, first, count));
    return success();
  }

  /// Fewer indices of one axis; the other axes stay.
  static Value emitNarrowed(CodeBuilder &emit, const CacheParts &parts,
                            CacheType to, unsigned axis, Value first,
                            Value count) {
    const Layout &layout = to.getLayout();
    Value offset = emit.addMul(parts.offset, first, parts.strides[axis]);
    SmallVector<OpFoldResult> extents, strides;
    for (unsigned i = 0; i < layout.rank(); ++i) {
      extents.push_back(
          getAsOpFoldResult(i == axis ? count : parts.extents[i]));
      std::optional<int64_t> stride = layout.stride(i);
      strides.push_back(stride ? OpFoldResult(emit.getIndexAttr(*stride))
                               : OpFoldResult(parts.strides[i]));
    }
    return emitCacheMemRef(emit, emit.getLoc(), to, parts.buffer, offset,
                           extents, strides);
  }
};

struct HeadsOpLowering : OpConversionPattern<HeadsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(HeadsOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    CodeBuilder emit(rewriter, op.getLoc());
    CacheType type = op.getCache().getType();
    CacheParts parts(rewriter, emit.getLoc(), type, adaptor.getCache());
    rewriter.replaceOp(op, SubpoolOpLowering::emitNarrowed(
                               emit, parts, op.getResult().getType(),
                               *type.getLayout().find(AxisKind::Head),
                               emit.index(op.getFirst()),
                               emit.index(op.getCount())));
    return success();
  }
};

/// Lists and tables are the memrefs that they were made of.
template <typename Op> struct MakeOpLowering : OpConversionPattern<Op> {
  using OpConversionPattern<Op>::OpConversionPattern;
  LogicalResult
  matchAndRewrite(Op op, typename Op::Adaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Value source = adaptor.getSource();
    if (!isa<MemRefType>(source.getType()))
      return rewriter.notifyMatchFailure(op, "the source is still a tensor");
    MemRefType result = op.getResult().getType().getMemRefType();
    if (source.getType() != result)
      source = memref::CastOp::create(rewriter, op.getLoc(), result, source);
    rewriter.replaceOp(op, source);
    return success();
  }
};

/// A batch is its members.
LogicalResult replaceByMembers(Operation *op, BatchType type,
                               ArrayRef<Value> members,
                               ConversionPatternRewriter &rewriter) {
  SmallVector<Value> lowered;
  for (auto [member, expected] : llvm::zip(members, type.getMemRefTypes())) {
    if (!isa<MemRefType>(member.getType()))
      return rewriter.notifyMatchFailure(op, "a source is still a tensor");
    lowered.push_back(
        member.getType() == expected
            ? member
            : memref::CastOp::create(rewriter, op->getLoc(), expected, member));
  }
  rewriter.replaceOpWithMultiple(op, {lowered});
  return success();
}

struct MakeBatchOpLowering : OpConversionPattern<MakeBatchOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(MakeBatchOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    SmallVector<Value> members = {adaptor.getStarts(), adaptor.getLengths(),
                                  adaptor.getTable()};
    if (adaptor.getPositions())
      members.push_back(adaptor.getPositions());
    return replaceByMembers(op, op.getResult().getType(), members, rewriter);
  }
};

struct WithRowsOpLowering : OpConversionPattern<WithRowsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(WithRowsOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    ValueRange batch = adaptor.getBatch();
    SmallVector<Value> members = {adaptor.getStarts().front(), batch[1],
                                  batch[2], adaptor.getPositions().front()};
    return replaceByMembers(op, op.getResult().getType(), members, rewriter);
  }
};

/// One of two caches, lists, tables or batches, member by member.
struct SelectOpLowering : OpConversionPattern<arith::SelectOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(arith::SelectOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    SmallVector<Value> members;
    for (auto [a, b] :
         llvm::zip(adaptor.getTrueValue(), adaptor.getFalseValue()))
      members.push_back(arith::SelectOp::create(
          rewriter, op.getLoc(), adaptor.getCondition().front(), a, b));
    rewriter.replaceOpWithMultiple(op, {members});
    return success();
  }
};

/// Upstream converts `cf.br` and `cf.cond_br` with batches, and this one
/// without.
struct SwitchOpLowering : OpConversionPattern<cf::SwitchOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(cf::SwitchOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    auto flat = [](ArrayRef<ValueRange> operands) {
      SmallVector<Value> values;
      for (ValueRange members : operands)
        llvm::append_range(values, members);
      return values;
    };
    // One block may be the destination of several cases: it is converted once.
    for (unsigned i = 0; i < op->getNumSuccessors(); ++i) {
      Block *block = op->getSuccessor(i);
      std::optional<TypeConverter::SignatureConversion> conversion =
          getTypeConverter()->convertBlockSignature(block);
      if (!conversion)
        return rewriter.notifyMatchFailure(op, "an argument has no type");
      if (!getTypeConverter()->isLegal(block->getArgumentTypes()))
        rewriter.applySignatureConversion(block, *conversion,
                                          getTypeConverter());
    }
    SmallVector<SmallVector<Value>> operands;
    for (ArrayRef<ValueRange> given : adaptor.getCaseOperands())
      operands.push_back(flat(given));
    rewriter.replaceOpWithNewOp<cf::SwitchOp>(
        op, adaptor.getFlag().front(), op.getDefaultDestination(),
        flat(adaptor.getDefaultOperands()), op.getCaseValuesAttr(),
        SmallVector<Block *>(op.getCaseDestinations()),
        SmallVector<ValueRange>(operands.begin(), operands.end()));
    return success();
  }
};

} // namespace

void kvcache::populateCommonPatterns(TypeConverter &converter,
                                     RewritePatternSet &patterns,
                                     ConversionTarget &target) {
  patterns.add<CastOpLowering, DimOpLowering, HasFactsOpLowering,
               HeadsOpLowering, LayerOpLowering, MakeBatchOpLowering,
               MakeOpLowering<MakeBlockTableOp>, MakeOpLowering<MakeSlotsOp>,
               SelectOpLowering, SideOpLowering, StorageOpLowering,
               StrideOpLowering, SwitchOpLowering, SubpoolOpLowering,
               ViewOpLowering, WithRowsOpLowering>(converter,
                                                   patterns.getContext());
  populateReshapePatterns(converter, patterns);
  populateTracePattern(converter, patterns);
  populateFunctionOpInterfaceTypeConversionPattern<func::FuncOp>(patterns,
                                                                 converter);
  populateCallOpTypeConversionPattern(patterns, converter);
  populateReturnOpTypeConversionPattern(patterns, converter);
  scf::populateSCFStructuralTypeConversionsAndLegality(converter, patterns,
                                                       target);
  cf::populateCFStructuralTypeConversionsAndLegality(converter, patterns,
                                                     target);
  target.addIllegalDialect<KVCacheDialect>();
  // Blocks other than the first are converted with the branches to them.
  target.addDynamicallyLegalOp<func::FuncOp>([&](func::FuncOp op) {
    return converter.isSignatureLegal(op.getFunctionType());
  });
  target.addDynamicallyLegalOp<func::CallOp, func::ReturnOp>(
      [&](Operation *op) { return converter.isLegal(op); });
  target.markUnknownOpDynamicallyLegal(
      [&](Operation *op) { return converter.isLegal(op); });
}
