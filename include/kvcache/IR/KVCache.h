// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The dialect, its types and its operations.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_KVCACHE_H
#define KVCACHE_IR_KVCACHE_H

#include "kvcache/Layout/Layout.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Interfaces/ViewLikeInterface.h"

namespace kvcache {
/// For the storage of types that hold a layout.
llvm::hash_code hash_value(const Layout &layout);
} // namespace kvcache

#include "kvcache/IR/KVCacheDialect.h.inc"
#include "kvcache/IR/KVCacheEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "kvcache/IR/KVCacheAttrs.h.inc"

#define GET_TYPEDEF_CLASSES
#include "kvcache/IR/KVCacheTypes.h.inc"

#define GET_OP_CLASSES
#include "kvcache/IR/KVCacheOps.h.inc"

#endif // KVCACHE_IR_KVCACHE_H
