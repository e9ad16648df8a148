// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Checks.h"

#include "../../Runtime/kvrt_records.h"

#include "mlir/Interfaces/FunctionInterfaces.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace kvcache;

Value kvcache::emitCheckText(OpBuilder &builder, Location loc, Operation *check,
                             StringRef user, StringRef argument,
                             bool withFunction) {
  std::string text;
  if (withFunction)
    text = check->getParentOfType<FunctionOpInterface>().getName().str() + ": ";
  text += user.str() + ": ";
  if (argument.empty())
    text += "a list that the program computes";
  else
    text += "argument '" + argument.str() + "'";
  return emitText(builder, loc, check, text);
}

int64_t kvcache::entryKind(StringRef what) {
  return llvm::StringSwitch<int64_t>(what)
      .Case("slot", KVRT_CHECK_SLOT)
      .Case("block", KVRT_CHECK_BLOCK)
      .Case("offset", KVRT_CHECK_OFFSET)
      .Case("position", KVRT_CHECK_ROTATION)
      .Default(KVRT_CHECK_CHUNK);
}
