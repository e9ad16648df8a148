// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "NativeFloat.h"

using namespace kvcache;

const Format &formats::F16() {
  static const NativeFloat<mlir::Float16Type, F16> format(
      {"f16", "float16", kDLFloat}, llvm::APFloat::IEEEhalf());
  return format;
}
