// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The two products of a tile of many rows, which chips compute in different
// ways. The softmax between them is the same for all (AttentionMany.cpp).
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_CPU_ATTENTIONMANY_H
#define KVCACHE_LIB_CONVERSION_CPU_ATTENTIONMANY_H

#include "AttentionTile.h"

#include <memory>

namespace kvcache::cpu {

/// What both products and the softmax have in common.
struct ManyRowsState {
  ManyRowsState(CodeBuilder &emit, const AttentionFacts &facts,
                const Tile &tile);

  const AttentionFacts &facts;
  const Tile &tile;
  int64_t lanes, maxRows;
  mlir::Value scores;  ///< [key][row], which the softmax makes weights of
  mlir::Value sums;    ///< [row][channel]
  mlir::Value rescale; ///< what a chunk multiplies the sums of each row with
  mlir::Value rows;    ///< those of the tile, up to two whole vectors
};

/// A buffer of a tile.
mlir::Value emitStack(CodeBuilder &emit, int64_t count, mlir::Type type);

/// scores[key][row] = keys[key][channel] * queries[channel][row]
class ScoreProduct {
public:
  virtual ~ScoreProduct() = default;
  /// Takes the queries of all rows.
  using QueryAt = llvm::function_ref<Place(CodeBuilder &, mlir::Value row)>;
  virtual void takeQueries(CodeBuilder &emit, QueryAt queryAt) = 0;
  /// Takes the first `count` keys of some offsets.
  using OffsetAt = llvm::function_ref<mlir::Value(CodeBuilder &, mlir::Value)>;
  virtual void takeKeys(CodeBuilder &emit, mlir::Value count,
                        OffsetAt offsetAt) = 0;
  /// Scores behind the last key may be anything.
  virtual void multiply(CodeBuilder &emit, mlir::Value count) = 0;
  /// What products are to be multiplied with.
  virtual float factor() const { return 1; }
};

/// sums[row][channel] = sums[row][channel] * rescale[row]
///                    + scores[key][row] * values[key][channel]
class ValueProduct {
public:
  virtual ~ValueProduct() = default;
  /// Takes the first `count` values of some offsets, which repeat the last one
  /// up to a whole chunk.
  using OffsetAt = ScoreProduct::OffsetAt;
  virtual void takeValues(CodeBuilder &emit, mlir::Value count,
                          OffsetAt offsetAt) = 0;
  /// If `masked`, a product with a weight of 0 is 0, whatever the value is.
  virtual void multiply(CodeBuilder &emit, mlir::Value count, bool masked) = 0;
  /// Brings the channels of the sums in order.
  virtual void finish(CodeBuilder &emit) {}

protected:
  /// Vectors of values as f32.
  using ValuesAt = llvm::function_ref<mlir::Value(
      CodeBuilder &, mlir::Value key, mlir::Value channel, int64_t n)>;
  /// The product by fused multiply-adds.
  static void multiplyLanes(CodeBuilder &emit, const ManyRowsState &state,
                            mlir::Value count, bool masked, ValuesAt valuesAt);
};

namespace x86 {
/// The same by tiles: for `AttentionFacts::keyTiles` and `valueTiles`
/// (X86Products.cpp).
std::unique_ptr<ScoreProduct> createTileScores(CodeBuilder &emit,
                                               const ManyRowsState &state);
std::unique_ptr<ValueProduct> createTileValues(CodeBuilder &emit,
                                               const ManyRowsState &state);
} // namespace x86

} // namespace kvcache::cpu

#endif // KVCACHE_LIB_CONVERSION_CPU_ATTENTIONMANY_H
