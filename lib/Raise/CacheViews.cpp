// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "CacheViews.h"

#include "PoolChain.h"

#include "kvcache/IR/SameCache.h"
#include "kvcache/Layout/Facts.h"
#include "kvcache/Layout/Orders.h"
#include "kvcache/Layout/Views.h"

#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

/// Slices keep the other dimensions whole, so that they are views of this
/// dialect; other ones stay memrefs.
bool CacheView::followSubview(Operation *op) {
  auto subview = cast<memref::SubViewOp>(op);
  MemRefType source = subview.getSourceType();
  llvm::SmallBitVector dropped = subview.getDroppedDims();
  SmallVector<char> before;
  SmallVector<Slice> found;
  size_t next = 0;
  for (int64_t dim = 0; dim < source.getRank(); ++dim) {
    OpFoldResult offset = subview.getMixedOffsets()[dim];
    OpFoldResult size = subview.getMixedSizes()[dim];
    std::optional<int64_t> extent = getConstantIntValue(size);
    if (!isConstantIntValue(subview.getMixedStrides()[dim], 1))
      return false;
    if (dropped.test(dim)) {
      // A dimension with an index instead of a name counts layers; the index of
      // a second one has no name.
      if (llvm::is_contained(axes, 'L') || !found.empty())
        return false;
      before.push_back('L');
      found.push_back({Slice::Layer, offset, {}});
      continue;
    }
    char axis = axes[next++];
    before.push_back(axis);
    bool isWhole = isConstantIntValue(offset, 0) && extent &&
                   *extent == source.getDimSize(dim);
    if (isWhole)
      continue;
    // `[0] [memref.dim of the source]` is whole, too.
    if (auto value = dyn_cast<Value>(size)) {
      auto dimOp = value.getDefiningOp<memref::DimOp>();
      if (isConstantIntValue(offset, 0) && dimOp &&
          dimOp.getSource() == subview.getSource() &&
          dimOp.getConstantIndex() == dim)
        continue;
    }
    if (axis != 'H' || !extent || !getConstantIntValue(offset))
      return false;
    found.push_back({Slice::Heads, offset, size});
  }
  axes = before;
  slices.append(found);
  base = subview.getSource();
  what += (what.empty() ? "" : ", ") + std::string("memref.subview");
  return true;
}

/// One operation back; false where the buffer is reached.
bool CacheView::step() {
  Operation *op = base.getDefiningOp();
  if (!op)
    return false;
  if (isa<memref::SubViewOp>(op))
    return followSubview(op);
  if (auto cast = dyn_cast<memref::CastOp>(op)) {
    if (!isa<MemRefType>(cast.getSource().getType()))
      return false;
    base = cast.getSource();
    return true;
  }
  if (auto transpose = dyn_cast<memref::TransposeOp>(op)) {
    SmallVector<char> before(axes.size());
    for (auto [to, expr] :
         llvm::enumerate(transpose.getPermutation().getResults()))
      before[cast<AffineDimExpr>(expr).getPosition()] = axes[to];
    axes = before;
    base = transpose.getIn();
    what += (what.empty() ? "" : ", ") + std::string("memref.transpose");
    return true;
  }
  if (auto collapse = dyn_cast<memref::CollapseShapeOp>(op)) {
    SmallVector<char> before;
    for (auto [group, axis] :
         llvm::zip_equal(collapse.getReassociationIndices(), axes)) {
      bool splits =
          group.size() == 2 &&
          (axis == kRows || (axis == 'D' && !llvm::is_contained(axes, 'H')));
      if (group.size() != 1 && !splits)
        return false;
      if (group.size() == 1)
        before.push_back(axis);
      else if (axis == kRows)
        before.append({'B', 'N'});
      else
        before.append({'H', 'D'});
    }
    axes = before;
    base = collapse.getSrc();
    what += (what.empty() ? "" : ", ") + std::string("memref.collapse_shape");
    return true;
  }
  return false;
}

/// Memrefs that are arguments of a public function are checked to be aligned to
/// a divisor of their rows; of others nothing is known but their type.
static int64_t baseAlignment(Value base, MemRefType type) {
  int64_t element = type.getElementTypeBitWidth() / 8;
  if (auto alloc = base.getDefiningOp<memref::AllocOp>())
    return std::max<int64_t>(
        element, std::min<int64_t>(alloc.getAlignment().value_or(1), 16));
  auto argument = dyn_cast<BlockArgument>(base);
  auto function =
      argument
          ? dyn_cast<FunctionOpInterface>(argument.getOwner()->getParentOp())
          : FunctionOpInterface();
  if (!function || !argument.getOwner()->isEntryBlock() || !function.isPublic())
    return element;
  if (auto align = function.getArgAttrOfType<IntegerAttr>(
          argument.getArgNumber(), KVCacheDialect::kAlignAttr))
    return std::max(element, align.getInt());
  int64_t row = type.getRank() ? type.getDimSize(type.getRank() - 1) : 1;
  if (ShapedType::isDynamic(row))
    return element;
  return std::max(element, alignmentOf(row, element, CacheType::kDefaultAlign));
}

/// Moves axes of extent 1, whose strides say nothing, to the axis that follows
/// them in another layout.
static void placeUnits(std::vector<Axis> &order, ArrayRef<LayoutDim> dims,
                       const Layout &like) {
  auto isUnit = [&](Axis axis) {
    return llvm::any_of(dims, [&](const LayoutDim &dim) {
      return dim.axis == axis && dim.extent == 1 && like.find(axis);
    });
  };
  llvm::erase_if(order, isUnit);
  std::optional<Axis> next;
  std::vector<Axis> wanted = like.orderAxes();
  for (Axis axis : llvm::reverse(wanted)) {
    if (isUnit(axis))
      order.insert(next ? llvm::find(order, *next) : order.end(), axis);
    next = axis;
  }
}

std::optional<Layout> CacheView::layoutOf(std::string &why,
                                          const Layout *like) const {
  auto type = cast<MemRefType>(base.getType());
  SmallVector<int64_t> strides, given;
  int64_t offset;
  if (failed(type.getStridesAndOffset(strides, offset))) {
    why = "the memref has no strides";
    return std::nullopt;
  }
  bool isPacked = type.getLayout().isIdentity();
  int64_t align = baseAlignment(base, type);
  std::vector<LayoutDim> dims;
  std::vector<Axis> order;
  auto add = [&](char name, int64_t extent, int64_t stride) {
    Axis axis = *Axis::parse(std::string_view(&name, 1));
    LayoutDim dim;
    dim.axis = axis;
    dim.extent = ShapedType::isDynamic(extent) ? kRunTime : extent;
    if (!isPacked)
      dim.stride = ShapedType::isDynamic(stride) ? StrideFact::runTime()
                                                 : StrideFact::constant(stride);
    dims.push_back(dim);
    given.push_back(stride);
    order.push_back(axis);
  };
  for (auto [name, extent, stride] :
       llvm::zip_equal(axes, type.getShape(), strides)) {
    if (name == kRows) {
      add('B', extent, stride);
      add('N', 1, stride);
    } else {
      add(name, extent, stride);
    }
  }
  if (!isPacked) {
    // From the largest stride to the smallest; one that is not known can only
    // be the largest.
    SmallVector<unsigned> bySize(
        llvm::to_vector(llvm::seq<unsigned>(dims.size())));
    unsigned dynamic = llvm::count(given, ShapedType::kDynamic);
    bool isPair = dynamic == 2 && llvm::is_contained(axes, kRows);
    if (dynamic > 1 && !isPair) {
      why = "more than one stride of the memref is known only at run time, so "
            "the order of its axes is not known";
      return std::nullopt;
    }
    auto size = [&](unsigned i) {
      return ShapedType::isDynamic(given[i])
                 ? std::numeric_limits<int64_t>::max()
                 : given[i];
    };
    llvm::sort(bySize, [&](unsigned a, unsigned b) {
      return size(a) != size(b) ? size(a) > size(b) : a < b;
    });
    order.clear();
    for (unsigned i : bySize)
      order.push_back(dims[i].axis);
  }
  llvm::sort(dims, [](const LayoutDim &a, const LayoutDim &b) {
    return a.axis < b.axis;
  });
  if (like)
    placeUnits(order, dims, *like);
  return Layout::get(dims, order, align, why);
}

std::optional<CacheView> CacheView::get(Value memref, ArrayRef<char> axes,
                                        std::string &why, const Layout *like) {
  CacheView view;
  view.base = memref;
  view.axes = llvm::to_vector(axes);
  // Where code is not reachable views may form a ring.
  llvm::SmallPtrSet<Value, 8> seen;
  while (seen.insert(view.base).second && view.step()) {
  }
  auto type = cast<MemRefType>(view.base.getType());
  if (type.getMemorySpace()) {
    why = "the memref is not in the default memory space";
    return std::nullopt;
  }
  std::optional<Layout> layout = view.layoutOf(why, like);
  if (!layout)
    return std::nullopt;
  MLIRContext *context = memref.getContext();
  auto silent = [&] { return emitError(UnknownLoc::get(context)); };
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    why = diagnostic.str();
    return success();
  });
  view.whole =
      CacheType::getChecked(silent, context, *layout, type.getElementType(),
                            MemorySpace::device, Access::write);
  if (!view.whole)
    return std::nullopt;
  view.sliced = view.whole;
  for (const Slice &slice : llvm::reverse(view.slices)) {
    if (slice.kind == Slice::Layer && !getConstantIntValue(slice.first) &&
        layout->extent(AxisKind::Block) != kRunTime) {
      why = "the layer is known only at run time, and the number of blocks is "
            "a constant";
      return std::nullopt;
    }
    const Layout &now = view.sliced.getLayout();
    int64_t bytes = type.getElementTypeBitWidth() / 8;
    auto cut = slice.kind == Slice::Layer
                   ? sliceAxis(now, Axis{AxisKind::Layer},
                               getConstantIntValue(slice.first), bytes, why)
                   : narrowAxis(now, Axis{AxisKind::Head},
                                getConstantIntValue(slice.first),
                                *getConstantIntValue(slice.count), bytes, why);
    if (!cut)
      return std::nullopt;
    view.sliced = CacheType::get(context, cut->layout, type.getElementType(),
                                 MemorySpace::device, Access::write);
  }
  return view;
}

Value CacheView::build(OpBuilder &builder, Location loc) const {
  SmallVector<Attribute> names;
  SmallVector<ReassociationIndices> groups;
  SmallVector<OpFoldResult> shape;
  Value source = base;
  for (auto [i, name] : llvm::enumerate(axes)) {
    auto first = static_cast<int64_t>(names.size());
    if (name == kRows) {
      names.push_back(builder.getStringAttr("B"));
      names.push_back(builder.getStringAttr("N"));
      groups.push_back({first, first + 1});
    } else {
      names.push_back(builder.getStringAttr(StringRef(&name, 1)));
      groups.push_back({first});
    }
  }
  if (names.size() != axes.size()) {
    auto type = cast<MemRefType>(base.getType());
    SmallVector<int64_t> extents;
    for (auto [i, group] : llvm::enumerate(groups)) {
      extents.push_back(type.getDimSize(i));
      shape.push_back(memref::getMixedSize(builder, loc, base, i));
      if (group.size() == 2) {
        extents.push_back(1);
        shape.push_back(builder.getIndexAttr(1));
      }
    }
    source = memref::ExpandShapeOp::create(builder, loc, extents, base, groups,
                                           shape);
  }
  Value cache = ViewOp::create(
      builder, loc, whole, source, /*offset=*/Value(), /*extents=*/ValueRange(),
      /*strides=*/ValueRange(), builder.getArrayAttr(names),
      builder.getArrayAttr({}), builder.getArrayAttr({}));
  for (const Slice &slice : llvm::reverse(slices)) {
    if (slice.kind == Slice::Layer)
      cache = LayerOp::create(
          builder, loc, cache,
          getValueOrCreateConstantIndexOp(builder, loc, slice.first));
    else
      cache = HeadsOp::create(
          builder, loc, cache,
          builder.getI64IntegerAttr(*getConstantIntValue(slice.first)),
          builder.getI64IntegerAttr(*getConstantIntValue(slice.count)));
  }
  return cache;
}

/// Rewrites a view of a transposed, sliced or collapsed memref.
Value raise::foldIntoView(ViewOp view, std::string &text) {
  if (view.isByteView() || !view.getSource().getDefiningOp())
    return {};
  CacheType type = view.getResult().getType();
  const Layout &layout = type.getLayout();
  SmallVector<char> axes(layout.rank());
  for (unsigned i = 0; i < layout.rank(); ++i) {
    if (layout.dim(i).axis.part != AxisPart::Whole)
      return {};
    axes[view.sourceDim(i)] = layout.dim(i).axis.str()[0];
  }
  std::optional<CacheView> folded =
      CacheView::get(view.getSource(), axes, text, &layout);
  if (!folded || folded->folded().empty())
    return {};
  const Layout &now = folded->type().getLayout();
  std::string difference;
  if (type.getSpace() != MemorySpace::device ||
      (!implies(now, layout) && !implies(layout, now)) ||
      !mayBeSame(folded->type(), type, difference)) {
    text = "the folded view would be of another layout";
    return {};
  }
  OpBuilder builder(view);
  Value cache = folded->build(builder, view.getLoc());
  if (cache.getType() != type)
    cache = CastOp::create(builder, view.getLoc(), type, cache);
  text = "folded " + folded->folded().str();
  return cache;
}
