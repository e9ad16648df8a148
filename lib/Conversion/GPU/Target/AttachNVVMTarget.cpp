// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Conversion/Passes.h"

#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/IR/Builders.h"

namespace kvcache {
#define GEN_PASS_DEF_ATTACHNVVMTARGET
#include "kvcache/Conversion/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

namespace {
struct AttachNVVMTarget
    : kvcache::impl::AttachNVVMTargetBase<AttachNVVMTarget> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    TargetAttr target = TargetAttr::of(module);
    if (!target || target.getIsa() != Isa::nvvm) {
      InFlightDiagnostic error =
          emitError(module.getLoc())
          << "the module is expected to have a target with the instructions "
             "nvvm, got ";
      if (target)
        error << target;
      else
        error << "none";
      return signalPassFailure();
    }
    constexpr int kOptimized = 3;
    auto nvvm = NVVM::NVVMTargetAttr::get(
        &getContext(), kOptimized, "nvptx64-nvidia-cuda", target.getChip(),
        "+ptx" + std::to_string(target.getPtx()));
    Builder builder(&getContext());
    for (auto kernels : module.getOps<gpu::GPUModuleOp>())
      kernels.setTargetsAttr(builder.getArrayAttr({nvvm}));
    module->removeAttr(KVCacheDialect::kTargetAttr);
  }
};
} // namespace
