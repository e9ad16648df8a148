// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "RowSplitter.h"

#include "kvcache/IR/KVCache.h"
#include "kvcache/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Remarks.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "mlir/Transforms/RegionUtils.h"
#include "llvm/Support/FormatVariadic.h"

namespace kvcache {
#define GEN_PASS_DEF_SPLITLAYERGROUPS
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

namespace {

remark::RemarkOpts named(StringRef name) {
  return remark::RemarkOpts::name(name).category("kvcache");
}

struct SplitLayerGroups
    : kvcache::impl::SplitLayerGroupsBase<SplitLayerGroups> {
  using SplitLayerGroupsBase::SplitLayerGroupsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    // A function that several others call would have to serve the rows of all.
    bool hasCalls = module
                        .walk([](func::CallOp) {
                          return WalkResult::interrupt();
                        })
                        .wasInterrupted();
    if (hasCalls) {
      OpPassManager inliner(ModuleOp::getOperationName());
      inliner.addPass(createInlinerPass());
      if (failed(runPipeline(inliner, module)))
        return signalPassFailure();
    }
    for (auto function : module.getOps<func::FuncOp>())
      if (!function.isExternal() &&
          (functions.empty() ||
           llvm::is_contained(functions, function.getName())))
        splitFunction(function);
  }

private:
  /// What the body of a dead operation reads is dead the next time only.
  static void removeDead(func::FuncOp function, IRRewriter &rewriter) {
    while (succeeded(runRegionDCE(rewriter, function->getRegions())))
      ;
  }

  void splitFunction(func::FuncOp function) {
    IRRewriter rewriter(&getContext());
    RowDemandAnalysis::Outputs outputs;
    // A plan holds values of the function as it is: after each split there is
    // a new one.
    SmallVector<RowSet> done;
    // What nobody needs must not stand in the way.
    removeDead(function, rewriter);
    bool changed = true;
    while (changed) {
      changed = false;
      RowDemandAnalysis analysis(function, outputs);
      for (unsigned set = 0; set < analysis.getSets().size(); ++set) {
        RowSet rows = analysis.getSets()[set];
        if (llvm::is_contained(done, rows))
          continue;
        done.push_back(rows);
        if (!split(function, rewriter, analysis, set, outputs))
          continue;
        removeDead(function, rewriter);
        changed = true;
        break;
      }
    }
  }

  bool split(func::FuncOp function, IRRewriter &rewriter,
             const RowDemandAnalysis &analysis, unsigned set,
             const RowDemandAnalysis::Outputs &outputs) {
    SplitPlan plan(function, analysis, set, outputs);
    RowSplitter splitter(rewriter, function, analysis, set, plan);
    std::string why;
    if (!plan.computes || !splitter.isPossible(why))
      return false;
    splitter.split();
    return true;
  }
};

} // namespace
