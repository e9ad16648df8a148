// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A float that CPUs and GPUs have instructions for, or that is f32 itself.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_FORMATS_NATIVEFLOAT_H
#define KVCACHE_LIB_FORMATS_NATIVEFLOAT_H

#include "FloatFormat.h"

namespace kvcache {

template <typename Float, const Format &(*format)()>
class NativeFloat final : public FloatFormat {
  using Value = mlir::Value;
  using Type = mlir::Type;
  static constexpr bool kIsF32 = std::is_same_v<Float, mlir::Float32Type>;

public:
  NativeFloat(const Names &names, const llvm::fltSemantics &semantics)
      : FloatFormat(names, semantics, Overflow::Infinity) {}
  void attach(mlir::MLIRContext &context) const override {
    attachTo<Float, format>(context);
  }
  const CPUCodec &getCPUCodec() const override { return cpuCodec; }
  const GPUCodec &getGPUCodec() const override { return gpuCodec; }

private:
  struct OnCPU : CPUCodec {
    Value decode(CodeBuilder &emit, Value stored) const override {
      if (kIsF32)
        return stored;
      Type floats = withElement(stored.getType(), emit.getF32Type());
      return emit.fold<mlir::arith::ExtFOp>(floats, stored);
    }
    /// Of bf16, kvcache-expand-math makes integers, as compilers call a library
    /// for it on most CPUs.
    Value encode(CodeBuilder &emit, Value floats) const override {
      if (kIsF32)
        return floats;
      Type stored =
          withElement(floats.getType(), Float::get(emit.getContext()));
      return emit.fold<mlir::arith::TruncFOp>(stored, floats);
    }
  };

  struct OnGPU : GPUCodec {
    Value decode(KernelBuilder &k, Value access,
                 int64_t elements) const override {
      Type stored = several(Float::get(k.getContext()), elements);
      Value value = mlir::LLVM::BitcastOp::create(k, stored, access);
      if (kIsF32)
        return value;
      return mlir::arith::ExtFOp::create(k, several(k.getF32Type(), elements),
                                         value);
    }
    Value encode(KernelBuilder &k, Value floats,
                 int64_t elements) const override {
      Type stored = Float::get(k.getContext());
      if (!kIsF32)
        floats =
            mlir::arith::TruncFOp::create(k, several(stored, elements), floats);
      int64_t bytes = elements * stored.getIntOrFloatBitWidth() / 8;
      return mlir::LLVM::BitcastOp::create(k, accessType(k, bytes), floats);
    }
  };

  OnCPU cpuCodec;
  OnGPU gpuCodec;
};

} // namespace kvcache

#endif // KVCACHE_LIB_FORMATS_NATIVEFLOAT_H
