// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lowerings and rewrites as sets of patterns, in a conversion and a driver that
// are not ours.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Conversion/Patterns.h"
#include "kvcache/HostCPU/Passes.h"
#include "kvcache/Registration/Registration.h"
#include "kvcache/Transforms/Passes.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Transforms/DialectConversion.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
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

constexpr const char *kRewritten = R"(
!any = !kvcache.cache<?B x 16N x 8H x 128D x bf16, strides = [B = ?]>
!nhd = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!hnd = !kvcache.cache<?B x 16N x 8H x 128D x bf16, order = [B, H, N, D]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!rows = memref<?x8x128xbf16>
func.func @step(%any: !any, %nhd: !nhd, %slots: !slots, %from: !rows,
                %to: !rows {kvcache.noalias}, %x: bf16) -> bf16 {
  kvcache.index_copy %from into %any at %slots : !rows into !any at !slots
  %n = kvcache.dim %nhd[B] : !nhd
  %buffer = memref.alloc(%n) : memref<?x8x16x128xbf16>
  %copy = kvcache.view %buffer[B, H, N, D] : memref<?x8x16x128xbf16> to !hnd
  kvcache.relayout %nhd into %copy : !nhd into !hnd
  kvcache.gather %copy at %slots into %to : !hnd at !slots into !rows
  %y = math.exp %x : bf16
  return %y : bf16
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

  template <typename Op> int64_t count() {
    int64_t found = 0;
    module->walk([&](Op) { ++found; });
    return found;
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
  EXPECT_EQ(count<gpu::GPUModuleOp>(), 1);
  // Attention has a kernel for few rows and one for many.
  EXPECT_EQ(count<gpu::LaunchFuncOp>(), 3);
}

TEST_F(Patterns, ReachAFixpoint) {
  module = parseSourceString<ModuleOp>(kRewritten, &context);
  ASSERT_TRUE(module);
  populateFoldViewPatterns(patterns);
  populateFoldRelayoutPatterns(patterns);
  populateSpecializePageStridePatterns(patterns, {});
  populateExpandMathPatterns(patterns);
  ASSERT_TRUE(succeeded(applyPatternsGreedily(*module, std::move(patterns))));
  EXPECT_TRUE(succeeded(verify(*module)));
  EXPECT_EQ(count<IndexCopyOp>(), 3);
  EXPECT_EQ(count<RelayoutOp>(), 0);
  EXPECT_EQ(count<ViewOp>(), 0);
  EXPECT_EQ(count<math::ExpOp>(), 0);
}

} // namespace
