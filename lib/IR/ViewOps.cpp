// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Views of memory as a cache and of a cache as memory, and facts.
//
//===----------------------------------------------------------------------===//

#include "Axes.h"
#include "BufferOps.h"

#include "kvcache/IR/SameCache.h"
#include "kvcache/IR/Sources.h"
#include "kvcache/IR/Strides.h"
#include "kvcache/Layout/Facts.h"
#include "kvcache/Layout/Views.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "llvm/ADT/SmallPtrSet.h"

using namespace mlir;
using namespace kvcache;

//===----------------------------------------------------------------------===//
// ViewOp
//===----------------------------------------------------------------------===//

Value ViewOp::getViewSource() { return getSource(); }

bool ViewOp::isByteView() {
  auto type = cast<MemRefType>(getSource().getType());
  return type.getElementType().isInteger(8);
}

Speculation::Speculatability ViewOp::getSpeculatability() {
  return isByteView() ? Speculation::NotSpeculatable
                      : Speculation::Speculatable;
}

unsigned ViewOp::sourceDim(unsigned i) {
  return dimOfAxis(getAxes(), getResult().getType().getLayout(), i);
}

static LogicalResult verifyByteView(ViewOp op, const Layout &layout) {
  auto source = cast<MemRefType>(op.getSource().getType());
  if (source.getRank() != 1 || !source.getLayout().isIdentity())
    return op.emitOpError() << "view_c1: bytes are expected as a contiguous "
                               "memref of rank 1, got "
                            << source;
  if (op.getAxes())
    return op.emitOpError() << "view_c5: no dimension names are expected for a "
                               "view of bytes, got "
                            << namesStr(*op.getAxes());
  if (layout.extent(AxisKind::Block) != kRunTime)
    return op.emitOpError() << "view_c7: the number of blocks of a view of "
                               "bytes is expected to be '?', got "
                            << layout.extent(AxisKind::Block);
  std::string extents = axesWhere(
      layout, [&](unsigned i) { return layout.dim(i).extent == kRunTime; });
  std::string strides = axesWhere(layout, [&](unsigned i) {
    return layout.dim(i).stride.kind == StrideFact::Kind::RunTime;
  });
  auto check = [&](StringRef what, StringRef expected, ArrayAttr names,
                   OperandRange values) -> LogicalResult {
    if (namesStr(names) != expected)
      return op.emitOpError() << "view_c6: " << what << " are expected for "
                              << expected << ", got " << namesStr(names);
    if (values.size() != names.size())
      return op.emitOpError()
             << "view_c6: one operand is expected for each of the " << what
             << " " << expected << ", got " << values.size();
    return success();
  };
  if (failed(check("extents", extents, op.getExtentAxes(), op.getExtents())) ||
      failed(check("strides", strides, op.getStrideAxes(), op.getStrides())))
    return failure();
  return success();
}

static LogicalResult verifyElementView(ViewOp op, const Layout &layout) {
  auto source = cast<MemRefType>(op.getSource().getType());
  if (op.getOffset() || !op.getExtents().empty() || !op.getStrides().empty())
    return op.emitOpError()
           << "view_c5: 'offset', 'extents' and 'strides' are expected only "
              "for a view of bytes, got a source of "
           << source;
  if (failed(verifyAxisNames(op, op.getAxes(), layout, "view_c2")))
    return failure();
  if (source.getRank() != layout.rank())
    return op.emitOpError()
           << "view_c2: the source is expected to have " << layout.rank()
           << " dimensions " << axesStr(layout) << ", got " << source;
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(source.getStridesAndOffset(strides, offset)))
    return op.emitOpError() << "view_c4: the source is expected to have "
                               "strides, got "
                            << source;
  // Strides follow from extents: a wrong extent is told first.
  for (unsigned i = 0; i < layout.rank(); ++i) {
    const LayoutDim &dim = layout.dim(i);
    unsigned d = op.sourceDim(i);
    int64_t extent = extentInCache(dim.axis, source.getDimSize(d));
    if (extent != dim.extent)
      return op.emitOpError() << "view_c3: the extent of " << dim.axis.str()
                              << " is expected to be " << extentStr(dim.extent)
                              << ", got " << extentStr(extent);
  }
  auto dimOf = [&](unsigned i) { return op.sourceDim(i); };
  std::optional<unsigned> other = findOtherStride(layout, strides, dimOf);
  if (!other)
    return success();
  InFlightDiagnostic error = op.emitOpError();
  error << "view_c4: the stride of " << layout.dim(*other).axis.str()
        << " is expected to be ";
  if (std::optional<int64_t> known = layout.stride(*other))
    error << *known;
  else
    error << "a multiple of " << layout.strideMultiple(*other);
  return error << ", got " << strides[dimOf(*other)];
}

bool kvcache::isInMemoryOrder(const Layout &layout,
                              llvm::function_ref<unsigned(unsigned)> dimOf) {
  for (unsigned k = 0; k < layout.rank(); ++k)
    if (dimOf(layout.orderAt(k)) != k)
      return false;
  return true;
}

std::optional<unsigned>
kvcache::findOtherStride(const Layout &layout, ArrayRef<int64_t> strides,
                         llvm::function_ref<unsigned(unsigned)> dimOf) {
  for (unsigned i = 0; i < layout.rank(); ++i) {
    int64_t stride = strides[dimOf(i)];
    if (layout.dim(i).extent != 1 && ShapedType::isStatic(stride) &&
        contradict(explicitStride(layout, i), StrideFact::constant(stride)))
      return i;
  }
  return std::nullopt;
}

Value kvcache::furthestSource(Value value,
                              llvm::function_ref<Value(Value)> sourceOf) {
  llvm::SmallPtrSet<Value, 8> seen;
  for (Value end = value; seen.insert(end).second;) {
    Value source = sourceOf(end);
    if (!source)
      return end;
    end = source;
  }
  return value;
}

/// Whether a cache, or a view of it, leaves its function.
static bool isReturned(Value cache) {
  SmallVector<Value> worklist = {cache};
  llvm::SmallPtrSet<Value, 8> seen;
  while (!worklist.empty()) {
    Value value = worklist.pop_back_val();
    if (!seen.insert(value).second)
      continue;
    for (Operation *user : value.getUsers()) {
      if (user->hasTrait<OpTrait::ReturnLike>() &&
          isa_and_present<FunctionOpInterface>(user->getParentOp()))
        return true;
      auto view = dyn_cast<ViewLikeOpInterface>(user);
      if (view && view.getViewSource() == value)
        llvm::append_range(worklist, user->getResults());
    }
  }
  return false;
}

LogicalResult ViewOp::verify() {
  auto source = cast<MemRefType>(getSource().getType());
  CacheType cache = getResult().getType();
  if (failed(verifyNoScales(*this, "view_c10", cache,
                            "'kvcache.with_scales' makes one that has")))
    return failure();
  if (source.getMemorySpace())
    return emitOpError() << "view_c8: the source is expected to be in the "
                            "default memory space, got "
                         << source;
  Value base = furthestSource(getSource(), [](Value value) {
    auto view = value.getDefiningOp<ViewLikeOpInterface>();
    return view ? view.getViewSource() : Value();
  });
  if (isa_and_present<memref::AllocOp, memref::AllocaOp>(
          base.getDefiningOp()) &&
      isReturned(getResult()))
    return emitOpError() << "view_c9: memory that outlives the function is "
                            "expected for a cache that is returned, got a "
                            "local allocation";
  if (isByteView())
    return verifyByteView(*this, cache.getLayout());
  Type element = cache.getMemoryType();
  if (source.getElementType() != element)
    return emitOpError() << "view_c1: the element type is expected to be "
                         << element << " or i8, got "
                         << source.getElementType();
  return verifyElementView(*this, cache.getLayout());
}

OpFoldResult ViewOp::fold(FoldAdaptor) {
  // The memref of a cache, seen in the same way, is the cache.
  auto storage = getSource().getDefiningOp<StorageOp>();
  if (storage && storage.getCache().getType() == getResult().getType() &&
      storage.getAxesAttr() == getAxesAttr())
    return storage.getCache();
  return {};
}

CacheType ViewOp::getCheckedType() { return getResult().getType(); }

/// By the entry function or the view itself.
SmallVector<std::string> ViewOp::getCallChecks() {
  const Layout &layout = getCheckedType().getLayout();
  SmallVector<std::string> checks = {"base aligned to " +
                                     std::to_string(layout.align())};
  if (isByteView())
    checks.push_back("within the buffer");
  for (unsigned i = 0; i < layout.rank(); ++i) {
    const LayoutDim &dim = layout.dim(i);
    std::string axis = dim.axis.str();
    if (dim.extent == 1)
      continue;
    if (dim.stride.kind == StrideFact::Kind::RunTime && dim.stride.value > 1)
      checks.push_back("stride of " + axis + " a multiple of " +
                       std::to_string(dim.stride.value));
    else if (dim.stride.kind == StrideFact::Kind::Constant)
      checks.push_back("stride of " + axis + " is " +
                       std::to_string(dim.stride.value));
    else if (dim.stride.kind == StrideFact::Kind::Compact && !isByteView())
      checks.push_back("stride of " + axis + " compact");
  }
  return checks;
}

//===----------------------------------------------------------------------===//
// StorageOp
//===----------------------------------------------------------------------===//

Value StorageOp::getViewSource() { return getCache(); }

unsigned StorageOp::resultDim(unsigned i) {
  return dimOfAxis(getAxes(), getCache().getType().getLayout(), i);
}

LogicalResult StorageOp::verify() {
  const Layout &layout = getCache().getType().getLayout();
  if (failed(verifyNoScales(*this, "storage_c6", getCache().getType(),
                            kPartsInstead)))
    return failure();
  auto result = dyn_cast<MemRefType>(getResult().getType());
  Type element = getCache().getType().getMemoryType();
  if (!result || result.getElementType() != element)
    return emitOpError() << "storage_c1: the result is expected to be a ranked "
                            "memref of "
                         << element << ", got " << getResult().getType();
  if (failed(verifyAxisNames(*this, getAxes(), layout, "storage_c2")))
    return failure();
  if (result.getRank() != layout.rank())
    return emitOpError() << "storage_c2: the result is expected to have "
                         << layout.rank() << " dimensions " << axesStr(layout)
                         << ", got " << result;
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(result.getStridesAndOffset(strides, offset)))
    return emitOpError() << "storage_c4: the result is expected to have "
                            "strides, got "
                         << result;
  // Strides follow from extents: a wrong extent is told first.
  for (unsigned i = 0; i < layout.rank(); ++i) {
    const LayoutDim &dim = layout.dim(i);
    unsigned d = resultDim(i);
    int64_t extent = result.isDynamicDim(d) ? kRunTime : result.getDimSize(d);
    if (extent != dim.extent)
      return emitOpError() << "storage_c3: the extent of " << dim.axis.str()
                           << " is expected to be " << extentStr(dim.extent)
                           << ", got " << extentStr(extent);
  }
  for (unsigned i = 0; i < layout.rank(); ++i) {
    int64_t stride = strides[resultDim(i)];
    if (layout.dim(i).extent != 1 && ShapedType::isStatic(stride) &&
        layout.stride(i) != stride)
      return emitOpError() << "storage_c4: the stride of "
                           << layout.dim(i).axis.str() << " is expected to be "
                           << extentStr(layout.stride(i).value_or(kRunTime))
                           << ", got " << stride;
  }
  if (getCache().getType().getAccess() == Access::read)
    return emitOpError() << "storage_c5: expected a writable cache, since a "
                            "memref is writable, got "
                         << getCache().getType();
  // An identity map says that run-time strides are packed, too.
  auto dimOf = [&](unsigned i) { return resultDim(i); };
  if (result.getLayout().isIdentity() &&
      !(layout.isCompact() && isInMemoryOrder(layout, dimOf)))
    return emitOpError() << "storage_c4: a result without a layout is expected "
                            "for a compact cache whose dimensions are named in "
                            "memory order, got "
                         << result;
  return success();
}

OpFoldResult StorageOp::fold(FoldAdaptor) {
  auto view = getCache().getDefiningOp<ViewOp>();
  if (view && view.getSource().getType() == getResult().getType() &&
      view.getAxesAttr() == getAxesAttr())
    return view.getSource();
  return {};
}

//===----------------------------------------------------------------------===//
// WithScalesOp, StoredOp and ScalesOp
//===----------------------------------------------------------------------===//

LogicalResult WithScalesOp::verify() {
  CacheType type = getResult().getType();
  if (!type.getScaled())
    return emitOpError() << "with_scales_c1: a cache with scales is expected, "
                            "got "
                         << type;
  auto verify = [&](StringRef what, CacheType expected, CacheType type) {
    if (type == expected)
      return success();
    return LogicalResult(emitOpError()
                         << "with_scales_c2: " << what << " are expected to be "
                         << expected << ", got " << type);
  };
  return success(
      succeeded(verify("stored values", type.getStoredPart(),
                       getStored().getType())) &&
      succeeded(verify("scales", type.getScalesPart(), getScales().getType())));
}

Value StoredOp::getViewSource() { return getCache(); }
Value ScalesOp::getViewSource() { return getCache(); }

LogicalResult StoredOp::inferReturnTypes(MLIRContext *,
                                         std::optional<Location> loc,
                                         Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  auto cache = cast<CacheType>(adaptor.getCache().getType());
  if (!cache.getScaled())
    return emitOptionalError(
        loc,
        "'kvcache.stored' op stored_c2: a cache with scales is expected, "
        "got ",
        cache);
  types.push_back(cache.getStoredPart());
  return success();
}

LogicalResult ScalesOp::inferReturnTypes(MLIRContext *,
                                         std::optional<Location> loc,
                                         Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  auto cache = cast<CacheType>(adaptor.getCache().getType());
  if (!cache.getScaled())
    return emitOptionalError(
        loc,
        "'kvcache.scales' op scales_c1: a cache with scales is expected, "
        "got ",
        cache);
  types.push_back(cache.getScalesPart());
  return success();
}

//===----------------------------------------------------------------------===//
// CastOp and HasFactsOp
//===----------------------------------------------------------------------===//

/// That two types can be those of one cache.
bool kvcache::mayBeSame(CacheType a, CacheType b, std::string &why) {
  llvm::raw_string_ostream os(why);
  const Layout &left = a.getLayout(), &right = b.getLayout();
  bool sameAxes = left.rank() == right.rank() &&
                  a.getElementType() == b.getElementType() &&
                  a.getSpace() == b.getSpace();
  for (unsigned i = 0; sameAxes && i < left.rank(); ++i)
    sameAxes = left.dim(i).axis == right.dim(i).axis &&
               left.orderAt(i) == right.orderAt(i);
  if (!sameAxes) {
    os << "c1: axes, order, element type and space are expected to be those of "
       << "'" << a << "', got '" << b << "'";
    return false;
  }
  for (unsigned i = 0; i < left.rank(); ++i) {
    std::string axis = left.dim(i).axis.str();
    int64_t x = left.dim(i).extent, y = right.dim(i).extent;
    if (x != kRunTime && y != kRunTime && x != y) {
      os << "c2: the extent of " << axis << " is expected to be " << x
         << ", got " << y;
      return false;
    }
    if (x == 1 || y == 1)
      continue;
    std::optional<int64_t> s = left.stride(i), t = right.stride(i);
    if (!contradict(explicitStride(left, i), explicitStride(right, i)))
      continue;
    os << "c2: the stride of " << axis << " is expected to be ";
    s ? os << *s : os << "a multiple of " << left.strideMultiple(i);
    os << ", got ";
    t ? os << *t : os << "a multiple of " << right.strideMultiple(i);
    return false;
  }
  return true;
}

static LogicalResult verifySameCache(Operation *op, CacheType a, CacheType b,
                                     StringRef label) {
  std::string why;
  if (mayBeSame(a, b, why))
    return success();
  return op->emitOpError() << label << "_" << why;
}

Value CastOp::getViewSource() { return getCache(); }

LogicalResult CastOp::verify() {
  if (getCache().getType().getAccess() == Access::read &&
      getResult().getType().getAccess() != Access::read)
    return emitOpError() << "cast_c3: the result is expected to be read-only, "
                            "like the operand, got "
                         << getResult().getType();
  return verifySameCache(*this, getCache().getType(), getResult().getType(),
                         "cast");
}

OpFoldResult CastOp::fold(FoldAdaptor) {
  // Where code is not reachable an operation may be its own operand.
  if (getCache() == getResult())
    return {};
  if (getCache().getType() == getResult().getType())
    return getCache();
  auto inner = getCache().getDefiningOp<CastOp>();
  if (inner && inner.getCache().getType() == getResult().getType())
    return inner.getCache();
  return {};
}

CacheType CastOp::getPartOf(CacheType known) {
  CacheType declared = getResult().getType();
  std::optional<Layout> both = meet(declared.getLayout(), known.getLayout());
  return both ? withLayout(declared, *both) : declared;
}

CacheType HasFactsOp::getCheckedType() { return cast<CacheType>(getFacts()); }

SmallVector<std::string> HasFactsOp::getCallChecks() {
  return {"all facts of this type"};
}

LogicalResult HasFactsOp::verify() {
  auto facts = dyn_cast<CacheType>(getFacts());
  if (!facts)
    return emitOpError() << "has_facts_c1: a cache type is expected, got "
                         << getFacts();
  return verifySameCache(*this, getCache().getType(), facts, "has_facts");
}

OpFoldResult HasFactsOp::fold(FoldAdaptor) {
  const Layout &known = getCache().getType().getLayout();
  if (implies(known, cast<CacheType>(getFacts()).getLayout()))
    return BoolAttr::get(getContext(), true);
  return {};
}

//===----------------------------------------------------------------------===//
// DimOp and StrideOp
//===----------------------------------------------------------------------===//

/// The position of a named axis in the listing.
static std::optional<unsigned> findAxis(CacheType type, StringRef name) {
  std::optional<Axis> axis = Axis::parse(std::string_view(name));
  return axis ? type.getLayout().find(*axis) : std::nullopt;
}

static LogicalResult verifyAxis(Operation *op, CacheType type, StringRef name,
                                StringRef label) {
  if (findAxis(type, name))
    return success();
  return op->emitOpError() << label << "_c1: an axis of "
                           << axesStr(type.getLayout()) << " is expected, got '"
                           << name << "'";
}

LogicalResult DimOp::verify() {
  return verifyAxis(*this, getCache().getType(), getAxis(), "dim");
}

/// The cache whose axis has the same extent, further up; null if there is none.
/// A layer whose index is checked at run time may lose its blocks.
static Value sameExtentSource(Value cache, Axis axis) {
  auto part = cache.getDefiningOp<CachePartOpInterface>();
  return part && part.getKept(axis.kind) == KeptIndices::All
             ? part->getOperand(0)
             : Value();
}

OpFoldResult DimOp::fold(FoldAdaptor) {
  CacheType type = getCache().getType();
  int64_t extent = type.getLayout().dim(*findAxis(type, getAxis())).extent;
  if (extent != kRunTime)
    return IntegerAttr::get(IndexType::get(getContext()), extent);
  Axis axis = *Axis::parse(std::string_view(getAxis()));
  Value source = furthestSource(
      getCache(), [&](Value cache) { return sameExtentSource(cache, axis); });
  if (source == getCache())
    return {};
  getCacheMutable().assign(source);
  return getResult();
}

LogicalResult StrideOp::verify() {
  return verifyAxis(*this, getCache().getType(), getAxis(), "stride");
}

OpFoldResult StrideOp::fold(FoldAdaptor) {
  CacheType type = getCache().getType();
  if (std::optional<int64_t> stride =
          type.getLayout().stride(*findAxis(type, getAxis())))
    return IntegerAttr::get(IndexType::get(getContext()), *stride);
  // Slices keep strides.
  Value source = furthestSource(getCache(), [](Value cache) {
    auto part = cache.getDefiningOp<CachePartOpInterface>();
    return part ? part->getOperand(0) : Value();
  });
  if (source == getCache())
    return {};
  getCacheMutable().assign(source);
  return getResult();
}
