// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What code depends on in a layout: the length of the pieces that it moves, the
// width of accesses, and the addressing. Two layouts that agree in these get
// the same loops.
//
//   2S x ?B x 16N x 8H x 128D x bf16    moved  run   access  addressing
//   nhd, packed                         H D    1024  16      row
//   hnd, packed                         H D    128   16      block, token
//   nhd, strides = [B = ?]              H D    1024  2       block, token
//   nhd, strides = [B = ? mult 16]      H D    1024  16      block, token
//   nhd, strides = [B = ?, N = ?, H = ?]
//                                       H D    128   2       block, token
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LAYOUT_ACCESS_H
#define KVCACHE_LAYOUT_ACCESS_H

#include "kvcache/Layout/Layout.h"

namespace kvcache {

/// What moves together: a row of one token, the channels of one head of it, or
/// a whole block.
enum class Moved : uint8_t { Row, Channels, Block };

struct LayoutAccess {
  /// Elements of one contiguous piece that are in the same sequence in a packed
  /// row or block.
  int64_t runElements = 1;
  /// The number of pieces; kRunTime if unknown.
  int64_t runs = 1;
  /// The widest aligned access, in bytes.
  int64_t accessBytes = 1;
  /// The layout is flat: a slot is a row number, and nothing is divided.
  bool isFlat = false;
  /// The number of multiplications by run-time values needed to find a piece.
  unsigned runTimeFactors = 0;

  bool operator==(const LayoutAccess &o) const {
    return runElements == o.runElements && runs == o.runs &&
           accessBytes == o.accessBytes && isFlat == o.isFlat &&
           runTimeFactors == o.runTimeFactors;
  }
};

/// Precondition: elementBytes > 0.
LayoutAccess accessOf(const Layout &layout, Moved moved, int64_t elementBytes);

/// The size in bytes of a streaming store of a CPU, and the alignment of its
/// address.
constexpr int64_t kStreamedBytes = 16;

/// Whether a CPU may stream runs of this many elements to any place of a cache.
/// Runs follow each other in the contiguous part of a block, so that the
/// alignment proven for its start holds for each run. Less than a cache line at
/// a time does not pay off.
bool canStream(const Layout &layout, int64_t runElements, int64_t elementBytes);

/// The axis that divides channels into contiguous chunks of the widest access,
/// if any: the fastest part of D.
std::optional<unsigned> chunkAxis(const Layout &layout, int64_t elementBytes);

/// The widest copy that all chunks are proven to be aligned to (chunkWidth in
/// Numbers.h). One index of each `fixed` axis is part of the base.
int64_t chunkBytes(const Layout &layout, int64_t elementBytes, AxisSet fixed);

/// The number of adjacent channels in a box of a tensor map with this many
/// tokens of a head; 0 if the facts do not allow boxes.
int64_t boxChannels(const Layout &layout, int64_t elementBytes, int64_t tokens,
                    AxisSet fixed);

/// Whether boxes can have `inner` adjacent channels. One axis of channels is
/// cut into any parts, of which the last one may be partly outside of the map.
bool hasBoxes(const Layout &layout, int64_t elementBytes, int64_t tokens,
              int64_t inner, AxisSet fixed);

/// What channels become in a map with boxes of `inner` of them: adjacent ones,
/// and parts. Channels that are no multiple of `inner` are one part.
struct ChannelDims {
  int64_t adjacent, parts;
};
ChannelDims channelDims(const Layout &layout, int64_t inner);

/// What heads are one dimension of memory with: the channels of a head, if
/// heads lie side by side, or the tokens, if those of a head do.
enum class HeadNeighbor { None, Channels, Tokens };
HeadNeighbor headNeighbor(const Layout &layout);

/// The widest part that divides the channels and that a chip can swizzle, for
/// channels of a multiple of 32 bytes.
int64_t innerChannels(int64_t channels, int64_t elementBytes);

} // namespace kvcache

#endif // KVCACHE_LAYOUT_ACCESS_H
