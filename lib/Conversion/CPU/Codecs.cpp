// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Codecs.h"

#include "kvcache/IR/KVCacheTypes.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

const CPUCodec &cpu::codecOf(Type format) {
  return KVCacheDialect::formatOf(format)->getCPUCodec();
}

Value cpu::emitConvert(CodeBuilder &emit, Value value, Type to) {
  Type from = getElementTypeOrSelf(value.getType());
  if (from == to)
    return value;
  return codecOf(to).encode(emit, codecOf(from).decode(emit, value));
}
