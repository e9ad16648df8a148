// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Target/Extents.h"

#include "kvcache/IR/KVCache.h"
#include "kvcache/IR/Sources.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

#include <numeric>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::target;

/// What is larger is not followed, so that nothing overflows here or in the
/// checks of a call.
static constexpr int64_t kMostTimes = int64_t(1) << 20;
static constexpr int64_t kMostPlus = int64_t(1) << 40;

static std::optional<ArgumentExtent> bounded(ArgumentExtent extent) {
  int64_t plus = std::abs(extent.plus);
  int64_t divisor = std::gcd(std::gcd(extent.times, plus), extent.over);
  extent.times /= divisor;
  extent.plus /= divisor;
  extent.over /= divisor;
  if (extent.times > kMostTimes || extent.over > kMostTimes ||
      plus / divisor > kMostPlus)
    return std::nullopt;
  return extent;
}

static bool isFollowed(int64_t number, int64_t most = kMostPlus) {
  return number >= -most && number <= most;
}

static std::optional<ArgumentExtent> constantExtent(int64_t value) {
  if (!isFollowed(value))
    return std::nullopt;
  ArgumentExtent extent;
  extent.plus = value;
  return extent;
}

std::optional<ArgumentExtent> target::timesConstant(ArgumentExtent extent,
                                                    int64_t factor) {
  if (factor < 0 || factor > kMostTimes ||
      !isFollowed(extent.plus, kMostPlus / std::max<int64_t>(factor, 1)))
    return std::nullopt;
  extent.times *= factor;
  extent.plus *= factor;
  return bounded(extent);
}

std::optional<ArgumentExtent> target::plusConstant(ArgumentExtent extent,
                                                   int64_t number) {
  if (!isFollowed(number, kMostPlus / extent.over))
    return std::nullopt;
  extent.plus += number * extent.over;
  return bounded(extent);
}

static std::optional<ArgumentExtent> overConstant(ArgumentExtent extent,
                                                  int64_t divisor) {
  if (divisor <= 0 || divisor > kMostTimes)
    return std::nullopt;
  extent.over *= divisor;
  return bounded(extent);
}

/// The value or a dimension of an argument of the function, whatever it is.
static std::optional<ArgumentExtent>
ofArgument(Value value, unsigned member, unsigned dim, bool isValue = false) {
  auto argument = dyn_cast<BlockArgument>(value);
  if (!argument || !argument.getOwner()->isEntryBlock() ||
      !isa<func::FuncOp>(argument.getOwner()->getParentOp()))
    return std::nullopt;
  ArgumentExtent extent;
  extent.of = value;
  extent.dim = dim;
  extent.member = member;
  extent.times = 1;
  extent.isValue = isValue;
  return extent;
}

/// A number of type index.
static std::optional<ArgumentExtent> sizeOf(Value value) {
  if (std::optional<int64_t> constant = getConstantIntValue(value))
    return constantExtent(*constant);
  if (auto dim = value.getDefiningOp<memref::DimOp>()) {
    std::optional<int64_t> index = dim.getConstantIndex();
    auto type = dyn_cast<MemRefType>(dim.getSource().getType());
    if (!type || !index || *index < 0 || *index >= type.getRank())
      return std::nullopt;
    return extentOf(dim.getSource(), *index);
  }
  Operation *op = value.getDefiningOp();
  if (!op || isa<arith::IndexCastOp>(op))
    return ofArgument(op ? op->getOperand(0) : value, 0, 0, /*isValue=*/true);
  if (!isa<arith::MulIOp, arith::AddIOp, arith::SubIOp>(op))
    return std::nullopt;
  Value left = op->getOperand(0), right = op->getOperand(1);
  std::optional<int64_t> constant = getConstantIntValue(right);
  if (!constant && !isa<arith::SubIOp>(op)) {
    constant = getConstantIntValue(left);
    std::swap(left, right);
  }
  std::optional<ArgumentExtent> extent = constant ? sizeOf(left) : std::nullopt;
  if (!extent)
    return std::nullopt;
  if (isa<arith::MulIOp>(op))
    return timesConstant(*extent, *constant);
  if (!isFollowed(*constant))
    return std::nullopt;
  return plusConstant(*extent, isa<arith::SubIOp>(op) ? -*constant : *constant);
}

std::optional<ArgumentExtent> target::sizeOf(OpFoldResult size) {
  if (auto value = dyn_cast<Value>(size))
    return ::sizeOf(value);
  return constantExtent(cast<IntegerAttr>(cast<Attribute>(size)).getInt());
}

/// The product of the other extents of a group of a reshape, where `dim` is
/// the only one that is not known.
static std::optional<int64_t>
productOfOthers(MemRefType type, ArrayRef<int64_t> group, int64_t dim) {
  int64_t product = 1;
  for (int64_t other : group) {
    if (other == dim)
      continue;
    if (type.isDynamicDim(other) ||
        type.getDimSize(other) > kMostTimes / product)
      return std::nullopt;
    product *= type.getDimSize(other);
    if (!product)
      return std::nullopt;
  }
  return product;
}

static std::optional<ArgumentExtent>
extentOfCollapsed(memref::CollapseShapeOp op, unsigned dim) {
  MemRefType from = op.getSrcType();
  ReassociationIndices group = op.getReassociationIndices()[dim];
  // Of several unknown extents, no single one says the product.
  int64_t unknown = group.front();
  for (int64_t i : group)
    if (from.isDynamicDim(i))
      unknown = i;
  std::optional<int64_t> others = productOfOthers(from, group, unknown);
  std::optional<ArgumentExtent> extent =
      others ? extentOf(op.getSrc(), unknown) : std::nullopt;
  return extent ? timesConstant(*extent, *others) : std::nullopt;
}

static std::optional<ArgumentExtent> extentOfExpanded(memref::ExpandShapeOp op,
                                                      unsigned dim) {
  for (auto [from, group] : llvm::enumerate(op.getReassociationIndices())) {
    if (!llvm::is_contained(group, dim))
      continue;
    std::optional<int64_t> others =
        productOfOthers(op.getResultType(), group, dim);
    std::optional<ArgumentExtent> extent =
        others ? extentOf(op.getSrc(), from) : std::nullopt;
    return extent ? overConstant(*extent, *others) : std::nullopt;
  }
  return std::nullopt;
}

std::optional<ArgumentExtent>
target::extentOfMember(TypedValue<BatchType> batch, BatchMember member,
                       unsigned dim) {
  BatchLists lists = listsOf(batch);
  if (Value list = lists.get(member))
    return extentOf(list, dim);
  auto number = static_cast<unsigned>(member);
  MemRefType type = lists.rest.getType().getMemRefTypes()[number];
  if (!type.isDynamicDim(dim))
    return constantExtent(type.getDimSize(dim));
  return ofArgument(lists.rest, number, dim);
}

/// The memref that an index value is lowered to; null of other values.
static MemRefType memrefTypeOf(Type type) {
  if (auto slots = dyn_cast<SlotsType>(type))
    return slots.getMemRefType();
  if (auto table = dyn_cast<BlockTableType>(type))
    return table.getMemRefType();
  return dyn_cast<MemRefType>(type);
}

/// Of a cache, whose dimensions are its axes. A slice has the other axes of
/// what it is a slice of.
static std::optional<ArgumentExtent> extentOfCache(TypedValue<CacheType> cache,
                                                   unsigned dim) {
  const LayoutDim &wanted = cache.getType().getLayout().dim(dim);
  if (wanted.extent != kRunTime)
    return constantExtent(wanted.extent);
  Value source = furthestSource(cache, [&](Value value) {
    auto part = value.getDefiningOp<CachePartOpInterface>();
    return part && part.getKept(wanted.axis.kind) != KeptIndices::Some
               ? part->getOperand(0)
               : Value();
  });
  if (source.getDefiningOp())
    return std::nullopt;
  auto type = cast<CacheType>(source.getType());
  return ofArgument(source, 0, *type.getLayout().find(wanted.axis));
}

std::optional<ArgumentExtent> target::extentOf(Value value, unsigned dim) {
  if (auto cache = dyn_cast<TypedValue<CacheType>>(value))
    return extentOfCache(cache, dim);
  Operation *def = value.getDefiningOp();
  if (def && def->hasTrait<MakesIndexValue>() &&
      !isa<BatchType>(value.getType()))
    return extentOf(def->getOperand(0), dim);
  // What a type says after a cast is no more than a promise, so the source is
  // asked first.
  std::optional<ArgumentExtent> source;
  if (auto cast = dyn_cast_or_null<memref::CastOp>(def))
    if (isa<MemRefType>(cast.getSource().getType()))
      source = extentOf(cast.getSource(), dim);
  if (source && !source->isValue)
    return source;
  MemRefType type = memrefTypeOf(value.getType());
  if (!type)
    return std::nullopt;
  if (!type.isDynamicDim(dim))
    return constantExtent(type.getDimSize(dim));
  if (!def)
    return ofArgument(value, 0, dim);
  if (auto alloc = dyn_cast<memref::AllocOp>(def))
    return sizeOf(alloc.getMixedSizes()[dim]);
  if (auto view = dyn_cast<memref::SubViewOp>(def)) {
    if (view.getType().getRank() != view.getSourceType().getRank())
      return std::nullopt;
    return sizeOf(view.getMixedSizes()[dim]);
  }
  if (auto collapse = dyn_cast<memref::CollapseShapeOp>(def))
    return extentOfCollapsed(collapse, dim);
  if (auto expand = dyn_cast<memref::ExpandShapeOp>(def))
    return extentOfExpanded(expand, dim);
  return source;
}

std::optional<ExtentRule> target::ruleOfEqual(const ArgumentExtent &a,
                                              const ArgumentExtent &b) {
  auto isSame = [&] {
    return a.of == b.of && a.dim == b.dim && a.member == b.member;
  };
  if (!a.times && !b.times)
    return std::nullopt;
  if (a.times && b.times && isSame())
    return std::nullopt;
  // left * a = right * b + plus; the bounds leave room for all products.
  int64_t left = a.times * b.over, right = b.times * a.over;
  __int128 plus = __int128(b.plus) * a.over - __int128(a.plus) * b.over;
  const ArgumentExtent *extent = &a, *of = &b;
  if (!left || (right && left > right)) {
    std::swap(left, right);
    std::swap(extent, of);
    plus = -plus;
  }
  if (right % left || plus % left)
    return std::nullopt;
  ExtentRule rule = {*extent, *of, right / left, int64_t(plus / left)};
  if (!rule.times)
    rule.of = ArgumentExtent();
  bool isExtent = rule.times || (rule.plus >= 0 && rule.plus <= kMostPlus);
  if (!isExtent || rule.times > kMostTimes || !isFollowed(rule.plus))
    return std::nullopt;
  return rule;
}
