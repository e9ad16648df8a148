// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Moving a part of a cache: the length and the number of contiguous runs.
//
// Some axes move together, completely or in slices; the others are fixed, like
// the block when one block moves. The moved elements are then a run without
// gaps, repeated over loops:
//
//   loops   (extent, stride), from slowest to fastest, as few as possible
//   runs    the product of their extents: descriptors, if a descriptor is one
//           piece of memory
//
// One block of 32L x 2S x ?B x 16N x 8H x 128D:
//
//   order             moved        slice   run, elements   loops
//   cross_layer_nhd   L S N H D            1048576         none
//   cross_layer_nhd   S N H D              32768           none
//   cross_layer_nhd   L S N H D    2 of 8H 256             1024 x 1024
//   cross_layer_hnd   L S N H D            1048576         none
//   cross_layer_hnd   S N H D              4096            8 x 131072
//   cross_layer_hnd   L S N H D    2 of 8H 262144          none
//   L S B N H D       L S N H D            16384           64 x stride(S)
//
// In the last line the stride of S is the number of blocks times 16384: the
// loop has a run-time stride. Sides and layers still form one loop, as layers
// are packed over sides.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LAYOUT_TRANSFERS_H
#define KVCACHE_LAYOUT_TRANSFERS_H

#include "kvcache/Layout/Views.h"

namespace kvcache {

/// Some indices of an axis: [first, first + count).
struct AxisSlice {
  Axis axis;
  int64_t first = 0;
  int64_t count = 1;
};

struct Transfer {
  /// Elements of one contiguous run.
  int64_t runElements = 1;
  /// The number of runs, or kRunTime.
  int64_t runs = 1;
  /// Where the runs start, relative to the first.
  std::vector<StridedDim> loops;
  /// The widest access in bytes that divides each run into whole accesses and
  /// is aligned at every position of the fixed axes; see Layout::accessBytes.
  int64_t accessBytes = 1;
};

/// The runs of the elements of `moved` when the other axes are fixed at any
/// index. Both parts of a split axis move. A slice restricts an axis to a part
/// of its indices; the axis must be among those moved.
///
/// Nothing, and a message in `why`, if a slice names an axis that does not move
/// or exceeds its extent (the caller checks run-time extents), or if there are
/// more than 2^52 runs. Preconditions: each axis has at most one slice,
/// elementBytes > 0.
std::optional<Transfer> transferOf(const Layout &layout, AxisSet moved,
                                   const std::vector<AxisSlice> &slices,
                                   int64_t elementBytes, std::string &why);

/// The transfer of a whole block: all axes but B.
Transfer blockTransfer(const Layout &layout, int64_t elementBytes);

} // namespace kvcache

#endif // KVCACHE_LAYOUT_TRANSFERS_H
