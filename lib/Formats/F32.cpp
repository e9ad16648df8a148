// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "NativeFloat.h"

using namespace kvcache;

const Format &formats::F32() {
  static const NativeFloat<mlir::Float32Type, F32> format(
      {"f32", "float32", kDLFloat}, llvm::APFloat::IEEEsingle());
  return format;
}
