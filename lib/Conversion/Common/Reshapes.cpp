// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lowering of views with other extents: what Layout does not know as a constant
// is computed from the axes that it says a dimension is made of.
//
//===----------------------------------------------------------------------===//

#include "CacheLowering.h"
#include "CodeBuilder.h"

#include "kvcache/Layout/Numbers.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace kvcache;

namespace {

/// A view with other extents.
class Reshaped {
public:
  Reshaped(CodeBuilder &emit, const CacheParts &parts,
           const std::vector<Axis> &sequence, const std::vector<int64_t> &shape)
      : emit(emit), parts(parts), shape(shape) {
    ReshapedNumbers<CodeBuilder> numbers(emit, parts.type.getLayout(),
                                         parts.extents, parts.strides, sequence,
                                         shape);
    extents = numbers.extents;
    strides = numbers.strides;
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

  Value asCache(CacheType type) {
    strides = stridesOf(emit, type.getLayout(), extents, strides);
    return asMemRef(type.getMemRefType());
  }

private:
  CodeBuilder &emit;
  const CacheParts &parts;
  const std::vector<int64_t> &shape;
  std::vector<Value> extents, strides;
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
