// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Elements of an access of a kernel as f32, and back: one codec for each
// format.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_CODECS_H
#define KVCACHE_LIB_CONVERSION_GPU_CODECS_H

#include "Target/KernelBuilder.h"

namespace kvcache::gpu {

/// Of the elements of one access: a number, or a vector if there are several.
class Codec {
public:
  virtual ~Codec() = default;
  /// An access as f32.
  virtual mlir::Value decode(KernelBuilder &k, mlir::Value access,
                             int64_t elements) const = 0;
  /// The other way, to the nearest, ties to even.
  virtual mlir::Value encode(KernelBuilder &k, mlir::Value floats,
                             int64_t elements) const = 0;
};

const Codec &codecOf(mlir::Type format);

/// The elements of an access in another format.
mlir::Value convert(KernelBuilder &k, mlir::Value access, int64_t elements,
                    mlir::Type from, mlir::Type to);

} // namespace kvcache::gpu

#endif // KVCACHE_LIB_CONVERSION_GPU_CODECS_H
