// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the ways to compute a tile of attention have in common.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_CPU_ATTENTIONTILE_H
#define KVCACHE_LIB_CONVERSION_CPU_ATTENTIONTILE_H

#include "../Common/CacheLowering.h"
#include "Lanes.h"
#include "Patterns.h"
#include "Requests.h"

#include <functional>

namespace kvcache::cpu {

/// The most that the buffers of a tile take of the stack of a thread, in bytes.
/// With up to 256 channels and 64 query heads of a group they are smaller.
constexpr int64_t kFrameBytes = 768 * 1024;
/// Where the maximum of a row begins: below all scores, and finite.
constexpr float kNoMaximum = -1e30f;

/// What is known before there are any numbers.
struct AttentionFacts {
  AttentionFacts(AttentionOp op, TargetAttr cpu);

  int64_t lanes; ///< of a vector register, in f32
  /// The products with keys and with values are made of pairs of bf16.
  bool keyPairs, valuePairs;
  /// With many rows, they are products of tiles of bf16.
  bool keyTiles, valueTiles;
  /// Query heads that share a head of the cache are in `sharing` groups, each
  /// of which has a number as a head of the cache would have.
  int64_t heads, queryHeads, group, sharing = 1;
  int64_t keyChannels, valueChannels;
  /// Of an element, where channels are not one run: 0 if they are.
  int64_t keyBytes, valueBytes;
  int64_t tokens; ///< in a block
  /// Rows of a tile, about: tokens times the query heads of a group.
  int64_t tileRows = 64;
  int64_t tileTokens, maxRows;
  /// From this many rows on, a tile is computed by matrix products.
  int64_t fewRows = 16;
  /// All tiles have few rows: as many are the most, and requests are not split.
  bool onlyFew = false;
  /// Keys of a chunk.
  int64_t chunkKeys = 64;
  /// Heads that one task goes through, at most. Heads of a token lie side by
  /// side in most layouts: a task that has several reads memory in its
  /// sequence.
  int64_t taskHeads = 8;
  /// How far ahead of its position, and how far behind it, a row sees keys.
  std::optional<int64_t> ahead, window;
  bool hasMask; ///< of bits
  std::optional<double> softcap;
  double scale;

  /// Whether the buffers of a tile have room on the stack.
  bool hasRoom;
  /// Of few rows, those that are computed together, and how many sets of them
  /// some rows make.
  int64_t setRows() const { return group >= 3 ? 4 : group; }
  int64_t setsOf(int64_t rows) const {
    return (rows + setRows() - 1) / setRows();
  }

  /// What queries are multiplied with, so that products are scores.
  float queryFactor() const;
  /// A vector of products as scores to base 2.
  mlir::Value capped(CodeBuilder &emit, mlir::Value score) const;
  /// Whether rows of one tile may see different keys.
  bool rowsDiffer() const { return ahead || window || hasMask; }

private:
  void setTile(int64_t cacheHeads, int64_t rows);
  bool shrinkTile(int64_t cacheHeads);
  bool fitsFrame() const;
};

/// The keys or the values of a cache.
struct CacheSide {
  CacheSide(CodeBuilder &emit, const CacheValue &cache, int64_t side);
  mlir::Value headOffset(CodeBuilder &emit, mlir::Value head) const;
  /// Whether the channels of a token and a head are one run.
  bool isRun() const { return plan.run.elements == channels; }
  /// Has them fetched ahead.
  void prefetch(CodeBuilder &emit, mlir::Value offset) const;
  /// Copies them to a packed place.
  void load(CodeBuilder &emit, mlir::Value offset, const Place &to) const;

  CacheValue cache; ///< the side
  RowPlan plan;
  mlir::Value pool;
  int64_t channels;
  /// A head of the cache has so many numbers.
  int64_t sharing = 1;
};

/// Positions and windows that are as far as any: the sum of two of them does
/// not wrap.
constexpr int64_t kFarPosition = int64_t(1) << 62;

/// Some rows of a request, and some heads of the cache.
struct Tile {
  const CacheSide *keys, *values;
  const CacheSide *keyScales, *valueScales; ///< null if there are none
  const HeadRows *queries;
  mlir::Value alibi; ///< null if there are no slopes
  const Rows *mask;  ///< null if there is none
  mlir::Value words; ///< of a row of the mask, i32
  mlir::Value table, request;
  mlir::Value head, heads;   ///< the first, and how many
  mlir::Value firstRow, end; ///< in the activations
  mlir::Value tokens, rows;  ///< how many
  mlir::Value length;
  mlir::Value firstOwn; ///< the key of the first row of the request
  mlir::Value leastPosition, greatestPosition;
  /// Of a row; at most kFarPosition from 0.
  std::function<mlir::Value(CodeBuilder &, mlir::Value)> position;

  /// The position of a row as an i32: what is further than 2^30 from 0 is
  /// there.
  mlir::Value rowPosition(CodeBuilder &emit, mlir::Value row) const;
  /// The last key that a row sees ahead of its position, -1 if none, as an i32.
  mlir::Value lastSeen(CodeBuilder &emit, mlir::Value row, int64_t ahead) const;
  /// The last key that the window of a row leaves behind, -1 if none, as an
  /// i32.
  mlir::Value lastTooOld(CodeBuilder &emit, mlir::Value row,
                         int64_t window) const;

  // With a mask (AttentionMask.cpp). Keys, and rows as offsets of their words,
  // are vectors of i32 and of i64.
  static mlir::Value wordCount(CodeBuilder &emit, mlir::Value words);
  mlir::Value maskOffset(CodeBuilder &emit, mlir::Value row) const;
  /// The numbers of keys among the own rows of the request; negative before.
  mlir::Value ownNumber(CodeBuilder &emit, mlir::Value keys) const;
  /// The words that have the bits of such numbers.
  mlir::Value maskWords(CodeBuilder &emit, mlir::Value own,
                        mlir::Value offsets) const;
  mlir::Value isSet(CodeBuilder &emit, mlir::Value words,
                    mlir::Value own) const;

private:
  mlir::Value shifted(CodeBuilder &emit, mlir::Value row, int64_t by) const;
};

/// Offsets and positions of the keys of a chunk.
class KeyList {
public:
  KeyList(CodeBuilder &emit, const AttentionFacts &facts, const Tile &tile);

  /// Some keys that are in the cache, and a range that their positions are in.
  /// Their offsets are those of head 0.
  struct Chunk {
    mlir::Value count, first, end;
    mlir::Value at;   ///< where their lists begin
    mlir::Value next; ///< where those of the next chunk do, or the same again
  };
  /// Calls `body` for chunks of the keys `first` to `end - 1`. The lists of the
  /// next chunk are already there, so that its keys can be fetched ahead.
  using Body = llvm::function_ref<void(CodeBuilder &, const Chunk &)>;
  void forChunks(CodeBuilder &emit, mlir::Value first, mlir::Value end,
                 Body body) const;

  /// Two lists each. Behind the last key of a chunk it is repeated, up to a
  /// whole chunk and a vector. Lists of scales are null if there are none.
  mlir::Value keys, values, positions, keyScales, valueScales;

  /// A list of so many scales of a head, in memory that is used again by the
  /// next one; null if there are none.
  mlir::Value keyScalesOf(CodeBuilder &emit, const Chunk &chunk,
                          mlir::Value head, mlir::Value count) const {
    return scalesOf(emit, tile.keyScales, keyScales, keyFactors, chunk, head,
                    count);
  }
  mlir::Value valueScalesOf(CodeBuilder &emit, const Chunk &chunk,
                            mlir::Value head, mlir::Value count) const {
    return scalesOf(emit, tile.valueScales, valueScales, valueFactors, chunk,
                    head, count);
  }

private:
  /// The next key, its block in the table, and its place in the block.
  struct Cursor {
    mlir::Value blocks;
    mlir::Value key, block, start;
  };
  llvm::SmallVector<mlir::Value> fill(CodeBuilder &emit, const Cursor &cursor,
                                      mlir::Value at, mlir::Value end) const;
  mlir::Value scalesOf(CodeBuilder &emit, const CacheSide *side,
                       mlir::Value list, mlir::Value buffer, const Chunk &chunk,
                       mlir::Value head, mlir::Value count) const;
  int64_t room() const { return facts.chunkKeys + facts.lanes; }

  const AttentionFacts &facts;
  const Tile &tile;
  mlir::Value keyFactors, valueFactors;
};

/// Weights of keys with their scales. What has no weight stays 0, whatever its
/// scale is.
mlir::Value scaleWeights(CodeBuilder &emit, mlir::Value weights,
                         mlir::Value scales);

/// Whether some row of a tile does not see some key of a chunk.
mlir::Value hidesKeys(CodeBuilder &emit, const AttentionFacts &facts,
                      const Tile &tile, const KeyList::Chunk &chunk);

struct Outputs {
  const Rows *out;
  const HeadRows *lse;    ///< null if it is not asked for
  mlir::Value sinks;      ///< null if there are none
  mlir::Value valueScale; ///< null if it is 1
};

/// Calls `body` with offset and number of lanes of the vectors that cover
/// `elements`.
template <typename Body>
void forLanes(int64_t elements, int64_t lanes, Body body) {
  for (int64_t at = 0; at < elements; at += lanes)
    body(at, std::min(lanes, elements - at));
}

/// The softmax of one row and head so far, in logarithms to base 2.
struct RowResult {
  mlir::Value maximum, sum;
  /// Writes the output and its lse; `sums` has the weighted values.
  void store(CodeBuilder &emit, const AttentionFacts &facts,
             const Outputs &outputs, mlir::Value row, mlir::Value head,
             const Place &sums) const;
};

/// Results of parts of the keys, in the workspace.
class PartialRows {
public:
  PartialRows(CodeBuilder &emit, const AttentionFacts &facts,
              mlir::Value requests, mlir::Value parts, mlir::Value isSplit);
  /// Where the row number `row` of a tile has its maximum, its sum, and its
  /// weighted values.
  Place at(CodeBuilder &emit, mlir::Value request, mlir::Value head,
           mlir::Value part, mlir::Value row) const;
  /// Puts the parts together and writes the results.
  void merge(CodeBuilder &emit, const Requests &requests,
             const Outputs &outputs) const;

private:
  int64_t stride() const { return facts.valueChannels + 2; }
  const AttentionFacts &facts;
  mlir::Value parts, buffer;
};

/// The rows of a tile over a range of keys: the result, or if the request is
/// split a part of it.
void emitFewRows(CodeBuilder &emit, const AttentionFacts &facts,
                 const Tile &tile, mlir::Value first, mlir::Value end,
                 const Outputs &outputs, const PartialRows &partial,
                 mlir::Value part, mlir::Value isSplit);
void emitManyRows(CodeBuilder &emit, const AttentionFacts &facts,
                  const Tile &tile, mlir::Value first, mlir::Value end,
                  const Outputs &outputs);

} // namespace kvcache::cpu

#endif // KVCACHE_LIB_CONVERSION_CPU_ATTENTIONTILE_H
