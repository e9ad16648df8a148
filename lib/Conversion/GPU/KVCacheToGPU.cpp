// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Conversion/Passes.h"
#include "kvcache/Conversion/Patterns.h"

#include "../Common/CacheLowering.h"
#include "../Common/RuntimeCalls.h"
#include "Patterns.h"
#include "Target/KernelBuilder.h"
#include "Target/Overlap.h"

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

static constexpr StringLiteral kStandardChip = "sm_90a";

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
    other->emitError()
        << "the name '" << kKernelModule
        << "' is expected to be unused, since it is needed for the kernels of '"
        << op->getName() << "'";
    return WalkResult::interrupt();
  });
  return failure(walk.wasInterrupted());
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

void kvcache::populateKVCacheToGPUPatterns(TypeConverter &converter,
                                           RewritePatternSet &patterns,
                                           ConversionTarget &target,
                                           TargetAttr gpu,
                                           int64_t copyEngineBytes) {
  populateCommonPatterns(converter, patterns, target);
  populateAttentionToGPU(converter, patterns, gpu);
  populateBlockOpsToGPU(converter, patterns, copyEngineBytes);
  populateChecksToGPU(converter, patterns);
  populateIndexOpsToGPU(converter, patterns);
  populateMergeStatesToGPU(converter, patterns);
  populateRowOpsToGPU(converter, patterns);
  populateRowStepsToGPU(converter, patterns);
  populateSelectRowsToGPU(converter, patterns);
  // Kernels are built whole and hold no cache; those of others stay.
  target.addLegalDialect<gpu::GPUDialect>();
  target.addLegalOp<gpu::GPUModuleOp>();
  target.markOpRecursivelyLegal<gpu::GPUModuleOp>();
}

void kvcache::prepareKVCacheToGPU(ModuleOp module, TargetAttr gpu) {
  module->setAttr(KVCacheDialect::kTargetAttr, gpu);
  allocateAttentionParts(module, gpu);
}

void kvcache::finishKVCacheToGPU(ModuleOp module, TargetAttr gpu) {
  if (gpu.getOverlap())
    overlapKernels(module);
}

namespace {
struct ConvertKVCacheToGPU
    : kvcache::impl::ConvertKVCacheToGPUBase<ConvertKVCacheToGPU> {
  using ConvertKVCacheToGPUBase::ConvertKVCacheToGPUBase;
  void runOnOperation() override {
    FailureOr<TargetAttr> gpu =
        TargetAttr::resolve(getOperation(), Isa::nvvm, chip, kStandardChip);
    if (failed(gpu) || failed(prepareLowering(getOperation())))
      return signalPassFailure();
    if (failed(checkKernelModules(getOperation())))
      return signalPassFailure();
    prepareKVCacheToGPU(getOperation(), *gpu);
    lowerTraces(getOperation());
    CacheTypeConverter converter;
    RewritePatternSet patterns(&getContext());
    ConversionTarget target(getContext());
    populateKVCacheToGPUPatterns(converter, patterns, target, *gpu,
                                 copyEngineBytes);
    if (failed(applyPartialConversion(getOperation(), target,
                                      std::move(patterns))))
      return signalPassFailure();
    if (failed(checkRuntimeCalls(getOperation())))
      return signalPassFailure();
    dropArgumentAttributes(getOperation());
    dropCallSites(getOperation());
    finishKVCacheToGPU(getOperation(), *gpu);
  }
};
} // namespace
