// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Registration/Registration.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  kvcache::registerAllDialects(registry);
  kvcache::registerAllPasses();
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "kvcache optimizer driver\n", registry));
}
