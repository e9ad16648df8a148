// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Foreign.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

static std::string textOf(Attribute attribute) {
  std::string text;
  if (attribute)
    llvm::raw_string_ostream(text) << attribute;
  return text;
}

SmallVector<int64_t> raise::numbersOf(Attribute attribute, StringRef name) {
  std::string text = textOf(attribute);
  StringRef rest = text;
  // A whole word: `window_dims` is also the end of `update_window_dims`.
  while (true) {
    size_t at = rest.find(name);
    if (at == StringRef::npos)
      return {};
    bool isWhole =
        at == 0 || (!llvm::isAlnum(rest[at - 1]) && rest[at - 1] != '_');
    rest = rest.drop_front(at + name.size());
    StringRef value = rest.ltrim();
    if (!isWhole || !value.consume_front("="))
      continue;
    value = value.ltrim();
    bool isList = value.consume_front("[");
    value = value.take_until(
        [&](char c) { return isList ? c == ']' : c == ',' || c == '>'; });
    SmallVector<int64_t> numbers;
    while (!value.empty()) {
      auto [number, more] = value.split(',');
      int64_t integer;
      if (!number.trim().getAsInteger(10, integer))
        numbers.push_back(integer);
      value = more;
    }
    return numbers;
  }
}

std::string raise::lastWordOf(Attribute attribute) {
  std::string text = textOf(attribute);
  StringRef rest = StringRef(text).rtrim(">\" ");
  return rest.substr(rest.find_last_of(" <.") + 1).str();
}

bool raise::isSet(Operation *op, StringRef name) {
  Attribute attribute = op->getAttr(name);
  auto boolean = dyn_cast_or_null<BoolAttr>(attribute);
  return attribute && (!boolean || boolean.getValue());
}

std::optional<int64_t> raise::integerOf(Attribute attribute) {
  auto integer = dyn_cast_or_null<IntegerAttr>(attribute);
  return integer ? integer.getValue().trySExtValue() : std::nullopt;
}

std::optional<SmallVector<int64_t>> raise::integersOf(Operation *op,
                                                      StringRef name) {
  Attribute attribute = op->getAttr(name);
  if (auto dense = dyn_cast_or_null<DenseI64ArrayAttr>(attribute))
    return llvm::to_vector(dense.asArrayRef());
  SmallVector<int64_t> result;
  if (auto elements = dyn_cast_or_null<DenseIntElementsAttr>(attribute)) {
    for (const APInt &value : elements.getValues<APInt>()) {
      std::optional<int64_t> number = value.trySExtValue();
      if (!number)
        return std::nullopt;
      result.push_back(*number);
    }
    return result;
  }
  auto list = dyn_cast_or_null<ArrayAttr>(attribute);
  if (!list)
    return std::nullopt;
  for (Attribute element : list) {
    std::optional<int64_t> number = integerOf(element);
    if (!number)
      return std::nullopt;
    result.push_back(*number);
  }
  return result;
}

bool raise::yieldsArgument(Operation *op, unsigned argument) {
  if (op->getNumRegions() != 1 || !op->getRegion(0).hasOneBlock())
    return false;
  Block &body = op->getRegion(0).front();
  return body.getNumArguments() > argument &&
         body.getOperations().size() == 1 &&
         body.front().getNumOperands() == 1 &&
         body.front().getOperand(0) == body.getArgument(argument);
}
