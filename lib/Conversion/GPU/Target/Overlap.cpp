// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Overlap.h"

#include "KernelBuilder.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace kvcache;

void kvcache::overlapKernels(ModuleOp module) {
  WalkResult hasEarly = module.walk([](gpu::LaunchFuncOp launch) {
    return launch->hasAttr(kEarlyName) ? WalkResult::interrupt()
                                       : WalkResult::advance();
  });
  module.walk([&](gpu::LaunchFuncOp launch) {
    using Action = NVVM::GridDepActionKind;
    auto kernel = SymbolTable::lookupNearestSymbolFrom<LLVM::LLVMFuncOp>(
        launch, launch.getKernel());
    if (!kernel || kernel.isExternal())
      return; // not one of ours
    Block &body = kernel.getBody().front();
    OpBuilder builder = OpBuilder::atBlockBegin(&body);
    auto control = [&](Action action) {
      NVVM::GriddepcontrolOp::create(builder, kernel.getLoc(), action);
    };
    // The driver does not launch these so. It may launch a check after them.
    if (getLaunchMode(launch) == LaunchMode::cooperative) {
      if (hasEarly.wasInterrupted())
        control(Action::launch_dependents);
      return;
    }
    bool isEarly = launch->hasAttr(kEarlyName);
    if (!isEarly)
      control(Action::wait);
    control(Action::launch_dependents);
    if (isEarly) {
      builder.setInsertionPoint(body.getTerminator());
      control(Action::wait);
    }
    setLaunchMode(launch, LaunchMode::overlapping);
  });
}
