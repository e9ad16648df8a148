// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The element types of tensors of a library, as bytes and as numbers.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_RUN_ELEMENTS_H
#define KVCACHE_RUN_ELEMENTS_H

#include "kvcache/IR/Format.h"
#include "kvcache/Run/ArgumentSpec.h"

namespace kvcache::run {

struct ElementType {
  std::string name; ///< as in MLIR
  unsigned bytes;
  bool isInteger;
  uint8_t code; ///< of DLPack
  /// The name in a .npy file. A format that NumPy lacks is stored as its bits.
  std::string numpy;
  /// Of an element of a cache; null for integers and f64.
  const Format *format = nullptr;

  bool isStoredAsBits() const { return numpy[1] == 'u'; }

  double real(const void *element) const;
  int64_t integer(const void *element) const;
  /// Rounds to nearest.
  void setReal(void *element, double value) const;
  void setInteger(void *element, int64_t value) const;

  /// Whether elements can represent this number, integers exactly.
  bool takes(const Number &number) const;
  /// `an integer from -128 to 127`
  std::string expectation() const;
};

/// Null if there is none.
const ElementType *findElementType(llvm::StringRef name);
/// The type with the name `numpy` in a .npy file; none that is stored as bits.
const ElementType *findNumpyType(llvm::StringRef numpy);
/// `f16|bf16|...`
std::string elementTypeNames();

} // namespace kvcache::run

#endif // KVCACHE_RUN_ELEMENTS_H
