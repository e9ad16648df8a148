// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Run/Elements.h"

#include "kvcache/Runtime/kv_abi.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/MathExtras.h"

#include <cmath>
#include <cstring>

using namespace kvcache;
using namespace kvcache::run;
using namespace llvm;

static constexpr ElementType kTypes[] = {
    {"f16", 2, false, kDLFloat, "<f2"}, {"bf16", 2, false, kDLBfloat, "<u2"},
    {"f32", 4, false, kDLFloat, "<f4"}, {"f64", 8, false, kDLFloat, "<f8"},
    {"i8", 1, true, kDLInt, "|i1"},     {"i16", 2, true, kDLInt, "<i2"},
    {"i32", 4, true, kDLInt, "<i4"},    {"i64", 8, true, kDLInt, "<i8"},
};

const ElementType *run::findElementType(StringRef name) {
  const ElementType *type =
      find_if(kTypes, [&](const ElementType &t) { return name == t.name; });
  return type == std::end(kTypes) ? nullptr : type;
}

const ElementType *run::findNumpyType(StringRef numpy) {
  const ElementType *type = find_if(kTypes, [&](const ElementType &t) {
    return numpy == t.numpy && t.code != kDLBfloat;
  });
  return type == std::end(kTypes) ? nullptr : type;
}

std::string run::elementTypeNames() {
  std::string names;
  for (const ElementType &type : kTypes)
    names += (names.empty() ? "" : "|") + std::string(type.name);
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

static double halfToReal(uint16_t bits) {
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double value = exponent == 31 ? (fraction ? std::nan("") : double(INFINITY))
                 : exponent     ? std::ldexp(1024 + fraction, exponent - 25)
                                : std::ldexp(fraction, -24);
  return bits & 0x8000 ? -value : value;
}

/// The bits of `value` with `dropped` bits less, rounded to nearest, ties to
/// even.
static uint32_t roundBits(float value, int dropped) {
  uint32_t bits = bit_cast<uint32_t>(value);
  uint32_t half = (1u << (dropped - 1)) - 1;
  return (bits + half + (bits >> dropped & 1)) >> dropped;
}

static uint16_t realToHalf(float value) {
  uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  float magnitude = std::fabs(value);
  if (std::isnan(value))
    return 0x7e00;
  if (magnitude >= 65520.0f)
    return sign | 0x7c00;
  if (magnitude < 0x1p-14f) // subnormal: a multiple of 2^-24
    return sign | uint16_t(std::nearbyint(std::ldexp(magnitude, 24)));
  return sign | uint16_t(roundBits(magnitude, 13) - (112u << 10));
}

static uint16_t realToBrain(float value) {
  return std::isnan(value) ? 0x7fc0 : uint16_t(roundBits(value, 16));
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
  if (code == kDLBfloat)
    return bit_cast<float>(uint32_t(load<uint16_t>(element)) << 16);
  if (bytes == 2)
    return halfToReal(load<uint16_t>(element));
  return bytes == 4 ? load<float>(element) : load<double>(element);
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
  if (code == kDLBfloat)
    store(element, realToBrain(float(value)));
  else if (bytes == 2)
    store(element, realToHalf(float(value)));
  else if (bytes == 4)
    store(element, float(value));
  else
    store(element, value);
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
