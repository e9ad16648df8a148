// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The mask of an attention as parameters of a kernel.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_ATTENTION_MASKBUFFER_H
#define KVCACHE_LIB_CONVERSION_GPU_ATTENTION_MASKBUFFER_H

#include "../RowShape.h"

namespace kvcache {

/// Rows of words, whose bits stand for the own rows of a request. Keys before
/// those are seen, and keys that have no word are not.
struct MaskBuffer : RowBuffer {
  MaskBuffer(KernelOperands &operands, mlir::Value memref);
  /// 32 bits of a row from the own row number `own` on, which may be negative.
  /// Both are i64.
  Val bits(KernelBuilder &k, Val row, Val own) const;
  /// Whether the row sees that key.
  Val isSeen(KernelBuilder &k, Val row, Val own) const;

private:
  Val word(KernelBuilder &k, mlir::Value address, Val index) const;

  unsigned words;
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_ATTENTION_MASKBUFFER_H
