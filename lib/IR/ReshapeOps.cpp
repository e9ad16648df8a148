// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Views of a cache with other extents.
//
//===----------------------------------------------------------------------===//

#include "Axes.h"
#include "BufferOps.h"

#include "kvcache/Layout/Facts.h"
#include "kvcache/Layout/Views.h"

using namespace mlir;
using namespace kvcache;

//===----------------------------------------------------------------------===//
// ReshapeOp
//===----------------------------------------------------------------------===//

Value ReshapeOp::getViewSource() { return getCache(); }

std::vector<Axis> ReshapeOp::getNumbering() {
  const Layout &layout = getCache().getType().getLayout();
  std::vector<Axis> axes(layout.rank());
  for (unsigned i = 0; i < layout.rank(); ++i)
    axes[dimOfAxis(getAxes(), layout, i)] = layout.dim(i).axis;
  return axes;
}

static std::string factStr(const StrideFact &fact) {
  if (fact.kind == StrideFact::Kind::Constant)
    return std::to_string(fact.value);
  return fact.value > 1 ? "? mult " + std::to_string(fact.value) : "?";
}

static InFlightDiagnostic refuseCopy(ReshapeOp op, StringRef why) {
  return op.emitOpError() << "reshape_c3: a reshape that is a view is "
                             "expected, but "
                          << why << "; 'kvcache.relayout' makes a copy";
}

static LogicalResult verifyMemRefReshape(ReshapeOp op, MemRefType result) {
  CacheType cache = op.getCache().getType();
  Type element = cache.getMemoryType();
  if (result.getElementType() != element)
    return op.emitOpError() << "reshape_c1: the element type is expected to be "
                            << element << ", got " << result.getElementType();
  if (cache.getAccess() == Access::read)
    return op.emitOpError() << "reshape_c6: expected a writable cache, since a "
                               "memref is writable, got "
                            << cache;
  if (failed(
          verifyAxisNames(op, op.getAxes(), cache.getLayout(), "reshape_c2")))
    return failure();
  std::vector<int64_t> shape;
  for (int64_t extent : result.getShape())
    shape.push_back(ShapedType::isDynamic(extent) ? kRunTime : extent);
  std::string why;
  std::optional<std::vector<StridedDim>> dims =
      reshape(cache.getLayout(), op.getNumbering(), shape, why);
  if (!dims)
    return refuseCopy(op, why);
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(result.getStridesAndOffset(strides, offset)) ||
      ShapedType::isStatic(offset))
    return op.emitOpError() << "reshape_c4: strides and 'offset: ?' are "
                               "expected in the result, got "
                            << result;
  for (auto [d, dim] : llvm::enumerate(*dims))
    if (ShapedType::isStatic(strides[d]) && dim.extent != 1 &&
        dim.stride != StrideFact::constant(strides[d]))
      return op.emitOpError() << "reshape_c4: the stride of dimension " << d
                              << " is expected to be " << factStr(dim.stride)
                              << ", got " << strides[d];
  return success();
}

/// Blocks and tokens are numbered together; other axes keep their extents.
static LogicalResult verifyKeptAxes(ReshapeOp op, CacheType cache,
                                    CacheType result) {
  const Layout &from = cache.getLayout(), &to = result.getLayout();
  for (AxisKind kind :
       {AxisKind::Layer, AxisKind::Side, AxisKind::Head, AxisKind::Channel})
    if (from.extent(kind) != to.extent(kind))
      return op.emitOpError()
             << "reshape_c5: the extent of " << Axis{kind}.str()
             << " is expected to be " << extentStr(from.extent(kind))
             << ", got " << extentStr(to.extent(kind));
  int64_t fromBlocks = from.extent(AxisKind::Block);
  int64_t toBlocks = to.extent(AxisKind::Block);
  if ((fromBlocks == kRunTime) != (toBlocks == kRunTime))
    return op.emitOpError() << "reshape_c5: the number of blocks is expected "
                               "to be '?' in both or in neither, got "
                            << extentStr(toBlocks);
  // A layout spans at most 2^52 elements: the products fit.
  int64_t fromTokens = fromBlocks * from.extent(AxisKind::Token);
  int64_t toTokens = toBlocks * to.extent(AxisKind::Token);
  if (fromBlocks != kRunTime && fromTokens != toTokens)
    return op.emitOpError() << "reshape_c5: the number of tokens is expected "
                               "to be "
                            << fromTokens << ", got " << toTokens;
  if (to.align() > from.align())
    return op.emitOpError() << "reshape_c4: the alignment is expected to be at "
                               "most "
                            << from.align() << ", got " << to.align();
  return success();
}

/// Of a cache, or of one of its parts.
static LogicalResult verifyView(ReshapeOp op, CacheType cache,
                                CacheType result) {
  if (failed(verifyKeptAxes(op, cache, result)))
    return failure();
  const Layout &from = cache.getLayout();
  const Layout &to = result.getLayout();
  std::vector<Axis> sequence;
  std::vector<int64_t> shape;
  for (unsigned i = 0; i < from.rank(); ++i)
    sequence.push_back(from.dim(i).axis);
  for (unsigned i = 0; i < to.rank(); ++i)
    shape.push_back(to.dim(i).extent);
  std::string why;
  std::optional<std::vector<StridedDim>> dims =
      reshape(from, sequence, shape, why);
  if (!dims)
    return refuseCopy(op, why);
  std::vector<DimSource> sources = reshapeSources(from, sequence, shape);
  for (unsigned i = 0; i < to.rank(); ++i) {
    const StridedDim &dim = (*dims)[i];
    if (dim.extent == 1)
      continue;
    std::optional<int64_t> claimed = to.stride(i);
    // Compact over what is known at run time only says more than a multiple.
    std::optional<unsigned> faster = fasterAxis(to, i);
    bool isCompact = to.dim(i).stride.kind == StrideFact::Kind::Compact;
    if (!claimed && isCompact && faster &&
        !isPackedReshape(from, sources, shape, i, *faster))
      return op.emitOpError()
             << "reshape_c4: the stride of " << to.dim(i).axis.str()
             << " is expected to be " << factStr(dim.stride)
             << ", got one that is compact over " << to.dim(*faster).axis.str();
    if (!implies(dim.stride, explicitStride(to, i)))
      return op.emitOpError()
             << "reshape_c4: the stride of " << to.dim(i).axis.str()
             << " is expected to be " << factStr(dim.stride) << ", got "
             << (claimed
                     ? std::to_string(*claimed)
                     : "a multiple of " + std::to_string(to.strideMultiple(i)));
  }
  return success();
}

static LogicalResult verifyCacheReshape(ReshapeOp op, CacheType result) {
  CacheType cache = op.getCache().getType();
  if (op.getAxes())
    return op.emitOpError()
           << "reshape_c2: brackets are expected only for a memref result, got "
           << namesStr(*op.getAxes());
  ScaledType from = cache.getScaled(), to = result.getScaled();
  bool isSame = from && to ? from.isSameFormat(to)
                           : cache.getElementType() == result.getElementType();
  if (!isSame || result.getSpace() != cache.getSpace() ||
      result.getAccess() != cache.getAccess())
    return op.emitOpError() << "reshape_c1: element type, space and access are "
                               "expected to be those of "
                            << cache << ", got " << result;
  if (!from)
    return verifyView(op, cache, result);
  return success(
      succeeded(
          verifyView(op, cache.getStoredPart(), result.getStoredPart())) &&
      succeeded(verifyView(op, cache.getScalesPart(), result.getScalesPart())));
}

LogicalResult ReshapeOp::verify() {
  if (auto memref = dyn_cast<MemRefType>(getResult().getType()))
    return failure(
        failed(verifyNoScales(*this, "reshape_c7", getCache().getType(),
                              kPartsInstead)) ||
        failed(verifyMemRefReshape(*this, memref)));
  if (auto cache = dyn_cast<CacheType>(getResult().getType()))
    return verifyCacheReshape(*this, cache);
  return emitOpError() << "reshape_c1: a ranked memref or a cache is expected, "
                          "got "
                       << getResult().getType();
}

//===----------------------------------------------------------------------===//
// FlattenOp
//===----------------------------------------------------------------------===//

Value FlattenOp::getViewSource() { return getCache(); }

LogicalResult FlattenOp::inferReturnTypes(MLIRContext *,
                                          std::optional<Location> loc,
                                          Adaptor adaptor,
                                          SmallVectorImpl<Type> &types) {
  auto cache = cast<CacheType>(adaptor.getCache().getType());
  const Layout &layout = cache.getLayout();
  auto fail = [&](const Twine &why) {
    return emitOptionalError(loc, "'kvcache.flatten' op ", why);
  };
  if (cache.getScaled())
    return fail("flatten_c4: a cache without scales is expected, got some; " +
                kPartsInstead);
  if (layout.has(AxisKind::Layer) || layout.has(AxisKind::Side))
    return fail("flatten_c1: a cache without layers and sides is expected, got "
                "axes " +
                axesStr(layout) + "; use 'layer' and 'side' to slice it");
  if (cache.getAccess() == Access::read)
    return fail("flatten_c3: expected a writable cache, since a memref is "
                "writable, got access = read");
  std::vector<Axis> sequence;
  for (unsigned i = 0; i < layout.rank(); ++i)
    sequence.push_back(layout.dim(i).axis);
  int64_t blocks = layout.extent(AxisKind::Block);
  int64_t tokens = layout.extent(AxisKind::Token);
  if (blocks != kRunTime && blocks > kMaxExtent / tokens)
    return fail("flatten_c2: at most 2^40 slots are expected, got " +
                Twine(blocks) + " times " + Twine(tokens));
  std::vector<int64_t> shape = {blocks == kRunTime ? kRunTime
                                                   : blocks * tokens};
  for (int64_t extent : cache.getRowShape())
    shape.push_back(extent);
  std::string why;
  std::optional<std::vector<StridedDim>> dims =
      reshape(layout, sequence, shape, why);
  if (!dims)
    return fail("flatten_c2: stride(B) = N * stride(N) is expected, but " +
                Twine(why) +
                "; 'kvcache.relayout' makes a copy, and 'index_copy' writes "
                "rows by slot number whatever the strides are");
  SmallVector<int64_t> extents, strides;
  for (auto [d, dim] : llvm::enumerate(*dims)) {
    bool known = dim.stride.kind == StrideFact::Kind::Constant;
    extents.push_back(shape[d] == kRunTime ? ShapedType::kDynamic : shape[d]);
    strides.push_back(known ? dim.stride.value : ShapedType::kDynamic);
  }
  types.push_back(
      MemRefType::get(extents, cache.getMemoryType(),
                      StridedLayoutAttr::get(cache.getContext(),
                                             ShapedType::kDynamic, strides)));
  return success();
}
