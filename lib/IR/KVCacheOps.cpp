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
static ParseResult parseAxisName(OpAsmParser &parser, StringAttr &name) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef word;
  if (parser.parseKeyword(&word))
    return failure();
  if (!Axis::parse(std::string_view(word)))
    return parser.emitError(loc)
           << "expected an axis L, S, B, N, H or D, possibly with '.o' or "
              "'.i', got '"
           << word << "'";
  name = parser.getBuilder().getStringAttr(word);
  return success();
}

static void printAxisName(OpAsmPrinter &printer, Operation *, StringAttr name) {
  printer << name.getValue();
}

static ParseResult parseAxisName(OpAsmParser &parser,
                                 SmallVectorImpl<Attribute> &names) {
  StringAttr name;
  if (parseAxisName(parser, name))
    return failure();
  names.push_back(name);
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
  if (cache.getAccess() == Access::read)
    return emitOpError() << "index_copy_c8: a cache that may be written is "
                            "expected, got "
                         << cache;
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
