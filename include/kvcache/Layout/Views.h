// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What is a view and what is a copy: merging, splitting and dropping axes
// without moving data.
//
// Two axes run through memory like one where
//
//   stride(slower) = extent(faster) * stride(faster)
//
// and everything here asks for this of pairs of axes. For one layer of
// 2S x ?B x 16N x 8H x 128D:
//
//                                 B, N      N, H     H, D     rows B*N, H, D
//   [S, B, N, H, D]               merge     merge    merge    a view
//   [B, S, N, H, D]               no        merge    merge    scaled, 32
//   [B, S, H, N, D]               no        no       no       scaled, 256
//   [B, S, N, H, D], B = 1048576  no        merge    merge    scaled, 1024
//
// "Scaled" is the weaker thing: row number b * scale + n, with rows as far
// apart as tokens are; see flatScale.
//
// A question that cannot be decided before the run-time values are known is
// answered with no, and the message says so. Axes of extent 1 never prevent
// anything. No function changes or reads memory.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LAYOUT_VIEWS_H
#define KVCACHE_LAYOUT_VIEWS_H

#include "kvcache/Layout/Layout.h"

namespace kvcache {

/// A dimension of a view that is no axis of a cache any more.
struct StridedDim {
  int64_t extent = 1; ///< or kRunTime
  /// Constant or run time, never compact: there is no order here.
  StrideFact stride = StrideFact::constant(1);

  bool operator==(const StridedDim &o) const {
    return extent == o.extent && stride == o.stride;
  }
};

/// Whether the dimensions from `first` on are proven to number contiguous
/// elements, the last one fastest. Strides of extents of 1 are not looked at.
bool isRowMajor(const std::vector<StridedDim> &dims, unsigned first);

/// The stride of axis `i` without reference to its neighbours.
/// Precondition: i is below the rank.
StrideFact explicitStride(const Layout &layout, unsigned i);

/// The dimension that a set of axes makes when they are numbered together, the
/// fastest of the order fastest. Nothing if they cannot be, and `why` names the
/// first pair, from the fastest, that prevents it. The sequence of `axes` does
/// not matter.
///
/// Precondition: `axes` are of the layout, at least one, each once.
std::optional<StridedDim>
collapse(const Layout &layout, const std::vector<Axis> &axes, std::string &why);

/// The row-major reshape of the array whose dimensions are `sequence`, from
/// slowest to fastest in the *logical* numbering, to `shape`, as a view. It has
/// one dimension per entry of `shape`. Nothing if it would be a copy, or if the
/// numbers of elements differ; `why` says which axes prevent it.
///
/// A run-time entry of `shape` stands for what is left of the run-time extents
/// and is worked out by the caller: [B, N, H, D] with ?B and 16N is reshaped to
/// {kRunTime, 8, 128}, and the first extent is then B * 16. One such entry is
/// understood, or one for each run-time extent where shape and axes agree from
/// the first run-time extent to the last.
///
///   [B, N, H, D] -> {?, 8, 128}         rows
///   [L, B, H, N, S, D] -> {.., 256}     S and D merged to content
///   [B, N, H, D] -> {?, 64, 8, 128}     refused: B may not be a multiple of 4
///
/// Precondition: `sequence` has each axis whose extent is not 1 once, and may
/// have those of extent 1.
std::optional<std::vector<StridedDim>>
reshape(const Layout &layout, const std::vector<Axis> &sequence,
        const std::vector<int64_t> &shape, std::string &why);

/// What a dimension of a reshape is made of, for numbers that are known at run
/// time only. With its neighbours it numbers the elements of some axes that run
/// through memory like one, and it is these axes, whatever their extents turn
/// out to be:
///
///   [L, S, B, N, H, D] -> {3, 2, ?, 2, 1, 4}, all packed
///     each of axes L to D, end 6; the extent of the third is 2 * extent(B)
struct DimSource {
  /// Positions in the listing, slowest first; none if there are but extents of
  /// 1.
  std::vector<unsigned> axes;
  /// The first dimension behind those that number the same axes. One step of
  /// dimension d skips the product of the extents from d + 1 to end - 1, times
  /// the stride of the fastest of `axes` that has more than one index.
  size_t end = 0;
  /// A run-time extent is the product of those of `axes`, times this.
  int64_t factor = 1;
};

/// The sources of all dimensions. Precondition: `reshape` has given something.
std::vector<DimSource> reshapeSources(const Layout &layout,
                                      const std::vector<Axis> &sequence,
                                      const std::vector<int64_t> &shape);

/// Whether dimension `slower` is proven to be packed over dimension `faster`,
/// neither of extent 1. Preconditions as above.
bool isPackedReshape(const Layout &layout,
                     const std::vector<DimSource> &sources,
                     const std::vector<int64_t> &shape, size_t slower,
                     size_t faster);

/// Row numbers of the scaled form: token n of block b is row b * scale + n, and
/// rows are stride(N) apart. Flat layouts have the scale N.
struct FlatScale {
  /// stride(B) / stride(N); kRunTime if it is an integer whose value is not
  /// known.
  int64_t rowsPerBlock = 1;
  /// Divides the scale whatever it is at run time.
  int64_t multiple = 1;
};

/// The scale, if stride(B) is proven to be a multiple of stride(N); else `why`
/// says what is in the way. Split B or N have none.
std::optional<FlatScale> flatScale(const Layout &layout, std::string &why);

/// The packed layout of the same axes in another order, which is what a
/// relayout to it makes (no view). Refused where the layout has gaps: they have
/// no meaning in another order. `packed` drops them.
std::optional<Layout> reordered(const Layout &layout,
                                const std::vector<Axis> &order,
                                std::string &why);

/// The same axes in the same order without gaps.
Layout packed(const Layout &layout);

/// A part of a layout, and where it begins.
struct Slice {
  Layout layout;
  /// The slice for index i begins i * step elements after the base. Constant
  /// or run time.
  StrideFact step;
};

/// The layout that is left when `axis` is fixed at an index, which is nothing
/// if it is not known yet. The other axes keep their strides: those that were
/// compact over the dropped axis become constants, or run-time multiples where
/// the constant is not known.
///
///   32L x 2S x ?B x 16N x 8H x 128D, [B, L, S, N, H, D]
///     layer 3:  2S x ?B x 16N x 8H x 128D, [B, S, N, H, D], B = 1048576,
///               step 32768
///
/// The alignment of the base is lowered to what the offset keeps.
/// Refused if the index is out of range or if a cache needs the axis.
/// Preconditions: the axis is whole and of the layout, elementBytes > 0.
std::optional<Slice> sliceAxis(const Layout &layout, Axis axis,
                               std::optional<int64_t> index,
                               int64_t elementBytes, std::string &why);

/// The layout of `count` indices of `axis`, from `first` on, which is nothing
/// if it is not known yet: heads of a rank, a part of the pool. `count` can be
/// kRunTime. Strides, alignment and refusals are as with sliceAxis.
/// Preconditions: the axis is of the layout, elementBytes > 0.
std::optional<Slice> narrowAxis(const Layout &layout, Axis axis,
                                std::optional<int64_t> first, int64_t count,
                                int64_t elementBytes, std::string &why);

} // namespace kvcache

#endif // KVCACHE_LAYOUT_VIEWS_H
