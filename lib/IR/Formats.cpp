// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The formats that the element of a cache type may have. A new format needs a
// model here, or a type of the dialect, and a codec for each target
// (lib/Conversion/{CPU,GPU}/Codecs.cpp).
//
//===----------------------------------------------------------------------===//

#include "Formats.h"

#include "kvcache/IR/KVCacheTypes.h"

#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace kvcache;

#include "kvcache/IR/KVCacheFormats.cpp.inc"

namespace {

/// A float is stored as it is.
template <typename Float>
struct StoredFloat
    : FormatTypeInterface::ExternalModel<StoredFloat<Float>, Float> {
  int64_t getStoredBits(Type type) const {
    return type.getIntOrFloatBitWidth();
  }
  Type getStoredType(Type type) const { return type; }
};

template <typename... Floats> struct FloatFormats {
  static void attach(MLIRContext &context) {
    (Floats::template attachInterface<StoredFloat<Floats>>(context), ...);
  }
  static SmallVector<Type> all(MLIRContext *context) {
    return {Floats::get(context)...};
  }
};
using Formats = FloatFormats<Float16Type, BFloat16Type, Float32Type>;

} // namespace

void kvcache::attachFormats(MLIRContext &context) { Formats::attach(context); }

std::string kvcache::listFormats(MLIRContext *context) {
  SmallVector<Type> formats = Formats::all(context);
  std::string list;
  llvm::raw_string_ostream os(list);
  for (auto [i, format] : llvm::enumerate(formats))
    os << (i == 0 ? "" : i + 1 == formats.size() ? " or " : ", ") << format;
  return list;
}
