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
  Reshaped(CodeBuilder &emit, const CacheValue &cache,
           const std::vector<Axis> &sequence, const std::vector<int64_t> &shape)
      : emit(emit), cache(cache), shape(shape) {
    ReshapedNumbers<CodeBuilder> numbers(emit, cache.type.getLayout(),
                                         cache.extents, cache.strides, sequence,
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
    return memref::ReinterpretCastOp::create(emit, type, cache.buffer,
                                             cache.offset, sizes, steps);
  }

  Value asCache(CacheType type) {
    strides = stridesOf(emit, type.getLayout(), extents, strides);
    return asMemRef(type.getMemRefType());
  }

private:
  CodeBuilder &emit;
  const CacheValue &cache;
  const std::vector<int64_t> &shape;
  std::vector<Value> extents, strides;
};

std::vector<int64_t> shapeOf(MemRefType type) {
  std::vector<int64_t> shape;
  for (int64_t extent : type.getShape())
    shape.push_back(ShapedType::isDynamic(extent) ? kRunTime : extent);
  return shape;
}

struct ReshapeOpLowering : OpLowering<ReshapeOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(ReshapeOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    CacheValue cache = in[op.getCache()];
    auto type = dyn_cast<CacheType>(op.getResult().getType());
    MemRefType result = type ? type.getMemRefType()
                             : cast<MemRefType>(op.getResult().getType());
    std::vector<int64_t> shape = shapeOf(result);
    Reshaped reshaped(emit, cache, op.getNumbering(), shape);
    return Values{type ? reshaped.asCache(type) : reshaped.asMemRef(result)};
  }
};

struct FlattenOpLowering : OpLowering<FlattenOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(FlattenOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    CacheValue cache = in[op.getCache()];
    auto result = cast<MemRefType>(op.getResult().getType());
    std::vector<int64_t> shape = shapeOf(result);
    std::vector<Axis> sequence;
    for (const LayoutDim &dim : cache.type.getLayout().listing())
      sequence.push_back(dim.axis);
    return Values{Reshaped(emit, cache, sequence, shape).asMemRef(result)};
  }
};

} // namespace

void kvcache::populateReshapePatterns(TypeConverter &converter,
                                      RewritePatternSet &patterns) {
  patterns.add<ReshapeOpLowering, FlattenOpLowering>(converter,
                                                     patterns.getContext());
}
