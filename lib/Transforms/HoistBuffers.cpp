// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Transforms/Passes.h"

#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Interfaces/LoopLikeInterface.h"
#include "mlir/Pass/PassManager.h"

namespace kvcache {
#define GEN_PASS_DEF_HOISTBUFFERS
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;

namespace {
struct HoistBuffers : kvcache::impl::HoistBuffersBase<HoistBuffers> {
  void runOnOperation() override {
    WalkResult walk = getOperation().walk([](memref::AllocOp alloc) {
      return LoopLikeOpInterface::blockIsInLoop(alloc->getBlock())
                 ? WalkResult::interrupt()
                 : WalkResult::advance();
    });
    if (!walk.wasInterrupted())
      return;
    OpPassManager hoist(func::FuncOp::getOperationName());
    hoist.addPass(bufferization::createBufferLoopHoistingPass());
    if (failed(runPipeline(hoist, getOperation())))
      signalPassFailure();
  }
};
} // namespace
