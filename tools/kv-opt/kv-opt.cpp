// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "../HideOptions.h"
#include "kvcache/Pipelines/Pipelines.h"
#include "kvcache/Registration/Registration.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/raw_ostream.h"

int main(int argc, char **argv) {
  kvcache::hideOptions(); // before those of mlir-opt are registered
  mlir::DialectRegistry registry;
  kvcache::registerAllDialects(registry);
  kvcache::registerAllPasses();
  llvm::cl::opt<bool> listPipelines(
      "list-pipelines",
      llvm::cl::desc("Print the pipelines of this project in --pass-pipeline "
                     "syntax, and exit"));
  auto [input, output] = mlir::registerAndParseCLIOptions(
      argc, argv, "kvcache optimizer driver\n", registry);
  if (listPipelines) {
    kvcache::printPipelines(llvm::outs());
    return EXIT_SUCCESS;
  }
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, input, output, registry));
}
