// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Numbers of a format as f32, and back: one codec for each format, in the file
// of the format in lib/Formats.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_CPU_CODECS_H
#define KVCACHE_LIB_CONVERSION_CPU_CODECS_H

#include "../Common/CodeBuilder.h"

namespace kvcache {

/// Of a number or of a vector of numbers.
class CPUCodec {
public:
  virtual ~CPUCodec() = default;
  /// Stored numbers as f32.
  virtual mlir::Value decode(CodeBuilder &emit, mlir::Value stored) const = 0;
  /// The other way, to the nearest, ties to even; NaN stays NaN, and a number
  /// that is too large becomes an infinity, or if the format saturates the
  /// largest finite number.
  virtual mlir::Value encode(CodeBuilder &emit, mlir::Value floats) const = 0;
};

namespace cpu {

const CPUCodec &codecOf(mlir::Type format);

/// A number or a vector of numbers in another format.
mlir::Value emitConvert(CodeBuilder &emit, mlir::Value value, mlir::Type to);

} // namespace cpu
} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_CPU_CODECS_H
