// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "FloatFormat.h"

#include "llvm/ADT/bit.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

FloatFormat::FloatFormat(const Names &names,
                         const llvm::fltSemantics &semantics, Overflow overflow)
    : Format(names), bits(llvm::APFloat::semanticsSizeInBits(semantics)),
      fraction(llvm::APFloat::semanticsPrecision(semantics) - 1),
      least(llvm::APFloat::semanticsMinExponent(semantics)),
      hasInfinity(llvm::APFloat::semanticsHasInf(semantics)),
      overflow(overflow) {
  auto bitsOf = [](const llvm::APFloat &number) {
    return number.bitcastToAPInt().getZExtValue();
  };
  llvm::APFloat most = llvm::APFloat::getLargest(semantics);
  largestNumber = most.convertToDouble();
  largestBits = bitsOf(most);
  nanBits = bitsOf(llvm::APFloat::getNaN(semantics));
  infinityBits =
      hasInfinity ? bitsOf(llvm::APFloat::getInf(semantics)) : nanBits;
  assert((hasInfinity || overflow == Overflow::Saturates) &&
         "there is something for large numbers to become");
}

double FloatFormat::toNumber(uint64_t stored) const {
  uint64_t sign = uint64_t(1) << (bits - 1), size = stored & (sign - 1);
  uint64_t one = uint64_t(1) << fraction;
  auto exponent = static_cast<int>(size >> fraction);
  uint64_t digits = size & (one - 1);
  double number = std::ldexp(double(exponent ? digits + one : digits),
                             std::max(exponent, 1) - 1 + least - int(fraction));
  if (size > largestBits)
    number =
        hasInfinity && size == infinityBits ? double(INFINITY) : std::nan("");
  return stored & sign ? -number : number;
}

uint64_t FloatFormat::toBits(double number) const {
  uint64_t sign = std::signbit(number) ? uint64_t(1) << (bits - 1) : 0;
  if (std::isnan(number))
    return nanBits | sign;
  uint64_t tooLarge =
      sign | (overflow == Overflow::Saturates ? largestBits : infinityBits);
  if (std::isinf(number))
    return tooLarge;
  // Subnormal numbers are as far apart as the smallest normal ones.
  double size = std::fabs(number);
  int exponent = size == 0 ? least : std::max(std::ilogb(size), least);
  auto digits = static_cast<uint64_t>(
      std::nearbyint(std::ldexp(size, int(fraction) - exponent)));
  // A leading one, and a carry into the exponent, add up as in the number.
  uint64_t stored =
      (static_cast<uint64_t>(exponent - least) << fraction) + digits;
  return stored > largestBits ? tooLarge : sign | stored;
}
