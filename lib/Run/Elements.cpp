// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Run/Elements.h"

#include "kvcache/Formats/Formats.h"
#include "kvcache/Runtime/kv_abi.h"

#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/MathExtras.h"

#include <cassert>
#include <cstring>

using namespace kvcache;
using namespace kvcache::run;
using namespace llvm;

static std::vector<ElementType> makeTypes() {
  std::vector<ElementType> types;
  for (const Format *format : allFormats()) {
    // Without a scale they are integers.
    if (!format->isPlain())
      continue;
    auto bytes = static_cast<unsigned>(format->getBits() / 8);
    std::string numpy =
        (bytes == 1 ? "|" : "<") +
        std::string(format->getDLPackCode() == kDLFloat ? "f" : "u") +
        std::to_string(bytes);
    types.push_back({format->getName().str(), bytes, false,
                     format->getDLPackCode(), numpy, format});
  }
  types.push_back({"f64", 8, false, kDLFloat, "<f8"});
  types.push_back({"i8", 1, true, kDLInt, "|i1"});
  types.push_back({"i16", 2, true, kDLInt, "<i2"});
  types.push_back({"i32", 4, true, kDLInt, "<i4"});
  types.push_back({"i64", 8, true, kDLInt, "<i8"});
  return types;
}

static const std::vector<ElementType> &allTypes() {
  static const std::vector<ElementType> types = makeTypes();
  return types;
}

const ElementType *run::findElementType(StringRef name) {
  for (const ElementType &type : allTypes())
    if (name == type.name)
      return &type;
  return nullptr;
}

const ElementType *run::findNumpyType(StringRef numpy) {
  for (const ElementType &type : allTypes())
    if (numpy == type.numpy && !type.isStoredAsBits())
      return &type;
  return nullptr;
}

std::string run::elementTypeNames() {
  std::string names;
  for (const ElementType &type : allTypes())
    names += (names.empty() ? "" : "|") + type.name;
  return names;
}

template <typename T> static T load(const void *element) {
  T value;
  std::memcpy(&value, element, sizeof value);
  return value;
}

template <typename T> static void store(void *element, T value) {
  std::memcpy(element, &value, sizeof value);
}

int64_t ElementType::integer(const void *element) const {
  switch (bytes) {
  case 1:
    return load<int8_t>(element);
  case 2:
    return load<int16_t>(element);
  case 4:
    return load<int32_t>(element);
  default:
    return load<int64_t>(element);
  }
}

double ElementType::real(const void *element) const {
  if (isInteger)
    return double(integer(element));
  if (!format)
    return load<double>(element);
  // The bytes that an element has are the low ones.
  uint64_t bits = 0;
  std::memcpy(&bits, element, bytes);
  return format->toNumber(bits);
}

void ElementType::setInteger(void *element, int64_t value) const {
  if (!isInteger)
    return setReal(element, double(value));
  switch (bytes) {
  case 1:
    return store(element, int8_t(value));
  case 2:
    return store(element, int16_t(value));
  case 4:
    return store(element, int32_t(value));
  default:
    return store(element, value);
  }
}

void ElementType::setReal(void *element, double value) const {
  assert(!isInteger && "a fraction would be lost");
  if (!format)
    return store(element, value);
  // Compiled code rounds numbers of f32.
  uint64_t bits = format->toBits(static_cast<float>(value));
  std::memcpy(element, &bits, bytes);
}

bool ElementType::takes(const Number &number) const {
  return !isInteger || (number.isInteger && isIntN(bytes * 8, number.integer));
}

std::string ElementType::expectation() const {
  if (!isInteger)
    return "a number";
  return "an integer from " + std::to_string(minIntN(bytes * 8)) + " to " +
         std::to_string(maxIntN(bytes * 8));
}
