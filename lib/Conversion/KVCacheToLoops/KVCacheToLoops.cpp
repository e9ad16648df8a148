// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Conversion/Passes.h"

#include "../Common/CacheLowering.h"
#include "Patterns.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

namespace kvcache {
#define GEN_PASS_DEF_CONVERTKVCACHETOLOOPS
#include "kvcache/Conversion/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

namespace {
struct ConvertKVCacheToLoops
    : kvcache::impl::ConvertKVCacheToLoopsBase<ConvertKVCacheToLoops> {
  void runOnOperation() override {
    CacheTypeConverter converter;
    RewritePatternSet patterns(&getContext());
    ConversionTarget target(getContext());
    populateCommonPatterns(converter, patterns, target);
    populateIndexCopyToLoops(converter, patterns);
    if (failed(applyPartialConversion(getOperation(), target,
                                      std::move(patterns))))
      return signalPassFailure();
    dropArgumentAttributes(getOperation());
  }
};
} // namespace
