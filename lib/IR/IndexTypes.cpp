// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The types of index values: slots, block tables, batches.
//
//===----------------------------------------------------------------------===//

#include "TypeSyntax.h"

#include "kvcache/IR/KVCache.h"

#include "mlir/IR/DialectImplementation.h"

using namespace mlir;
using namespace kvcache;

static int64_t toShape(int64_t extent) {
  return extent == kRunTime ? ShapedType::kDynamic : extent;
}

static bool isIndexType(Type type) {
  return type.isSignlessInteger(32) || type.isSignlessInteger(64);
}

/// `i32` or `i64`, or an error with a label.
static ParseResult parseIndexType(AsmParser &parser, StringRef label,
                                  StringRef what, IntegerType &result) {
  SMLoc loc = parser.getCurrentLocation();
  Type type;
  if (parser.parseType(type))
    return failure();
  result = dyn_cast<IntegerType>(type);
  if (result)
    return success();
  return parser.emitError(loc) << label << ": " << what
                               << " is expected to be i32 or i64, got " << type;
}

/// That a count is a run-time value or in range.
static LogicalResult verifyCount(function_ref<InFlightDiagnostic()> emitError,
                                 StringRef label, StringRef what, int64_t count,
                                 int64_t least) {
  if (least == 0 && count == kRunTime)
    return success();
  if (count >= least && count <= kMaxExtent)
    return success();
  return emitError() << label << ": " << what << " is expected to be between "
                     << least << " and 2^40, got " << count;
}

//===----------------------------------------------------------------------===//
// SlotsType
//===----------------------------------------------------------------------===//

Type SlotsType::parse(AsmParser &parser) {
  SMLoc loc = parser.getCurrentLocation();
  int64_t count = 0, rowsPerBlock = 0, sink = 0;
  IntegerType elementType;
  StringRef padName;
  SMLoc padLoc;
  if (parser.parseLess() || parseExtent(parser, count, 0) ||
      parser.parseKeyword("T", " after the number of tokens") ||
      parser.parseKeyword("x") ||
      parseIndexType(parser, "slots_c1", "the element type", elementType) ||
      parser.parseComma() || parser.parseKeyword("rows_per_block") ||
      parser.parseEqual() || parseDecimal(parser, rowsPerBlock) ||
      parser.parseComma() || parser.parseKeyword("pad") ||
      parser.parseEqual() || parser.getCurrentLocation(&padLoc) ||
      parser.parseKeyword(&padName))
    return {};
  std::optional<Padding> pad = symbolizePadding(padName);
  if (!pad) {
    parser.emitError(padLoc) << "expected pad 'skip_negative', "
                                "'skip_out_of_range', 'sink(...)' or 'none', "
                                "got '"
                             << padName << "'";
    return {};
  }
  if (*pad == Padding::sink &&
      (parser.parseLParen() || parseExtent(parser, sink, 0) ||
       parser.parseRParen()))
    return {};
  if (parser.parseGreater())
    return {};
  return SlotsType::getChecked([&] { return parser.emitError(loc); },
                               parser.getContext(), count, elementType,
                               rowsPerBlock, *pad, sink);
}

void SlotsType::print(AsmPrinter &printer) const {
  printer << "<";
  printExtent(printer, getCount());
  printer << "T x " << getElementType()
          << ", rows_per_block = " << getRowsPerBlock()
          << ", pad = " << stringifyPadding(getPad());
  if (getPad() == Padding::sink) {
    printer << "(";
    printExtent(printer, getSink());
    printer << ")";
  }
  printer << ">";
}

LogicalResult SlotsType::verify(function_ref<InFlightDiagnostic()> emitError,
                                int64_t count, IntegerType elementType,
                                int64_t rowsPerBlock, Padding pad,
                                int64_t sink) {
  if (!isIndexType(elementType))
    return emitError()
           << "slots_c1: the element type is expected to be i32 or i64, got "
           << elementType;
  if (failed(verifyCount(emitError, "slots_c2", "the number of tokens", count,
                         0)) ||
      failed(verifyCount(emitError, "slots_c3", "rows_per_block", rowsPerBlock,
                         1)))
    return failure();
  if (pad != Padding::sink && sink != 0)
    return emitError() << "slots_c4: a sink is expected only with 'sink', got "
                       << sink;
  return verifyCount(emitError, "slots_c4", "the sink", sink, 0);
}

MemRefType SlotsType::getMemRefType() const {
  return MemRefType::get({toShape(getCount())}, getElementType());
}

//===----------------------------------------------------------------------===//
// BlockTableType and BatchType
//===----------------------------------------------------------------------===//

/// `?R x ?M x i32, tokens = 16`
static ParseResult parseTable(AsmParser &parser, StringRef label,
                              int64_t &numRequests, int64_t &maxBlocks,
                              IntegerType &elementType, int64_t &tokens) {
  return failure(
      parser.parseLess() || parseExtent(parser, numRequests, 0) ||
      parser.parseKeyword("R", " after the number of requests") ||
      parser.parseKeyword("x") || parseExtent(parser, maxBlocks, 0) ||
      parser.parseKeyword("M", " after the number of blocks") ||
      parser.parseKeyword("x") ||
      parseIndexType(parser, label, "the element type", elementType) ||
      parser.parseComma() || parser.parseKeyword("tokens") ||
      parser.parseEqual() || parseDecimal(parser, tokens));
}

static void printTable(AsmPrinter &printer, int64_t numRequests,
                       int64_t maxBlocks, Type elementType, int64_t tokens) {
  printer << "<";
  printExtent(printer, numRequests);
  printer << "R x ";
  printExtent(printer, maxBlocks);
  printer << "M x " << elementType << ", tokens = " << tokens;
}

static LogicalResult verifyTable(function_ref<InFlightDiagnostic()> emitError,
                                 const Twine &name, int64_t numRequests,
                                 int64_t maxBlocks, IntegerType elementType,
                                 int64_t tokens) {
  if (!isIndexType(elementType))
    return emitError()
           << name << "_c1: the element type is expected to be i32 or i64, got "
           << elementType;
  std::string c2 = (name + "_c2").str(), c3 = (name + "_c3").str();
  if (failed(verifyCount(emitError, c2, "the number of requests", numRequests,
                         0)) ||
      failed(verifyCount(emitError, c2, "the number of blocks", maxBlocks, 0)))
    return failure();
  return verifyCount(emitError, c3, "'tokens'", tokens, 1);
}

Type BlockTableType::parse(AsmParser &parser) {
  SMLoc loc = parser.getCurrentLocation();
  int64_t numRequests = 0, maxBlocks = 0, tokens = 0;
  IntegerType elementType;
  if (parseTable(parser, "block_table_c1", numRequests, maxBlocks, elementType,
                 tokens) ||
      parser.parseGreater())
    return {};
  return BlockTableType::getChecked([&] { return parser.emitError(loc); },
                                    parser.getContext(), numRequests, maxBlocks,
                                    elementType, tokens);
}

void BlockTableType::print(AsmPrinter &printer) const {
  printTable(printer, getNumRequests(), getMaxBlocks(), getElementType(),
             getTokens());
  printer << ">";
}

LogicalResult
BlockTableType::verify(function_ref<InFlightDiagnostic()> emitError,
                       int64_t numRequests, int64_t maxBlocks,
                       IntegerType elementType, int64_t tokens) {
  return verifyTable(emitError, "block_table", numRequests, maxBlocks,
                     elementType, tokens);
}

MemRefType BlockTableType::getMemRefType() const {
  auto rows = StridedLayoutAttr::get(getContext(), ShapedType::kDynamic,
                                     {ShapedType::kDynamic, 1});
  return MemRefType::get({toShape(getNumRequests()), toShape(getMaxBlocks())},
                         getElementType(), rows);
}

Type BatchType::parse(AsmParser &parser) {
  SMLoc loc = parser.getCurrentLocation();
  int64_t numRequests = 0, maxBlocks = 0, tokens = 0;
  IntegerType elementType, positionType;
  if (parseTable(parser, "batch_c1", numRequests, maxBlocks, elementType,
                 tokens))
    return {};
  if (succeeded(parser.parseOptionalComma()) &&
      (parser.parseKeyword("positions") || parser.parseEqual() ||
       parseIndexType(parser, "batch_c1", "the type of positions",
                      positionType)))
    return {};
  if (parser.parseGreater())
    return {};
  return BatchType::getChecked([&] { return parser.emitError(loc); },
                               parser.getContext(), numRequests, maxBlocks,
                               elementType, tokens, positionType);
}

void BatchType::print(AsmPrinter &printer) const {
  printTable(printer, getNumRequests(), getMaxBlocks(), getElementType(),
             getTokens());
  if (hasPositions())
    printer << ", positions = " << getPositionType();
  printer << ">";
}

LogicalResult BatchType::verify(function_ref<InFlightDiagnostic()> emitError,
                                int64_t numRequests, int64_t maxBlocks,
                                IntegerType elementType, int64_t tokens,
                                IntegerType positionType) {
  if (failed(verifyTable(emitError, "batch", numRequests, maxBlocks,
                         elementType, tokens)))
    return failure();
  if (positionType && !isIndexType(positionType))
    return emitError()
           << "batch_c1: the type of positions is expected to be i32 or i64, "
              "got "
           << positionType;
  return success();
}

BlockTableType BatchType::getTableType() const {
  return BlockTableType::get(getContext(), getNumRequests(), getMaxBlocks(),
                             getElementType(), getTokens());
}

SmallVector<MemRefType> BatchType::getMemRefTypes() const {
  int64_t requests = getNumRequests();
  int64_t starts = requests == kRunTime ? kRunTime : requests + 1;
  SmallVector<MemRefType> types = {
      MemRefType::get({toShape(starts)}, getElementType()),
      MemRefType::get({toShape(requests)}, getElementType()),
      getTableType().getMemRefType()};
  if (hasPositions())
    types.push_back(MemRefType::get({ShapedType::kDynamic}, getPositionType()));
  return types;
}

ArrayRef<StringRef> BatchType::getMemberNames() const {
  static constexpr StringRef names[] = {"starts", "lengths", "table",
                                        "positions"};
  return ArrayRef<StringRef>(names).take_front(hasPositions() ? 4 : 3);
}
