// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Conversion/Passes.h"

#include "../Common/CacheLowering.h"
#include "../Common/RuntimeCalls.h"
#include "Patterns.h"
#include "Target/KernelBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/SmallPtrSet.h"

namespace kvcache {
#define GEN_PASS_DEF_CONVERTKVCACHETOGPU
#include "kvcache/Conversion/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

/// Kernels are built in a module that has nothing else in it.
static LogicalResult checkKernelModules(ModuleOp module) {
  llvm::SmallPtrSet<Operation *, 4> seen;
  WalkResult walk = module.walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (isa<gpu::GPUModuleOp>(op))
      return WalkResult::skip();
    if (!isa_and_present<KVCacheDialect>(op->getDialect()))
      return WalkResult::advance();
    auto parent = op->getParentOfType<ModuleOp>();
    Operation *other = seen.insert(parent).second
                           ? parent.lookupSymbol(kKernelModule)
                           : nullptr;
    if (!other)
      return WalkResult::advance();
    other->emitError() << "the name '" << kKernelModule
                       << "' is expected to be free for what '" << op->getName()
                       << "' becomes";
    return WalkResult::interrupt();
  });
  return failure(walk.wasInterrupted());
}

/// Kernels may begin while the one before them ends: they wait for it
/// themselves, before they touch memory. Needs sm_90.
static void overlapKernels(ModuleOp module) {
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
    // The driver does not launch these so. It may launch a check behind them.
    if (launch->hasAttr(kTogetherName)) {
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
    launch->setAttr(kWaitsName, builder.getUnitAttr());
  });
}

/// Debug information is made of kernels alone, and expects of an operation that
/// was inlined to be in one.
static void dropCallSites(ModuleOp module) {
  module.walk([](Operation *op) {
    Location loc = op->getLoc();
    if (op->getParentOfType<LLVM::LLVMFuncOp>())
      return;
    while (auto site = dyn_cast<CallSiteLoc>(loc))
      loc = site.getCallee();
    op->setLoc(loc);
  });
}

namespace {
struct ConvertKVCacheToGPU
    : kvcache::impl::ConvertKVCacheToGPUBase<ConvertKVCacheToGPU> {
  using ConvertKVCacheToGPUBase::ConvertKVCacheToGPUBase;
  void runOnOperation() override {
    if (failed(dropUnreachable(getOperation())))
      return signalPassFailure();
    if (failed(checkKernelModules(getOperation())))
      return signalPassFailure();
    allocateAttentionParts(getOperation(), chip);
    lowerTraces(getOperation());
    CacheTypeConverter converter;
    RewritePatternSet patterns(&getContext());
    ConversionTarget target(getContext());
    populateCommonPatterns(converter, patterns, target);
    populateAttentionToGPU(converter, patterns, chip);
    populateBlockOpsToGPU(converter, patterns, copyEngineBytes);
    populateChecksToGPU(converter, patterns);
    populateIndexOpsToGPU(converter, patterns);
    populateMergeStatesToGPU(converter, patterns);
    populateRowOpsToGPU(converter, patterns);
    populateSelectRowsToGPU(converter, patterns);
    // Kernels are built whole and hold no cache; those of others stay.
    target.addLegalDialect<gpu::GPUDialect>();
    target.addLegalOp<gpu::GPUModuleOp>();
    target.markOpRecursivelyLegal<gpu::GPUModuleOp>();
    if (failed(applyPartialConversion(getOperation(), target,
                                      std::move(patterns))))
      return signalPassFailure();
    if (failed(checkRuntimeCalls(getOperation())))
      return signalPassFailure();
    dropArgumentAttributes(getOperation());
    dropCallSites(getOperation());
    if (!StringRef(chip).starts_with("sm_8"))
      overlapKernels(getOperation());
  }
};
} // namespace
