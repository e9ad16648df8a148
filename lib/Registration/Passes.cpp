// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Conversion/Passes.h"
#include "kvcache/Pipelines/Pipelines.h"
#include "kvcache/Registration/Registration.h"
#include "kvcache/Transforms/Passes.h"

#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Transforms/Passes.h"

void kvcache::registerKVCachePasses() {
  registerConversionPasses();
  registerTransformsPasses();
  registerPipelines();
}

void kvcache::registerAllPasses() {
  registerKVCachePasses();
  mlir::registerTransformsPasses();
  mlir::bufferization::registerOneShotBufferizePass();
}
