// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Conversion/Passes.h"

#include "kvcache/Conversion/Patterns.h"

#include "../Common/CacheLowering.h"
#include "../Common/RuntimeCalls.h"
#include "Patterns.h"

#include "mlir/Dialect/AMX/AMXDialect.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

namespace kvcache {
#define GEN_PASS_DEF_CONVERTKVCACHETOLOOPS
#include "kvcache/Conversion/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

/// Vectors of any CPU.
static constexpr llvm::StringLiteral kStandardChip = "generic";

void kvcache::populateKVCacheToLoopsPatterns(TypeConverter &converter,
                                             RewritePatternSet &patterns,
                                             ConversionTarget &target,
                                             TargetAttr cpu) {
  if (!cpu)
    cpu = TargetAttr::lookup(patterns.getContext(), kStandardChip);
  populateCommonPatterns(converter, patterns, target);
  populateAttentionToLoops(converter, patterns, cpu);
  populateBlockOpsToLoops(converter, patterns);
  populateChecksToLoops(converter, patterns);
  populateIndexOpsToLoops(converter, patterns);
  populateMergeStatesToLoops(converter, patterns);
  populateRowOpsToLoops(converter, patterns);
  populateRowStepsToLoops(converter, patterns);
}

namespace {
struct ConvertKVCacheToLoops
    : kvcache::impl::ConvertKVCacheToLoopsBase<ConvertKVCacheToLoops> {
  using ConvertKVCacheToLoopsBase::ConvertKVCacheToLoopsBase;
  void runOnOperation() override {
    FailureOr<TargetAttr> cpu =
        TargetAttr::resolve(getOperation(), Isa::cpu, chip, kStandardChip);
    if (failed(cpu) || failed(prepareLowering(getOperation())))
      return signalPassFailure();
    lowerTraces(getOperation());
    TypeConverter converter;
    populateKVCacheTypeConversions(converter);
    RewritePatternSet patterns(&getContext());
    ConversionTarget target(getContext());
    populateKVCacheToLoopsPatterns(converter, patterns, target, *cpu);
    if (failed(applyPartialConversion(getOperation(), target,
                                      std::move(patterns))))
      return signalPassFailure();
    if (failed(checkRuntimeCalls(getOperation())))
      return signalPassFailure();
    hoistFromCheckedBranches(getOperation());
    dropArgumentAttributes(getOperation());
    getOperation()->removeAttr(KVCacheDialect::kTargetAttr);
  }
};
} // namespace
