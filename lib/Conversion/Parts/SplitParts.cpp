// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A cache with scales becomes two caches, of stored values and of scales, in
// functions, branches and operations. What moves bits is done to each of them;
// what converts elements gets both.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Conversion/Passes.h"

#include "../Common/CacheLowering.h"

#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Transforms/DialectConversion.h"

namespace kvcache {
#define GEN_PASS_DEF_SPLITPARTS
#include "kvcache/Conversion/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

static bool hasScales(Type type) {
  auto cache = dyn_cast<CacheType>(type);
  return cache && cache.getScaled();
}

namespace {

/// The operation with other operands, and one of a type as its result if that
/// is given.
Operation *cloneWith(OpBuilder &builder, Operation *op, ValueRange operands,
                     Type result = Type()) {
  OperationState state(op->getLoc(), op->getName());
  state.addOperands(operands);
  state.addAttributes(op->getAttrs());
  if (result)
    state.addTypes(result);
  return builder.create(state);
}

/// The operands for one of the parts.
SmallVector<Value> operandsOf(ArrayRef<ValueRange> lowered, unsigned part) {
  return llvm::map_to_vector(lowered, [&](ValueRange values) {
    return values.size() == 1 ? values.front() : values[part];
  });
}

/// The second part of what an operand has become; null if there is none.
Value scalesOf(ValueRange parts) {
  return parts.size() > 1 ? parts[1] : Value();
}

/// What all indices of an axis share is there at index 0.
void indexScales(OpBuilder &builder, LayerOp op) {
  const Layout &layout = op.getCache().getType().getLayout();
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPoint(op);
  if (layout.extent(AxisKind::Layer) == 1)
    op.getIndexMutable().assign(
        arith::ConstantIndexOp::create(builder, op.getLoc(), 0));
  else if (layout.extent(AxisKind::Block) != kRunTime && !op.isKnownInRange())
    op.setNearest(true);
}
void indexScales(OpBuilder &, SideOp op) {
  if (op.getCache().getType().getLayout().extent(AxisKind::Side) == 1)
    op.setSide(0);
}
void indexScales(OpBuilder &, Operation *) {}

/// A slice of a cache is a slice of both parts. What all indices of an axis
/// share is the same in a slice.
template <typename Op> struct SplitSlice : OpConversionPattern<Op> {
  using OpConversionPattern<Op>::OpConversionPattern;
  LogicalResult
  matchAndRewrite(Op op,
                  typename OpConversionPattern<Op>::OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    auto type = cast<CacheType>(op.getResult().getType());
    SmallVector<Value> parts;
    for (unsigned part : {0u, 1u}) {
      CacheType own = part ? type.getScalesPart() : type.getStoredPart();
      SmallVector<Value> operands = operandsOf(adaptor.getOperands(), part);
      Value source = operands.front();
      Access access = cast<CacheType>(source.getType()).getAccess();
      CacheType same = own.withAccess(access);
      if (source.getType() != same) {
        auto slice = cast<Op>(cloneWith(rewriter, op, operands, same));
        if (part)
          indexScales(rewriter, slice);
        source = slice.getResult();
      }
      if (same != own)
        source = CastOp::create(rewriter, op.getLoc(), own, source);
      parts.push_back(source);
    }
    rewriter.replaceOpWithMultiple(op, {parts});
    return success();
  }
};

/// Moves bits, of each part. Given scales stay where they are.
template <typename Op> struct SplitMove : OpConversionPattern<Op> {
  using OpConversionPattern<Op>::OpConversionPattern;
  LogicalResult
  matchAndRewrite(Op op,
                  typename OpConversionPattern<Op>::OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    auto isGiven = [](Type type) {
      auto cache = dyn_cast<CacheType>(type);
      return cache && cache.getScaled() && cache.getScaled().isGiven();
    };
    unsigned parts = llvm::any_of(op->getOperandTypes(), isGiven) ? 1 : 2;
    for (unsigned part = 0; part < parts; ++part)
      cloneWith(rewriter, op, operandsOf(adaptor.getOperands(), part));
    rewriter.eraseOp(op);
    return success();
  }
};

/// Asks for a number of the stored values.
template <typename Op> struct SplitQuery : OpConversionPattern<Op> {
  using OpConversionPattern<Op>::OpConversionPattern;
  LogicalResult
  matchAndRewrite(Op op,
                  typename OpConversionPattern<Op>::OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    rewriter.replaceOpWithNewOp<Op>(op, adaptor.getCache().front(),
                                    op.getAxisAttr());
    return success();
  }
};

struct SplitHasFacts : OpConversionPattern<HasFactsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(HasFactsOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    auto facts = cast<CacheType>(op.getFacts());
    Value both;
    for (unsigned part : {0u, 1u}) {
      CacheType own = part ? facts.getScalesPart() : facts.getStoredPart();
      Value holds =
          HasFactsOp::create(rewriter, op.getLoc(), rewriter.getI1Type(),
                             adaptor.getCache()[part], TypeAttr::get(own));
      both = both ? arith::AndIOp::create(rewriter, op.getLoc(), both, holds)
                  : holds;
    }
    rewriter.replaceOp(op, both);
    return success();
  }
};

struct SplitWithScales : OpConversionPattern<WithScalesOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(WithScalesOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    SmallVector<Value> parts = operandsOf(adaptor.getOperands(), 0);
    rewriter.replaceOpWithMultiple(op, {parts});
    return success();
  }
};

template <typename Op, unsigned part>
struct SplitPart : OpConversionPattern<Op> {
  using OpConversionPattern<Op>::OpConversionPattern;
  LogicalResult
  matchAndRewrite(Op op,
                  typename OpConversionPattern<Op>::OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    rewriter.replaceOp(op, adaptor.getCache()[part]);
    return success();
  }
};

/// Converts elements of one cache.
template <typename Op> struct SplitRows : OpConversionPattern<Op> {
  using OpConversionPattern<Op>::OpConversionPattern;
  LogicalResult
  matchAndRewrite(Op op,
                  typename OpConversionPattern<Op>::OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Value scales = scalesOf(adaptor.getCache());
    rewriter.modifyOpInPlace(op, [&] {
      op.getCacheMutable().assign(adaptor.getCache().front());
      op.getScalesMutable().assign(scales);
    });
    return success();
  }
};

struct SplitRelayout : OpConversionPattern<RelayoutOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(RelayoutOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    ScaledType from = op.getSourceType().getScaled();
    ScaledType to = op.getDestType().getScaled();
    ValueRange source = adaptor.getSource(), dest = adaptor.getDest();
    auto create = [&](Value source, Value sourceScales, Value dest,
                      Value destScales) {
      RelayoutOp::create(rewriter, op.getLoc(), TypeRange(), source,
                         sourceScales, dest, destScales, ArrayAttr(),
                         ArrayAttr());
    };
    if (from && to && from.isSameFormat(to) && !to.isGiven()) {
      for (unsigned part : {0u, 1u})
        create(source[part], Value(), dest[part], Value());
    } else {
      create(source.front(), scalesOf(source), dest.front(), scalesOf(dest));
    }
    rewriter.eraseOp(op);
    return success();
  }
};

struct SplitAttention : OpConversionPattern<AttentionOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(AttentionOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    SmallVector<Value> caches, scales;
    for (ValueRange parts : adaptor.getCaches()) {
      caches.push_back(parts.front());
      if (Value own = scalesOf(parts))
        scales.push_back(own);
    }
    rewriter.modifyOpInPlace(op, [&] {
      op.getCachesMutable().assign(caches);
      op.getScalesMutable().append(scales);
    });
    return success();
  }
};

/// The attributes of arguments, whose numbers change: those of a cache are
/// those of both parts, and the scales are named after it.
class ArgumentAttributes {
public:
  void take(FunctionOpInterface function) {
    auto isAny = [](TypeRange types) { return llvm::any_of(types, hasScales); };
    if (!isAny(function.getArgumentTypes()) &&
        !isAny(function.getResultTypes()))
      return;
    Function taken{function, {}, {}};
    MLIRContext *context = function.getContext();
    for (unsigned i = 0; i < function.getNumArguments(); ++i) {
      NamedAttrList attrs(function.getArgAttrs(i));
      auto name =
          dyn_cast_or_null<StringAttr>(attrs.get(KVCacheDialect::kNameAttr));
      if (!name) // the number that a caller counts
        name = StringAttr::get(context, "arg" + Twine(i));
      attrs.set(KVCacheDialect::kNameAttr, name);
      taken.arguments.push_back(attrs.getDictionary(context));
      if (!hasScales(function.getArgumentTypes()[i]))
        continue;
      attrs.set(KVCacheDialect::kNameAttr,
                StringAttr::get(context, name.getValue() + ".scales"));
      taken.arguments.push_back(attrs.getDictionary(context));
    }
    for (unsigned i = 0; i < function.getNumResults(); ++i)
      taken.results.append(
          hasScales(function.getResultTypes()[i]) ? 2 : 1,
          NamedAttrList(function.getResultAttrs(i)).getDictionary(context));
    function.removeArgAttrsAttr();
    function.removeResAttrsAttr();
    functions.push_back(std::move(taken));
  }

  void giveBack() {
    for (Function &taken : functions) {
      taken.function.setAllArgAttrs(taken.arguments);
      if (!taken.results.empty())
        taken.function.setAllResultAttrs(taken.results);
    }
  }

private:
  struct Function {
    FunctionOpInterface function;
    SmallVector<DictionaryAttr> arguments, results;
  };
  SmallVector<Function> functions;
};

struct SplitParts : kvcache::impl::SplitPartsBase<SplitParts> {
  using SplitPartsBase::SplitPartsBase;
  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (!findScales(module))
      return;
    if (failed(dropUnreachable(module)))
      return signalPassFailure();
    TypeConverter converter;
    converter.addConversion([](Type type) { return type; });
    converter.addConversion(
        [](CacheType type,
           SmallVectorImpl<Type> &parts) -> std::optional<LogicalResult> {
          if (!type.getScaled())
            return std::nullopt;
          parts.append({type.getStoredPart(), type.getScalesPart()});
          return success();
        });
    RewritePatternSet patterns(&getContext());
    ConversionTarget target(getContext());
    populateBoundaryPatterns(converter, patterns, target);
    patterns.add<SplitSlice<LayerOp>, SplitSlice<SideOp>, SplitSlice<SubpoolOp>,
                 SplitSlice<HeadsOp>, SplitSlice<CastOp>, SplitSlice<ReshapeOp>,
                 SplitMove<CopyBlocksOp>, SplitMove<ClearBlocksOp>,
                 SplitMove<TransferOp>, SplitQuery<DimOp>, SplitQuery<StrideOp>,
                 SplitHasFacts, SplitWithScales, SplitPart<StoredOp, 0>,
                 SplitPart<ScalesOp, 1>, SplitRows<IndexCopyOp>,
                 SplitRows<ScatterOp>, SplitRows<GatherOp>, SplitRelayout,
                 SplitAttention>(converter, &getContext());
    ArgumentAttributes attributes;
    module.walk(
        [&](FunctionOpInterface function) { attributes.take(function); });
    if (failed(applyPartialConversion(module, target, std::move(patterns))))
      return signalPassFailure();
    attributes.giveBack();
  }
};

} // namespace
