// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lowerings as sets of patterns, in a conversion that is not ours.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Conversion/Patterns.h"
#include "kvcache/Registration/Registration.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Transforms/DialectConversion.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace kvcache;

namespace {

constexpr const char *kProgram = R"(
!kv = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @step(%pool: !kv, %rows: memref<?x8x128xbf16>,
                %list: memref<?xi64>, %batch: !batch,
                %query: memref<?x32x128xbf16>, %out: memref<?x32x128xbf16>) {
  %slots = kvcache.make_slots %list
    : memref<?xi64> to !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
  kvcache.index_copy %rows into %pool at %slots
    : memref<?x8x128xbf16> into !kv
    at !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
  kvcache.attention %query over %pool, %pool in %batch into %out causal
    : memref<?x32x128xbf16> over !kv, !kv in !batch
    into memref<?x32x128xbf16>
  return
})";

class Patterns : public ::testing::Test {
protected:
  Patterns() : context(registry()), patterns(&context), target(context) {
    context.loadAllAvailableDialects();
    populateKVCacheTypeConversions(converter);
    module = parseSourceString<ModuleOp>(kProgram, &context);
  }

  static DialectRegistry registry() {
    DialectRegistry registry;
    registerAllDialects(registry);
    return registry;
  }

  /// Converts the module, and counts what is left of the dialect.
  int64_t convert() {
    if (failed(applyPartialConversion(*module, target, std::move(patterns))) ||
        failed(verify(*module)))
      return -1;
    int64_t left = 0;
    module->walk([&](Operation *op) {
      left += isa_and_present<KVCacheDialect>(op->getDialect());
    });
    return left;
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
  TypeConverter converter;
  RewritePatternSet patterns;
  ConversionTarget target;
};

TEST_F(Patterns, MakeLoops) {
  ASSERT_TRUE(module);
  populateKVCacheToLoopsPatterns(converter, patterns, target);
  EXPECT_EQ(convert(), 0);
}

TEST_F(Patterns, MakeKernels) {
  ASSERT_TRUE(module);
  TargetAttr gpu = TargetAttr::lookup(&context, "sm_90a");
  ASSERT_TRUE(gpu);
  prepareKVCacheToGPU(*module, gpu);
  populateKVCacheToGPUPatterns(converter, patterns, target, gpu);
  EXPECT_EQ(convert(), 0);
  finishKVCacheToGPU(*module, gpu);
  EXPECT_TRUE(succeeded(verify(*module)));
  int64_t kernels = 0, launches = 0;
  module->walk([&](gpu::GPUModuleOp) { ++kernels; });
  module->walk([&](gpu::LaunchFuncOp) { ++launches; });
  EXPECT_EQ(kernels, 1);
  EXPECT_EQ(launches, 2);
}

} // namespace
