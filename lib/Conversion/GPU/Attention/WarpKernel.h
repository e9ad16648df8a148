// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention by products of warps (mma.sync, from sm_80 on), for requests with
// many rows, where a chip or a layout has no use for PromptKernel.
//
// An item has 32 pairs (row, query head of the group) for each of seven
// consumer warps, 16 with more than 128 channels of values. Two tiles of 16
// rows use each fragment of keys and values twice: with one, reading them from
// shared memory would take longer than the products. An eighth warp copies rows
// of keys and values into a ring of slots; with a ninth, each thread would have
// 168 registers, which are too few.
//
//   S = Q K^T     Q and K in shared memory, the result in registers
//   O = O + P V   P is S after the softmax, in the same lanes
//
// Warps of consumers have nothing to do with each other: each copies its own
// rows of the query, leaves out tiles that these do not see, and writes its own
// results. So while one is in its softmax, others use the tensor cores.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_ATTENTION_WARPKERNEL_H
#define KVCACHE_LIB_CONVERSION_GPU_ATTENTION_WARPKERNEL_H

#include "RowCopies.h"

namespace kvcache {

struct WarpShape {
  WarpShape(const AttentionTraits &traits, int64_t sharedLimit);

  static constexpr int64_t kConsumers = 7;
  /// Segments that consumers have been told of.
  static constexpr int64_t kQueue = 2;
  static constexpr int64_t kEntryBytes = 64;
  /// Of a row: what it sees, and its number in the batch. Then the slope of
  /// ALiBi and the position.
  static constexpr int64_t kRowBytes = 16, kBiasBytes = 8;
  /// Of a slot: which tokens have a block.
  static constexpr int64_t kLiveBytes = 16;
  /// Of a warp.
  static constexpr int64_t kRangesBytes = 48;

  UnitRows rows[2];
  int64_t rowTiles; ///< of 16 rows, of a warp
  int64_t unit;     ///< keys of a tile
  int64_t slots;    ///< fewer than two: the chip has no room for it
  int64_t slotBytes;
  int64_t queryOffset, queueOffset, restOffset, rangesOffset, rowsOffset,
      biasOffset, barrierOffset, liveOffset, sharedBytes;

  int64_t threads() const { return 32 * (kConsumers + 1); }
  int64_t rowsOfWarp() const { return 16 * rowTiles; }
  int64_t columns() const { return kConsumers * rowsOfWarp(); }
  /// Words of 32 keys.
  int64_t words() const { return unit / 32; }
  /// No two of eight rows begin in the same banks.
  int64_t queryRowBytes() const { return rows[0].channels * 2 + 16; }
  int64_t queryBytes() const { return columns() * queryRowBytes(); }
  /// Four sums of each lane, of one tile of rows.
  int64_t quads() const { return rows[1].channels / 8; }
  /// Of a warp: its sums, and for each row the maximum and the sum of weights.
  int64_t shareBytes() const {
    return rowsOfWarp() * (rows[1].channels * 4 + 8);
  }
  int64_t partBytes() const { return kConsumers * shareBytes(); }
  WorkShape work() const {
    return {columns(),
            unit,
            /*phases=*/1,
            kConsumers,
            /*itemChunks=*/2,
            /*leastUnits=*/3,
            /*lightPairs=*/0,
            /*crossesHeads=*/true,
            restOffset,
            restOffset + 32};
  }

private:
  void place(const AttentionTraits &traits, int64_t sharedLimit);
};

class WarpKernel : RowCopies {
public:
  WarpKernel(KernelBuilder &k, TargetAttr gpu, const AttentionTraits &traits,
             const WarpShape &shape, const BatchParameters &batch,
             const AttentionParameters &parameters)
      : RowCopies(k, gpu, traits, shape.work(), batch, parameters),
        shape(shape) {}
  void build();

private:
  // WarpKernel.cpp
  void prepareBarriers();
  void produce();
  void publish(Val segment, llvm::function_ref<Vals()> words);
  Val fetchTiles(const Work &work, Val first, Val end, Val packed);
  void consume();
  Entry loadEntry(Val segment);
  void readThread();
  void fetchQuery(const Entry &entry);
  void writeRows(const Entry &entry);
  /// Of a warp: the keys that some of its rows see, those that all of them do,
  /// and with a mask the first own key of the request. After them, its place
  /// in the work: the end of the tiles of its segment, the segment, and at its
  /// end the place in the ring. No register holds them where sums do.
  static constexpr int64_t kEndPlace = 20, kSegmentPlace = 32, kRingPlace = 36;
  struct Ranges {
    Val first, end;
    Val commonFirst, commonEnd;
    Val firstOwn;
  };
  Ranges loadRanges();

  // WarpTile.cpp
  /// The maxima and the sums of weights of the rows of a lane, then the sums.
  int64_t rowsOfLane() const { return 2 * shape.rowTiles; }
  int64_t softmax() const { return 2 * rowsOfLane(); }
  int64_t stateSize() const {
    return softmax() + 4 * shape.rowTiles * shape.quads();
  }
  /// What is carried from tile to tile before them, in one register: the number
  /// of the tile above the place in the ring.
  static constexpr unsigned kLoop = 1;
  static constexpr int64_t kTileBit = 5;
  Vals tileStep(const Vals &state);
  Vals computeTile(Val key, Val packed, const Ranges &ranges,
                   const Vals &state);
  Vals fragmentPlaces(unsigned side, Val slot);
  Vals scores(Val slot);
  float biasScores(Val key, Vals &scores);
  Vals masked(Val key, const Vals &live, const Vals &scores);
  Vals rescaled(const Vals &scores, float scale, const Vals &state);
  Vals weights(const Vals &scores, float scale, Vals &state);
  Vals values(Val packed, const Vals &weights, const Vals &sums,
              const Vals &seen);
  /// The row of the products of a lane in a score or a sum.
  static int64_t rowOf(int64_t index, int64_t perTile) {
    return index / perTile * 2 + index % 4 / 2;
  }

  // WarpResult.cpp
  void finish(Vals state);
  mlir::Value partOf(Val block, Val slot);
  mlir::Value quadAt(mlir::Value part, int64_t number);
  mlir::Value rowAt(mlir::Value part, int64_t row);
  void writePart(const Split &split, const Vals &state);
  Val arrive(const Split &split);
  Vals merged(const Split &split);
  void store(const Vals &state);

  enum class Barrier { Full, Empty, EntryFull, EntryEmpty };
  mlir::Value barrier(Barrier which, Val place);
  mlir::Value entryAt(Val segment);
  mlir::Value liveAt(Val slot) {
    return at(shared, slot * WarpShape::kLiveBytes + shape.liveOffset);
  }
  Val wordOf(int64_t place) {
    return k.val(k.loadScalar(at(rangesPlace(), place), k.getI32Type()));
  }
  void setWord(int64_t place, Val word) {
    k.ifThen(lane == 0, [&] { k.storeScalar(word, at(rangesPlace(), place)); });
    w.syncWarp();
  }
  mlir::Value rangesPlace() {
    return at(shared, (w.rereadThreadX() >> 5) * WarpShape::kRangesBytes +
                          shape.rangesOffset);
  }
  /// A place in the ring: the slot in the last bits, above them the parity to
  /// wait for.
  static Val slotOf(Val packed) { return packed & 15; }
  /// No packed place is as large.
  static constexpr int64_t kRingEnd = 1 << kTileBit;
  Val next(Val packed);
  void wait(Barrier which, Val packed);
  /// Of a row of a warp.
  Val numberOf(Val ofWarp, Val row) {
    return ofWarp * shape.rowsOfWarp() + row;
  }
  mlir::Value rowPlace(Val number) {
    return at(shared, number * WarpShape::kRowBytes + shape.rowsOffset);
  }
  mlir::Value biasPlace(Val number) {
    return at(shared, number * WarpShape::kBiasBytes + shape.biasOffset);
  }
  /// The number of a row of this lane.
  Val ownRow(int64_t row) {
    Val thread = w.rereadThreadX();
    return numberOf(thread >> 5, ((thread >> 2) & 7) + 8 * row);
  }

  const WarpShape &shape;
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_ATTENTION_WARPKERNEL_H
