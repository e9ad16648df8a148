// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A format: how the elements of a cache are stored. It has the names that
// callers know it by, its numbers on the host, and a codec for each target.
// Each format is defined in one file of lib/Formats, and
// `kvcache::registerFormats` adds all of them to the dialect.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_FORMAT_H
#define KVCACHE_IR_FORMAT_H

#include "mlir/IR/Types.h"
#include "llvm/ADT/StringRef.h"

namespace kvcache {

class CPUCodec;
class GPUCodec;

class Format {
public:
  /// What a format is called, and how its elements are passed.
  struct Names {
    llvm::StringLiteral name;  ///< as in MLIR: `bf16`
    llvm::StringLiteral dtype; ///< in NumPy, PyTorch and JAX: `bfloat16`
    uint8_t dlpack;            ///< the type code
  };

  explicit Format(const Names &names) : names(names) {}
  virtual ~Format();
  Format(const Format &) = delete;

  llvm::StringRef getName() const { return names.name; }
  llvm::StringRef getDType() const { return names.dtype; }
  uint8_t getDLPackCode() const { return names.dlpack; }

  /// The number of bits of a stored value.
  virtual int64_t getBits() const = 0;
  /// The largest number, which the largest of those that share a scale become.
  virtual double getLargest() const = 0;
  /// Whether a stored value has a meaning without a scale.
  virtual bool isPlain() const { return true; }
  /// Makes the type of a context that stands for the format implement
  /// `FormatTypeInterface`, if it is plain.
  virtual void attach(mlir::MLIRContext &context) const = 0;

  /// On the host: the number that stored bits are, and the bits of a number,
  /// rounded as codecs do.
  virtual double toNumber(uint64_t bits) const = 0;
  virtual uint64_t toBits(double number) const = 0;

  /// In compiled code: stored values as f32, and back (lib/Conversion).
  virtual const CPUCodec &getCPUCodec() const = 0;
  virtual const GPUCodec &getGPUCodec() const = 0;

private:
  Names names;
};

} // namespace kvcache

#endif // KVCACHE_IR_FORMAT_H
