// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention by matrix products, for rows of which each request has few.
//
//   item      up to `columns` pairs (row, query head of the group) of a
//   request,
//             and one head of the cache: the columns of the products
//   unit      16 tokens: the rows of the products
//   chunk     a unit, or as many as make the number of all chunks small enough
//             for 32 bits: what work is counted in
//   work      all units of all items; each block of threads has one range of
//             it, of equal length, which it works out from the lengths itself
//   segment   what a block has of one item
//   part      the result of a segment, where an item is in several blocks
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
//   boxes     one copy of a tensor map for each unit, if strides are multiples
//             of 16 bytes and a unit is in one block (sm_90 and later)
//   rows      copies of 16 or 4 bytes or single elements, any layout
//
// docs/kernels/attention-gpu.md has the measurements.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ATTENTIONKERNEL_H
#define KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ATTENTIONKERNEL_H

#include "../Requests.h"
#include "../Target/NvvmOps.h"
#include "kvcache/Runtime/kv_abi.h"

namespace kvcache {

/// What an op says, before there is a schedule.
struct AttentionTraits {
  explicit AttentionTraits(AttentionOp op);

  mlir::Type keyType, valueType, queryType, outType;
  int64_t heads, queryHeads, group;
  int64_t keyChannels, valueChannels;
  int64_t tokens; ///< in a block of the cache
  bool causal, hasAlibi, hasSinks, hasLse;
  std::optional<int64_t> window;
  std::optional<float> softcap;
  float scale;
};

/// An axis of a cache as strides: of the whole, or of an inner and an outer
/// part.
struct AxisStrides {
  StrideSource outer, inner;
  int64_t cut = 0; ///< extent of the inner part; 0: there is none
};

/// Keys or values, as parameters of a kernel.
struct AttentionSide {
  unsigned pointer;
  StrideSource block, token;
  AxisStrides head, channel;
  unsigned map = 0;    ///< with boxes
  bool isWide = false; ///< with rows: all copies are of 16 bytes
  unsigned width = 0;  ///< if not: their bytes, 16, 4 or 2
};

struct AttentionParameters {
  unsigned query, out, lse, alibi, sinks, state, parts, blocks;
  unsigned chunkBits; ///< units of a chunk, as a power of two
  /// 2^32 by the number of blocks of a head, also where heads take turns.
  unsigned scale, sharedScale;
  StrideSource queryRow, outRow, lseRow;
  int64_t queryAlign;
  AttentionSide sides[2];
};

/// How a kernel does it.
struct AttentionShape {
  AttentionShape(const AttentionTraits &traits, bool boxes, int64_t sharedLimit,
                 int64_t keyInner, int64_t valueInner);

  bool boxes;
  int64_t columnTiles; ///< of 8 columns
  int64_t warps;       ///< consumers, units of a tile
  int64_t producers;   ///< warps
  int64_t slots;       ///< fewer than two: the chip has no room for it
  /// Channels that lie side by side in a slot.
  int64_t inner[2];
  int64_t channels[2]; ///< rounded up to whole fragments
  int64_t barrierOffset, liveOffset, queueOffset, queryOffset, sumOffset,
      mergeOffset, sharedBytes;

  int64_t columns() const { return 8 * columnTiles; }
  int64_t threads() const { return 32 * (warps + producers); }
  int64_t unitBytes(unsigned side) const { return kUnit * 2 * channels[side]; }
  int64_t slotBytes() const;
  /// Accumulators of four numbers, of all lanes: in the merge of warps and in a
  /// part.
  int64_t quads() const { return columnTiles * channels[1] / 16 * 32; }
  int64_t partBytes() const { return quads() * 32; }
  /// Of a row of the query in shared memory: no two of 8 rows begin in the same
  /// banks.
  int64_t queryRowBytes() const { return channels[0] * 2 + 16; }
  int64_t queryBytes() const { return columns() * queryRowBytes(); }

  static constexpr int64_t kUnit = 16;
  /// Segments that consumers have been told of.
  static constexpr int64_t kQueue = 4;
  static constexpr int64_t kEntryBytes = 64;
  /// Where pages are shared, heads take turns, so that what is read in a turn
  /// stays in the cache of the device: how many turns.
  int64_t phases;
};

/// What blocks of threads keep from one launch to the next, at the start of the
/// workspace. All of it is zero at first. From the first launch on a mark tells
/// it from anything else: without it, numbers that someone wrote there would
/// pass for the number of a launch, and old parts for those of this launch.
struct AttentionState {
  static constexpr int64_t kMaxBlocks = 160;
  static constexpr int64_t kMaxPhases = 4;
  /// Each block adds its share when it ends, and a launch 2^12 in all.
  static constexpr int64_t kLaunchBits = 12;
  static constexpr int64_t kFinished = 0;
  static constexpr int64_t kMark = 8;
  static constexpr int64_t kMarkBits = 0x4B5653746174652E;
  static constexpr int64_t kRunning = 256;
  static constexpr int64_t kCounters = kRunning + 4 * kMaxBlocks;
  /// Two for each block and phase, of launches in turn.
  static constexpr int64_t kMaxCounters = kMaxPhases * kMaxBlocks;
  static constexpr int64_t kBytes =
      (kCounters + 2 * 4 * kMaxCounters + 255) / 256 * 256;
  static_assert(kBytes <= KV_WORKSPACE_STATE_BYTES);
};

class AttentionKernel {
public:
  AttentionKernel(KernelBuilder &k, TargetAttr gpu,
                  const AttentionTraits &traits, const AttentionShape &shape,
                  const BatchParameters &batch,
                  const AttentionParameters &parameters);
  void build();

private:
  /// An item, and how many chunks all items before it have.
  struct Item {
    Val request, tile;
    Val start, end; ///< its rows
    Val length;
    Val first, units; ///< of its keys
    Val before;
  };
  /// The part of the work of a block that is left.
  struct Work {
    Item item;
    Val done; ///< chunks of the item that belong to another block
    Val left;
  };
  static Vals flat(const Item &item);
  static Vals flat(const Work &work);
  static Item item(llvm::ArrayRef<Val> numbers);
  static Work work(llvm::ArrayRef<Val> numbers);
  static constexpr unsigned kItem = 8, kWork = 10;

  /// The keys that a row sees: from `first` to before `end`.
  struct Limits {
    Val first, end;
    Val position; ///< only as far as an i32 goes
  };

  // AttentionKernel.cpp
  void prepareBarriers();
  void beginLaunch();
  /// Whether the state begins as launches leave it, or is still zero.
  Val isState(llvm::ArrayRef<Val> words);
  /// Of the number of the launch.
  Val parity() { return (tag & 1) ^ 1; }
  void endLaunch();

  // AttentionWork.cpp
  Val loadWithin(const IntegerList &list, Val index, Val most);
  Val loadStart(Val index);
  Val loadLength(Val request);
  Limits limits(Val row, Val end, Val length);
  Val tiles(Val start, Val end);
  void measure(Item &item);
  Item nextItem(const Item &item);
  /// Requests in turns of 32: the start, the next one and the length of that
  /// of a lane.
  Vals loadRequests(Val turn);
  /// The request of a lane: its first item, and the chunks of all of them.
  struct Lane {
    Item item;
    Val chunks, hasEmpty, keys;
    Val largest; ///< start of this turn
  };
  /// `largest` is the one before.
  Lane measureLane(Val turn, llvm::ArrayRef<Val> loaded, Val largest);
  /// What the turns behind the first one have: chunks, the largest start, what
  /// a lane has of empty items and of keys, and the first two of those before
  /// the turns that a lane stands for, `group` of them each.
  struct Later {
    Val turns, group;
    Val chunks, largest, hasEmpty, keys;
    Val chunksBefore, largestBefore;
  };
  static constexpr unsigned kLater = 8;
  Later measureLater();
  Vals measureTurns(Val turns, Val group);
  void share(const Vals &loaded, const Later &later);
  Vals findTurn(const Later &later, Val first, Val largest);
  /// Of the lanes up to each.
  Val sumUpTo(Val value);
  Vals firstWork();
  /// A segment in the queue. One without units is the end.
  struct Entry {
    Val count, first;
    Val tile, start, end, length;
    Val head, block;
  };
  static constexpr unsigned kEntry = 8;
  /// Who else has a part of its item; told later, as it takes divisions.
  struct Split {
    Val isSplit, firstBlock, parts, firstSlot, readers;
    Val isShort; ///< no block has more than a few units
  };
  static constexpr unsigned kSplit = 6;
  static Vals flat(const Entry &entry);
  static Entry entry(llvm::ArrayRef<Val> numbers);
  /// After a segment of `count` chunks; the first number is whether there is
  /// more.
  Val advance(Work &work, Val count);
  Val chunks(const Item &item) {
    return (item.units + ((k.i32(1) << chunkBits) - 1)) >> chunkBits;
  }
  Val rangeStart(Val block);
  Val owner(Val chunk);
  /// Rows of no request are before `first` and from `last` on.
  void clearEmptyRows(Val hasEmpty, Val first, Val last);
  void clearRequest(Val request, Val start,
                    llvm::function_ref<void(Val, Val, Val)> clear);

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
  /// 32 tokens, each at the bytes that a lane has.
  void copyTokens(unsigned side, Val slot, mlir::Value base, Val bytes,
                  Val there);
  Val axisBytes(const AxisStrides &axis, Val index);
  void prefetchTable();
  Val tableEntry(Val request, Val index, Val isThere);
  Val blockOf(Val entry, Val isThere);

  // AttentionTile.cpp
  void consume();
  void release(mlir::Value barrier);
  /// A segment under way: what does not change from tile to tile.
  struct Columns {
    Vals query;                 ///< fragments
    Vals first, end;            ///< of each column of this lane
    Val commonFirst, commonEnd; ///< what all columns see
    Vals slope, position;       ///< of each column, f32
  };
  Columns columns(const Entry &entry, Val place);
  Vals tileStep(const Columns &columns, Val unit, Val end, const Vals &state);
  Vals scores(Val slot, const Columns &columns);
  Vals weigh(const Columns &columns, llvm::ArrayRef<Val> scores, Val unit);
  Vals values(Val slot, llvm::ArrayRef<Val> weights, llvm::ArrayRef<Val> sums,
              llvm::ArrayRef<Val> masks);
  Vals fragmentOffsets(unsigned side, Val token, Val chunk);
  int64_t fragmentStep(unsigned side, int64_t step) const;

  // AttentionResult.cpp
  Val pairBits(const Entry &entry);
  Val usedQuads(Val pairBits);
  Val quadOf(Val index, Val pairBits);
  Val arrivals(Val pairBits);
  mlir::Value counter(const Entry &entry, const Split &split);
  void finishSegment(const Entry &entry, const Split &split,
                     llvm::ArrayRef<Val> state);
  void combine(const Entry &entry, const Split &split);
  void combineQuad(const Entry &entry, const Split &split, Val columnTile,
                   Val quad, Val list, Val lanes, Val isThere);
  void store(const Entry &entry, Val quad, Val column, Val maximum0,
             Val maximum1, Val sum0, Val sum1, llvm::ArrayRef<Val> numbers);
  Val partAddress(Val block, Val slot, Val head);

  Val load32(unsigned pointer, Val index);
  mlir::Value at(mlir::Value pointer, Val bytes) {
    return k.byteOffset(pointer, bytes);
  }
  mlir::Value at(mlir::Value pointer, int64_t bytes) {
    return bytes ? k.byteOffset(pointer, k.i32(bytes)) : pointer;
  }
  /// What is left to do behind all segments: the rows that are in no item, and
  /// heads. Where a number is not needed for long, it is not kept.
  struct Rest {
    Val hasEmpty, firstRow, lastRow;
    Val firstHead, headStep;
  };
  mlir::Value restPlace() { return at(shared, shape.barrierOffset + 192); }
  mlir::Value failedFlag() { return at(shared, shape.barrierOffset + 248); }
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
  /// The next slot of a ring, and the parity to wait for there.
  void step(Val &slot, Val &parity, int64_t slots);
  int64_t numColumns() const { return 2 * shape.columnTiles; } ///< of a lane

  KernelBuilder &k;
  NvvmOps w;
  const AttentionTraits &traits;
  const AttentionShape &shape;
  const BatchParameters &batch;
  const AttentionParameters &parameters;

  mlir::Value shared;
  Val thread, lane, warp;
  /// The head of the turn, the number among the blocks that have it, and how
  /// many those are.
  Val head, block, blocks;
  Val rows, requests, room;
  Val tag;                 ///< of this launch; consumers know it
  Val rangeChunks, longer; ///< chunks of a range; so many have one more
  Val hasWork, rangeFirst, rangeEnd;
  Val chunkBits;
  Item startItem;
  Val isShared, headStep;        ///< heads take turns; the own ones
  Vals keyOffsets, valueOffsets; ///< of fragments in a slot
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_ATTENTION_ATTENTIONKERNEL_H
