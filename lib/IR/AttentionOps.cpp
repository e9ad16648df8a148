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

std::optional<int64_t> AttentionOp::getAhead() {
  return aheadOf(getCausal(), getWindowRightAttr());
}

/// `[T, H]`, or with heads first `[H, T]`.
static SmallVector<int64_t> lseShape(int64_t rows, int64_t heads,
                                     bool headsFirst) {
  if (headsFirst)
    return {heads, rows};
  return {rows, heads};
}

/// Verifies the shape of an lse: only the number of its rows may be dynamic
/// where that of others is not.
static LogicalResult verifyLse(Operation *op, StringRef label,
                               const Twine &what, Value lse, int64_t rows,
                               int64_t heads, bool headsFirst) {
  unsigned dim = headsFirst ? 1 : 0;
  auto type = cast<ShapedType>(lse.getType());
  if (type.getRank() == 2 && type.isDynamicDim(dim))
    rows = ShapedType::kDynamic;
  return verifyShape(op, label, what, type, lseShape(rows, heads, headsFirst),
                     Float32Type::get(op->getContext()), 0);
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

Value AttentionOp::getScalesOf(unsigned i) {
  unsigned number = 0;
  for (unsigned j = 0; j < i; ++j)
    number += isa<StoredType>(getCacheType(j).getElementType());
  bool hasScales = isa<StoredType>(getCacheType(i).getElementType()) &&
                   number < getScales().size();
  return hasScales ? getScales()[number] : Value();
}

/// A cache of scales for each cache of stored values.
static LogicalResult verifyAllScales(AttentionOp op) {
  StringRef label = "attention_c15";
  unsigned stored = 0;
  for (unsigned i = 0; i < op.getCaches().size(); ++i) {
    CacheType type = op.getCacheType(i);
    Value scales = op.getScalesOf(i);
    stored += isa<StoredType>(type.getElementType());
    if (failed(verifyScales(op, label, type, scales, /*isWritten=*/false)))
      return failure();
    auto own = scales ? cast<CacheType>(scales.getType()) : CacheType();
    if (ScaledType scaled = type.getScaled())
      own = type.getScalesPart();
    if (own && own.getLayout().extent(AxisKind::Channel) != 1)
      return op.emitOpError()
             << label
             << ": one scale for the channels of a token and a head is "
                "expected, got "
             << own.getLayout().extent(AxisKind::Channel);
  }
  if (op.getScales().size() == stored)
    return success();
  return op.emitOpError() << label
                          << ": a cache of scales is expected for each "
                          << "of " << stored << " caches of stored values, got "
                          << op.getScales().size();
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
  return verifyWindowRight(op, "attention_c9", op.getWindowRightAttr(),
                           op.getCausal());
}

/// Both lists or none, the groups with one number more.
static LogicalResult verifyPrefixes(AttentionOp op) {
  Value groups = op.getPrefixGroups(), lengths = op.getPrefixLengths();
  if (!groups != !lengths)
    return op.emitOpError() << "attention_c14: groups and lengths of prefixes "
                               "are expected, got one of both";
  if (!groups)
    return success();
  StringRef label = "attention_c14";
  if (failed(verifyIndices(op, label, "groups of prefixes are",
                           groups.getType(), 1)) ||
      failed(verifyIndices(op, label, "lengths of prefixes are",
                           lengths.getType(), 1)) ||
      failed(verifyMemory(op, label, {groups, lengths}, Contiguity::All)))
    return failure();
  int64_t given = cast<ShapedType>(groups.getType()).getDimSize(0);
  int64_t count = cast<ShapedType>(lengths.getType()).getDimSize(0);
  if (ShapedType::isStatic(given) && ShapedType::isStatic(count) &&
      given != count + 1)
    return op.emitOpError() << "attention_c14: " << count + 1
                            << " groups are expected, one more than lengths, "
                               "got "
                            << given;
  return success();
}

LogicalResult AttentionOp::verify() {
  if (failed(verifyCacheAxes(*this)) || failed(verifyCaches(*this)) ||
      failed(verifyAllScales(*this)) || failed(verifyNumbers(*this)) ||
      failed(verifyPrefixes(*this)))
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
  if (getHeadsFirst() && !getLse())
    return emitOpError() << "attention_c5: a second destination is expected "
                            "with 'heads_first', got none";
  if (getLse() &&
      failed(verifyLse(*this, "attention_c5", "the second destination is",
                       getLse(), rows, queryHeads, getHeadsFirst())))
    return failure();
  int64_t tokens = keys.extent(AxisKind::Token);
  if (getBatch().getType().getTokens() != tokens)
    return emitOpError() << "attention_c7: a batch with blocks of " << tokens
                         << " tokens is expected, as in the cache, got "
                         << getBatch().getType().getTokens();
  SmallVector<Value> buffers(getOuts());
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
  if (getMask()) {
    if (failed(verifyShape(*this, "attention_c13", "the mask is",
                           getMask().getType(), {rows, ShapedType::kDynamic},
                           builder.getI32Type())))
      return failure();
    buffers.push_back(getMask());
  }
  if (failed(
          verifyMemory(*this, "attention_c10", getQuery(), Contiguity::Last)) ||
      failed(verifyMemory(*this, "attention_c10", buffers, Contiguity::Inner)))
    return failure();
  buffers.push_back(getQuery());
  if (getPrefixGroups())
    buffers.append({getPrefixGroups(), getPrefixLengths()});
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
  for (OpOperand &operand : getScalesMutable()) {
    CacheUse use{&operand, cast<CacheType>(operand.get().getType()),
                 ArrayAttr(), Moved::Channels, IndexedBy::Batch};
    use.isRead = true;
    use.unit = "key";
    use.checked = "block of the table in the cache";
    uses.push_back(use);
  }
  return uses;
}

IndexUses AttentionOp::getIndexUses() {
  BatchUse use{getBatch(), {getQuery(), getOut()}};
  use.caches = getCaches();
  use.isCausal = getCausal();
  use.window = getWindowAttr();
  use.windowRight = getWindowRightAttr();
  use.isMasked = bool(getMask());
  return {{use}};
}

SmallVector<TiedExtents> AttentionOp::getTiedExtents() {
  TiedExtents rows = leadingExtents(getBatch(), {getOut()});
  if (getLse())
    rows.push_back({getLse(), getHeadsFirst() ? 1u : 0u});
  rows.push_back({getQuery()});
  if (getMask())
    rows.push_back({getMask()});
  SmallVector<TiedExtents> ties = {rows};
  if (getPrefixGroups())
    ties.push_back({{getPrefixGroups()},
                    {getPrefixLengths(), 0, std::nullopt, /*times=*/1,
                     /*plus=*/1}});
  for (unsigned i = 0; i < getCaches().size(); ++i)
    addScaleTies(getCaches()[i], getScalesOf(i), ties);
  return ties;
}

void AttentionOp::dropAxisNames() {
  setCacheAxesAttr(ArrayAttr::get(getContext(), {}));
}

//===----------------------------------------------------------------------===//
// MergeStatesOp
//===----------------------------------------------------------------------===//

LogicalResult MergeStatesOp::verify() {
  size_t count = getSplits().size();
  if (count < 2 || count > kMostSplits || getLses().size() != count)
    return emitOpError() << "merge_states_c4: from 2 to " << kMostSplits
                         << " splits are expected, each with its lse, got "
                         << count << " splits and " << getLses().size()
                         << " lse";
  auto first = cast<ShapedType>(getSplits().front().getType());
  if (first.getRank() != 3 || first.isDynamicDim(1) || first.isDynamicDim(2) ||
      !isComputeType(first.getElementType()))
    return emitOpError() << "merge_states_c1: splits are expected to be [T, H, "
                            "D] of f16, bf16 or f32, H and D constant, got "
                         << first;
  if (getOuts().empty() || getOuts().size() > 2)
    return emitOpError() << "merge_states_c1: one or two destinations are "
                            "expected, got "
                         << getOuts().size();
  StringRef label = "merge_states_c1";
  auto verifyState = [&](const Twine &what, Value state) {
    return verifyShape(*this, label, what + " is", state.getType(),
                       first.getShape(), first.getElementType());
  };
  auto verifyItsLse = [&](const Twine &what, Value lse) {
    return verifyLse(*this, label, what + " is", lse, first.getDimSize(0),
                     first.getDimSize(1), getHeadsFirst());
  };
  for (size_t i = 0; i < count; ++i)
    if (failed(verifyState("split #" + Twine(i), getSplits()[i])) ||
        failed(verifyItsLse("lse #" + Twine(i), getLses()[i])))
      return failure();
  if (failed(verifyState("the first destination", getOut())) ||
      (getLse() && failed(verifyItsLse("the second destination", getLse()))))
    return failure();
  if (failed(verifyMemory(*this, "merge_states_c2", getOperands(),
                          Contiguity::Inner)))
    return failure();
  return verifyOneForm(*this, "merge_states_c3", getOperands());
}

SmallVector<TiedExtents> MergeStatesOp::getTiedExtents() {
  unsigned dim = getHeadsFirst() ? 1 : 0;
  TiedExtents rows;
  for (auto [split, lse] : llvm::zip_equal(getSplits(), getLses())) {
    rows.push_back({split});
    rows.push_back({lse, dim});
  }
  rows.push_back({getOut()});
  if (getLse())
    rows.push_back({getLse(), dim});
  return {rows};
}
