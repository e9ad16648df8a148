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

/// Whether a loop is one that nothing of its kind is around, with one store of
/// f16, bf16 or f32 in it at a place that is computed from loaded numbers.
bool isStoreLoop(mlir::Operation *op);

/// Makes `index_copy` of such a loop.
Raised raiseStoreLoop(mlir::Operation *op, const RaiseFacts &facts);

} // namespace kvcache::raise

#endif // KVCACHE_LIB_RAISE_STORELOOPS_H
