// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The header of a .npy file: element type and shape of the bytes after it.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_RUN_NUMPYFILE_H
#define KVCACHE_LIB_RUN_NUMPYFILE_H

#include "kvcache/Run/ArgumentSpec.h"

namespace kvcache::run {

struct NumpyHeader {
  std::string type; ///< such as `<f4`
  std::vector<int64_t> shape;
  size_t size = 0; ///< bytes before the elements

  /// Fails if the file is not an array in C order.
  static llvm::Expected<NumpyHeader> parse(llvm::StringRef file);
  std::string str() const;
  /// The size of an element, 0 if unknown.
  unsigned elementBytes() const;
};

} // namespace kvcache::run

#endif // KVCACHE_LIB_RUN_NUMPYFILE_H
