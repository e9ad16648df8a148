// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Contiguous runs of elements: copied, converted, cleared, in vectors.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_CPU_RUNS_H
#define KVCACHE_LIB_CONVERSION_CPU_RUNS_H

#include "../Common/CodeBuilder.h"
#include "kvcache/IR/KVCache.h"

namespace kvcache::cpu {

/// Where elements begin: a flat memref and an offset in elements.
struct Place {
  mlir::Value memref;
  mlir::Value offset;

  Place plus(CodeBuilder &emit, mlir::Value elements) const {
    return {memref, emit.addi(offset, elements)};
  }
};

/// The elements of a strided memref as one dimension, to be addressed by
/// offset. Its length is the most that a layout can span.
mlir::Value flatten(CodeBuilder &emit, mlir::Value buffer);

/// The first element of a strided memref, and its outermost stride.
struct Rows {
  Rows(CodeBuilder &emit, mlir::Value memref);
  Place at(CodeBuilder &emit, mlir::Value row) const {
    return first.plus(emit, emit.muli(row, stride));
  }
  Place first;
  mlir::Value stride;

protected:
  Rows() = default;
};

/// The same, with the stride of heads. Rows and heads may be any two
/// dimensions.
struct HeadRows : Rows {
  HeadRows(CodeBuilder &emit, mlir::Value memref, unsigned rowDim,
           unsigned headDim);
  Place at(CodeBuilder &emit, mlir::Value row, mlir::Value head) const {
    return Rows::at(emit, row).plus(emit, emit.muli(head, headStride));
  }
  mlir::Value headStride;
};

/// How a store treats the caches of the CPU. A streaming store does not read
/// the line that it overwrites, and leaves nothing behind; its addresses are
/// multiples of 16 bytes.
enum class Stores { Cached, Streaming };

/// Copies `elements` contiguous elements, converted if the types differ.
void emitRunCopy(CodeBuilder &emit, const Place &from, const Place &to,
                 int64_t elements, Stores stores = Stores::Cached);
void emitRunClear(CodeBuilder &emit, const Place &to, int64_t elements);

/// How many elements a side of a tile has that is transposed in registers.
int64_t tileLanes(CacheType type);

/// Copies a square tile of that size. Its columns are contiguous where it comes
/// from, with `fromStride` from one to the next; its rows are contiguous where
/// it goes.
void emitTransposed(CodeBuilder &emit, const Place &from,
                    mlir::Value fromStride, const Place &to,
                    mlir::Value toStride, int64_t lanes);

/// Calls `write` for the stores that suit work that writes so many bytes to a
/// layout, in runs of so many elements. Only much data is worth streaming: what
/// is less will be read again soon, from the caches.
void emitWithStores(CodeBuilder &emit, mlir::Value bytes, CacheType type,
                    int64_t run,
                    llvm::function_ref<void(CodeBuilder &, Stores)> write);

/// How many tasks a piece of work of so many bytes is worth, from 1 to `most`.
mlir::Value emitTaskCount(CodeBuilder &emit, mlir::Value bytes,
                          mlir::Value most);

} // namespace kvcache::cpu

#endif // KVCACHE_LIB_CONVERSION_CPU_RUNS_H
