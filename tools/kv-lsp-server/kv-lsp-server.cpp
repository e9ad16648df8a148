// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "../HideOptions.h"
#include "kvcache/Registration/Registration.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-lsp-server/MlirLspServerMain.h"
#include "llvm/Support/LogicalResult.h"

#include <cstdlib>

int main(int argc, char **argv) {
  kvcache::hideOptions(); // before those of the server are registered
  mlir::DialectRegistry registry;
  kvcache::registerAllDialects(registry);
  return llvm::failed(mlir::MlirLspServerMain(argc, argv, registry))
             ? EXIT_FAILURE
             : EXIT_SUCCESS;
}
