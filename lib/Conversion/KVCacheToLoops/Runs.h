// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Contiguous runs of elements: copied, converted, cleared, in vectors.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_KVCACHETOLOOPS_RUNS_H
#define KVCACHE_LIB_CONVERSION_KVCACHETOLOOPS_RUNS_H

#include "../Common/Emitter.h"

namespace kvcache {

/// Where elements begin: a flat memref and an offset in elements.
struct Place {
  mlir::Value memref;
  mlir::Value offset;

  Place plus(const Emitter &emit, mlir::Value elements) const {
    return {memref, emit.add(offset, elements)};
  }
};

/// The elements of a strided memref as one dimension, to be addressed by
/// offset. Its length is the most that a layout can span.
mlir::Value flatten(const Emitter &emit, mlir::Value buffer);

/// The first element of a strided memref, and its outermost stride.
struct Rows {
  Rows(const Emitter &emit, mlir::Value memref);
  Place at(const Emitter &emit, mlir::Value row) const {
    return first.plus(emit, emit.mul(row, stride));
  }
  Place first;
  mlir::Value stride;
};

/// Copies `elements` contiguous elements, converted if the types differ.
void emitRunCopy(const Emitter &emit, const Place &from, const Place &to,
                 int64_t elements);
void emitRunClear(const Emitter &emit, const Place &to, int64_t elements);

/// A number or a vector of numbers in another floating-point type: to the
/// nearest, ties to even; NaN stays NaN. bf16 is made of integer operations, as
/// compilers call a library for it on most targets.
mlir::Value emitConvert(const Emitter &emit, mlir::Value value,
                        mlir::Type elementType);

/// How many tasks a piece of work of so many bytes is worth, from 1 to `most`.
mlir::Value emitTaskCount(const Emitter &emit, mlir::Value bytes,
                          mlir::Value most);

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_KVCACHETOLOOPS_RUNS_H
