// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Parts of a cache: a layer, a side, some blocks, some heads.
//
//===----------------------------------------------------------------------===//

#include "Axes.h"

#include "kvcache/IR/Strides.h"
#include "kvcache/Layout/Views.h"

#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace kvcache;

//===----------------------------------------------------------------------===//
// LayerOp and SideOp
//===----------------------------------------------------------------------===//

/// The type of a cache with one axis fixed; null, with the reason in `why`, if
/// there is none.
static CacheType sliceType(CacheType cache, AxisKind kind,
                           std::optional<int64_t> index, std::string &why) {
  if (!cache.getLayout().find(kind)) {
    why = "an axis " + Axis{kind}.str() + " is expected, got axes " +
          axesStr(cache.getLayout());
    return {};
  }
  auto sliceOf = [&](CacheType part, std::optional<int64_t> index) {
    return sliceAxis(part.getLayout(), Axis{kind}, index,
                     part.getElementBytes(), why);
  };
  std::optional<Slice> slice = sliceOf(cache, index);
  if (!slice || !cache.getScaled())
    return slice ? withLayout(cache, slice->layout) : CacheType();
  CacheType part = cache.getScalesPart();
  if (index && part.getLayout().extent(kind) == 1)
    index = 0; // what all share
  std::optional<Slice> scales = sliceOf(part, index);
  return scales ? cache.withParts(slice->layout, scales->layout) : CacheType();
}

Value LayerOp::getViewSource() { return getCache(); }

LogicalResult LayerOp::inferReturnTypes(MLIRContext *,
                                        std::optional<Location> loc,
                                        Adaptor adaptor,
                                        SmallVectorImpl<Type> &types) {
  // The index is not looked at even where it is a constant: the type must not
  // change when an operand is folded.
  std::string why;
  auto cache = cast<CacheType>(adaptor.getCache().getType());
  CacheType type = sliceType(cache, AxisKind::Layer, std::nullopt, why);
  if (!type)
    return emitOptionalError(loc, "'kvcache.layer' op layer_c1: ", why);
  types.push_back(type);
  return success();
}

LogicalResult LayerOp::verify() {
  const Layout &layout = getCache().getType().getLayout();
  // What `layer_c1` says is told by the inference of the type, which follows.
  if (!layout.has(AxisKind::Layer))
    return success();
  int64_t layers = layout.extent(AxisKind::Layer);
  if (getNearest() && (layers == kRunTime || layers == 0))
    return emitOpError() << "layer_c3: 'nearest' is expected of a constant "
                            "number of layers, got "
                         << (layers ? "?" : "0");
  if (isKnownInRange() || layout.extent(AxisKind::Block) == kRunTime)
    return success();
  std::optional<int64_t> index = getConstantIntValue(getIndex());
  if (index && layers != kRunTime)
    return emitOpError() << "layer_c2: an index from 0 to " << layers - 1
                         << " is expected, got " << *index;
  return emitOpError()
         << "layer_c2: with an index that is checked at run time, "
            "the number of blocks is expected to be '?', got "
         << layout.extent(AxisKind::Block);
}

bool LayerOp::isKnownInRange() {
  if (getNearest())
    return true;
  const Layout &layout = getCache().getType().getLayout();
  std::optional<int64_t> index = getConstantIntValue(getIndex());
  int64_t layers = layout.extent(AxisKind::Layer);
  return index && *index >= 0 && layers != kRunTime && *index < layers;
}

Speculation::Speculatability LayerOp::getSpeculatability() {
  return isKnownInRange() ? Speculation::Speculatable
                          : Speculation::NotSpeculatable;
}

CacheType LayerOp::getPartOf(CacheType known) {
  std::string why;
  return sliceType(known, AxisKind::Layer, std::nullopt, why);
}

KeptIndices LayerOp::getKept(AxisKind kind) {
  bool mayFail = kind == AxisKind::Block && !isKnownInRange();
  return mayFail ? KeptIndices::AllOrFails : KeptIndices::All;
}

CacheType LayerOp::getCheckedType() { return getResult().getType(); }

SmallVector<std::string> LayerOp::getCallChecks() {
  if (isKnownInRange())
    return {};
  return {"layer in the cache"};
}

Value SideOp::getViewSource() { return getCache(); }

CacheType SideOp::getPartOf(CacheType known) {
  std::string why;
  return sliceType(known, AxisKind::Side, static_cast<int64_t>(getSide()), why);
}

LogicalResult SideOp::inferReturnTypes(MLIRContext *,
                                       std::optional<Location> loc,
                                       Adaptor adaptor,
                                       SmallVectorImpl<Type> &types) {
  std::string why;
  auto cache = cast<CacheType>(adaptor.getCache().getType());
  CacheType type = sliceType(cache, AxisKind::Side,
                             static_cast<int64_t>(adaptor.getSide()), why);
  if (!type)
    return emitOptionalError(loc, "'kvcache.side' op side_c1: ", why);
  types.push_back(type);
  return success();
}

//===----------------------------------------------------------------------===//
// SubpoolOp and HeadsOp
//===----------------------------------------------------------------------===//

/// The same with fewer indices of one axis.
static CacheType narrowType(CacheType cache, AxisKind kind,
                            std::optional<int64_t> first, int64_t count,
                            std::string &why) {
  auto narrow = [&](CacheType part) {
    return narrowAxis(part.getLayout(), Axis{kind}, first, count,
                      part.getElementBytes(), why);
  };
  std::optional<Slice> slice = narrow(cache);
  if (!slice || !cache.getScaled())
    return slice ? withLayout(cache, slice->layout) : CacheType();
  CacheType scales = cache.getScalesPart();
  // What all indices share stays whole. Where it is computed, only rows of all
  // of them tell what it is: some are for reading.
  if (scales.getLayout().extent(kind) == 1) {
    CacheType some = cache.withParts(slice->layout, scales.getLayout());
    bool isPart = kind == AxisKind::Head && !cache.getScaled().isGiven() &&
                  count != cache.getLayout().extent(kind);
    return isPart ? some.withAccess(Access::read) : some;
  }
  std::optional<Slice> some = narrow(scales);
  return some ? cache.withParts(slice->layout, some->layout) : CacheType();
}

Value SubpoolOp::getViewSource() { return getCache(); }

LogicalResult SubpoolOp::inferReturnTypes(MLIRContext *,
                                          std::optional<Location> loc,
                                          Adaptor adaptor,
                                          SmallVectorImpl<Type> &types) {
  std::string why;
  auto cache = cast<CacheType>(adaptor.getCache().getType());
  CacheType type =
      narrowType(cache, AxisKind::Block, std::nullopt, kRunTime, why);
  if (!type)
    return emitOptionalError(loc, "'kvcache.subpool' op ", why);
  types.push_back(type);
  return success();
}

Speculation::Speculatability SubpoolOp::getSpeculatability() {
  return Speculation::NotSpeculatable;
}

CacheType SubpoolOp::getPartOf(CacheType known) {
  std::string why;
  return narrowType(known, AxisKind::Block, std::nullopt, kRunTime, why);
}

KeptIndices SubpoolOp::getKept(AxisKind kind) {
  return kind == AxisKind::Block ? KeptIndices::Some : KeptIndices::All;
}

CacheType SubpoolOp::getCheckedType() { return getResult().getType(); }

SmallVector<std::string> SubpoolOp::getCallChecks() {
  return {"blocks in the cache"};
}

Value HeadsOp::getViewSource() { return getCache(); }

CacheType HeadsOp::getPartOf(CacheType known) {
  std::string why;
  return narrowType(known, AxisKind::Head, static_cast<int64_t>(getFirst()),
                    static_cast<int64_t>(getCount()), why);
}

KeptIndices HeadsOp::getKept(AxisKind kind) {
  return kind == AxisKind::Head ? KeptIndices::Some : KeptIndices::All;
}

LogicalResult HeadsOp::inferReturnTypes(MLIRContext *,
                                        std::optional<Location> loc,
                                        Adaptor adaptor,
                                        SmallVectorImpl<Type> &types) {
  auto cache = cast<CacheType>(adaptor.getCache().getType());
  const Layout &layout = cache.getLayout();
  auto fail = [&](const Twine &why) {
    return emitOptionalError(loc, "'kvcache.heads' op heads_c1: ", why);
  };
  if (!layout.find(AxisKind::Head))
    return fail("an axis H is expected, got axes " + axesStr(layout));
  auto first = static_cast<int64_t>(adaptor.getFirst());
  auto count = static_cast<int64_t>(adaptor.getCount());
  int64_t heads = layout.extent(AxisKind::Head);
  if (first < 0 || count < 1 || first >= heads || count > heads - first)
    return fail("some of the heads 0 to " + Twine(heads - 1) +
                " are expected, got " + Twine(count) + " starting at " +
                Twine(first));
  std::string why;
  CacheType type = narrowType(cache, AxisKind::Head, first, count, why);
  if (!type)
    return fail(why);
  types.push_back(type);
  return success();
}
