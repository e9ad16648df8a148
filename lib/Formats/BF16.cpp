// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "NativeFloat.h"

using namespace kvcache;

const Format &formats::BF16() {
  static const NativeFloat<mlir::BFloat16Type, BF16> format(
      {"bf16", "bfloat16", kDLBfloat}, llvm::APFloat::BFloat());
  return format;
}
