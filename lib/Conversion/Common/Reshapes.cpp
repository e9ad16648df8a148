// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lowering of views with other extents: what Layout does not know as a constant
// is computed from the axes that it says a dimension is made of.
//
//===----------------------------------------------------------------------===//

#include "CacheLowering.h"
#include "CodeBuilder.h"

#include "kvcache/Layout/Views.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace kvcache;

namespace {

/// The numbers of a view with other extents: what `Layout` says of them where
/// they are constants, else those of the axes that a dimension is made of.
class Reshaped {
public:
  Reshaped(CodeBuilder &emit, const CacheParts &parts,
           const std::vector<Axis> &sequence, const std::vector<int64_t> &shape)
      : emit(emit), parts(parts), shape(shape),
        sources(reshapeSources(parts.type.getLayout(), sequence, shape)) {
    std::string why;
    dims = *reshape(parts.type.getLayout(), sequence, shape, why);
    for (size_t d = 0; d < shape.size(); ++d)
      extents.push_back(extent(d));
    for (size_t d = 0; d < shape.size(); ++d)
      strides.push_back(stride(d));
  }

  /// As a memref of this type, whose constants are known to be right.
  Value asMemRef(MemRefType type) const {
    SmallVector<int64_t> known;
    int64_t offset;
    LogicalResult strided = type.getStridesAndOffset(known, offset);
    assert(succeeded(strided) && "checked by the verifier");
    (void)strided;
    SmallVector<OpFoldResult> sizes, steps;
    for (size_t d = 0; d < shape.size(); ++d) {
      sizes.push_back(shape[d] == kRunTime ? OpFoldResult(extents[d])
                                           : emit.getIndexAttr(shape[d]));
      steps.push_back(ShapedType::isDynamic(known[d])
                          ? OpFoldResult(strides[d])
                          : emit.getIndexAttr(known[d]));
    }
    return memref::ReinterpretCastOp::create(emit, type, parts.buffer,
                                             parts.offset, sizes, steps);
  }

  /// As a cache: an axis of extent 1 has the compact stride of its layout.
  Value asCache(CacheType type) {
    const Layout &layout = type.getLayout();
    for (unsigned k = layout.rank(); k-- > 0;) {
      unsigned i = layout.orderAt(k);
      std::optional<unsigned> faster = layout.nextFaster(i);
      if (layout.dim(i).extent == 1)
        strides[i] = faster ? emit.muli(strides[*faster], extents[*faster])
                            : emit.index(1);
    }
    return asMemRef(type.getMemRefType());
  }

private:
  Value extent(size_t d) const {
    if (shape[d] != kRunTime)
      return emit.index(shape[d]);
    Value product = emit.index(sources[d].factor);
    for (unsigned axis : sources[d].axes)
      if (parts.type.getLayout().dim(axis).extent == kRunTime)
        product = emit.muli(product, parts.extents[axis]);
    return product;
  }

  Value stride(size_t d) const {
    if (dims[d].stride.kind == StrideFact::Kind::Constant)
      return emit.index(dims[d].stride.value);
    Value step = unitStride(sources[d].axes);
    for (size_t i = d + 1; i < sources[d].end; ++i)
      step = emit.muli(step, extents[i]);
    return step;
  }

  /// How far apart the elements of packed axes are: the stride of the fastest
  /// one that has more than one index, as the others have any.
  Value unitStride(ArrayRef<unsigned> axes) const {
    const Layout &layout = parts.type.getLayout();
    Value step;
    for (unsigned axis : axes) {
      Value own = parts.strides[axis];
      bool isAny =
          step && layout.dim(axis).extent == kRunTime && !layout.stride(axis);
      if (isAny) {
        Value isUnit = emit.eq(parts.extents[axis], emit.index(1));
        own = emit.select(isUnit, step, own);
      }
      step = own;
    }
    return step;
  }

  CodeBuilder &emit;
  const CacheParts &parts;
  const std::vector<int64_t> &shape;
  std::vector<DimSource> sources;
  std::vector<StridedDim> dims;
  SmallVector<Value> extents, strides;
};

std::vector<int64_t> shapeOf(MemRefType type) {
  std::vector<int64_t> shape;
  for (int64_t extent : type.getShape())
    shape.push_back(ShapedType::isDynamic(extent) ? kRunTime : extent);
  return shape;
}

struct ReshapeOpLowering : OpConversionPattern<ReshapeOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(ReshapeOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    CodeBuilder emit(rewriter, op.getLoc());
    CacheParts parts(rewriter, emit.getLoc(), op.getCache().getType(),
                     adaptor.getCache());
    auto cache = dyn_cast<CacheType>(op.getResult().getType());
    MemRefType result = cache ? cache.getMemRefType()
                              : cast<MemRefType>(op.getResult().getType());
    std::vector<int64_t> shape = shapeOf(result);
    Reshaped reshaped(emit, parts, op.getNumbering(), shape);
    rewriter.replaceOp(op, cache ? reshaped.asCache(cache)
                                 : reshaped.asMemRef(result));
    return success();
  }
};

struct FlattenOpLowering : OpConversionPattern<FlattenOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(FlattenOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    CodeBuilder emit(rewriter, op.getLoc());
    CacheParts parts(rewriter, emit.getLoc(), op.getCache().getType(),
                     adaptor.getCache());
    auto result = cast<MemRefType>(op.getResult().getType());
    std::vector<int64_t> shape = shapeOf(result);
    std::vector<Axis> sequence;
    for (const LayoutDim &dim : parts.type.getLayout().listing())
      sequence.push_back(dim.axis);
    rewriter.replaceOp(op,
                       Reshaped(emit, parts, sequence, shape).asMemRef(result));
    return success();
  }
};

} // namespace

void kvcache::populateReshapePatterns(TypeConverter &converter,
                                      RewritePatternSet &patterns) {
  patterns.add<ReshapeOpLowering, FlattenOpLowering>(converter,
                                                     patterns.getContext());
}
