// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Values of scalar arithmetic on a box of slots: see SlotProof.h.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_RAISE_BOXES_H
#define KVCACHE_LIB_RAISE_BOXES_H

#include "mlir/IR/AffineExpr.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/DenseMap.h"

#include <optional>

namespace kvcache::raise {

/// Wide enough for products of 64-bit numbers.
using Wide = __int128;

// Above all integers, and small enough to be multiplied once more.
inline constexpr Wide kHuge = Wide(1) << 80;

inline Wide floorDiv(Wide a, Wide b) {
  Wide quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}
inline Wide ceilDiv(Wide a, Wide b) { return -floorDiv(-a, b); }

inline unsigned widthOf(mlir::Type type) {
  return type.isIndex() ? 64 : type.getIntOrFloatBitWidth();
}
inline bool isBool(mlir::Type type) { return type.isInteger(1); }

/// The slots N * q + r with q0 <= q <= q1 and r0 <= r <= r1.
struct Box {
  Wide q0, q1, r0, r1;
};

/// A value on a box: between `lo` and `hi`, and if it is affine exactly
/// q * Q + r * R + c. A float is that divided by `den`, rounded to its type;
/// its bounds are those of the rounded value, as integers.
struct Number {
  bool affine = false;
  Wide q = 0, r = 0, c = 0;
  Wide lo = 0, hi = 0;
  Wide den = 1;
};

enum class Answer { Yes, No, Unknown, Split };

class BoxEvaluator {
public:
  BoxEvaluator(mlir::Value slot, int64_t tokens) : slot(slot), tokens(tokens) {}

  void enter(const Box &box) {
    this->box = box;
    known.clear();
    cut.reset();
  }

  /// The value on the box. Nothing if the box must be split first: see `split`.
  std::optional<Number> evaluate(mlir::Value value);

  /// Whether a value is less than a number everywhere on the box.
  Answer isLess(const Number &value, Wide than);

  /// The two parts of the box for the answer Split.
  std::pair<Box, Box> split() const;

private:
  struct Parts {
    Number quotient, rest;
  };

  Number affine(Wide q, Wide r, Wide c) const;
  static Number between(Wide lo, Wide hi);
  static Number unknown(mlir::Type type);
  /// A result converted to a type.
  static Number fit(const Number &value, mlir::Type type);

  std::optional<Number> compute(mlir::Value value);
  std::optional<Number> computeInteger(mlir::Operation *op,
                                       llvm::ArrayRef<Number> operands,
                                       mlir::Type type);
  std::optional<Number> computeFloat(mlir::Operation *op,
                                     llvm::ArrayRef<Number> operands,
                                     mlir::Type type);
  std::optional<Number> computeAffine(mlir::AffineExpr expr,
                                      llvm::ArrayRef<Number> operands,
                                      unsigned numDims);

  Number add(const Number &a, const Number &b, Wide scale) const;
  Number multiply(const Number &a, const Number &b) const;
  std::optional<Parts> floorParts(const Number &value, const Number &by);
  std::optional<Parts> truncParts(const Number &value, const Number &by);
  std::optional<Parts> unsignedParts(const Number &value, const Number &by,
                                     mlir::Type type);
  std::optional<Number> compare(mlir::Operation *op, const Number &a,
                                const Number &b, mlir::Type operandType);
  std::optional<Number> ordered(Number a, Number b, bool orEqual);
  std::optional<Number> choose(const Number &condition, const Number &yes,
                               const Number &no);

  struct Cut {
    bool isRow; ///< splits r, otherwise q
    Wide lastOfFirst;
  };

  mlir::Value slot;
  int64_t tokens;
  Box box = {};
  llvm::DenseMap<mlir::Value, Number> known;
  std::optional<Cut> cut;
};

} // namespace kvcache::raise

#endif // KVCACHE_LIB_RAISE_BOXES_H
