// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Conversion/Passes.h"
#include "kvcache/HostCPU/Passes.h"
#include "kvcache/Pipelines/Pipelines.h"
#include "kvcache/Raise/Passes.h"
#include "kvcache/Registration/Registration.h"
#include "kvcache/RowDemand/Passes.h"
#include "kvcache/Transforms/Passes.h"

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/GPU/Transforms/Passes.h"
#include "mlir/Dialect/LLVMIR/Transforms/Passes.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Transforms/Passes.h"

void kvcache::registerKVCachePasses() {
  registerConversionPasses();
  registerHostCPUPasses();
  registerRaisePasses();
  registerRowDemandPasses();
  registerTransformsPasses();
  registerPipelines();
}

void kvcache::registerAllPasses() {
  registerKVCachePasses();
  mlir::registerTransformsPasses();

  // A pipeline that is written out, in a reproducer or on the command line,
  // does not parse without each pass of it.
  mlir::bufferization::registerBufferLoopHoistingPass();
  mlir::bufferization::registerBufferResultsToOutParamsPass();
  mlir::bufferization::registerDropEquivalentBufferResultsPass();
  mlir::bufferization::registerOneShotBufferizePass();
  mlir::LLVM::registerDIScopeForLLVMFuncOpPass();
  mlir::memref::registerExpandStridedMetadataPass();
  mlir::registerConvertElementwiseToLinalgPass();
  mlir::registerConvertToLLVMPass();
  mlir::registerFinalizeMemRefToLLVMConversionPass();
  mlir::registerGpuModuleToBinaryPass();
  mlir::registerGpuNVVMAttachTarget();
  mlir::registerLowerAffinePass();
  mlir::registerReconcileUnrealizedCastsPass();
  mlir::registerSCFToControlFlowPass();
}
