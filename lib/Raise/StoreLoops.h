// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loops that store rows to a buffer, element by element:
//
//   for t, h, d:
//     pool[slots[t] / 16, slots[t] % 16, h, d] = rows[t, h, d]
//
// written with scf.for, scf.parallel or linalg.generic, with or without a test
// of the slot around the store.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_RAISE_STORELOOPS_H
#define KVCACHE_LIB_RAISE_STORELOOPS_H

#include "Rows.h"

namespace kvcache::raise {

/// Whether a loop is outermost among its kind and contains one store of f16,
/// bf16 or f32 at an index computed from loaded integers.
bool isStoreLoop(mlir::Operation *op);

/// Turns such a loop into `index_copy`.
Raised raiseStoreLoop(mlir::Operation *op, const RaiseFacts &facts);

} // namespace kvcache::raise

#endif // KVCACHE_LIB_RAISE_STORELOOPS_H
