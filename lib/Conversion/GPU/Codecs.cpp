// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Codecs.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::gpu;

std::pair<Value, Value> GPUCodec::decodeHalves(KernelBuilder &, Value) const {
  llvm_unreachable("the format has none");
}

const GPUCodec &gpu::codecOf(Type format) {
  return KVCacheDialect::formatOf(format)->getGPUCodec();
}

Value gpu::convert(KernelBuilder &k, Value access, int64_t elements, Type from,
                   Type to) {
  if (from == to)
    return access;
  Value floats = codecOf(from).decode(k, access, elements);
  return codecOf(to).encode(k, floats, elements);
}
