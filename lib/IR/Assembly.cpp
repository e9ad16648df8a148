// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The custom parts of the assembly of operations, and the generated code.
//
//===----------------------------------------------------------------------===//

#include "BufferOps.h"

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

//===----------------------------------------------------------------------===//
// Assembly of lists of caches
//===----------------------------------------------------------------------===//

/// `%k[B, N, H, D], %v[B, N, H, D]`: operands, each with the names of its
/// dimensions where it is a tensor. There are no names at all, or a list for
/// each operand, which is empty for a reference.
static ParseResult
parseCacheList(OpAsmParser &parser,
               SmallVectorImpl<OpAsmParser::UnresolvedOperand> &caches,
               ArrayAttr &axes) {
  SmallVector<Attribute> lists;
  bool anyNames = false;
  do {
    if (parser.parseOperand(caches.emplace_back()))
      return failure();
    ArrayAttr names = parser.getBuilder().getArrayAttr({});
    OptionalParseResult result = parseAxisList(parser, names);
    if (result.has_value() && failed(*result))
      return failure();
    anyNames |= result.has_value();
    lists.push_back(names);
  } while (succeeded(parser.parseOptionalComma()));
  if (!anyNames)
    lists.clear();
  axes = parser.getBuilder().getArrayAttr(lists);
  return success();
}

static void printCacheList(OpAsmPrinter &printer, Operation *op,
                           OperandRange caches, ArrayAttr axes) {
  for (auto [index, cache] : llvm::enumerate(caches)) {
    printer << (index ? ", " : "") << cache;
    auto names = axes && index < axes.size() ? dyn_cast<ArrayAttr>(axes[index])
                                             : ArrayAttr();
    if (names && !names.empty())
      printAxisList(printer, op, names);
  }
}

//===----------------------------------------------------------------------===//
// Assembly of splits and their lse
//===----------------------------------------------------------------------===//

/// `%a, %lse_a with %b, %lse_b with %c, %lse_c`, or their types.
static ParseResult parsePairs(OpAsmParser &parser,
                              function_ref<ParseResult()> first,
                              function_ref<ParseResult()> second) {
  do {
    if (first() || parser.parseComma() || second())
      return failure();
  } while (succeeded(parser.parseOptionalKeyword("with")));
  return success();
}

static ParseResult
parseSplits(OpAsmParser &parser,
            SmallVectorImpl<OpAsmParser::UnresolvedOperand> &splits,
            SmallVectorImpl<OpAsmParser::UnresolvedOperand> &lses) {
  return parsePairs(
      parser, [&] { return parser.parseOperand(splits.emplace_back()); },
      [&] { return parser.parseOperand(lses.emplace_back()); });
}

static ParseResult parseSplitTypes(OpAsmParser &parser,
                                   SmallVectorImpl<Type> &splits,
                                   SmallVectorImpl<Type> &lses) {
  return parsePairs(
      parser, [&] { return parser.parseType(splits.emplace_back()); },
      [&] { return parser.parseType(lses.emplace_back()); });
}

template <typename Range>
static void printPairs(OpAsmPrinter &printer, Range splits, Range lses) {
  llvm::interleave(
      llvm::zip(splits, lses), printer,
      [&](auto pair) {
        printer << std::get<0>(pair) << ", " << std::get<1>(pair);
      },
      " with ");
}

static void printSplits(OpAsmPrinter &printer, Operation *, OperandRange splits,
                        OperandRange lses) {
  printPairs(printer, splits, lses);
}

static void printSplitTypes(OpAsmPrinter &printer, Operation *,
                            TypeRange splits, TypeRange lses) {
  printPairs(printer, splits, lses);
}

#define GET_OP_CLASSES
#include "kvcache/IR/KVCacheOps.cpp.inc"
