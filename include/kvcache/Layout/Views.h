// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Views and copies: merging, splitting and dropping axes without moving data.
//
// Two axes can be merged if
//
//   stride(slower) = extent(faster) * stride(faster)
//
// and all functions here test this for pairs of axes. For one layer of 2S x ?B
// x 16N x 8H x 128D:
//
//                                 B, N      N, H     H, D     rows B*N, H, D
//   [S, B, N, H, D]               merge     merge    merge    a view
//   [B, S, N, H, D]               no        merge    merge    scaled, 32
//   [B, S, H, N, D]               no        no       no       scaled, 256
//   [B, S, N, H, D], B = 1048576  no        merge    merge    scaled, 1024
//
// "Scaled" is the weaker form: row number b * scale + n, with rows at the
// distance of tokens; see flatScale.
//
// A test that cannot be decided before the run-time values are known returns
// no, with a message. Axes of extent 1 never prevent anything. No function
// changes or reads memory.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LAYOUT_VIEWS_H
#define KVCACHE_LAYOUT_VIEWS_H

#include "kvcache/Layout/Layout.h"

namespace kvcache {

/// A dimension of a view that is no longer an axis of a cache.
struct StridedDim {
  int64_t extent = 1; ///< or kRunTime
  /// Constant or run time, never compact: there is no order here.
  StrideFact stride = StrideFact::constant(1);

  bool operator==(const StridedDim &o) const {
    return extent == o.extent && stride == o.stride;
  }
};

/// Whether the dimensions from `first` on are proven to be contiguous, the last
/// one fastest. Strides of dimensions of extent 1 are ignored.
bool isRowMajor(const std::vector<StridedDim> &dims, unsigned first);

/// The stride of axis `i` without reference to its neighbours.
/// Precondition: i is below the rank.
StrideFact explicitStride(const Layout &layout, unsigned i);

/// The dimension that results from merging a set of axes, the fastest of the
/// order fastest. Nothing if they cannot be merged, and `why` names the first
/// pair, from the fastest, that prevents it. The sequence of `axes` does not
/// matter.
///
/// Precondition: `axes` are axes of the layout, at least one, each once.
std::optional<StridedDim>
collapse(const Layout &layout, const std::vector<Axis> &axes, std::string &why);

/// The row-major reshape of the array whose dimensions are `sequence`, from
/// slowest to fastest in the *logical* numbering, to `shape`, as a view. It has
/// one dimension per entry of `shape`. Nothing if it would be a copy, or if the
/// numbers of elements differ; `why` says which axes prevent it.
///
/// A run-time entry of `shape` stands for the rest of the run-time extents and
/// is computed by the caller: [B, N, H, D] with ?B and 16N is reshaped to
/// {kRunTime, 8, 128}, and the first extent is then B * 16. One such entry is
/// supported, or one for each run-time extent if shape and axes agree from the
/// first run-time extent to the last.
///
///   [B, N, H, D] -> {?, 8, 128}         rows
///   [L, B, H, N, S, D] -> {.., 256}     S and D merged to content
///   [B, N, H, D] -> {?, 64, 8, 128}     rejected: B may not be a multiple of 4
///
/// Precondition: `sequence` has each axis whose extent is not 1 once, and may
/// have those of extent 1.
std::optional<std::vector<StridedDim>>
reshape(const Layout &layout, const std::vector<Axis> &sequence,
        const std::vector<int64_t> &shape, std::string &why);

/// The source of a dimension of a reshape, for run-time values. Together with
/// its neighbours it numbers the elements of some merged axes; the source is
/// these axes, whatever their extents turn out to be:
///
///   [L, S, B, N, H, D] -> {3, 2, ?, 2, 1, 4}, all packed
///     each of axes L to D, end 6; the extent of the third is 2 * extent(B)
struct DimSource {
  /// Positions in the listing, slowest first; empty if all extents are 1.
  std::vector<unsigned> axes;
  /// The first dimension after those that number the same axes. One step of
  /// dimension d skips the product of the extents from d + 1 to end - 1, times
  /// the stride of the fastest of `axes` that has more than one index.
  size_t end = 0;
  /// A run-time extent is the product of those of `axes`, times this.
  int64_t factor = 1;
};

/// The sources of all dimensions. Precondition: `reshape` succeeded.
std::vector<DimSource> reshapeSources(const Layout &layout,
                                      const std::vector<Axis> &sequence,
                                      const std::vector<int64_t> &shape);

/// Whether dimension `slower` is proven to be packed over dimension `faster`,
/// neither of extent 1. Preconditions as above.
bool isPackedReshape(const Layout &layout,
                     const std::vector<DimSource> &sources,
                     const std::vector<int64_t> &shape, size_t slower,
                     size_t faster);

/// Linear rows: token n of block b is row b * scale + n, and rows are stride(N)
/// apart. Flat layouts have the scale N.
struct FlatScale {
  /// stride(B) / stride(N); kRunTime if it is an integer of unknown value.
  int64_t rowsPerBlock = 1;
  /// Divides the scale whatever its run-time value.
  int64_t multiple = 1;
};

/// The scale, if stride(B) is proven to be a multiple of stride(N); otherwise
/// `why` gives the reason. Split B or N have none.
std::optional<FlatScale> flatScale(const Layout &layout, std::string &why);

/// The same axes in the same order without gaps.
Layout packed(const Layout &layout);

/// A part of a layout, and where it starts.
struct Slice {
  Layout layout;
  /// The slice for index i starts i * step elements after the base. Constant or
  /// run time.
  StrideFact step;
};

/// The layout that remains when `axis` is fixed at an index, which is nothing
/// if not known yet. The other axes keep their strides: those that were compact
/// over the dropped axis become constants, or run-time multiples if the
/// constant is unknown.
///
///   32L x 2S x ?B x 16N x 8H x 128D, [B, L, S, N, H, D]
///     layer 3:  2S x ?B x 16N x 8H x 128D, [B, S, N, H, D], B = 1048576,
///               step 32768
///
/// The alignment of the base is reduced to that at the offset. Fails if the
/// index is out of range or if a cache needs the axis. Preconditions: the axis
/// belongs to the layout and is not split, elementBytes > 0.
std::optional<Slice> sliceAxis(const Layout &layout, Axis axis,
                               std::optional<int64_t> index,
                               int64_t elementBytes, std::string &why);

/// The layout of `count` indices of `axis`, from `first` on, which is nothing
/// if not known yet: heads of a rank, a part of the pool. `count` can be
/// kRunTime. Strides, alignment and failures are as in sliceAxis.
/// Preconditions: the axis is of the layout, elementBytes > 0.
std::optional<Slice> narrowAxis(const Layout &layout, Axis axis,
                                std::optional<int64_t> first, int64_t count,
                                int64_t elementBytes, std::string &why);

} // namespace kvcache

#endif // KVCACHE_LAYOUT_VIEWS_H
