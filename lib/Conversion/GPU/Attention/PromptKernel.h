// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention by products of warpgroups (sm_90a), for requests with many rows.
//
// An item has 64 pairs (row, query head of the group) for each consumer
// warpgroup, which are the rows of its products; a unit is 128 keys, their
// columns. A thread block has three consumer warpgroups (two, and 64 keys, with
// more than 128 channels of values) and one of producers: one warp of these
// fetches tiles of keys and one those of values into a ring of slots, and one
// tells consumers of the next segment and fetches its rows of the query; all by
// boxes of tensor maps.
//
// Tokens in a slot are in groups of eight, of 128 bytes for each 64 channels.
// Where a layout allows it, all channels of a group lie side by side, and a
// page is one box.
//
// Elements of bytes come into places of their own, as they are, and two warps
// of producers write them to the slots as f16; rows of the query become f16
// where they are, each by a power of two.
//
//   S = Q K^T     both in shared memory, the result in registers
//   O = O + P V   P is S after the softmax, in the same registers
//
// An item with few pairs belongs to all consumers: each takes tiles in turn,
// and the first one puts their sums together.
//
// Nothing is pipelined inside a warpgroup: one after the other computes its
// scores, and while it is in its softmax, others use the tensor cores. Waits
// and loads are put where a product runs, and no maximum is looked for where
// the one of the tiles before will do. docs/kernels/attention-gpu.md has the
// measurements.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_ATTENTION_PROMPTKERNEL_H
#define KVCACHE_LIB_CONVERSION_GPU_ATTENTION_PROMPTKERNEL_H

#include "WorkSplit.h"

#include "kvcache/Layout/Access.h"

namespace kvcache {

struct PromptShape {
  /// A map has no more than five dimensions: boxes have all channels of a page
  /// if heads are one dimension with something else, and 64 of them otherwise.
  PromptShape(const AttentionTraits &traits, int64_t sharedLimit,
              HeadNeighbor keys, HeadNeighbor values);
  /// The tokens of a page in a tile of `unit` keys.
  static int64_t boxTokensOf(const AttentionTraits &traits);

  /// Channels of a box, and their bytes.
  static constexpr int64_t kInner = 64, kRowBytes = 2 * kInner;
  /// Segments that consumers have been told of.
  static constexpr int64_t kQueue = 2;
  static constexpr int64_t kEntryBytes = 64;
  /// Of a warp: what its rows see of the segment, and with a mask which rows
  /// they are.
  static int64_t rangesBytes(const AttentionTraits &traits) {
    return traits.hasMask ? 64 : 48;
  }
  /// 16 for each lane.
  static constexpr int64_t kBlockBytes = 512;

  /// Whether there is a kernel for an op.
  static bool fits(const AttentionTraits &traits);

  int64_t channels[2];
  /// Three warpgroups of consumers, or two with more registers.
  int64_t warpgroups;
  /// Of a warpgroup in each tile. With three of them it is enough that they do
  /// not compute scores at the same time; their sums fill the gaps.
  int64_t turns;
  int64_t rows;    ///< of the products
  int64_t unit;    ///< keys of a tile
  int64_t columns; ///< pairs of an item: all heads of its rows
  /// The query comes in so many parts: one for each warpgroup, which gives it
  /// back by itself, where rows are not cut by that.
  int64_t queryParts;
  HeadNeighbor neighbor[2];
  int64_t boxTokens; ///< of a page in a tile
  /// Items of so few pairs belong to all warpgroups, which take tiles in turn;
  /// 0: none.
  int64_t fewPairs = 32;
  bool hasPrefixes; ///< whether keys that requests share are read once
  bool isInvariant; ///< items are not cut, whatever the batch has
  /// Whether requests with few pairs belong to the other kernel.
  bool isLimited = false;
  int64_t slots; ///< fewer than two: the chip has no room for it
  int64_t slotBytes, queryBytes;
  bool ofBytes;   ///< elements of the cache
  bool hasScales; ///< of keys or values
  /// Of a box of bytes: channels side by side, with the chunks of a token
  /// permuted as a tensor map does it.
  int64_t rawInner[2] = {0, 0};
  /// One for keys and one for values.
  static constexpr int64_t kRawSlots = 2;
  int64_t rawSlotBytes;
  /// Of the keys of a tile: their scales and those of their values, as they are
  /// in the cache, and what scores and sums of weights take of them.
  int64_t rawScaleBytes() const { return hasScales ? 2 * unit * 4 : 0; }
  int64_t scaleBytes() const { return hasScales ? 3 * unit * 4 : 0; }
  int64_t rawScaleOffset, scaleOffset;
  int64_t rawOffset, factorOffset, queryOffset, queueOffset, deadOffset,
      flagOffset, barrierOffset, restOffset, rangesOffset, rowsOffset,
      totalsOffset, maskOffset, sharedBytes;

  /// Of a lane: what its two rows see, and the slopes and positions of ALiBi.
  static int64_t rowBytes(const AttentionTraits &traits) {
    return traits.hasAlibi ? 32 : 16;
  }

  int64_t consumers() const { return 4 * warpgroups; }
  /// Pairs of a part of the query.
  int64_t queryColumns() const { return columns / queryParts; }
  int64_t threads() const { return 128 * (warpgroups + 1); }
  /// Of a thread: all warpgroups share 64 K registers.
  int64_t consumerRegisters() const { return warpgroups == 3 ? 160 : 232; }
  int64_t producerRegisters() const { return warpgroups == 3 ? 32 : 40; }

  /// Of up to 64 channels; what the last one has beyond the channels of the
  /// cache are zeros.
  int64_t parts(unsigned side) const {
    return llvm::divideCeil(channels[side], kInner);
  }
  /// Whether a dimension of the map can be the parts.
  bool isWhole(unsigned side) const { return channels[side] % kInner == 0; }
  /// Products of 16 channels each that make a score.
  int64_t steps() const { return llvm::divideCeil(channels[0], 16); }
  /// Bytes from a group of tokens to the next one, and from a part of the
  /// channels to the next one.
  int64_t groupStride(unsigned side) const {
    return neighbor[side] == HeadNeighbor::None ? 1024 : 1024 * parts(side);
  }
  int64_t partStride(unsigned side) const {
    return neighbor[side] == HeadNeighbor::None ? unit * kRowBytes : 1024;
  }
  int64_t boxes() const { return unit / boxTokens; }
  /// Four sums of each thread.
  int64_t quads() const { return channels[1] / 8; }
  /// Of a token in a box of bytes.
  int64_t rawChunks(unsigned side) const { return channels[side] / 16; }
  /// Where an item has few pairs, most rows of the query are not read: so many
  /// blocks of them are free in each part of the channels, and the sums of a
  /// warpgroup take so many.
  int64_t spareBlocks() const { return (rows - 64) * kRowBytes / kBlockBytes; }
  int64_t blocksOfSums() const { return fewWarps() * quads(); }
  /// The warps of a warpgroup that have rows of such an item.
  int64_t fewWarps() const { return fewPairs / 16; }
  /// Of a warpgroup: its sums, and for each row the maximum and the sum of
  /// weights.
  int64_t shareBytes() const { return 64 * channels[1] * 4 + 64 * 8; }
  int64_t partBytes() const { return warpgroups * shareBytes(); }
  /// As measured: 4,600 cycles besides 3,600 for a unit with 128 channels,
  /// which is three chunks; units of other shapes take less.
  int64_t itemChunks() const {
    return warpgroups == 3 && channels[1] > kInner ? 4 : 6;
  }
  WorkShape work() const {
    return {columns, unit,
            /*phases=*/1, consumers(), itemChunks(),
            /*leastUnits=*/3,
            // Of one warpgroup.
            /*lightPairs=*/rows / warpgroups,
            /*crossesHeads=*/true, restOffset, restOffset + 32,
            /*hasCalls=*/false, hasPrefixes,
            /*fixedParts=*/isInvariant,
            isLimited ? WorkShape::Requests::WithMorePairs
                      : WorkShape::Requests::All};
  }

  // With prefixes, the rows of requests that have one, and the prefix, leave
  // states: weighted sums, the maximum and the sum of weights of each pair.
  // Windows of up to 64 pairs of a prefix, those of a warpgroup, count which of
  // them are there.
  int64_t stateBytes() const { return (channels[1] + 4) * 4; }
  static constexpr int64_t kWindowBytes = 16;
  /// Of a row, in the workspace.
  int64_t prefixBytes(int64_t queryHeads) const {
    return queryHeads * (2 * stateBytes() + kWindowBytes);
  }
};

class PromptKernel : WorkSplit {
public:
  PromptKernel(KernelBuilder &k, TargetAttr gpu, const AttentionTraits &traits,
               const PromptShape &shape, const BatchParameters &batch,
               const AttentionParameters &parameters)
      : WorkSplit(k, gpu, traits, shape.work(), batch, parameters),
        shape(shape) {}
  void build();

private:
  // Producers.
  void produce();
  void fetch(Val role, const Vals &first);
  Val fetchSegment(Val role, const Work &work, Val first, Val end, Val count,
                   Val ring, Val segment);
  void publish(Val segment, llvm::function_ref<Vals()> words);
  /// Of the queue.
  mlir::Value entryAt(Val segment);
  void fetchQuery(const Item &item, Val parity);
  Val entryOf(const Work &work, Val tableRow, Val unit);
  /// Loads the box of a lane, of the tile with the key of the lane.
  struct Boxes {
    Val isBox, entry, dead;
    Val token; ///< in its page
  };
  Boxes boxesOf(const Work &work, Val unit, Val entry);
  /// What it returns is the place in the ring after the tiles.
  Val fetchTiles(unsigned side, const Work &work, Val first, Val end, Val ring);

  // PromptBytes.cpp
  Val fetchBytes(const Work &work, Val first, Val end, Val raw);
  void endBytes(Val raw);
  /// PromptScales.cpp: the scales of a tile, whose boxes lanes have.
  void fetchScales(const Boxes &boxes, Val head);
  void convertScales(Val slot);
  void forTokens(llvm::function_ref<void(Val)> body);
  enum class ScaleOf { Key, ValueLogarithm, ValueInverse };
  /// Of the two columns of a lane in eight.
  Vals loadScales(Val slot, ScaleOf which, int64_t eight);
  void convertTiles(unsigned side);
  void convertTile(unsigned side, Val slot);
  /// Four elements in their sequence, as they are.
  Vals orderedHalvesOf(Val word);
  /// Of bytes: which boxes of keys have no block, or that there are no more.
  mlir::Value rawWord(Val rawSlot) {
    return at(shared, rawSlot * 4 + (shape.deadOffset + 4 * shape.slots));
  }
  static constexpr int64_t kNoMore = -1;
  void convertQuery(Val warpgroup, Val head);
  void prepareQuery(Val head);

  // Consumers.
  void consume();
  /// The last and the first tile of the segment that the warpgroup computes, as
  /// their first keys; keys outside of which they may be anything; those that
  /// all rows of the warp see. Then the tile before the segment, and its
  /// number. Then whether the item has few pairs, and whether half of its last
  /// tile is enough.
  static constexpr int64_t kTiles = 0, kSeen = 1, kCommon = 2, kSegment = 3,
                           kKind = 4;
  struct Range {
    Val first, end;
  };
  Limits rowLimits(const Entry &entry, Val row);
  void writeRows(const Entry &entry, Val segment);
  void waitForQuery(Val parity);
  Range range(int64_t which);
  mlir::Value rangesPlace() {
    return at(shared,
              (w.rereadThreadX() >> 5) * PromptShape::rangesBytes(traits) +
                  shape.rangesOffset);
  }
  void readThread();
  mlir::Value rowPlace() {
    return at(shared, w.rereadThreadX() * PromptShape::rowBytes(traits) +
                          shape.rowsOffset);
  }
  /// Whether the item has few pairs.
  Val isFew(const Entry &entry);
  /// The number of a row of a lane in the products, and the pair that it is.
  Val rowOf(const Entry &entry, int64_t row);
  Val firstRowOfWarp(const Entry &entry);
  Val pairOf(const Entry &entry, int64_t row);
  Val isThere(const Entry &entry, int64_t row);
  /// The maximum and the sum of weights of both rows, then the sums.
  static constexpr unsigned kSoftmax = 4;
  /// What is carried from tile to tile before them: the first key, the place in
  /// the ring, and the first key of the last one to come.
  static constexpr unsigned kLoop = 3;
  struct Ring {
    Val slot, parity;
  };
  /// No packed place is as large.
  static constexpr int64_t kRingEnd = 32;
  static Ring ringOf(Val packed);
  Val nextInRing(Val packed) { return nextOf(packed, shape.slots); }
  Val nextOf(Val packed, int64_t slots);
  /// Tiles of an item with few pairs, and one of which half is enough, are code
  /// of their own.
  enum class Tile { Whole, Half, Few };
  Vals tileStep(Tile kind, const Vals &state);
  int64_t keysOf(Tile kind) const {
    return kind == Tile::Half ? shape.unit / 2 : shape.unit;
  }
  Val skipTiles(bool isFew, Val packed, Val from, Val to);
  void waitFull(Val packed);
  /// Keys and the place in the ring are read again.
  Vals weighed(Tile kind, Val &key, Val &packed, Vals softmax);
  Val deadOf(Val slot);
  Vals scores(Tile kind, Val slot);
  Val firstRow(bool isFew);
  Vals scoresOfWarp(bool isFew, Val slot);
  Vals maskedByLimits(Val key, const Vals &scores);
  Vals masked(Val key, Val dead, const Vals &scores, const Vals &bits);
  void clearUnseen(Tile kind, Val slot, Val key);

  void clearToken(Val slot, Val own, Val token);

  // PromptMask.cpp
  /// The rows of a warp, as pairs of their request.
  struct MaskRows {
    Val pairOfItem; ///< the first one
    Val firstOwn;   ///< key
    Val start;      ///< the first row of the request
    Val pair, last; ///< the first one of the warp, and the last of the request
  };
  MaskRows maskRows();
  Val seenBits(const MaskRows &rows, Val row, const Range &limits, Val key);
  void tellWarpgroup(Val seen);
  Vals seenByWarpgroup();
  Vals seenByLane(Val tile);
  Vals seenByItem(Val tile);
  Vals maskedByBits(const Vals &bits, const Vals &scores);
  void clearHidden(Tile kind, Val slot, Val tile);
  Val descriptor(Val low, int64_t stride);
  /// What scores are multiplied by to be logarithms to base 2: the same for
  /// all, or a number for each of the two rows of a lane.
  struct Scale {
    float all = 1;
    Val ofRow[2] = {};
    Val times(Val x, int64_t row) const {
      return ofRow[row] ? x * ofRow[row] : all == 1 ? x : x * all;
    }
  };
  Scale biasScores(bool isFew, Val first, Val slot, Vals &scores);
  void scaleScores(Val slot, const Val (&factors)[2], Vals &scores);
  Vals rescaled(const Vals &scores, const Scale &scale, const Vals &softmax);
  /// With scales of values, the sums of weights as they are come last.
  Vals weights(const Vals &scores, const Scale &scale, const Vals &softmax,
               Val packed);
  /// Of products.
  mlir::Type productType() const {
    return shape.ofBytes ? mlir::Type(k.getF16Type()) : traits.keyType;
  }
  /// Whether rows of the query have factors.
  bool hasFactors() const {
    return shape.ofBytes && (traits.queryType.isBF16() || traits.hasKeyFactor);
  }
  void finish(const Entry &entry, const Split &split, Vals state);
  mlir::Value spareBlock(Val number);
  mlir::Value totalsOf(Val warpgroup);
  void giveSums(const Vals &state);
  Vals takeSums(const Vals &state);
  void writePart(const Split &split, const Vals &state);
  Val arrive(const Split &split);
  /// What one thread of the warpgroup finds out, told to all.
  Val askOneThread(llvm::function_ref<Val()> find);
  Vals merged(const Split &split);
  mlir::Value quadAt(mlir::Value part, int64_t quad);
  mlir::Value rowAt(mlir::Value part, int64_t row);
  struct Pair {
    Val isThere, row, queryHead;
  };
  Pair pairAt(const Entry &entry, int64_t row);
  /// `pairs`: the two of a lane.
  void store(llvm::function_ref<Pair(int64_t)> pairs, const Vals &state);
  /// The first row of a group, the first pair of a window and how many it has.
  struct Window {
    Val start, first, count;
  };
  Pair pairAt(const Window &window, int64_t row);
  mlir::Value windowPlace(const Window &window);
  mlir::Value statePlace(Val ofPrefix, const Pair &pair);
  void leaveState(const Entry &entry, const Vals &state);
  void writeState(const Entry &entry, const Vals &state);
  Val arriveAtWindow(const Window &window, Val change);
  Vals joinedStates(const Window &window);
  mlir::Value partOf(Val block, Val slot);
  mlir::Value counter(const Split &split);

  enum class Barrier {
    Full,
    Empty,
    EntryFull,
    EntryEmpty,
    QueryFull,
    QueryEmpty,
    RawFull,
    RawEmpty
  };
  mlir::Value barrier(Barrier which, Val place);
  mlir::Value barrier(Barrier which);
  /// Of the part of the query that the warpgroup reads.
  mlir::Value queryBarrier(Barrier which);
  void prepareBarriers();
  /// Of one warpgroup.
  void barWarpgroup();
  Val warpgroupBarrier();
  /// Of the warps that have the same rows of an item with few pairs.
  Val sumsBarrier() { return (warp & 3) + (2 + shape.warpgroups); }
  /// Warpgroups compute their scores in turns, and two of them their sums too.
  Val turnBarrier(Val warpgroup) { return warpgroup + (6 + shape.warpgroups); }
  void takeTurn();
  void passTurn();
  void giveBack(mlir::Value barrier);

  const PromptShape &shape;
  Val warpgroup;
  Val sharedUnits; ///< the address of shared memory, in 16 bytes
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_ATTENTION_PROMPTKERNEL_H
