// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a pass makes of the text of a module, for tests of interfaces.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_TEST_UNIT_PASSTEXT_H
#define KVCACHE_TEST_UNIT_PASSTEXT_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"

#include <gtest/gtest.h>

inline std::string textAfter(std::unique_ptr<mlir::Pass> pass,
                             llvm::StringRef body, mlir::MLIRContext *context) {
  auto module = mlir::parseSourceString<mlir::ModuleOp>(body, context);
  EXPECT_TRUE(module);
  if (!module)
    return "";
  mlir::PassManager manager(context);
  manager.addPass(std::move(pass));
  EXPECT_TRUE(succeeded(manager.run(*module)));
  std::string text;
  llvm::raw_string_ostream(text) << *module;
  return text;
}

inline bool contains(const std::string &text, const char *part) {
  return text.find(part) != std::string::npos;
}

#endif // KVCACHE_TEST_UNIT_PASSTEXT_H
