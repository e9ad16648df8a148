// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "TypeSyntax.h"

#include "kvcache/IR/KVCache.h"

#include "kvcache/Layout/Orders.h"

#include "kvcache/IR/Strides.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvcache;

llvm::hash_code kvcache::hash_value(const Layout &layout) {
  llvm::hash_code hash = llvm::hash_value(layout.align());
  for (unsigned i = 0; i < layout.rank(); ++i) {
    const LayoutDim &dim = layout.dim(i);
    hash = llvm::hash_combine(hash, dim.axis.kind, dim.axis.part, dim.extent,
                              dim.stride.kind, dim.stride.value,
                              layout.orderAt(i));
  }
  return hash;
}

#define GET_ATTRDEF_CLASSES
#include "kvcache/IR/KVCacheAttrs.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "kvcache/IR/KVCacheTypes.cpp.inc"

void KVCacheDialect::registerTypes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "kvcache/IR/KVCacheAttrs.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "kvcache/IR/KVCacheTypes.cpp.inc"
      >();
}

LogicalResult
CopyScheduleAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                         int64_t threads, int64_t rows, bool) {
  if (threads < 32 || threads > 1024 || threads % 32)
    return emitError() << "copy_schedule_c1: threads are expected to be a "
                          "multiple of 32 from 32 to 1024, got "
                       << threads;
  if (rows < 1 || rows > 16)
    return emitError()
           << "copy_schedule_c1: rows are expected to be from 1 to 16, got "
           << rows;
  return success();
}

//===----------------------------------------------------------------------===//
// Extents and letters
//===----------------------------------------------------------------------===//

/// A decimal number. The lexer takes `0x16N` for the hexadecimal number 0x16,
/// which is never what was meant, so hexadecimal numbers are refused.
ParseResult kvcache::parseDecimal(AsmParser &parser, int64_t &value) {
  SMLoc loc = parser.getCurrentLocation();
  const char *text = loc.getPointer();
  if (text && text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
    return parser.emitError(loc)
           << "expected a decimal number; separate axes with spaces, as in '2S "
              "x ?B x 16N x 8H x 128D x bf16'";
  return parser.parseInteger(value);
}

/// `?` or a decimal number. Negative numbers are refused here, as -1 is how a
/// run-time value is stored.
ParseResult kvcache::parseExtent(AsmParser &parser, int64_t &extent,
                                 int64_t least) {
  extent = kRunTime;
  if (succeeded(parser.parseOptionalQuestion()))
    return success();
  SMLoc loc = parser.getCurrentLocation();
  if (parseDecimal(parser, extent))
    return failure();
  if (extent < 0)
    return parser.emitError(loc) << "expected a number of at least " << least
                                 << " or '?', got " << extent;
  return success();
}

void kvcache::printExtent(AsmPrinter &printer, int64_t extent) {
  if (extent == kRunTime)
    printer << "?";
  else
    printer << extent;
}

ParseResult kvcache::parseAxis(AsmParser &parser, Axis &axis) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef word;
  if (parser.parseKeyword(&word))
    return failure();
  std::optional<Axis> parsed = Axis::parse(std::string_view(word));
  if (!parsed)
    return parser.emitError(loc)
           << "expected an axis L, S, B, N, H or D, possibly with '.o' or "
              "'.i', got '"
           << word << "'";
  axis = *parsed;
  return success();
}

/// Whether the next token begins an extent. A number or `?` does, an element
/// type does not.
static bool atExtent(AsmParser &parser) {
  const char *text = parser.getCurrentLocation().getPointer();
  return text && (*text == '?' || *text == '-' || isdigit(*text));
}

//===----------------------------------------------------------------------===//
// CacheType
//===----------------------------------------------------------------------===//

ParseResult kvcache::parseStrideFacts(
    AsmParser &parser, function_ref<ParseResult(SMLoc, Axis, StrideFact)> add) {
  return parser.parseCommaSeparatedList(
      AsmParser::Delimiter::Square, [&]() -> ParseResult {
        SMLoc loc = parser.getCurrentLocation();
        Axis axis;
        StrideFact fact;
        if (parseAxis(parser, axis) || parser.parseEqual())
          return failure();
        if (succeeded(parser.parseOptionalQuestion())) {
          fact = StrideFact::runTime();
          if (succeeded(parser.parseOptionalKeyword("mult")) &&
              parseDecimal(parser, fact.value))
            return failure();
        } else {
          fact = StrideFact::constant(0);
          if (parseDecimal(parser, fact.value))
            return failure();
        }
        return add(loc, axis, fact);
      });
}

void kvcache::printStrideFact(AsmPrinter &printer, Axis axis, StrideFact fact) {
  printer << axis.str() << " = ";
  if (fact.kind == StrideFact::Kind::Constant)
    printer << fact.value;
  else if (fact.value == 1)
    printer << "?";
  else
    printer << "? mult " << fact.value;
}

/// Facts of the strides of some axes, each at most once.
static ParseResult parseCacheStrides(AsmParser &parser,
                                     SmallVectorImpl<LayoutDim> &dims) {
  return parseStrideFacts(
      parser, [&](SMLoc loc, Axis axis, StrideFact fact) -> ParseResult {
        for (LayoutDim &dim : dims) {
          if (dim.axis != axis)
            continue;
          if (dim.stride != StrideFact::compact())
            return parser.emitError(loc)
                   << "the stride of " << axis.str() << " is given twice";
          dim.stride = fact;
          return success();
        }
        return parser.emitError(loc) << "the cache has no axis " << axis.str();
      });
}

/// `[B, S, N, H, D]`, or a name such as `paired_nhd`.
static ParseResult parseOrder(AsmParser &parser, ArrayRef<LayoutDim> dims,
                              std::vector<Axis> &order) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef name;
  if (succeeded(parser.parseOptionalKeyword(&name))) {
    std::vector<Axis> axes;
    for (const LayoutDim &dim : dims)
      axes.push_back(dim.axis);
    std::optional<std::vector<Axis>> named =
        orderByName(std::string_view(name), axes);
    if (named) {
      order = *named;
      return success();
    }
    if (orderByName(std::string_view(name)))
      return parser.emitError(loc) << "the order '" << name
                                   << "' does not place all axes of the cache";
    std::string known;
    for (std::string_view one : orderNames())
      known += (known.empty() ? "" : ", ") + std::string(one);
    return parser.emitError(loc) << "expected axes in brackets, or one of "
                                 << known << ", got '" << name << "'";
  }
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, [&] {
        return parseAxis(parser, order.emplace_back());
      }))
    return failure();
  // Nothing means the listed sequence, but only where it is left out.
  if (order.empty())
    return parser.emitError(loc) << "layout_c4: the order is expected to be a "
                                    "permutation of the axes, got []";
  return success();
}

Type CacheType::parse(AsmParser &parser) {
  SMLoc loc = parser.getCurrentLocation();
  SmallVector<LayoutDim> dims;
  std::vector<Axis> order;
  Type elementType;
  int64_t align = kDefaultAlign;
  MemorySpace space = MemorySpace::device;
  Access access = Access::write;
  if (parser.parseLess())
    return {};
  while (atExtent(parser)) {
    LayoutDim dim;
    if (parseExtent(parser, dim.extent, 1) || parseAxis(parser, dim.axis) ||
        parser.parseKeyword("x", " between axes"))
      return {};
    dims.push_back(dim);
  }
  if (parser.parseType(elementType))
    return {};
  SmallVector<StringRef> seen;
  while (succeeded(parser.parseOptionalComma())) {
    SMLoc keyLoc = parser.getCurrentLocation();
    StringRef key;
    if (parser.parseKeyword(&key) || parser.parseEqual())
      return {};
    if (llvm::is_contained(seen, key)) {
      parser.emitError(keyLoc) << "'" << key << "' is given twice";
      return {};
    }
    seen.push_back(key);
    ParseResult result = success();
    if (key == "order") {
      result = parseOrder(parser, dims, order);
    } else if (key == "strides") {
      result = parseCacheStrides(parser, dims);
    } else if (key == "align") {
      result = parseDecimal(parser, align);
    } else if (key == "space") {
      StringRef name;
      if (parser.parseKeyword(&name))
        return {};
      std::optional<MemorySpace> parsed = symbolizeMemorySpace(name);
      if (!parsed)
        result = parser.emitError(keyLoc)
                 << "expected space 'device' or 'host', got '" << name << "'";
      else
        space = *parsed;
    } else if (key == "access") {
      StringRef name;
      if (parser.parseKeyword(&name))
        return {};
      std::optional<Access> parsed = symbolizeAccess(name);
      if (!parsed)
        result = parser.emitError(keyLoc)
                 << "expected access 'write' or 'read', got '" << name << "'";
      else
        access = *parsed;
    } else {
      result =
          parser.emitError(keyLoc)
          << "expected 'order', 'strides', 'align', 'space' or 'access', got '"
          << key << "'";
    }
    if (result)
      return {};
  }
  if (parser.parseGreater())
    return {};
  std::string error;
  std::optional<Layout> layout =
      Layout::get({dims.begin(), dims.end()}, order, align, error);
  if (!layout) {
    parser.emitError(loc) << error;
    return {};
  }
  return CacheType::getChecked([&] { return parser.emitError(loc); },
                               parser.getContext(), *layout, elementType, space,
                               access);
}

void CacheType::print(AsmPrinter &printer) const {
  const Layout &layout = getLayout();
  printer << "<";
  for (unsigned i = 0; i < layout.rank(); ++i) {
    printExtent(printer, layout.dim(i).extent);
    printer << layout.dim(i).axis.str() << " x ";
  }
  printer << getElementType();
  if (!layout.hasListedOrder()) {
    printer << ", order = [";
    for (unsigned i = 0; i < layout.rank(); ++i)
      printer << (i ? ", " : "") << layout.dim(layout.orderAt(i)).axis.str();
    printer << "]";
  }
  if (!layout.isCompact()) {
    StringRef separator = "";
    printer << ", strides = [";
    for (unsigned i = 0; i < layout.rank(); ++i) {
      const StrideFact &fact = layout.dim(i).stride;
      if (fact.kind == StrideFact::Kind::Compact)
        continue;
      printer << separator;
      separator = ", ";
      printStrideFact(printer, layout.dim(i).axis, fact);
    }
    printer << "]";
  }
  if (layout.align() != kDefaultAlign)
    printer << ", align = " << layout.align();
  if (getSpace() != MemorySpace::device)
    printer << ", space = " << stringifyMemorySpace(getSpace());
  if (getAccess() != Access::write)
    printer << ", access = " << stringifyAccess(getAccess());
  printer << ">";
}

static std::optional<Layout>
scalesLayoutOf(const Layout &layout, ScaledType scaled, std::string &why) {
  int64_t align = scaled.getScale().getIntOrFloatBitWidth() / 8;
  return scalesLayout(layout, scaled.getPer().vec(), scaled.getStrides().vec(),
                      align, why);
}

/// What a type asks of its layout and element type.
static LogicalResult verifyCacheType(const Layout &layout, Type elementType,
                                     std::string &why) {
  llvm::raw_string_ostream os(why);
  auto format = dyn_cast<FormatTypeInterface>(elementType);
  if (!format) {
    os << "cache_c1: the element type is expected to be "
       << KVCacheDialect::listFormats(elementType.getContext()) << ", got '"
       << elementType << "'";
    return failure();
  }
  if (auto scaled = dyn_cast<ScaledType>(elementType))
    if (std::string scales; !scalesLayoutOf(layout, scaled, scales)) {
      os << "cache_c5: " << scales;
      return failure();
    }
  for (unsigned i = 0; i < layout.rank(); ++i) {
    const LayoutDim &dim = layout.dim(i);
    AxisKind kind = dim.axis.kind;
    bool mayBeRunTime = kind == AxisKind::Block || kind == AxisKind::Layer;
    if (dim.extent == kRunTime && !mayBeRunTime) {
      os << "cache_c2: the extent of " << dim.axis.str()
         << " is expected to be a constant, got '?'";
      return failure();
    }
    bool maySplit = kind == AxisKind::Head || kind == AxisKind::Channel;
    if (dim.axis.part != AxisPart::Whole && !maySplit) {
      os << "cache_c4: only H and D are expected to be split, got "
         << dim.axis.str();
      return failure();
    }
    if (kind == AxisKind::Side && dim.extent > 2) {
      os << "cache_c2: S is expected to be 1 or 2, got " << dim.extent;
      return failure();
    }
  }
  int64_t bytes = format.getFormat().getBits() / 8;
  if (layout.align() < bytes) {
    os << "cache_c3: the alignment is expected to be at least " << bytes
       << ", the size of an element, got " << layout.align();
    return failure();
  }
  return success();
}

LogicalResult CacheType::verify(function_ref<InFlightDiagnostic()> emitError,
                                Layout layout, Type elementType, MemorySpace,
                                Access) {
  std::string why;
  if (failed(verifyCacheType(layout, elementType, why)))
    return emitError() << why;
  return success();
}

int64_t CacheType::getElementBytes() const {
  return cast<FormatTypeInterface>(getElementType()).getFormat().getBits() / 8;
}

int64_t CacheType::getNumSides() const {
  return getLayout().extent(AxisKind::Side);
}

ScaledType CacheType::getScaled() const {
  return dyn_cast<ScaledType>(getElementType());
}

CacheType CacheType::getStoredPart() const {
  Type stored = StoredType::get(getContext(), getScaled().getStored());
  return get(getContext(), getLayout(), stored, getSpace(), getAccess());
}

CacheType CacheType::getScalesPart() const {
  std::string why;
  std::optional<Layout> layout = scalesLayoutOf(getLayout(), getScaled(), why);
  return get(getContext(), *layout, getScaled().getScale(), getSpace(),
             getScaled().isGiven() ? Access::read : getAccess());
}

CacheType CacheType::withAccess(Access access) const {
  return get(getContext(), getLayout(), getElementType(), getSpace(), access);
}

CacheType CacheType::withParts(const Layout &stored,
                               const Layout &scales) const {
  SmallVector<ScaleAxis> per(getScaled().getPer());
  llvm::erase_if(per,
                 [&](const ScaleAxis &axis) { return !stored.has(axis.kind); });
  auto scaled =
      ScaledType::get(getContext(), getScaled().getStored(),
                      getScaled().getScale(), per, scaleStrides(scales));
  return get(getContext(), stored, scaled, getSpace(), getAccess());
}

SmallVector<int64_t> CacheType::getRowShape() const {
  SmallVector<int64_t> shape;
  if (getLayout().has(AxisKind::Head))
    shape.push_back(getLayout().extent(AxisKind::Head));
  shape.push_back(getLayout().extent(AxisKind::Channel));
  return shape;
}

MemRefType CacheType::getMemRefType() const {
  const Layout &layout = getLayout();
  SmallVector<int64_t> shape, strides;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    int64_t extent = layout.dim(i).extent;
    shape.push_back(extent == kRunTime ? ShapedType::kDynamic : extent);
    strides.push_back(layout.stride(i).value_or(ShapedType::kDynamic));
  }
  auto strided =
      StridedLayoutAttr::get(getContext(), ShapedType::kDynamic, strides);
  return MemRefType::get(shape, getMemoryType(), strided);
}

Type CacheType::getMemoryType() const {
  return cast<FormatTypeInterface>(getElementType()).getStoredType();
}

CacheType CacheType::of(Type type, ArrayAttr axes, std::string &why) {
  llvm::raw_string_ostream os(why);
  if (auto cache = dyn_cast<CacheType>(type)) {
    if (!axes)
      return cache;
    os << "no dimension names are expected for a reference, whose type has "
          "them, got "
       << axes;
    return {};
  }
  auto tensor = cast<RankedTensorType>(type);
  int64_t rank = tensor.getRank();
  if (!axes || static_cast<int64_t>(axes.size()) != rank) {
    os << "names for the " << rank << " dimensions of " << tensor
       << " are expected, got " << (axes ? axes.size() : 0);
    return {};
  }
  std::vector<LayoutDim> dims;
  std::vector<Axis> order;
  for (auto [name, extent] :
       llvm::zip(axes.getAsRange<StringAttr>(), tensor.getShape())) {
    std::optional<Axis> axis = Axis::parse(std::string_view(name.getValue()));
    if (!axis) {
      os << "an axis L, S, B, N, H or D is expected, got " << name;
      return {};
    }
    order.push_back(*axis);
    dims.push_back({*axis, extentInCache(*axis, extent)});
  }
  llvm::stable_sort(dims, [](const LayoutDim &a, const LayoutDim &b) {
    return a.axis < b.axis;
  });
  std::string error;
  std::optional<Layout> layout = Layout::get(dims, order, kDefaultAlign, error);
  if (!layout) {
    os << error;
    return {};
  }
  if (isa<ScaledType, StoredType>(tensor.getElementType())) {
    os << "a reference is expected for a cache with scales, got " << tensor;
    return {};
  }
  LogicalResult valid = verifyCacheType(*layout, tensor.getElementType(), why);
  if (failed(valid))
    return {};
  return CacheType::get(type.getContext(), *layout, tensor.getElementType(),
                        MemorySpace::device, Access::write);
}
