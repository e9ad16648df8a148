// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Pipelines/Pipelines.h"

#include "kvcache/Conversion/Passes.h"
#include "kvcache/HostCPU/Passes.h"
#include "kvcache/Raise/Passes.h"
#include "kvcache/RowDemand/Passes.h"
#include "kvcache/Transforms/Passes.h"

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotAnalysis.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/GPU/Transforms/Passes.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/Transforms/Passes.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace kvcache;

void kvcache::buildBufferizePipeline(OpPassManager &pm,
                                     const BufferizeOptions &own) {
  // First: inlining drops an update that nobody uses.
  pm.addPass(createCheckCopies());
  pm.addPass(createInlinerPass());
  // Two index values of one tensor that is updated later would be two copies.
  pm.addPass(createCSEPass());
  // Arithmetic on tensors has no bufferization of its own.
  pm.addPass(createKeepArguments());
  pm.addPass(createConvertElementwiseToLinalgPass());
  // CSE also made one destination of all.
  pm.addPass(createOwnDestinations());
  pm.addPass(createCopyCarriedTensors());
  pm.addPass(createSplitUpdates());
  bufferization::OneShotBufferizePassOptions options;
  options.bufferizeFunctionBoundaries = true;
  // The default, strides known at run time only, would make every access of
  // an activation scalar.
  options.functionBoundaryTypeConversion =
      bufferization::LayoutMapOption::IdentityLayoutMap;
  pm.addPass(bufferization::createOneShotBufferizePass(options));
  // A slice that is put back is where it was, and a pool that was reshaped
  // there and back is an argument again.
  pm.addPass(createCSEPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createDropDonatedResults());
  bufferization::BufferResultsToOutParamsPassOptions results;
  results.addResultAttribute = true;
  results.modifyPublicFunctions = true;
  results.hoistStaticAllocs = true;
  results.hoistDynamicAllocs = true;
  pm.addPass(bufferization::createBufferResultsToOutParamsPass(results));
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  CheckCopiesOptions check;
  check.bufferized = true;
  check.allowPoolCopies = own.allowPoolCopies;
  pm.addPass(createCheckCopies(check));
}

void kvcache::buildOptimizePipeline(OpPassManager &pm,
                                    const OptimizeOptions &options) {
  pm.addPass(createSplitParts());
  RaiseOptions raise;
  // Of several rows for one slot the last one stays on a CPU alone.
  raise.lastRowWins = options.target == "cpu";
  raise.standalone = options.standalone;
  pm.addPass(createRaise(raise));
  BufferizeOptions bufferize;
  bufferize.allowPoolCopies = options.allowPoolCopies;
  buildBufferizePipeline(pm, bufferize);
  pm.addPass(createFoldPermutes());
  ScatterToIndexCopyOptions scatter;
  scatter.computeSlots = options.computeSlots;
  pm.addPass(createScatterToIndexCopy(scatter));
  // Before operations are in branches of their own.
  if (options.target != "cpu")
    pm.addPass(createFuseRows());
  SpecializePageStrideOptions specialize;
  specialize.target = options.target;
  specialize.maxVariants = options.maxVariants;
  pm.addPass(createSpecializePageStride(specialize));
  // Operations on one cache share their tests.
  pm.addPass(createCSEPass());
}

/// Before the conversion to a target: what it lowers has been specialized by
/// then, so that each operation that is left is one that runs.
static void addChecks(OpPassManager &pm, StringRef checks, StringRef target) {
  if (checks == "none")
    return;
  InsertChecksOptions options;
  options.target = target.str();
  options.onRequest = checks == "on-request";
  pm.addPass(createInsertChecks(options));
}

/// Structured code has no blocks to simplify; to look for some in the loops of
/// a model takes a sixth of its compilation.
static std::unique_ptr<Pass> createStructuredCanonicalizer() {
  return createCanonicalizerPass(
      GreedyRewriteConfig().setRegionSimplificationLevel(
          GreedySimplifyRegionLevel::Disabled));
}

/// With a record of all changes, to roll them back, the blocks of a model take
/// four times as long.
static std::unique_ptr<Pass> createLoopsToBlocks() {
  SCFToControlFlowPassOptions options;
  options.allowPatternRollback = false;
  return createSCFToControlFlowPass(options);
}

/// Memrefs have become aggregates, which are put together and taken apart
/// again: half of the code of a model.
static std::unique_ptr<Pass> createAggregateFolder() {
  return createCanonicalizerPass(
      GreedyRewriteConfig().setMaxIterations(1).setRegionSimplificationLevel(
          GreedySimplifyRegionLevel::Disabled));
}

/// Host code, whatever it was made from, to the LLVM dialect.
static void addHostLowering(OpPassManager &pm,
                            std::unique_ptr<Pass> canonicalizer) {
  pm.addPass(std::move(canonicalizer));
  pm.addPass(createCSEPass());
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(createLoopInvariantCodeMotionPass());
  // After the pass before, which moves work from each iteration to the caller.
  pm.addPass(createOutlineParallel());
  pm.addPass(createLoopsToBlocks());
  // Buffers come from the caller's workspace: the run time defines the generic
  // functions.
  FinalizeMemRefToLLVMConversionPassOptions memref;
  memref.useGenericFunctions = true;
  pm.addPass(createFinalizeMemRefToLLVMConversionPass(memref));
  pm.addPass(createConvertToLLVMPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
  pm.addPass(createAggregateFolder());
  pm.addPass(createConvertParallelToRuntime());
  pm.addPass(createMoveHalvesAsIntegers());
  pm.addPass(createCSEPass());
}

void kvcache::buildCpuPipeline(OpPassManager &pm, const CpuOptions &options) {
  pm.addPass(createSplitParts());
  addChecks(pm, options.checks, "cpu");
  ConvertKVCacheToLoopsOptions loops;
  loops.chip = options.chip;
  pm.addPass(createConvertKVCacheToLoops(loops));
  pm.addPass(createCSEPass());
  // The workspace has one buffer for all iterations of a loop over layers: its
  // size is moved in front of the loop, then the buffer.
  pm.addPass(createLoopInvariantCodeMotionPass());
  pm.addNestedPass<func::FuncOp>(createHoistBuffers());
  pm.addPass(createOutlineWorkspaceSize());
  // Nine tenths of a model are loops that all layers have: from here on there
  // is one of each.
  OutlineParallelOptions equal;
  equal.early = true;
  pm.addPass(createOutlineParallel(equal));
  pm.addPass(createStructuredCanonicalizer());
  pm.addPass(createLowerLinalg());
  pm.addPass(createExpandMath());
  addHostLowering(pm, createStructuredCanonicalizer());
}

void kvcache::buildKernelsPipeline(OpPassManager &pm,
                                   const GpuOptions &options) {
  pm.addPass(createSplitParts());
  addChecks(pm, options.checks, "gpu");
  pm.addPass(createFuseRows());
  ConvertKVCacheToGPUOptions kernels;
  kernels.copyEngineBytes = options.copyEngineBytes;
  kernels.chip = options.chip;
  pm.addPass(createConvertKVCacheToGPU(kernels));
  pm.addPass(createOutlineWorkspaceSize());
  pm.addPass(createCSEPass());
}

void kvcache::buildNvvmPipeline(OpPassManager &pm, const GpuOptions &options) {
  buildKernelsPipeline(pm, options);
  OpPassManager &kernels = pm.nest<gpu::GPUModuleOp>();
  kernels.addPass(createLoopsToBlocks());
  kernels.addPass(createConvertToLLVMPass());
  kernels.addPass(createReconcileUnrealizedCastsPass());
  // Lines of the program, without the rest of what a debugger wants: code stays
  // as optimized.
  LLVM::DIScopeForLLVMFuncOpPassOptions lines;
  lines.emissionKind = LLVM::DIEmissionKind::DebugDirectivesOnly;
  pm.addPass(LLVM::createDIScopeForLLVMFuncOpPass(lines));
  pm.addPass(createAttachNVVMTarget());
  std::string image = options.image;
  if (image == "auto")
    image = llvm::sys::findProgramByName("ptxas") ? "cubin" : "ptx";
  GpuModuleToBinaryPassOptions binary;
  binary.compilationTarget = image == "cubin" ? "bin" : "isa";
  if (image == "cubin")
    binary.cmdOptions = "-lineinfo"; // to ptxas
  pm.addPass(createGpuModuleToBinaryPass(binary));
  pm.addPass(createConvertLaunchToRuntime());
  addHostLowering(pm, createCanonicalizerPass());
}

template <typename Options, void (*builder)(OpPassManager &, const Options &)>
static constexpr NamedPipeline pipeline(StringLiteral name,
                                        StringLiteral description) {
  return {name, description, [](OpPassManager &pm) { builder(pm, Options()); },
          [](const NamedPipeline &self) {
            PassPipelineRegistration<Options>(self.name, self.description,
                                              builder);
          }};
}

ArrayRef<NamedPipeline> kvcache::getPipelines() {
  static constexpr NamedPipeline pipelines[] = {
      pipeline<BufferizeOptions, buildBufferizePipeline>(
          "kvcache-bufferize",
          "Tensors become memrefs, and results become arguments; no pool is "
          "copied"),
      pipeline<OptimizeOptions, buildOptimizePipeline>(
          "kvcache-optimize",
          "Bufferized kvcache IR, with views folded, scatters as index copies, "
          "and variants for facts known only in a call"),
      pipeline<CpuOptions, buildCpuPipeline>(
          "kvcache-to-cpu",
          "Bufferized kvcache IR to the LLVM dialect, as code for a CPU"),
      pipeline<GpuOptions, buildKernelsPipeline>(
          "kvcache-to-kernels",
          "Bufferized kvcache IR to kernels in a gpu.module and launches"),
      pipeline<GpuOptions, buildNvvmPipeline>(
          "kvcache-to-nvvm",
          "Bufferized kvcache IR to the LLVM dialect, with kernels embedded as "
          "PTX or cubin"),
  };
  return pipelines;
}

void kvcache::registerPipelines() {
  for (const NamedPipeline &pipeline : getPipelines())
    pipeline.enroll(pipeline);
}

void kvcache::printPipelines(raw_ostream &os) {
  llvm::interleave(
      getPipelines(), os,
      [&](const NamedPipeline &pipeline) {
        OpPassManager pm(ModuleOp::getOperationName());
        pipeline.build(pm);
        os << "--" << pipeline.name << "\n  " << pipeline.description << "\n\n";
        pm.printAsTextualPipeline(os, /*pretty=*/true);
        os << "\n";
      },
      "\n");
}
