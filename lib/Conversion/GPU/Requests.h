// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The requests of a batch in a kernel, with numbers that can be relied on. As
// on a CPU, each start counts as at least the one before and at most the number
// of rows; what a kernel needs of that is worked out by each block of threads,
// a tile of starts at a time.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_REQUESTS_H
#define KVCACHE_LIB_CONVERSION_GPU_REQUESTS_H

#include "../Common/CacheLowering.h"
#include "Target/KernelBuilder.h"

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
  /// number * factor + part, or `none` for a number that is negative or has no
  /// room in an entry.
  mlir::Value partOf(KernelBuilder &k, mlir::Value number, int64_t factor,
                     mlir::Value part, mlir::Value none) const;
};

/// A batch as parameters of a kernel. All numbers are i64.
struct BatchParameters {
  BatchParameters(mlir::OpBuilder &builder, mlir::Location loc,
                  KernelOperands &operands, const BatchValue &batch,
                  mlir::Value rows);

  BatchType type;
  IntegerList starts, lengths, table, positions;
  unsigned rows;               ///< of activations
  unsigned count;              ///< of requests
  unsigned entries;            ///< of the starts
  unsigned columns, rowStride; ///< of the table
  unsigned numPositions = 0;
};

/// All threads of a block are in all of these.
class KernelRequests {
public:
  /// `threads`: of a block, a power of two.
  KernelRequests(KernelBuilder &k, const BatchParameters &batch,
                 int64_t threads);

  /// A tile of starts: the number of the first, and the trusted ones in shared
  /// memory.
  struct Tile {
    mlir::Value first;
    mlir::Value start(KernelBuilder &k, mlir::Value index) const;
    mlir::Value length(KernelBuilder &k, mlir::Value index) const;
    mlir::Value starts, lengths;
  };
  using Body = llvm::function_ref<llvm::SmallVector<mlir::Value>(
      const Tile &, mlir::ValueRange carried)>;
  /// What the thread loads of a tile. The first one may be loaded early, so
  /// that other work does not wait for it.
  struct Loaded {
    mlir::Value number, before, length;
  };
  Loaded load(mlir::Value first);
  /// Goes through all tiles; `ready` is what was loaded of the first.
  llvm::SmallVector<mlir::Value> forTiles(Loaded ready, mlir::ValueRange start,
                                          Body body);

  /// The request of a row, the first row behind it, and how many tokens of it
  /// the cache holds. A row that is in none has a negative request.
  struct Found {
    mlir::Value request, end, length;
    mlir::Value first; ///< row; null if nobody asked for it
  };
  /// To be carried through `forTiles`, a step for each, and what it gives.
  llvm::SmallVector<mlir::Value> startFind(bool withFirst);
  llvm::SmallVector<mlir::Value> stepFind(mlir::Value row, const Tile &tile,
                                          mlir::ValueRange carried);
  Found endFind(mlir::ValueRange carried);
  Found find(Loaded ready, mlir::Value row, bool withFirst = false);

  /// Where the token of a row is in its request.
  mlir::Value position(mlir::Value row, const Found &found);
  /// The first row of all requests, and of what the thread sees of the first
  /// row behind them: the largest is it.
  mlir::Value least();
  mlir::Value most();

  KernelBuilder &k;
  const BatchParameters &batch;
  const int64_t threads;

private:
  /// Each trusted start is the largest so far; most lists are so already.
  void makeTrusted(mlir::Value number, mlir::Value isInOrder);
  mlir::Value entry(mlir::Value memory, mlir::Value index);
  void put(mlir::Value memory, mlir::Value value);
  mlir::Value clampStart(mlir::Value raw);
  /// How many starts there are.
  mlir::Value numStarts();
  mlir::Value starts, lengths;
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_REQUESTS_H
