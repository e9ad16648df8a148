// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which part of an attention a thread block computes, whatever the schedule.
//
//   item      up to `columns` pairs (row, query head of the group) of a
//             request, and one head of the cache
//   unit      keys that are computed together
//   chunk     what work is counted in: a unit, or as many as make the number
//             of all chunks small enough for 32 bits; where some take longer,
//             a part of one
//   work      all units of all items; each block has one range of it, of equal
//             length but for ends that move to that of an item, which it
//             computes from the lengths itself
//   segment   the part of an item that one block has
//   part      the result of a segment, if several blocks share an item; of
//             batch invariant attention, a share of the keys of an item whose
//             ends follow from these alone, and ranges are rounded to them
//   prefix    keys that several requests begin with, which are an item of all
//             their rows; the items of these requests begin after them
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_ATTENTION_WORKSPLIT_H
#define KVCACHE_LIB_CONVERSION_GPU_ATTENTION_WORKSPLIT_H

#include "../Requests.h"
#include "../RowShape.h"
#include "../Target/NvvmOps.h"
#include "MaskBuffer.h"
#include "kvcache/Runtime/kv_abi.h"

namespace kvcache {

/// Static properties of the op, independent of the schedule.
struct AttentionTraits {
  explicit AttentionTraits(AttentionOp op);

  mlir::Type keyType, valueType, queryType, outType;
  int64_t heads, queryHeads, group;
  int64_t keyChannels, valueChannels;
  int64_t tokens; ///< in a block of the cache
  bool hasAlibi, hasSinks, hasMask, hasLse, hasValueScale;
  bool hasPrefixes; ///< and all rows see all keys of them
  bool isInvariant; ///< requests do not change each other's bits
  bool hasKeyScales, hasValueScales; ///< one for each token and head
  bool hasKeyFactor, hasValueFactor; ///< one for each head, or for all
  /// How far ahead of its position, and how far behind it, a row sees keys.
  std::optional<int64_t> ahead, window;
  std::optional<float> softcap;
  float scale;

  bool hasScales() const { return hasKeyScales || hasValueScales; }
};

/// The logarithm of the scale of a value, to base 2. A maximum of scores with
/// it keeps weights with it within f16; what is beyond these limits is no
/// scale.
inline Val logarithmOfScale(const TargetOps &w, Val scale) {
  constexpr double kLeast = -80, kMost = 100;
  return max(min(w.lg2(scale), kMost), kLeast);
}

/// An axis of a cache as strides: of the whole, or of an inner and an outer
/// part.
struct AxisStrides {
  StrideSource outer, inner;
  int64_t cut = 0; ///< extent of the inner part; 0: there is none
};

/// The scales of keys or values, as parameters of a kernel.
struct AttentionScales {
  unsigned pointer;
  StrideSource block, token;
  AxisStrides head;
};

/// Keys or values, as parameters of a kernel.
struct AttentionSide {
  std::optional<AttentionScales> scales;
  unsigned pointer;
  StrideSource block, token;
  AxisStrides head, channel;
  unsigned map = 0;    ///< with boxes
  bool isWide = false; ///< with rows: all copies are of 16 bytes
  unsigned width = 0;  ///< if not: their bytes, 16, 4 or those of an element
};

struct AttentionParameters {
  unsigned queryMap; ///< with boxes of the query
  unsigned query, out, alibi, sinks, valueScale, state, parts, blocks;
  unsigned chunkBits; ///< units of a chunk, as a power of two
  unsigned pairLimit; ///< if each request belongs to one of two kernels
  /// With prefixes: the groups of requests, the lengths of their prefixes, how
  /// many those are, and the states of rows.
  IntegerList groups, prefixLengths;
  unsigned numPrefixes, rowStates;
  /// Scales that all tokens share.
  std::optional<AttentionScales> keyFactor, valueFactor;
  /// 2^32 by the number of blocks of a head, also where heads take turns.
  unsigned scale, sharedScale;
  StrideSource queryRow, queryHead, outRow;
  int64_t queryAlign, outAlign;
  std::optional<HeadBuffer> lse;
  std::optional<MaskBuffer> mask;
  AttentionSide sides[2];
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
  /// Warpgroups that have a part of an item which begins in a block. The last
  /// one leaves a zero.
  static constexpr int64_t kArrivals =
      (kCounters + 2 * 4 * kMaxCounters + 255) / 256 * 256;
  static constexpr int64_t kMaxWarpgroups = 3;
  static constexpr int64_t kBytes = kArrivals + 4 * kMaxWarpgroups * kMaxBlocks;
  static_assert(kBytes <= KV_WORKSPACE_STATE_BYTES);
};

/// The sizes that work is cut into.
struct WorkShape {
  int64_t columns; ///< pairs of an item
  int64_t unit;    ///< keys
  /// Where pages are shared, heads take turns, so that what is read in a turn
  /// stays in the cache of the device: how many turns.
  int64_t phases;
  int64_t consumers; ///< warps; those after them are producers
  /// What an item costs besides its units, in chunks.
  int64_t itemChunks;
  /// Nobody has fewer units of an item than that, but for all of it: putting
  /// parts together takes longer. 0: any number.
  int64_t leastUnits;
  /// Items with no more pairs take two thirds of the time of others for a unit;
  /// 0: all take the same.
  int64_t lightPairs;
  /// Whether the range of a block goes on from one head to the next: all blocks
  /// have work, whatever the number of heads.
  bool crossesHeads;
  /// In shared memory: what is left to do after all segments, 32 bytes, and
  /// whether something failed, 4 bytes.
  int64_t restOffset, failedOffset;
  /// Chunks of a unit.
  static constexpr int64_t kLight = 2, kHeavy = 3;
  int64_t mostOfUnit() const { return lightPairs ? kHeavy : 1; }
  /// Whether the kernel may call functions. Products of warpgroups run one
  /// after the other in a kernel that does.
  bool hasCalls = true;
  /// Whether keys that requests share are items of their own.
  bool hasPrefixes = false;
  /// Items are cut into so many parts at most, by their own keys; 1: they are
  /// not cut; 0: they are cut wherever ranges end.
  int64_t fixedParts = 0;
  /// Where two kernels are launched, one has the requests with so many pairs at
  /// most as a parameter says, and the other one all others.
  enum class Requests { All, WithFewPairs, WithMorePairs };
  Requests requests = Requests::All;
};

/// Rows beyond so many have no use of a prefix: others leave their state in the
/// workspace, once for the prefix and once for the request.
inline constexpr int64_t kMostPrefixRows = 2048;

/// Where the maximum of a row begins: below all scores, and finite.
inline constexpr float kNoMaximum = -1e30f;
/// Sums are rescaled when a maximum has grown by more, to base 2.
inline constexpr float kGrowth = 8;
/// What a weight is then.
inline constexpr float kMostWeight = 1 << int(kGrowth);

class WorkSplit {
protected:
  WorkSplit(KernelBuilder &k, TargetAttr gpu, const AttentionTraits &traits,
            const WorkShape &split, const BatchParameters &batch,
            const AttentionParameters &parameters)
      : k(k), w(k, gpu), traits(traits), split(split), batch(batch),
        parameters(parameters) {}

  /// The numbers of the thread and of the batch, at the start of the kernel.
  void begin();

  /// An item, and how many chunks all items before it have.
  struct Item {
    Val request, tile;
    Val start, end; ///< its rows
    Val length;
    Val first, units; ///< of its keys
    Val before;
    Val head; ///< where ranges cross heads
    /// With prefixes: the first row of the group that the request is in, kAlone
    /// or kPrefix; and the units of the prefix.
    Val group, shared;
  };
  /// The part of the work of a block that is left.
  struct Work {
    Item item;
    Val done; ///< chunks of the item that belong to another block
    Val left;
  };
  static constexpr int64_t kAlone = -1, kPrefix = -2;
  Vals flat(const Item &item) const;
  Vals flat(const Work &work) const;
  Item item(llvm::ArrayRef<Val> numbers) const;
  Work work(llvm::ArrayRef<Val> numbers) const;
  unsigned itemSize() const { return split.hasPrefixes ? 11 : 9; }
  unsigned workSize() const { return itemSize() + 2; }
  /// The numbers of an item that are the same for all of its tiles, but for
  /// chunks before it.
  llvm::SmallVector<Val *> requestOf(Item &item) const;

  /// The keys that a row sees: from `first` to before `end`.
  struct Limits {
    Val first, end;
    Val position; ///< only as far as an i32 goes
  };

  void beginLaunch();
  /// Whether the state begins as launches leave it, or is still zero.
  Val isState(llvm::ArrayRef<Val> words);
  /// Of the number of the launch.
  Val parity() { return (tag & 1) ^ 1; }
  void endLaunch();

  Val loadWithin(const IntegerList &list, Val index, Val most);
  Val loadStart(Val index);
  Val loadLength(Val request);
  Limits limits(Val row, Val end, Val length);
  /// None of a request that belongs to another kernel.
  Val tiles(Val start, Val end);
  /// Whether a request with so many pairs belongs to this kernel.
  Val isOwn(Val pairs);
  void measure(Item &item);
  Item nextItem(const Item &item);
  /// Requests in turns of 32: the start, the next one and the length of that
  /// of a lane, and with prefixes its group and units of the prefix. The
  /// prefixes are listed before all requests.
  Vals loadRequests(Val turn);
  unsigned loadedSize() const { return split.hasPrefixes ? 5 : 3; }
  Vals loadListed(Val number);
  void countPrefixes();
  /// Of a group: its first and last row, and whole units of its prefix, none
  /// where there is no use for it.
  struct Group {
    Val start, end, units;
  };
  Group loadGroup(Val number);
  /// The group of a request and the units of its prefix, as in an item.
  Vals membership(Val request);
  /// Of a request in the list: what row of the table it has.
  Val tableRow(const Item &item);
  Val isPrefix(Val number) { return number < prefixes; }
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
  Vals findTurn(const Later &later, Val first, Val largest, Val chunk);
  /// Of the lanes up to each.
  Val sumUpTo(Val value);
  Vals measureTiles(const Item &own, Val count, const Vals &sums);
  Vals findTile();
  Vals firstWork();
  /// A segment in the queue. One without units is the end.
  struct Entry {
    Val count, first;
    Val tile, start, end, length;
    Val head, block;
    Val group; ///< with prefixes
  };
  static constexpr unsigned kEntry = 8;
  /// Who else has a part of its item; told later, as it takes divisions.
  struct Split {
    Val isSplit, firstBlock, parts, firstSlot, readers;
    Val isShort; ///< no block has more than a few units
  };
  static constexpr unsigned kSplit = 6;
  /// The numbers of a Split. An item is short if no block has more than so many
  /// units.
  Vals splitOf(const Work &work, Val count, int64_t shortUnits);
  /// With fixed parts: how many the item has, the first one of this block, and
  /// how many of them belong to blocks that have no other item after this one;
  /// those put parts together. Then the units of a part.
  struct FixedSplit {
    Val isSplit, firstBlock, parts, ownFirst, readers, isShort, units;
  };
  static constexpr unsigned kFixedSplit = 7;
  Vals fixedSplitOf(const Work &work, Val count, int64_t shortUnits);
  /// The chunks of a part.
  Val partChunks(const Item &item);
  /// An end inside of an item, moved to the beginning of the part it is in.
  Val roundedCut(const Item &item, Val chunk);
  /// After a segment of `count` chunks; the first number is whether there is
  /// more.
  Val advance(Work &work, Val count);
  Val chunks(const Item &item) {
    Val all = (item.units + ((k.i32(1) << chunkBits) - 1)) >> chunkBits;
    if (split.lightPairs)
      all = select(isLight(item), all * WorkShape::kLight,
                   all * WorkShape::kHeavy);
    if (split.itemChunks)
      all = select(item.units > 0, all + split.itemChunks, k.i32(0));
    return all;
  }
  /// All pairs of the request of an item or an entry.
  template <typename Rows> Val pairsOf(const Rows &of) {
    return (of.end - of.start) * traits.group;
  }
  /// The first key of its own rows, which may be negative.
  template <typename Rows> Val firstOwnOf(const Rows &of) {
    return of.length - (of.end - of.start);
  }
  /// The first `count` of 32 bits.
  static Val firstBits(Val count);
  /// What a row sees of the 32 keys from the own row number `own` on, as far as
  /// the mask is concerned.
  Val maskBits(Val row, Val own) {
    return parameters.mask->bits(k, as(row, 64), as(own, 64));
  }
  Val isLight(const Item &item) {
    return pairsOf(item) - item.tile * split.columns <= split.lightPairs;
  }
  /// The unit of an item that begins in a chunk or after it.
  Val unitOf(const Item &item, Val chunk) {
    if (split.itemChunks)
      chunk = max(chunk - split.itemChunks, 0);
    if (split.lightPairs)
      chunk = select(isLight(item), chunk / WorkShape::kLight,
                     chunk / WorkShape::kHeavy);
    return item.first + min(chunk << chunkBits, item.units);
  }
  /// Chunks after the beginning of an item, and before its end, in which no
  /// range ends: that end is moved to the beginning, or to the end.
  struct Margins {
    Val begin, end;
  };
  Margins marginsOf(const Item &item) {
    Val ofUnit = k.i32(1);
    if (split.lightPairs)
      ofUnit = select(isLight(item), k.i32(WorkShape::kLight),
                      k.i32(WorkShape::kHeavy));
    return {ofUnit * split.leastUnits + (split.itemChunks - 1),
            ofUnit * (split.leastUnits - 1)};
  }
  Vals movedStart(const Work &work);
  Val ownChunks(const Work &work);
  Val rangeStart(Val block);
  Val owner(Val chunk);
  /// Rows of no request are before `first` and from `last` on.
  void clearEmptyRows(Val hasEmpty, Val first, Val last);
  void clearRequest(Val request, Val start,
                    llvm::function_ref<void(Val, Val, Val)> clear);

  Val load32(unsigned pointer, Val index);
  /// What tokens of a head share.
  Val factorOf(const AttentionScales &scales, Val head);
  mlir::Value at(mlir::Value pointer, Val bytes) {
    return k.byteOffset(pointer, bytes);
  }
  mlir::Value at(mlir::Value pointer, int64_t bytes) {
    return bytes ? k.byteOffset(pointer, k.i32(bytes)) : pointer;
  }
  /// What is left to do after all segments: the rows that are in no item, and
  /// heads. Where a number is not needed for long, it is not kept.
  struct Rest {
    Val hasEmpty, firstRow, lastRow;
    Val firstHead, headStep;
  };
  mlir::Value restPlace() { return at(shared, split.restOffset); }
  /// With prefixes the rest says how many there are; after it, where no store
  /// of whole 16 bytes comes, is the tag of the launch.
  static constexpr int64_t kTagPlace = 36;
  mlir::Value failedFlag() { return at(shared, split.failedOffset); }
  /// The entry of the table for a key block, as the table has it: who looks at
  /// it waits for it.
  Val tableEntry(Val request, Val index, Val isThere);
  /// Numbers that no block has become -1.
  Val blockOf(Val entry, Val isThere);
  void prefetchTable();
  /// The work of a producer, which it finds while loads and barriers are under
  /// way.
  Vals findWork(bool hasMaps);
  /// What becomes of a row in the end: its sink counts, and sums of values are
  /// multiplied by a factor.
  struct RowTotal {
    Val maximum, sum, isEmpty, sink, factor;
  };
  RowTotal totalOf(Val queryHead, Val maximum, Val sum);
  void storeLse(Val row, Val queryHead, const RowTotal &total);
  /// Four bytes of the cache as two pairs of f16.
  Vals halvesOf(Val word);
  /// Where an index of an axis is, in bytes.
  Val axisBytes(const AxisStrides &axis, Val index, int64_t elementBytes);
  /// Pairs of bf16 of a row, which lanes whose numbers differ in `lanes` share,
  /// become f16 by a power of two that brings the largest of them near 2^15.
  /// What it returns is what products are then multiplied by.
  Val toHalves(llvm::MutableArrayRef<Val> words, llvm::ArrayRef<int64_t> lanes);
  /// Lane i of each four gets word i of all four, which `words` are of a lane.
  Vals transposed(Vals words);
  /// The result of a row and a head: of each eight channels, a lane has the
  /// sums of lane % 4 * 2 and of the next one.
  void storeRow(Val isThere, Val row, Val queryHead, Val maximum, Val sum,
                llvm::ArrayRef<Val> sums);
  /// The next slot of a ring, and the parity to wait for there.
  void step(Val &slot, Val &parity, int64_t slots);
  /// All lanes have read or written, for LLVM too; one of them says so.
  void release(mlir::Value barrier);

  KernelBuilder &k;
  NvvmOps w;
  const AttentionTraits &traits;
  const WorkShape split;
  const BatchParameters &batch;
  const AttentionParameters &parameters;

  mlir::Value shared;
  Val thread, lane, warp;
  /// The head of the turn, the number among the blocks that have it, and how
  /// many those are.
  Val head, block, blocks;
  Val rows, requests, room;
  Val prefixes, listed;    ///< and requests
  Val tag;                 ///< of this launch; consumers know it
  Val rangeChunks, longer; ///< chunks of a range; so many have one more
  Val hasWork, rangeFirst, rangeEnd;
  Val chunkBits;
  Item startItem;
  Val isShared, headStep; ///< heads take turns; the own ones
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_ATTENTION_WORKSPLIT_H
