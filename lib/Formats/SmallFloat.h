// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A float of 8 bits that saturates. CPUs have no instructions for one, and
// GPUs for pairs of some.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_FORMATS_SMALLFLOAT_H
#define KVCACHE_LIB_FORMATS_SMALLFLOAT_H

#include "FloatFormat.h"

namespace kvcache {

class SmallFloat : public FloatFormat {
public:
  SmallFloat(const Names &names, const llvm::fltSemantics &semantics);

  /// The type of MLIR.
  virtual mlir::Type typeIn(mlir::MLIRContext *context) const = 0;
  /// Bytes (i8, or a vector of them) as f32, exactly.
  virtual mlir::Value decodeBytes(CodeBuilder &emit,
                                  mlir::Value bytes) const = 0;
  /// The other way, in integer arithmetic and one addition.
  mlir::Value encodeBytes(CodeBuilder &emit, mlir::Value floats) const;

  const CPUCodec &getCPUCodec() const override { return cpuCodec; }
  const GPUCodec &getGPUCodec() const override { return gpuCodec; }

private:
  struct OnCPU : CPUCodec {
    explicit OnCPU(const SmallFloat &format) : format(format) {}
    mlir::Value decode(CodeBuilder &emit, mlir::Value stored) const override;
    mlir::Value encode(CodeBuilder &emit, mlir::Value floats) const override;
    const SmallFloat &format;
  };
  struct OnGPU : GPUCodec {
    explicit OnGPU(const SmallFloat &format) : format(format) {}
    mlir::Value decode(KernelBuilder &k, mlir::Value access,
                       int64_t elements) const override;
    mlir::Value encode(KernelBuilder &k, mlir::Value floats,
                       int64_t elements) const override;
    Halves halves(TargetAttr gpu) const override {
      return gpu.getConvertF8() ? Halves::Adjacent : Halves::None;
    }
    std::pair<mlir::Value, mlir::Value>
    decodeHalves(KernelBuilder &k, mlir::Value word) const override;
    const SmallFloat &format;
  };

  OnCPU cpuCodec;
  OnGPU gpuCodec;
};

/// A constant of the shape of `like`, and of another element type.
mlir::Value constantIn(CodeBuilder &emit, mlir::Value like, mlir::Type element,
                       uint64_t bits);

/// Those bits of 16 as f16, which every CPU and GPU converts exactly: as f32.
mlir::Value decodeHalves(CodeBuilder &emit, mlir::Value halves);

} // namespace kvcache

#endif // KVCACHE_LIB_FORMATS_SMALLFLOAT_H
