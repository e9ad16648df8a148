// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The dialect, its attributes and its types, and the formats of contents.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_KVCACHETYPES_H
#define KVCACHE_IR_KVCACHETYPES_H

#include "kvcache/IR/Format.h"
#include "kvcache/Layout/Layout.h"
#include "kvcache/Layout/Scales.h"

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"

namespace kvcache {
/// For the storage of types that hold them.
llvm::hash_code hash_value(const Layout &layout);
llvm::hash_code hash_value(const ScaleAxis &axis);
llvm::hash_code hash_value(const ScaleStride &stride);
} // namespace kvcache

#include "kvcache/IR/KVCacheFormats.h.inc"

#include "kvcache/IR/KVCacheDialect.h.inc"
#include "kvcache/IR/KVCacheEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "kvcache/IR/KVCacheAttrs.h.inc"

#define GET_TYPEDEF_CLASSES
#include "kvcache/IR/KVCacheTypes.h.inc"

#endif // KVCACHE_IR_KVCACHETYPES_H
