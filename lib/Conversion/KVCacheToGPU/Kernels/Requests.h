// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The requests of a batch in a kernel, with numbers that can be relied on. As
// on a CPU, each start counts as at least the one before and at most the number
// of rows; what a kernel needs of that is worked out by each block of threads,
// a tile of starts at a time.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_KVCACHETOGPU_KERNELS_REQUESTS_H
#define KVCACHE_LIB_CONVERSION_KVCACHETOGPU_KERNELS_REQUESTS_H

#include "../../Common/CacheLowering.h"
#include "KernelBuilder.h"

namespace kvcache {

/// A buffer of integers, as a parameter.
struct IntegerList {
  unsigned pointer = 0;
  mlir::Type type;

  static IntegerList get(KernelOperands &operands, mlir::Value memref);
  mlir::Value load(KernelBuilder &k, mlir::Value index) const {
    return k.loadEntry(k.parameter(pointer), index, type);
  }
  void store(KernelBuilder &k, mlir::Value value, mlir::Value index) const {
    k.storeEntry(value, k.parameter(pointer), index, type);
  }
};

/// A batch as parameters of a kernel. All numbers are i64.
struct BatchParameters {
  BatchParameters(mlir::OpBuilder &builder, mlir::Location loc,
                  KernelOperands &operands, const BatchParts &batch,
                  mlir::Value rows);

  BatchType type;
  IntegerList starts, lengths, table, positions;
  unsigned rows;    ///< of activations
  unsigned count;   ///< of requests
  unsigned entries; ///< of the starts
  unsigned columns, rowStride; ///< of the table
  unsigned numPositions = 0;
};

class KernelRequests {
public:
  /// `threads`: a power of two.
  KernelRequests(KernelBuilder &k, const BatchParameters &batch,
                 int64_t threads);

  /// For a tile of starts: the first and the number of entries that count, and
  /// a pointer to shared memory with the trusted starts of the tile.
  using Tile = llvm::function_ref<llvm::SmallVector<mlir::Value>(
      mlir::Value first, mlir::Value tile, mlir::ValueRange carried)>;
  /// Goes through all tiles; all threads of the block are in `body`.
  llvm::SmallVector<mlir::Value> forTiles(mlir::ValueRange start, Tile body);
  /// A trusted start of a tile.
  mlir::Value tileEntry(mlir::Value tile, mlir::Value index);

  /// The request of a row, and the first row behind it. A row that is in none
  /// has a negative request.
  std::pair<mlir::Value, mlir::Value> find(mlir::Value row);

  /// How many tokens of a request the cache holds.
  mlir::Value length(mlir::Value request);
  /// Where the token of a row is in its request.
  mlir::Value position(mlir::Value row, mlir::Value end, mlir::Value length);

  /// Of numbers that each thread has one of, the largest of all before it and
  /// its own; in shared memory, which the next call changes.
  mlir::Value scanMax(mlir::Value number);

  KernelBuilder &k;
  const BatchParameters &batch;
  const int64_t threads;

private:
  mlir::Value memory[2];
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_KVCACHETOGPU_KERNELS_REQUESTS_H
