// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows on their way into shared memory, for kernels that copy them themselves:
// tokens of a cache in any layout, and rows of the query.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ROWCOPIES_H
#define KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ROWCOPIES_H

#include "WorkSplit.h"

namespace kvcache {

/// One side of a unit of 16 tokens in a slot: [part of the channels][token]
/// [channels of the part], with the 16-byte chunks of a token permuted by the
/// token: fragments are then read without conflicts. A tensor map permutes
/// alike.
struct UnitRows {
  int64_t elementBytes;
  int64_t channels; ///< rounded up to whole fragments
  int64_t inner;    ///< channels that lie side by side

  static constexpr int64_t kTokens = 16;
  int64_t bytes() const { return kTokens * elementBytes * channels; }
  /// Of 16 bytes: the channels of one, those of a token, those side by side.
  int64_t chunkChannels() const { return 16 / elementBytes; }
  int64_t chunks() const { return channels / chunkChannels(); }
  int64_t innerChunks() const { return inner / chunkChannels(); }
  int64_t partBytes() const { return kTokens * innerChunks() * 16; }
  /// By how many bits less than its number a token permutes chunks.
  int64_t turn() const {
    return innerChunks() == 8 ? 0 : innerChunks() == 4 ? 1 : 2;
  }
  /// Bytes from the fragments of a permutation to that of a step, which is two
  /// chunks.
  int64_t fragmentStep(int64_t step) const {
    int64_t inner = innerChunks();
    return inner == 1 ? 2 * step * partBytes() : 2 * step / inner * partBytes();
  }
};

class RowCopies : protected WorkSplit {
protected:
  using WorkSplit::WorkSplit;

  /// 32 tokens of a side to two units at `units`, each from the bytes behind
  /// `base` that a lane has; zeros for those whose bit in `there` is not set.
  void copyTokens(unsigned side, const UnitRows &rows, Val units,
                  mlir::Value base, Val bytes, Val there);
  /// Where the fragments of a lane in a unit are, for the steps whose chunks
  /// are permuted in different ways.
  Vals fragmentOffsets(const UnitRows &rows, Val unit, Val token, Val chunk);
  /// Eight channels, of `chunks` times as many, of a pair of a request, whose
  /// rows begin at `start`; zeros for a pair that it does not have.
  void copyQuery(Val start, Val pairs, Val pair, Val chunk, int64_t chunks,
                 mlir::Value to);
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ROWCOPIES_H
