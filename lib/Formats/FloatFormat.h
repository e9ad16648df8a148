// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What formats of plain floats have in common: an element is one float that is
// stored as it is.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_FORMATS_FLOATFORMAT_H
#define KVCACHE_LIB_FORMATS_FLOATFORMAT_H

#include "../Conversion/CPU/Codecs.h"
#include "../Conversion/GPU/Codecs.h"

#include "kvcache/IR/KVCacheTypes.h"
#include "kvcache/Runtime/kv_abi.h"

#include "llvm/ADT/APFloat.h"

namespace kvcache {

namespace formats {
#define KVCACHE_FORMAT(name) const Format &name();
#include "Formats.def"
#undef KVCACHE_FORMAT
} // namespace formats

/// What becomes of a number that is too large.
enum class Overflow {
  Infinity,
  Saturates ///< the largest finite number, also of an infinity
};

class FloatFormat : public Format {
public:
  FloatFormat(const Names &names, const llvm::fltSemantics &semantics,
              Overflow overflow);

  int64_t getBits() const override { return bits; }
  double getLargest() const override { return largestNumber; }
  double toNumber(uint64_t stored) const override;
  uint64_t toBits(double number) const override;

  /// Of the fraction, without the leading one.
  unsigned fractionBits() const { return fraction; }
  /// The smallest normal number is 2 to this power.
  int leastExponent() const { return least; }
  /// The bits of a NaN.
  uint64_t nan() const { return nanBits; }

protected:
  /// Of a type whose memrefs have the same element type.
  template <typename Float, const Format &(*format)()>
  static void attachTo(mlir::MLIRContext &context) {
    Float::template attachInterface<Stored<Float, format>>(context);
  }

private:
  template <typename Float, const Format &(*format)()>
  struct Stored
      : FormatTypeInterface::ExternalModel<Stored<Float, format>, Float> {
    const Format &getFormat(mlir::Type) const { return format(); }
    mlir::Type getStoredType(mlir::Type type) const { return type; }
  };

  unsigned bits, fraction;
  int least;
  double largestNumber;
  uint64_t largestBits, infinityBits, nanBits;
  bool hasInfinity;
  Overflow overflow;
};

/// The type of a number or a vector with another element type.
inline mlir::Type withElement(mlir::Type type, mlir::Type element) {
  if (auto vector = mlir::dyn_cast<mlir::VectorType>(type))
    return vector.clone(element);
  return element;
}

/// What the elements of an access are in a kernel: a number, or a vector if
/// there are several.
inline mlir::Type several(mlir::Type type, int64_t elements) {
  return elements == 1 ? type : mlir::VectorType::get({elements}, type);
}

} // namespace kvcache

#endif // KVCACHE_LIB_FORMATS_FLOATFORMAT_H
