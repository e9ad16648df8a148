// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What code gets out of a layout: how long the pieces are that it moves, how
// wide it may access them, and how it finds them. Two layouts that agree in
// this get the same loops.
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
  /// Elements of one contiguous piece, of those that a packed row or block
  /// has in the same sequence.
  int64_t runElements = 1;
  /// How many pieces there are; kRunTime if the number is not known.
  int64_t runs = 1;
  /// The widest aligned access, in bytes.
  int64_t accessBytes = 1;
  /// A row is found by one number: nothing is divided.
  bool isFlat = false;
  /// How many multiplications by a number that is known at run time only it
  /// takes to find a piece.
  unsigned runTimeFactors = 0;

  bool operator==(const LayoutAccess &o) const {
    return runElements == o.runElements && runs == o.runs &&
           accessBytes == o.accessBytes && isFlat == o.isFlat &&
           runTimeFactors == o.runTimeFactors;
  }
};

/// Precondition: elementBytes > 0.
LayoutAccess accessOf(const Layout &layout, Moved moved, int64_t elementBytes);

/// The bytes that a streaming store of a CPU writes, and a multiple of which
/// its address is.
constexpr int64_t kStreamedBytes = 16;

/// Whether a CPU may stream runs of so many elements to any place of a cache.
/// Runs lie one after the other in what is contiguous in a block, so that what
/// is proven for its beginning is true of each run. Less than a line at a time
/// is not worth it.
bool canStream(const Layout &layout, int64_t runElements, int64_t elementBytes);

/// The axis that cuts channels in contiguous chunks of the widest access, if
/// one does: the fastest part of D.
std::optional<unsigned> chunkAxis(const Layout &layout, int64_t elementBytes);

/// The widest copy that all chunks are proven to be aligned to (chunkWidth in
/// Numbers.h). Of axes that are `fixed` one index is part of the base.
int64_t chunkBytes(const Layout &layout, int64_t elementBytes, AxisSet fixed);

/// The channels that lie side by side in a box of a tensor map, which has so
/// many tokens of a head; 0 if the facts do not allow boxes.
int64_t boxChannels(const Layout &layout, int64_t elementBytes, int64_t tokens,
                    AxisSet fixed);

/// The widest part of channels that divides them and that a chip permutes, of
/// a multiple of 16.
int64_t innerChannels(int64_t channels);

} // namespace kvcache

#endif // KVCACHE_LAYOUT_ACCESS_H
