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
void reportUnless(CodeBuilder &emit, Operation *op, Value holds, StringRef name,
                  ValueRange operands) {
  emit.ifThen(emit.noti(holds), [&](CodeBuilder &e) {
    emitReport(e, e.getLoc(), op, name, operands);
  });
}

/// A cache as one of a type that says something else of its extents and
/// strides. Of an axis of extent 1 the strides may differ, as they are never
/// used, which a cast does not allow.
Values castCache(CodeBuilder &emit, CacheType from, CacheType to,
                 ValueRange memrefs) {
  MemRefType type = to.getMemRefType();
  Value memref = memrefs.front();
  if (memref.getType() == type)
    return {memref};
  if (memref::CastOp::areCastCompatible(memref.getType(), type))
    return {memref::CastOp::create(emit, type, memref)};
  return CacheValue(emit, from, memrefs).as(to).memrefs(emit);
}

struct ViewOpLowering : OpLowering<ViewOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(ViewOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    CacheValue cache = op.isByteView() ? viewOfBytes(op, in, emit)
                                       : viewOfElements(op, in, emit);
    return cache.memrefs(emit);
  }

private:
  static CacheValue viewOfElements(ViewOp op, const LoweredOperands &in,
                                   CodeBuilder &emit) {
    auto source =
        memref::ExtractStridedMetadataOp::create(emit, in[op.getSource()]);
    CacheType type = op.getResult().getType();
    CacheValue cache(type, source.getBaseBuffer(), source.getOffset());
    for (unsigned i = 0; i < type.getLayout().rank(); ++i) {
      unsigned d = op.sourceDim(i);
      cache.extents.push_back(source.getSizes()[d]);
      cache.strides.push_back(source.getStrides()[d]);
    }
    return cache;
  }

  /// The number of the argument of the entry function that the bytes are, as a
  /// caller counts, who passes a batch as its members; -1 if they are none. The
  /// source is the one of the converted function, if it is converted already.
  static Value argumentNumber(ViewOp op, Value source, CodeBuilder &emit) {
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
    return emit.index(number);
  }

  /// Extents and strides come from the operands, the other strides follow from
  /// the order. A view that would leave its buffer, or whose first element is
  /// not aligned as the type says, gets no blocks: whatever is done to it then
  /// touches nothing.
  static CacheValue viewOfBytes(ViewOp op, const LoweredOperands &in,
                                CodeBuilder &emit) {
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
          operandOf(op.getExtentAxes(), in[op.getExtents()], dim.axis));
      givenStrides.push_back(
          operandOf(op.getStrideAxes(), in[op.getStrides()], dim.axis));
    }
    auto [extents, strides, span] =
        boundedNumbers(emit, layout, givenExtents, givenStrides, require);

    Value source = in[op.getSource()];
    Value offset = op.getOffset() ? in[op.getOffset()] : zero;
    Value bytes = emit.dim(source, 0);
    Value end = emit.addSat(emit.maxsi(offset, zero),
                            emit.mulSat(span, type.getElementBytes()));
    require(emit.sge(offset, zero));
    require(emit.sge(bytes, end));
    require(emit.eq(emit.remui(offset, layout.align()), zero));

    reportUnless(emit, op, fits, "kvrt_report_view",
                 {argumentNumber(op, source, emit), offset, end, bytes});
    unsigned block = *layout.find(AxisKind::Block);
    Value safeOffset = emit.select(fits, offset, zero);
    Value elements =
        emit.divui(emit.subi(bytes, safeOffset), type.getElementBytes());
    auto flat = MemRefType::get({ShapedType::kDynamic}, type.getElementType());
    Value typed = memref::ViewOp::create(emit, flat, source, safeOffset,
                                         ValueRange{elements});
    CacheValue cache(type, typed, zero);
    cache.extents = extents;
    cache.extents[block] = emit.select(fits, extents[block], zero);
    cache.strides = strides;
    return cache;
  }
};

struct StorageOpLowering : OpLowering<StorageOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(StorageOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    CacheValue cache = in[op.getCache()];
    CacheType type = cache.type;
    const Layout &layout = type.getLayout();
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
      extents[d] = getAsOpFoldResult(cache.extents[i]);
      strides[d] = isOther ? OpFoldResult(emit.getIndexAttr(*stride))
                           : getAsOpFoldResult(cache.strides[i]);
    }
    auto strided = StridedLayoutAttr::get(getContext(), ShapedType::kDynamic,
                                          knownStrides);
    auto known = MemRefType::get(shape, type.getElementType(), strided);
    Value memref = memref::ReinterpretCastOp::create(
        emit, known, cache.buffer, cache.offset, extents, strides);
    if (memref.getType() != result)
      memref = memref::CastOp::create(emit, result, memref);
    return Values{memref};
  }
};

/// The part of a cache with one axis fixed: the offset moves, the other axes
/// stay. `isInside` is nothing where the index is known to be in range;
/// otherwise a slice outside of the cache has no blocks.
Values emitSlice(CodeBuilder &emit, const CacheValue &cache, AxisKind kind,
                 Value index, CacheType to, Value isInside = {}) {
  Value zero = emit.index(0);
  if (isInside)
    index = emit.select(isInside, index, zero);
  CacheValue slice = cache.from(emit, kind, index).as(to);
  if (isInside) {
    Value &blocks = slice.extents[*to.getLayout().find(AxisKind::Block)];
    blocks = emit.select(isInside, blocks, zero);
  }
  return slice.memrefs(emit);
}

/// A constant that no call gets past, unless it never comes here.
void warnOutside(LayerOp op, int64_t index) {
  int64_t layers = op.getCache().getType().getLayout().extent(AxisKind::Layer);
  if (index < 0 || layers != kRunTime)
    op.emitWarning() << "the index " << index << " is not one of "
                     << (layers == kRunTime ? "the" : Twine(layers))
                     << " layers: a call that executes this operation fails";
}

struct LayerOpLowering : OpLowering<LayerOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(LayerOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    CacheValue cache = in[op.getCache()];
    Value index = in[op.getIndex()], isInside;
    if (!op.isKnownInRange()) {
      Value count = cache.extent(AxisKind::Layer);
      if (std::optional<int64_t> constant = getConstantIntValue(op.getIndex()))
        warnOutside(op, *constant);
      isInside = emit.ult(index, count);
      reportUnless(emit, op, isInside, "kvrt_report_layer", {index, count});
    }
    if (op.getNearest())
      index = emit.clamp(
          index, emit.subi(cache.extent(AxisKind::Layer), emit.index(1)));
    return emitSlice(emit, cache, AxisKind::Layer, index,
                     op.getResult().getType(), isInside);
  }
};

struct SideOpLowering : OpLowering<SideOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(SideOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    return emitSlice(emit, in[op.getCache()], AxisKind::Side,
                     emit.index(op.getSide()), op.getResult().getType());
  }
};

struct CastOpLowering : OpLowering<CastOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(CastOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    return castCache(emit, op.getCache().getType(), op.getResult().getType(),
                     in.parts(op.getCache()));
  }
};

/// `dim` and `stride`: a number of one axis.
template <typename Op, std::vector<Value> CacheValue::*numbers>
struct AxisQueryOpLowering : OpLowering<Op> {
  using OpLowering<Op>::OpLowering;
  FailureOr<Values> lowerResult(Op op, const LoweredOperands &in,
                                CodeBuilder &) const override {
    CacheValue cache = in[op.getCache()];
    Axis axis = *Axis::parse(std::string_view(op.getAxis()));
    return Values{(cache.*numbers)[*cache.type.getLayout().find(axis)]};
  }
};
using DimOpLowering = AxisQueryOpLowering<kvcache::DimOp, &CacheValue::extents>;
using StrideOpLowering = AxisQueryOpLowering<StrideOp, &CacheValue::strides>;

struct HasFactsOpLowering : OpLowering<HasFactsOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(HasFactsOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    CacheValue cache = in[op.getCache()];
    const Layout &facts = cast<CacheType>(op.getFacts()).getLayout();
    Value all = emit.i1(true);
    auto require = [&](Value condition) { all = emit.andi(all, condition); };
    for (unsigned i = 0; i < facts.rank(); ++i) {
      const LayoutDim &dim = facts.dim(i);
      if (dim.extent != kRunTime)
        require(emit.eq(cache.extents[i], emit.index(dim.extent)));
      if (dim.extent == 1)
        continue;
      // The stride of an axis of extent 1 is never used.
      Value unused = emit.eq(cache.extents[i], emit.index(1));
      require(emit.ori(strideHolds(emit, facts, i, cache), unused));
    }
    Value base =
        memref::ExtractAlignedPointerAsIndexOp::create(emit, cache.buffer);
    Value first = emit.addMul(base, cache.offset, cache.type.getElementBytes());
    require(isMultiple(emit, first, facts.align()));
    return Values{all};
  }

private:
  static Value isMultiple(CodeBuilder &emit, Value value, int64_t of) {
    return emit.eq(emit.remui(value, of), emit.index(0));
  }

  static Value strideHolds(CodeBuilder &emit, const Layout &facts, unsigned i,
                           const CacheValue &cache) {
    if (std::optional<int64_t> stride = facts.stride(i))
      return emit.eq(cache.strides[i], emit.index(*stride));
    if (facts.dim(i).stride.kind == StrideFact::Kind::RunTime)
      return isMultiple(emit, cache.strides[i], facts.dim(i).stride.value);
    // Compact over something that is known at run time only.
    return isSpan(emit, facts, facts.nextFaster(i), cache, cache.strides[i]);
  }

  /// Whether a stride is what an axis and those below it span. An axis of
  /// extent 1 spans one stride of its own, whatever that is in the cache: any
  /// that the facts allow.
  static Value isSpan(CodeBuilder &emit, const Layout &facts,
                      std::optional<unsigned> i, const CacheValue &cache,
                      Value stride) {
    if (!i)
      return emit.eq(stride, emit.index(1));
    const LayoutDim &dim = facts.dim(*i);
    Value many, one;
    if (dim.extent != 1)
      many = emit.eq(stride, emit.muli(cache.strides[*i], cache.extents[*i]));
    if (dim.extent != 1 && dim.extent != kRunTime)
      return many;
    switch (dim.stride.kind) {
    case StrideFact::Kind::Compact:
      one = isSpan(emit, facts, facts.nextFaster(*i), cache, stride);
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
    Value isOne = emit.eq(cache.extents[*i], emit.index(1));
    return emit.select(isOne, one, many);
  }
};

/// Some indices of one axis, from `first` on; the other axes stay.
Values emitNarrowed(CodeBuilder &emit, const CacheValue &cache, AxisKind kind,
                    Value first, Value count, CacheType to) {
  CacheValue part = cache.from(emit, kind, first).as(to);
  part.extents[*to.getLayout().find(kind)] = count;
  return part.memrefs(emit);
}

/// Blocks `first` to `first + count - 1`, or none if they are not all there.
struct SubpoolOpLowering : OpLowering<SubpoolOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(SubpoolOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    CacheValue cache = in[op.getCache()];
    Value first = in[op.getFirst()], count = in[op.getCount()];
    Value blocks = cache.extent(AxisKind::Block), zero = emit.index(0);
    Value isInside = emit.andi(emit.ule(first, blocks),
                               emit.ule(count, emit.subi(blocks, first)));
    reportUnless(emit, op, isInside, "kvrt_report_blocks",
                 {first, count, blocks});
    first = emit.select(isInside, first, zero);
    count = emit.select(isInside, count, zero);
    return emitNarrowed(emit, cache, AxisKind::Block, first, count,
                        op.getResult().getType());
  }
};

struct HeadsOpLowering : OpLowering<HeadsOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(HeadsOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    return emitNarrowed(emit, in[op.getCache()], AxisKind::Head,
                        emit.index(op.getFirst()), emit.index(op.getCount()),
                        op.getResult().getType());
  }
};

/// The memref itself, as one of this type.
Value castMemRef(CodeBuilder &emit, Value memref, MemRefType type) {
  if (memref.getType() == type)
    return memref;
  return memref::CastOp::create(emit, type, memref);
}

/// Lists and tables are the memrefs that they were made of.
template <typename Op> struct MakeOpLowering : OpLowering<Op> {
  using OpLowering<Op>::OpLowering;
  FailureOr<Values> lowerResult(Op op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    return Values{castMemRef(emit, in[op.getSource()],
                             op.getResult().getType().getMemRefType())};
  }
};

/// A batch is its members.
Values membersOf(CodeBuilder &emit, BatchType type, ArrayRef<Value> members) {
  Values lowered;
  for (auto [member, expected] : llvm::zip(members, type.getMemRefTypes()))
    lowered.push_back(castMemRef(emit, member, expected));
  return lowered;
}

struct MakeBufferOpLowering : OpLowering<MakeBatchOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(MakeBatchOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    return membersOf(emit, op.getResult().getType(), in[op->getOperands()]);
  }
};

struct WithRowsOpLowering : OpLowering<WithRowsOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(WithRowsOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    BatchValue batch = in[op.getBatch()];
    return membersOf(emit, op.getResult().getType(),
                     {in[op.getStarts()], batch.lengths, batch.table,
                      in[op.getPositions()]});
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

void kvcache::populateBoundaryPatterns(TypeConverter &converter,
                                       RewritePatternSet &patterns,
                                       ConversionTarget &target) {
  patterns.add<SelectOpLowering, SwitchOpLowering>(converter,
                                                   patterns.getContext());
  populateFunctionOpInterfaceTypeConversionPattern<func::FuncOp>(patterns,
                                                                 converter);
  populateCallOpTypeConversionPattern(patterns, converter);
  populateReturnOpTypeConversionPattern(patterns, converter);
  scf::populateSCFStructuralTypeConversionsAndLegality(converter, patterns,
                                                       target);
  cf::populateCFStructuralTypeConversionsAndLegality(converter, patterns,
                                                     target);
  // Blocks other than the first are converted with the branches to them.
  target.addDynamicallyLegalOp<func::FuncOp>([&](func::FuncOp op) {
    return converter.isSignatureLegal(op.getFunctionType());
  });
  target.addDynamicallyLegalOp<func::CallOp, func::ReturnOp>(
      [&](Operation *op) { return converter.isLegal(op); });
  target.markUnknownOpDynamicallyLegal(
      [&](Operation *op) { return converter.isLegal(op); });
}

void kvcache::populateCommonPatterns(TypeConverter &converter,
                                     RewritePatternSet &patterns,
                                     ConversionTarget &target) {
  patterns.add<CastOpLowering, DimOpLowering, HasFactsOpLowering,
               HeadsOpLowering, LayerOpLowering, MakeBufferOpLowering,
               MakeOpLowering<MakeBlockTableOp>, MakeOpLowering<MakeSlotsOp>,
               SideOpLowering, StorageOpLowering, StrideOpLowering,
               SubpoolOpLowering, ViewOpLowering, WithRowsOpLowering>(
      converter, patterns.getContext());
  populateReshapePatterns(converter, patterns);
  populateTracePattern(converter, patterns);
  populateBoundaryPatterns(converter, patterns, target);
  target.addIllegalDialect<KVCacheDialect>();
}
