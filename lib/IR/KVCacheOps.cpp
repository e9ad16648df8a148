// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace kvcache;

//===----------------------------------------------------------------------===//
// Assembly of axes
//===----------------------------------------------------------------------===//

/// One axis by its letter, kept as a string.
static ParseResult parseAxisName(OpAsmParser &parser,
                                 SmallVectorImpl<Attribute> &names) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef word;
  if (parser.parseKeyword(&word))
    return failure();
  if (!Axis::parse(std::string_view(word)))
    return parser.emitError(loc)
           << "expected an axis L, S, B, N, H or D, possibly with '.o' or "
              "'.i', got '"
           << word << "'";
  names.push_back(parser.getBuilder().getStringAttr(word));
  return success();
}

/// `[B, S, N, H, D]`
static OptionalParseResult parseAxisList(OpAsmParser &parser, ArrayAttr &axes) {
  if (failed(parser.parseOptionalLSquare()))
    return std::nullopt;
  SmallVector<Attribute> names;
  if (parser.parseCommaSeparatedList(
          [&] { return parseAxisName(parser, names); }) ||
      parser.parseRSquare())
    return failure();
  axes = parser.getBuilder().getArrayAttr(names);
  return ParseResult(success());
}

static void printAxisList(OpAsmPrinter &printer, Operation *, ArrayAttr axes) {
  if (!axes)
    return;
  printer << "[";
  llvm::interleaveComma(axes.getAsRange<StringAttr>(), printer,
                        [&](StringAttr name) { printer << name.getValue(); });
  printer << "]";
}

/// `B = %n, L = %m`
static ParseResult
parseAxisOperands(OpAsmParser &parser,
                  SmallVectorImpl<OpAsmParser::UnresolvedOperand> &operands,
                  ArrayAttr &axes) {
  SmallVector<Attribute> names;
  if (parser.parseCommaSeparatedList([&] {
        return failure(parseAxisName(parser, names) || parser.parseEqual() ||
                       parser.parseOperand(operands.emplace_back()));
      }))
    return failure();
  axes = parser.getBuilder().getArrayAttr(names);
  return success();
}

static void printAxisOperands(OpAsmPrinter &printer, Operation *,
                              OperandRange operands, ArrayAttr axes) {
  llvm::interleaveComma(llvm::zip(axes, operands), printer, [&](auto pair) {
    printer << cast<StringAttr>(std::get<0>(pair)).getValue() << " = "
            << std::get<1>(pair);
  });
}

#define GET_OP_CLASSES
#include "kvcache/IR/KVCacheOps.cpp.inc"

/// `[L, S, B]` of those axes of a layout that fulfil a condition.
template <typename Condition>
static std::string axesWhere(const Layout &layout, Condition condition) {
  std::string text = "[";
  for (unsigned i = 0; i < layout.rank(); ++i)
    if (condition(i))
      text += (text.size() > 1 ? ", " : "") + layout.dim(i).axis.str();
  return text + "]";
}

static std::string namesStr(ArrayAttr names) {
  std::string text = "[";
  for (StringAttr name : names.getAsRange<StringAttr>())
    text += (text.size() > 1 ? ", " : "") + name.str();
  return text + "]";
}

//===----------------------------------------------------------------------===//
// ViewOp
//===----------------------------------------------------------------------===//

Value ViewOp::getViewSource() { return getSource(); }

bool ViewOp::isByteView() {
  auto type = cast<MemRefType>(getSource().getType());
  return type.getElementType().isInteger(8);
}

unsigned ViewOp::sourceDim(unsigned i) {
  if (!getAxes())
    return i;
  std::string name = getResult().getType().getLayout().dim(i).axis.str();
  for (auto [index, attr] : llvm::enumerate(*getAxes()))
    if (cast<StringAttr>(attr).getValue() == name)
      return index;
  llvm_unreachable("the verifier checks that each axis is named");
}

static LogicalResult verifyByteView(ViewOp op, const Layout &layout) {
  auto source = cast<MemRefType>(op.getSource().getType());
  if (source.getRank() != 1 || !source.getLayout().isIdentity())
    return op.emitOpError() << "view_c1: bytes are expected as a contiguous "
                               "memref of rank 1, got "
                            << source;
  if (op.getAxes())
    return op.emitOpError() << "view_c5: a view of bytes names no dimensions";
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
    return op.emitOpError() << "view_c5: 'offset', 'extents' and 'strides' "
                               "belong to a view of bytes, got a source of "
                            << source;
  std::string listed = axesWhere(layout, [](unsigned) { return true; });
  if (std::optional<ArrayAttr> axes = op.getAxes()) {
    std::vector<Axis> named, expected;
    for (unsigned i = 0; i < layout.rank(); ++i)
      expected.push_back(layout.dim(i).axis);
    for (StringAttr name : axes->getAsRange<StringAttr>()) {
      std::optional<Axis> axis = Axis::parse(std::string_view(name.getValue()));
      if (axis)
        named.push_back(*axis);
    }
    llvm::sort(named);
    if (named != expected || axes->size() != named.size())
      return op.emitOpError()
             << "view_c2: the dimensions are expected to be named by " << listed
             << " in some sequence, got " << namesStr(*axes);
  }
  if (source.getRank() != layout.rank())
    return op.emitOpError()
           << "view_c2: the source is expected to have " << layout.rank()
           << " dimensions " << listed << ", got " << source;
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
    int64_t extent = source.isDynamicDim(d) ? kRunTime : source.getDimSize(d);
    auto str = [](int64_t n) {
      return n == kRunTime ? std::string("?") : std::to_string(n);
    };
    if (extent != dim.extent)
      return op.emitOpError() << "view_c3: the extent of " << dim.axis.str()
                              << " is expected to be " << str(dim.extent)
                              << ", got " << str(extent);
  }
  for (unsigned i = 0; i < layout.rank(); ++i) {
    const LayoutDim &dim = layout.dim(i);
    unsigned d = op.sourceDim(i);
    if (dim.extent == 1 || ShapedType::isDynamic(strides[d]))
      continue;
    std::optional<int64_t> known = layout.stride(i);
    if (known && *known != strides[d])
      return op.emitOpError()
             << "view_c4: the stride of " << dim.axis.str()
             << " is expected to be " << *known << ", got " << strides[d];
    if (!known && strides[d] % layout.strideMultiple(i))
      return op.emitOpError()
             << "view_c4: the stride of " << dim.axis.str()
             << " is expected to be a multiple of " << layout.strideMultiple(i)
             << ", got " << strides[d];
  }
  return success();
}

LogicalResult ViewOp::verify() {
  auto source = cast<MemRefType>(getSource().getType());
  CacheType cache = getResult().getType();
  if (source.getMemorySpace())
    return emitOpError() << "view_c8: the source is expected to be in the "
                            "default memory space, got "
                         << source;
  if (isByteView())
    return verifyByteView(*this, cache.getLayout());
  if (source.getElementType() != cache.getElementType())
    return emitOpError() << "view_c1: the element type is expected to be "
                         << cache.getElementType() << " or i8, got "
                         << source.getElementType();
  return verifyElementView(*this, cache.getLayout());
}

//===----------------------------------------------------------------------===//
// MakeSlotsOp
//===----------------------------------------------------------------------===//

LogicalResult MakeSlotsOp::verify() {
  auto source = cast<ShapedType>(getSource().getType());
  SlotsType slots = getResult().getType();
  MemRefType expected = slots.getMemRefType();
  if (source.getShape() != expected.getShape() ||
      source.getElementType() != expected.getElementType())
    return emitOpError() << "make_slots_c1: the source is expected to be 1-D "
                            "with the length and element type of "
                         << slots << ", got " << source;
  auto memref = dyn_cast<MemRefType>(source);
  if (memref && !memref.getLayout().isIdentity())
    return emitOpError() << "make_slots_c2: the source is expected to be "
                            "contiguous, got "
                         << memref;
  if (memref && memref.getMemorySpace())
    return emitOpError() << "make_slots_c3: the source is expected to be in "
                            "the default memory space, got "
                         << memref;
  return success();
}

//===----------------------------------------------------------------------===//
// IndexCopyOp
//===----------------------------------------------------------------------===//

void IndexCopyOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  for (OpOperand &row : getRowsMutable())
    if (isa<MemRefType>(row.get().getType()))
      effects.emplace_back(MemoryEffects::Read::get(), &row);
  effects.emplace_back(MemoryEffects::Read::get(), &getSlotsMutable());
  effects.emplace_back(MemoryEffects::Write::get(), &getCacheMutable());
}

LogicalResult IndexCopyOp::verify() {
  CacheType cache = getCache().getType();
  SlotsType slots = getSlots().getType();
  const Layout &layout = cache.getLayout();
  int64_t sides = cache.getNumSides();
  if (static_cast<int64_t>(getRows().size()) != sides)
    return emitOpError() << "index_copy_c1: " << sides
                         << " operands of rows are expected, one per side of "
                            "the cache, got "
                         << getRows().size();
  if (layout.extent(AxisKind::Layer) != 1)
    return emitOpError() << "index_copy_c5: the cache is expected to be one "
                            "layer, got "
                         << cache;
  if (slots.getRowsPerBlock() != layout.extent(AxisKind::Token))
    return emitOpError()
           << "index_copy_c3: slots of " << layout.extent(AxisKind::Token)
           << " rows per block are expected, as in the cache, got "
           << slots.getRowsPerBlock();
  int64_t count =
      slots.getCount() == kRunTime ? ShapedType::kDynamic : slots.getCount();
  for (auto [index, row] : llvm::enumerate(getRows())) {
    auto type = cast<ShapedType>(row.getType());
    SmallVector<int64_t> shape = {count};
    llvm::append_range(shape, cache.getRowShape());
    auto expected = RankedTensorType::get(shape, cache.getElementType());
    if (type.getShape() != expected.getShape() ||
        type.getElementType() != expected.getElementType())
      return emitOpError() << "index_copy_c2: rows #" << index
                           << " are expected to have the shape and element "
                              "type of "
                           << expected << ", got " << type;
    if (isa<MemRefType>(type) != isa<MemRefType>(getRows()[0].getType()))
      return emitOpError() << "index_copy_c6: rows are expected to be all "
                              "tensors or all memrefs, got "
                           << getRows()[0].getType() << " and " << type;
    auto memref = dyn_cast<MemRefType>(type);
    if (!memref)
      continue;
    if (memref.getMemorySpace())
      return emitOpError() << "index_copy_c7: rows #" << index
                           << " are expected to be in the default memory "
                              "space, got "
                           << memref;
    SmallVector<int64_t> strides;
    int64_t offset, inner = 1;
    bool strided = succeeded(memref.getStridesAndOffset(strides, offset));
    for (unsigned d = memref.getRank(); strided && d-- > 1;) {
      strided = strides[d] == inner || shape[d] == 1;
      inner *= shape[d];
    }
    if (!strided)
      return emitOpError() << "index_copy_c4: the inner dimensions of rows #"
                           << index << " are expected to be contiguous, got "
                           << memref;
  }
  return success();
}
