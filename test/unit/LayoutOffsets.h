// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Offsets of elements: exact ones if all numbers are known, and bounds before
// that.
//
// An address is split into the part that a block table determines and the part
// within the block:
//
//   offset = block * stride(B)  +  offset within the block
//
//   ?B x 16N x 8H x 128D, packed    block * 16384    0 ... 16383
//   B = 1048576                     block * 1048576  0 ... 16383
//   [H, B, N, D]                    block * 2048     0 ... 7 * stride(H) + 2047
//
// In the last line the inner part grows with the pool, since heads are slower
// than blocks, and its bound is known only at run time.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_TEST_UNIT_LAYOUTOFFSETS_H
#define KVCACHE_TEST_UNIT_LAYOUTOFFSETS_H

#include "kvcache/Layout/Views.h"

namespace kvcache {

/// Every stride of a layout with these run-time values, or nothing and a
/// message in `why` if one of them violates a fact: the reference for checks at
/// run time.
///
/// `extents` and `strides` have one entry per axis as listed. A stride of
/// kRunTime is left to the layout, which must know it once the extents are
/// given. Strides of extent 1 are ignored, and the result has the constant of
/// the layout or else the smallest that it allows; an axis that is compact over
/// one may have any stride that this axis could have. Extents are at least 1; a
/// pool without blocks has no offsets. Precondition: both have as many entries
/// as the layout has axes.
std::optional<std::vector<int64_t>>
concreteStrides(const Layout &layout, const std::vector<int64_t> &extents,
                const std::vector<int64_t> &strides, std::string &why);

/// The offset in elements of the element at these indices, one per axis as
/// listed. Nothing if concreteStrides returns nothing, or if an index is not
/// below its extent. The same preconditions.
std::optional<int64_t> offsetOf(const Layout &layout,
                                const std::vector<int64_t> &indices,
                                const std::vector<int64_t> &extents,
                                const std::vector<int64_t> &strides,
                                std::string &why);

/// The part of an offset that a block table determines, and the rest.
struct BlockSplit {
  /// Constant or run time.
  StrideFact blockStride;
  /// The largest offset within a block in elements, if known: that of its last
  /// element from its first, over all layers, sides and heads.
  std::optional<int64_t> largestInBlock;
};

/// Precondition: B is not split.
BlockSplit blockSplit(const Layout &layout);

/// What is known of a statement before the run-time values are.
enum class Proof : uint8_t { No, Unknown, Yes };

enum class OffsetRange : uint8_t { Pool, Block };

/// Whether all byte offsets of elements, from the first element of the pool or
/// of a block, fit in a signed 32-bit number. With elementBytes = 1, the
/// offsets are in elements. No is a proof too: whatever the run-time values, as
/// long as no extent is 0, some offset does not fit. Precondition: 0 <
/// elementBytes <= 16.
Proof fitsOffset32(const Layout &layout, int64_t elementBytes,
                   OffsetRange range);

} // namespace kvcache

#endif // KVCACHE_TEST_UNIT_LAYOUTOFFSETS_H
