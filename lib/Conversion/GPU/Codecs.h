// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Elements of an access of a kernel as f32, and back: one codec for each
// format, in the file of the format in lib/Formats.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_CODECS_H
#define KVCACHE_LIB_CONVERSION_GPU_CODECS_H

#include "Target/KernelBuilder.h"

namespace kvcache {

/// Of the elements of one access: a number, or a vector if there are several.
class GPUCodec {
public:
  virtual ~GPUCodec() = default;
  /// An access as f32.
  virtual mlir::Value decode(KernelBuilder &k, mlir::Value access,
                             int64_t elements) const = 0;
  /// The other way, as on a CPU.
  virtual mlir::Value encode(KernelBuilder &k, mlir::Value floats,
                             int64_t elements) const = 0;

  /// Whether few instructions make f16 of elements of a byte, exactly: then
  /// matrix products can be of f16. Of the four in a word, the first two and
  /// the last two share an i32, or every other one.
  enum class Halves { None, Adjacent, Alternate };
  virtual Halves halves(TargetAttr gpu) const { return Halves::None; }
  /// They are (element + offset) * unit, where that is less work; products are
  /// put right afterwards.
  virtual float halvesOffset() const { return 0; }
  virtual float halvesUnit() const { return 1; }
  /// The four of an i32 as those of two, the first one lowest.
  virtual std::pair<mlir::Value, mlir::Value>
  decodeHalves(KernelBuilder &k, mlir::Value word) const;
  /// The same without an offset and a unit, the first two and the last two
  /// together.
  virtual std::pair<mlir::Value, mlir::Value>
  decodeOrderedHalves(KernelBuilder &k, mlir::Value word) const {
    return decodeHalves(k, word);
  }
};

namespace gpu {

const GPUCodec &codecOf(mlir::Type format);

/// The elements of an access in another format.
mlir::Value convert(KernelBuilder &k, mlir::Value access, int64_t elements,
                    mlir::Type from, mlir::Type to);

} // namespace gpu
} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_CODECS_H
