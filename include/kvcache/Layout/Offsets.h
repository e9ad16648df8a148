// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where elements are: offsets with all numbers at hand, and what is known about
// offsets before that.
//
// An address is split in the part that a block table decides and the part
// inside of the block:
//
//   offset = block * stride(B)  +  offset inside of the block
//
//   ?B x 16N x 8H x 128D, packed    block * 16384    0 ... 16383
//   B = 1048576                     block * 1048576  0 ... 16383
//   [H, B, N, D]                    block * 2048     0 ... 7 * stride(H) + 2047
//
// In the last line the inner part is as large as the pool, since heads are
// slower than blocks, and its bound is known at run time only.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LAYOUT_OFFSETS_H
#define KVCACHE_LAYOUT_OFFSETS_H

#include "kvcache/Layout/Views.h"

namespace kvcache {

/// Every stride of a layout whose run-time values are these, or nothing and a
/// message in `why` if one of them breaks a fact: the reference for checks at
/// run time.
///
/// `extents` and `strides` have one entry per axis as listed. A stride of
/// kRunTime is left to the layout, which has to know it once the extents are
/// there. Strides of extent 1 are not looked at, and come out as the constant
/// of the layout or else as the least that it allows; what is compact over one
/// may be any that this axis could have. Extents are at least 1; a pool without
/// blocks has no offsets to ask for. Precondition: both have as many entries as
/// the layout has axes.
std::optional<std::vector<int64_t>>
concreteStrides(const Layout &layout, const std::vector<int64_t> &extents,
                const std::vector<int64_t> &strides, std::string &why);

/// The offset in elements of the element at these indices, one per axis as
/// listed. Nothing if concreteStrides has nothing, or if an index is not below
/// its extent. The same preconditions.
std::optional<int64_t> offsetOf(const Layout &layout,
                                const std::vector<int64_t> &indices,
                                const std::vector<int64_t> &extents,
                                const std::vector<int64_t> &strides,
                                std::string &why);

/// The part of an offset that a block table decides, and the rest.
struct BlockSplit {
  /// Constant or run time.
  StrideFact blockStride;
  /// The largest offset inside of a block in elements, if it is known: that of
  /// its last element from its first, over all layers, sides and heads.
  std::optional<int64_t> largestInBlock;
};

/// Precondition: B is not split.
BlockSplit blockSplit(const Layout &layout);

enum class OffsetRange : uint8_t { Pool, Block };

/// Do all byte offsets of elements, from the first element of the pool or of a
/// block, fit a signed 32-bit number? With elementBytes = 1 the question is
/// about offsets in elements. No is a proof too: whatever the run-time values
/// are, as long as no extent is 0, some offset does not fit.
/// Precondition: 0 < elementBytes <= 16.
Proof fitsOffset32(const Layout &layout, int64_t elementBytes,
                   OffsetRange range);

} // namespace kvcache

#endif // KVCACHE_LAYOUT_OFFSETS_H
