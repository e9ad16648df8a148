// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Run/ArgumentSpec.h"

#include "kvcache/Run/Elements.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"

using namespace kvcache;
using namespace kvcache::run;
using namespace llvm;

Error run::runError(const Twine &message) {
  return createStringError(inconvertibleErrorCode(), message);
}

std::string run::listStr(ArrayRef<int64_t> values) {
  std::string text = "[";
  ListSeparator comma;
  for (int64_t value : values)
    text += (StringRef(comma) + Twine(value)).str();
  return text + "]";
}

/// The parts between commas that are in no bracket.
static SmallVector<StringRef> splitParts(StringRef text) {
  SmallVector<StringRef> parts;
  size_t begin = 0;
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    depth += text[i] == '[';
    depth -= text[i] == ']';
    if (text[i] != ',' || depth > 0)
      continue;
    parts.push_back(text.slice(begin, i).trim());
    begin = i + 1;
  }
  parts.push_back(text.drop_front(begin).trim());
  return parts;
}

static std::optional<Number> parseNumber(StringRef text) {
  Number number;
  text = text.trim();
  if (!text.getAsInteger(10, number.integer)) {
    number.real = double(number.integer);
    return number;
  }
  number.isInteger = false;
  if (text.empty() || text.getAsDouble(number.real))
    return std::nullopt;
  return number;
}

static std::optional<std::vector<Number>> parseList(StringRef text) {
  if (!text.consume_front("[") || !text.consume_back("]"))
    return std::nullopt;
  std::vector<Number> numbers;
  if (text.trim().empty())
    return numbers;
  for (StringRef part : split(text, ',')) {
    std::optional<Number> number = parseNumber(part);
    if (!number)
      return std::nullopt;
    numbers.push_back(*number);
  }
  return numbers;
}

static Expected<std::vector<int64_t>>
parseIntegers(StringRef key, StringRef text, bool mayBeNegative) {
  std::optional<std::vector<Number>> numbers = parseList(text);
  std::vector<int64_t> values;
  for (const Number &number : numbers.value_or(std::vector<Number>())) {
    if (!number.isInteger || (!mayBeNegative && number.integer < 0))
      numbers.reset();
    if (!numbers)
      break;
    values.push_back(number.integer);
  }
  if (numbers)
    return values;
  return runError("expected " + key + "=[" +
                  (mayBeNegative ? "integers" : "integers from 0 up") +
                  "], got '" + text + "'");
}

static Expected<int64_t> parseCount(StringRef key, StringRef text) {
  int64_t value;
  if (!text.getAsInteger(10, value) && value >= 0)
    return value;
  return runError("expected " + key + "=INTEGER from 0 up, got '" + text + "'");
}

static Error parseValue(ArgumentSpec &spec, StringRef text) {
  spec.text = text.str();
  if (text.consume_front("@")) {
    spec.source = ArgumentSpec::Source::File;
    spec.path = text.str();
    return text.empty() ? runError("expected the name of a file after '@'")
                        : Error::success();
  }
  using Source = ArgumentSpec::Source;
  auto named = StringSwitch<std::optional<Source>>(text)
                   .Case("random", Source::Random)
                   .Case("zeros", Source::Zeros)
                   .Case("iota", Source::Iota)
                   .Case("poison", Source::Poison)
                   .Default(std::nullopt);
  if (named) {
    spec.source = *named;
    return Error::success();
  }
  if (std::optional<Number> number = parseNumber(text)) {
    spec.source = Source::Number;
    spec.numbers = {*number};
    return Error::success();
  }
  if (std::optional<std::vector<Number>> list = parseList(text)) {
    spec.source = Source::List;
    spec.numbers = std::move(*list);
    return Error::success();
  }
  return runError("expected a value: @FILE, random, zeros, iota, poison, a "
                  "number or a list of numbers such as [0,4], got '" +
                  text + "'");
}

static Error parseKey(ArgumentSpec &spec, StringRef key, StringRef text) {
  if (key == "dtype") {
    if (!findElementType(text))
      return runError("expected dtype=" + elementTypeNames() + ", got '" +
                      text + "'");
    spec.elementType = text.str();
    return Error::success();
  }
  if (key == "shape" || key == "strides")
    return parseIntegers(key, text, /*mayBeNegative=*/false)
        .moveInto(key == "shape" ? spec.shape : spec.strides);
  if (key == "offset" || key == "seed")
    return parseCount(key, text).moveInto(key == "offset" ? spec.offset
                                                          : spec.seed);
  if (key != "range")
    return runError("expected dtype, shape, strides, offset, seed or range, "
                    "got '" +
                    key + "'");
  Expected<std::vector<int64_t>> ends =
      parseIntegers(key, text, /*mayBeNegative=*/true);
  if (!ends)
    return ends.takeError();
  if (ends->size() != 2 || (*ends)[0] > (*ends)[1])
    return runError("expected range=[LOWEST,HIGHEST], got '" + text + "'");
  spec.range = {(*ends)[0], (*ends)[1]};
  return Error::success();
}

Expected<ArgumentSpec> run::parseArgumentSpec(StringRef text) {
  ArgumentSpec spec;
  SmallVector<StringRef> parts = splitParts(text);
  if (Error error = parseValue(spec, parts.front()))
    return error;
  SmallVector<StringRef> seen;
  for (StringRef part : drop_begin(parts)) {
    auto [key, value] = part.split('=');
    if (key.size() == part.size())
      return runError("expected KEY=VALUE, got '" + part + "'");
    if (is_contained(seen, key))
      return runError("'" + key + "' is given twice");
    seen.push_back(key);
    if (Error error = parseKey(spec, key.trim(), value.trim()))
      return error;
  }
  if (spec.source != ArgumentSpec::Source::Random && (spec.seed || spec.range))
    return runError("'" + Twine(spec.seed ? "seed" : "range") +
                    "' is valid only with random, got '" + parts.front() + "'");
  return spec;
}
