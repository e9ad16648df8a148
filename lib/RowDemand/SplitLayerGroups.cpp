// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "OutlineLayerGroups.h"
#include "PeelLayers.h"
#include "RowSplitter.h"
#include "SplitRemarks.h"
#include "kvcache/Transforms/KnownRegions.h"

#include "kvcache/IR/KVCache.h"
#include "kvcache/RowDemand/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "mlir/Transforms/RegionUtils.h"

namespace kvcache {
#define GEN_PASS_DEF_SPLITLAYERGROUPS
#include "kvcache/RowDemand/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;
using namespace kvcache::rowdemand;

namespace {

struct SplitLayerGroups
    : kvcache::impl::SplitLayerGroupsBase<SplitLayerGroups> {
  using SplitLayerGroupsBase::SplitLayerGroupsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    // A function that several others call would have to serve the rows of all.
    bool hasCalls =
        module.walk([](func::CallOp) { return WalkResult::interrupt(); })
            .wasInterrupted();
    if (hasCalls) {
      WalkResult regions = module.walk(
          [](Operation *op) { return WalkResult(checkRegionIsKnown(op)); });
      if (regions.wasInterrupted())
        return signalPassFailure();
      OpPassManager inliner(ModuleOp::getOperationName());
      inliner.addPass(createInlinerPass());
      if (failed(runPipeline(inliner, module)))
        return signalPassFailure();
    }
    for (const std::string &name : functions)
      if (!module.lookupSymbol<func::FuncOp>(name)) {
        emitError(module.getLoc())
            << "functions: expected the name of a function, got '" << name
            << "'";
        return signalPassFailure();
      }
    // Functions that are made of others are not looked at again.
    for (auto function : llvm::to_vector(module.getOps<func::FuncOp>())) {
      if (function.isExternal() ||
          (!functions.empty() &&
           !llvm::is_contained(functions, function.getName())))
        continue;
      RowDemandAnalysis::Outputs outputsOf;
      if (failed(parseOutputs(function, outputsOf)))
        return signalPassFailure();
      splitFunction(function, outputsOf);
    }
  }

private:
  /// What the body of a dead operation reads is dead the next time only.
  static void removeDead(func::FuncOp function, IRRewriter &rewriter) {
    while (succeeded(runRegionDCE(rewriter, function->getRegions())))
      ;
  }

  /// An argument by name or number.
  static Value findArgument(func::FuncOp function, StringRef text) {
    unsigned number;
    bool isNumber = !text.getAsInteger(10, number);
    for (BlockArgument argument : function.getArguments()) {
      auto name = function.getArgAttrOfType<StringAttr>(
          argument.getArgNumber(), KVCacheDialect::kNameAttr);
      if (isNumber ? argument.getArgNumber() == number
                   : name && name.getValue() == text)
        return argument;
    }
    return {};
  }

  LogicalResult parseOutputs(func::FuncOp function,
                             RowDemandAnalysis::Outputs &parsed) {
    for (const std::string &text : outputs) {
      auto [number, rows] = StringRef(text).split('=');
      auto [indices, valid] = rows.split(':');
      RowSet set = {findArgument(function, indices),
                    valid.empty() ? Value() : findArgument(function, valid)};
      unsigned result;
      auto isList = [](Value value) {
        auto type = value ? dyn_cast<RankedTensorType>(value.getType())
                          : RankedTensorType();
        return type && type.getRank() == 1 &&
               (type.getElementType().isInteger(32) ||
                type.getElementType().isInteger(64));
      };
      if (number.getAsInteger(10, result) ||
          result >= function.getNumResults() ||
          !isa<RankedTensorType>(function.getResultTypes()[result]) ||
          cast<RankedTensorType>(function.getResultTypes()[result]).getRank() ==
              0 ||
          !isList(set.indices) || (!valid.empty() && !isList(set.valid)))
        return emitError(function.getLoc())
               << "outputs: a result that is a tensor and an argument that is "
                  "a list of i32 or i64 of '"
               << function.getName()
               << "' are expected, as in '0=sampled', got '" << text << "'";
      parsed[result] = {0, set};
    }
    return success();
  }

  void splitFunction(func::FuncOp function,
                     const RowDemandAnalysis::Outputs &outputsOf) {
    IRRewriter rewriter(&getContext());
    // What nobody needs must not stand in the way.
    removeDead(function, rewriter);
    // A plan holds values of the function as it is: after each split there is
    // a new one.
    SmallVector<RowSet> done;
    llvm::SetVector<Operation *> selections;
    llvm::DenseSet<Operation *> peeled;
    SplitRemarks remarks(function);
    while (true) {
      RowDemandAnalysis analysis(function, outputsOf);
      if (peelLayers(rewriter, function, analysis, peeled))
        continue;
      unsigned set = 0;
      while (set < analysis.getSets().size() &&
             llvm::is_contained(done, analysis.getSets()[set]))
        ++set;
      if (set == analysis.getSets().size()) {
        remarks.partialReads(analysis);
        break;
      }
      done.push_back(analysis.getSets()[set]);
      SplitPlan plan(function, analysis, set, outputsOf);
      RowSplitter splitter(rewriter, function, analysis, set, plan);
      std::string why;
      if (!plan.computes || !splitter.isPossible(minRows, why)) {
        remarks.noSplit(analysis, set, why);
        continue;
      }
      remarks.split(plan, analysis);
      splitter.split();
      removeDead(function, rewriter);
      llvm::append_range(done, splitter.getMade());
      selections.insert_range(splitter.getSelections());
    }
    // Selections that nobody reads in the end are gone.
    llvm::DenseSet<Operation *> there;
    function->walk([&](Operation *op) { there.insert(op); });
    selections.remove_if([&](Operation *op) { return !there.contains(op); });
    std::string why;
    if (!outline || selections.empty())
      return;
    if (outlineLayerGroups(function, selections, why))
      removeDead(function, rewriter);
    else
      remarks.noOutline(why);
  }
};

} // namespace
