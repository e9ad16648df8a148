// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "BufferOps.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

//===----------------------------------------------------------------------===//
// AttentionOp
//===----------------------------------------------------------------------===//

static std::optional<ArrayAttr> axesOfCache(AttentionOp op, unsigned i) {
  ArrayAttr all = op.getCacheAxes();
  auto axes = all.empty() ? all : cast<ArrayAttr>(all[i]);
  if (axes.empty())
    return std::nullopt;
  return axes;
}

CacheType AttentionOp::getCacheType(unsigned i) {
  std::string why;
  return CacheType::of(getCaches()[i].getType(),
                       axesOfCache(*this, i).value_or(ArrayAttr()), why);
}

double AttentionOp::getScaleValue() {
  if (std::optional<APFloat> scale = getScale())
    return scale->convertToDouble();
  int64_t channels = getKeyType().getLayout().extent(AxisKind::Channel);
  return 1.0 / std::sqrt(static_cast<double>(channels));
}

static bool isComputeType(Type type) {
  return type.isF16() || type.isBF16() || type.isF32();
}

/// Names of dimensions: none at all, or a list of strings for each cache.
static LogicalResult verifyCacheAxes(AttentionOp op) {
  ArrayAttr all = op.getCacheAxes();
  auto isNames = [](Attribute attr) {
    auto names = dyn_cast<ArrayAttr>(attr);
    return names && llvm::all_of(names, llvm::IsaPred<StringAttr>);
  };
  if (all.empty() ||
      (all.size() == op.getCaches().size() && llvm::all_of(all, isNames)))
    return success();
  return op.emitOpError() << "attention_c12: a list of names for each of the "
                          << op.getCaches().size()
                          << " caches is expected, got " << all;
}

/// The caches: one with both sides, or keys and values.
static LogicalResult verifyCaches(AttentionOp op) {
  OperandRange caches = op.getCaches();
  SmallVector<CacheType> types;
  for (unsigned i = 0; i < caches.size(); ++i) {
    FailureOr<CacheType> type = verifyCache(
        op, "attention_c12", caches[i].getType(), axesOfCache(op, i));
    if (failed(type))
      return failure();
    types.push_back(*type);
  }
  auto hasSides = [](CacheType type) {
    return type.getLayout().has(AxisKind::Side);
  };
  bool both = types.size() == 1 && types[0].getNumSides() == 2;
  bool each = types.size() == 2 && llvm::none_of(types, hasSides);
  if (!both && !each) {
    InFlightDiagnostic error = op.emitOpError()
                               << "attention_c1: one cache with two sides, or "
                                  "two caches without sides are expected, got "
                               << types.size() << " caches";
    for (CacheType type : types)
      error << ", " << type;
    return error;
  }
  for (CacheType type : types)
    if (type.getLayout().extent(AxisKind::Layer) != 1)
      return op.emitOpError() << "attention_c2: caches are expected to be one "
                                 "layer, got "
                              << type;
  const Layout &keys = types.front().getLayout();
  const Layout &values = types.back().getLayout();
  for (AxisKind kind : {AxisKind::Head, AxisKind::Token})
    if (keys.extent(kind) != values.extent(kind))
      return op.emitOpError()
             << "attention_c2: values with " << keys.extent(kind)
             << (kind == AxisKind::Head ? " heads" : " tokens in a block")
             << " are expected, as in the keys, got " << values.extent(kind);
  return success();
}

static LogicalResult verifyNumbers(AttentionOp op) {
  if (std::optional<uint64_t> window = op.getWindow())
    if (static_cast<int64_t>(*window) < 1)
      return op.emitOpError() << "attention_c9: the window is expected to be "
                                 "at least 1, got "
                              << static_cast<int64_t>(*window);
  std::optional<APFloat> softcap = op.getSoftcap(), scale = op.getScale();
  if (softcap &&
      (!softcap->isFinite() || softcap->isNegative() || softcap->isZero()))
    return op.emitOpError() << "attention_c9: softcap is expected to be a "
                               "positive number, got "
                            << op.getSoftcapAttr();
  if (scale && !scale->isFinite())
    return op.emitOpError() << "attention_c9: scale is expected to be finite, "
                               "got "
                            << op.getScaleAttr();
  return success();
}

LogicalResult AttentionOp::verify() {
  if (failed(verifyCacheAxes(*this)) || failed(verifyCaches(*this)) ||
      failed(verifyNumbers(*this)))
    return failure();
  const Layout &keys = getKeyType().getLayout();
  const Layout &values = getValueType().getLayout();
  int64_t channels = keys.extent(AxisKind::Channel);
  int64_t heads = keys.extent(AxisKind::Head);

  auto query = cast<ShapedType>(getQuery().getType());
  if (query.getRank() != 3 || query.isDynamicDim(1) ||
      query.getDimSize(2) != channels)
    return emitOpError() << "attention_c3: the query is expected to be "
                            "[T, heads, "
                         << channels << "] with a constant number of heads, "
                         << "got " << query;
  int64_t queryHeads = query.getDimSize(1);
  if (queryHeads == 0 || queryHeads % heads)
    return emitOpError() << "attention_c4: the number of query heads is "
                            "expected to be a multiple of "
                         << heads << ", got " << queryHeads;
  if (!isComputeType(query.getElementType()))
    return emitOpError() << "attention_c6: the query is expected to be of f16, "
                            "bf16 or f32, got "
                         << query;

  Builder builder(getContext());
  if (getOuts().empty() || getOuts().size() > 2)
    return emitOpError() << "attention_c5: one or two destinations are "
                            "expected, got "
                         << getOuts().size();
  int64_t rows = query.getDimSize(0);
  if (failed(verifyShape(
          *this, "attention_c5", "the first destination is", getOut().getType(),
          {rows, queryHeads, values.extent(AxisKind::Channel)}, Type())))
    return failure();
  if (!isComputeType(cast<ShapedType>(getOut().getType()).getElementType()))
    return emitOpError() << "attention_c6: the output is expected to be of "
                            "f16, bf16 or f32, got "
                         << getOut().getType();
  if (getLse() &&
      failed(verifyShape(*this, "attention_c5", "the second destination is",
                         getLse().getType(), {rows, queryHeads},
                         builder.getF32Type())))
    return failure();
  int64_t tokens = keys.extent(AxisKind::Token);
  if (getBatch().getType().getTokens() != tokens)
    return emitOpError() << "attention_c7: a batch with blocks of " << tokens
                         << " tokens is expected, as in the cache, got "
                         << getBatch().getType().getTokens();
  SmallVector<Value> buffers = {getQuery()};
  llvm::append_range(buffers, getOuts());
  for (Value perHead : {getAlibi(), getSinks()}) {
    if (!perHead)
      continue;
    if (failed(verifyShape(
            *this, "attention_c8",
            perHead == getAlibi() ? "alibi slopes are" : "sinks are",
            perHead.getType(), {queryHeads}, builder.getF32Type(), 0)))
      return failure();
    buffers.push_back(perHead);
  }
  if (failed(verifyMemory(*this, "attention_c10", buffers, Contiguity::Inner)))
    return failure();
  return verifyOneForm(*this, "attention_c11", buffers, getCaches());
}

SmallVector<CacheUse> AttentionOp::getCacheUses() {
  int64_t heads = cast<ShapedType>(getQuery().getType()).getDimSize(1);
  bool isOfSelectedRows = getBatch().getDefiningOp<WithRowsOp>() != nullptr;
  SmallVector<CacheUse> uses;
  for (auto [i, operand] : llvm::enumerate(getCachesMutable())) {
    CacheUse use{&operand, getCacheType(i),
                 axesOfCache(*this, i).value_or(ArrayAttr()), Moved::Channels,
                 IndexedBy::Batch};
    use.isRead = true;
    use.unit = "key";
    use.checked = "block of the table in the cache";
    // A product of queries and keys, or of weights and values, is a
    // multiplication and an addition per channel.
    use.flops = 2 * heads * use.type.getNumSides() *
                use.type.getLayout().extent(AxisKind::Channel);
    use.flopsUnit = isOfSelectedRows ? "selected row and key" : "row and key";
    uses.push_back(use);
  }
  return uses;
}

IndexUses AttentionOp::getIndexUses() {
  BatchUse use{getBatch(), {getQuery(), getOut()}};
  use.caches = getCaches();
  use.isCausal = getCausal();
  use.window = getWindowAttr();
  return {{use}};
}

SmallVector<TiedExtents> AttentionOp::getTiedExtents() {
  SmallVector<Value> rows(getOuts());
  rows.push_back(getQuery());
  return {leadingExtents(getBatch(), rows)};
}

void AttentionOp::dropAxisNames() {
  setCacheAxesAttr(ArrayAttr::get(getContext(), {}));
}

//===----------------------------------------------------------------------===//
// MergeStatesOp
//===----------------------------------------------------------------------===//

LogicalResult MergeStatesOp::verify() {
  auto a = cast<ShapedType>(getA().getType());
  if (a.getRank() != 3 || a.isDynamicDim(1) || a.isDynamicDim(2) ||
      !isComputeType(a.getElementType()))
    return emitOpError() << "merge_states_c1: parts are expected to be [T, H, "
                            "D] of f16, bf16 or f32, H and D constant, got "
                         << a;
  if (getOuts().empty() || getOuts().size() > 2)
    return emitOpError() << "merge_states_c1: one or two destinations are "
                            "expected, got "
                         << getOuts().size();
  Type f32 = Float32Type::get(getContext());
  StringRef label = "merge_states_c1";
  ArrayRef<int64_t> shape = a.getShape();
  if (failed(verifyShape(*this, label, "the second part is", getB().getType(),
                         shape, a.getElementType())) ||
      failed(verifyShape(*this, label, "the first destination is",
                         getOuts()[0].getType(), shape, a.getElementType())) ||
      failed(verifyShape(*this, label, "the first lse is", getLseA().getType(),
                         shape.take_front(2), f32)) ||
      failed(verifyShape(*this, label, "the second lse is", getLseB().getType(),
                         shape.take_front(2), f32)) ||
      (getOuts().size() > 1 &&
       failed(verifyShape(*this, label, "the second destination is",
                          getOuts()[1].getType(), shape.take_front(2), f32))))
    return failure();
  if (failed(verifyMemory(*this, "merge_states_c2", getOperands(),
                          Contiguity::Inner)))
    return failure();
  return verifyOneForm(*this, "merge_states_c3", getOperands());
}

SmallVector<TiedExtents> MergeStatesOp::getTiedExtents() {
  return {leadingExtents(getOperands())};
}
