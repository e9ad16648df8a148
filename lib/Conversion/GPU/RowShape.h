// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows of activations, and how the threads of a block divide them.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_ROWSHAPE_H
#define KVCACHE_LIB_CONVERSION_GPU_ROWSHAPE_H

#include "Target/KernelBuilder.h"

namespace kvcache {

/// A row is `accesses` accesses of `width` bytes. A thread has one of the first
/// of a part of a row, and every `threadsPerRow`-th after it, 16 bytes at most.
struct RowShape {
  RowShape(int64_t accesses, int64_t width, int64_t wanted);
  int64_t accesses, width;
  int64_t rows; ///< of a block of threads; 1 if a row takes several blocks
  int64_t threads, threadsPerRow;
  int64_t perThread; ///< accesses
  int64_t parts;     ///< blocks that share a row, the second number of a grid
  bool isExact;      ///< no thread is without work
};

/// What a thread has.
struct RowThread {
  /// `part` (i32): of the row; the second number of the block if it is null.
  RowThread(KernelBuilder &k, const RowShape &shape,
            mlir::Value part = mlir::Value());

  struct Access {
    mlir::Value number;  ///< i32, of the row
    mlir::Value inRow;   ///< i64, bytes
    mlir::Value isThere; ///< null if it always is
  };
  mlir::Value rowInBlock; ///< i32
  llvm::SmallVector<Access> accesses;
};

/// What is known of rows whose inner dimensions are contiguous.
struct KnownRows {
  explicit KnownRows(mlir::Value memref);

  int64_t elementBytes;
  int64_t align; ///< of each row in bytes, 16 at most
  std::optional<int64_t> knownStride;
};

/// The same rows as parameters.
struct RowBuffer : KnownRows {
  RowBuffer(KernelOperands &operands, mlir::Value memref);
  /// The address of a row (i64).
  mlir::Value at(KernelBuilder &k, mlir::Value row) const;

  unsigned pointer;
  StrideSource stride;
};

/// The numbers of rows and heads as parameters, of which either may be the
/// first dimension.
struct HeadBuffer {
  HeadBuffer(KernelOperands &operands, mlir::Value memref, bool headsFirst);
  /// The address of one of them (i64).
  mlir::Value at(KernelBuilder &k, mlir::Value row, mlir::Value head) const;

  int64_t elementBytes;
  unsigned pointer;
  StrideSource row, head;
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_ROWSHAPE_H
