// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention by matrix products, for rows of which each request has few.
//
// Work is cut as WorkSplit.h says, into units of 16 tokens, the rows of the
// products; the pairs of an item are their columns.
//
// Producers find out what the segments are, and tell the consumers through a
// queue that also has the rows of the query: consumers wait for no number in
// global memory.
//
// Warps of a block are consumers, each with one unit of a tile of units, and
// producers, who fetch tiles of keys and values into a ring of slots in shared
// memory. The same fragments are computed from a slot whatever the cache looks
// like; how it gets there is all that a layout decides:
//
// Elements of one byte lie in a slot as they are in the cache, and become f16
// on their way into fragments: a fragment of 16 bytes has twice as many
// channels.
//
//   boxes     one copy of a tensor map for each unit, if strides are multiples
//             of 16 bytes and a unit is in one block (sm_90 and later)
//   rows      copies of 16 or 4 bytes or single elements, any layout
//
// docs/kernels/attention-gpu.md has the measurements.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ATTENTIONKERNEL_H
#define KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ATTENTIONKERNEL_H

#include "RowCopies.h"

namespace kvcache {

/// How a kernel does it.
struct AttentionShape {
  AttentionShape(const AttentionTraits &traits, bool boxes, int64_t sharedLimit,
                 int64_t keyInner, int64_t valueInner);

  int64_t elementBytes; ///< of the cache, 1 or 2
  bool boxes;
  int64_t columnTiles; ///< of 8 columns
  int64_t warps;       ///< consumers, units of a tile
  int64_t producers;   ///< warps
  int64_t slots;       ///< fewer than two: the chip has no room for it
  /// Channels that lie side by side in a slot.
  int64_t inner[2];
  int64_t channels[2]; ///< rounded up to whole fragments
  int64_t barrierOffset, liveOffset, queueOffset, queryOffset, sumOffset,
      mergeOffset, runOffset, scaleOffset, sharedBytes;
  bool hasScales; ///< of keys or values
  /// Of an item, cut by its own keys; 0: cut wherever ranges end.
  int64_t fixedParts;
  /// Whether requests with more pairs belong to another kernel.
  bool isLimited = false;

  int64_t columns() const { return 8 * columnTiles; }
  WorkShape work() const {
    return {columns(),
            kUnit,
            phases,
            warps,
            /*itemChunks=*/0,
            /*leastUnits=*/0,
            /*lightPairs=*/0,
            /*crossesHeads=*/false,
            barrierOffset + 192,
            barrierOffset + 248,
            /*hasCalls=*/true,
            /*hasPrefixes=*/false,
            fixedParts,
            isLimited ? WorkShape::Requests::WithFewPairs
                      : WorkShape::Requests::All};
  }
  int64_t threads() const { return 32 * (warps + producers); }
  UnitRows unitRows(unsigned side) const {
    return {elementBytes, channels[side], inner[side]};
  }
  int64_t unitBytes(unsigned side) const { return unitRows(side).bytes(); }
  int64_t slotBytes() const;
  /// The scales of keys, then those of values, of the tile in a slot of keys.
  int64_t scaleBytes() const { return hasScales ? 2 * sideScaleBytes() : 0; }
  int64_t sideScaleBytes() const { return warps * kUnit * 4; }
  /// Accumulators of four numbers, of all lanes: in the merge of warps and in a
  /// part.
  int64_t quads() const { return columnTiles * channels[1] / 16 * 32; }
  int64_t partBytes() const { return quads() * 32; }
  /// Of all items that several blocks share.
  int64_t allPartsBytes() const {
    int64_t parts = fixedParts ? fixedParts : 2 * phases;
    return parts * AttentionState::kMaxBlocks * partBytes();
  }
  /// Of a row of the query in shared memory: no two of 8 rows begin in the same
  /// banks.
  int64_t queryRowBytes() const { return channels[0] * 2 + 16; }
  int64_t queryBytes() const { return columns() * queryRowBytes(); }

  static constexpr int64_t kUnit = 16;
  /// Segments that consumers have been told of.
  static constexpr int64_t kQueue = 4;
  static constexpr int64_t kEntryBytes = 64;
  /// So that a single long request has work for most multiprocessors. Twice as
  /// many take longer to put together than they gain.
  static constexpr int64_t kFixedParts = 16;
  /// Where pages are shared, heads take turns, so that what is read in a turn
  /// stays in the cache of the device: how many turns.
  int64_t phases;
};

class AttentionKernel : RowCopies {
public:
  AttentionKernel(KernelBuilder &k, TargetAttr gpu,
                  const AttentionTraits &traits, const AttentionShape &shape,
                  const BatchParameters &batch,
                  const AttentionParameters &parameters);
  void build();

private:
  // AttentionKernel.cpp
  void prepareBarriers();

  // AttentionFetch.cpp
  void produce();
  void publish(const Work &work, Val first, Val count, Val place, Val parity);
  void publishSplit(const Work &work, Val count, Val place);
  void publishEnd(Vals &queue);
  void fetchQuery(const Item &item, Val place);
  /// The entries of the table for a tile, of the units or tokens of this lane.
  Val entriesOf(const Work &work, Val unit, Val end);
  Val endKeyOf(const Work &work, Val end);
  void fetchBoxes(const Work &work, Val first, Val end, Val entries,
                  Vals &ring);
  void fetchRows(const Work &work, Val first, Val end, Val entries, Vals &ring);
  /// The scales of a token of a tile, which has a number there, of both sides.
  void fetchScales(Val slot, Val number, Val isThere, Val entry, Val inBlock);

  // AttentionTile.cpp
  void consume();
  /// A segment under way: what does not change from tile to tile.
  struct Columns {
    Vals query;                 ///< fragments
    Vals first, end;            ///< of each column of this lane
    Val commonFirst, commonEnd; ///< what all columns see
    Val place;                  ///< of the segment in the queue
    Vals slope, position;       ///< of each column, f32
    Vals factor;                ///< of products; none is 1
    Vals offset; ///< what products begin with, for each column; none is 0
  };
  Columns columns(const Entry &entry, Val place);
  Vals maskedColumns(Val place, Val key);
  Vals loadQuery(Val place);
  Vals loadQueryOfBytes(Val place, Vals &factor);
  void toHalves(llvm::MutableArrayRef<Val> words, Vals &factor);
  llvm::SmallVector<Vals> keyFragments(mlir::Value source);
  llvm::SmallVector<Vals> valueFragments(mlir::Value source);
  Vals tiles(const Columns &columns, Val first, Val end,
             llvm::ArrayRef<Val> ring);
  Vals tileStep(const Columns &columns, Val unit, Val end, const Vals &state);
  Vals scores(Val slot, const Columns &columns);
  Vals weigh(const Columns &columns, llvm::ArrayRef<Val> scores, Val unit,
             llvm::ArrayRef<Val> keyScales);
  /// Those of the two tokens of a lane; none if the side has none.
  Vals loadScales(Val slot, unsigned side);
  Vals values(Val slot, llvm::ArrayRef<Val> weights, llvm::ArrayRef<Val> sums,
              llvm::ArrayRef<Val> masks);

  // AttentionResult.cpp
  Val pairBits(const Entry &entry);
  Val usedQuads(Val pairBits);
  Val quadOf(Val index, Val pairBits);
  Val arrivals(Val pairBits);
  mlir::Value counter(const Entry &entry, Val firstBlock);
  void finishSegment(const Entry &entry, const Split &split,
                     llvm::ArrayRef<Val> state);
  /// What the warps of the block have of some keys, put together: of a quad,
  /// maxima and sums of two columns, and four numbers.
  struct Merged {
    Val index;      ///< of the quad among all
    Val columnTile; ///< and what it is in its tile
    Val quad;
    Val most[2], sum[2];
    Vals numbers;
  };
  void mergeWarps(const Entry &entry, llvm::ArrayRef<Val> state,
                  llvm::function_ref<void(const Merged &)> use);
  /// Numbers by their sum, and the logarithm of it.
  struct Shares {
    Vals numbers;
    Val logarithm[2];
  };
  Shares sharesOf(const Merged &merged);
  Val weightOf(Val logarithm, Val maximum);
  void writePart(const Shares &shares, mlir::Value part, Val index);
  void tellPart(const Entry &entry, Val firstBlock);
  void waitForParts(const Entry &entry, Val firstBlock, Val parts);
  /// Parts that a lane has in flight.
  static constexpr int64_t kPartsInFlight = 4;
  llvm::SmallVector<Vals> takeParts(llvm::ArrayRef<mlir::Value> places);
  void combine(const Entry &entry, const Split &split);
  void combineQuad(const Entry &entry, const Split &split, Val columnTile,
                   Val quad, Val list, Val lanes, Val isThere);
  void store(const Entry &entry, Val quad, Val column, Val maximum0,
             Val maximum1, Val sum0, Val sum1, llvm::ArrayRef<Val> numbers);
  Val partAddress(Val block, Val slot, Val head);

  // AttentionParts.cpp
  Vals consumeParts(const Entry &entry, const Columns &columns,
                    const FixedSplit &split, llvm::ArrayRef<Val> ring);
  void finishPart(const Entry &entry, const FixedSplit &split, Val number,
                  Val isLast, llvm::ArrayRef<Val> state);
  Vals foldPart(llvm::ArrayRef<Val> sofar, const Shares &part);
  void combineParts(const Entry &entry, const FixedSplit &split);
  mlir::Value fixedPart(Val firstBlock, Val head, Val number);

  mlir::Value fullBarrier(Val slot) {
    return at(shared, slot * 8 + shape.barrierOffset);
  }
  mlir::Value emptyBarrier(Val slot) {
    return at(shared, slot * 8 + (shape.barrierOffset + 8 * shape.slots));
  }
  enum class QueueBarrier { Full, Empty, Split };
  mlir::Value queueBarrier(Val place, QueueBarrier which) {
    int64_t first = 2 * shape.slots + shape.kQueue * int64_t(which);
    return at(shared, place * 8 + (shape.barrierOffset + 8 * first));
  }
  int64_t numColumns() const { return 2 * shape.columnTiles; } ///< of a lane

  const AttentionShape &shape;
  mlir::Type productType; ///< f16 or bf16
  /// Of elements of a byte: the f16 of a word are those of every other one.
  bool areAlternate;
  /// They are (element + halvesOffset) * halvesUnit.
  float halvesOffset, halvesUnit;
  /// Of that offset as all halves of a fragment, or its negative.
  Vals offsetFragment(bool isNegative);
  unsigned numOuts() const { return shape.columnTiles * shape.channels[1] / 4; }
  Vals keyOffsets, valueOffsets; ///< of fragments in a slot
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ATTENTIONKERNEL_H
