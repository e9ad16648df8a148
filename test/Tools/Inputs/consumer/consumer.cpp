// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lowers a program for the CPU, as a project of someone else would.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Pipelines/Pipelines.h"
#include "kvcache/Registration/Registration.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/raw_ostream.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  kvcache::registerAllDialects(registry);
  mlir::MLIRContext context(registry);
  auto module = mlir::parseSourceFile<mlir::ModuleOp>(argv[1], &context);
  if (!module)
    return 1;
  mlir::PassManager pm(&context);
  kvcache::buildBufferizePipeline(pm);
  kvcache::buildCpuPipeline(pm, kvcache::CpuOptions());
  if (mlir::failed(pm.run(*module)))
    return 1;
  llvm::outs() << *module << "\n";
  return 0;
}
