// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Layout/Transfers.h"

#include <algorithm>

namespace kvcache {

namespace {

/// The extents that a transfer runs over, by position in the listing.
struct Extents {
  std::array<int64_t, Layout::kMaxRank> moved;
  std::array<int64_t, Layout::kMaxRank> first = {};
};

std::optional<Extents> movedExtents(const Layout &layout, AxisSet moved,
                                    const std::vector<AxisSlice> &slices,
                                    std::string &why) {
  Extents extents;
  for (unsigned i = 0; i < layout.rank(); ++i)
    extents.moved[i] =
        moved.contains(layout.dim(i).axis.kind) ? layout.dim(i).extent : 1;
  for (const AxisSlice &slice : slices) {
    std::optional<unsigned> i = layout.find(slice.axis);
    if (!i || !moved.contains(slice.axis.kind)) {
      why = "the sliced axis " + slice.axis.str() +
            " is expected to be one of those that move";
      return std::nullopt;
    }
    int64_t extent = layout.dim(*i).extent;
    int64_t most = extent == kRunTime ? kMaxExtent : extent;
    if (slice.count < 1 || slice.count > most || slice.first < 0 ||
        slice.first > most - slice.count) {
      why = "the slice of " + slice.axis.str() + " is expected to be within " +
            std::to_string(most) + ", got " + std::to_string(slice.count) +
            " starting at " + std::to_string(slice.first);
      return std::nullopt;
    }
    extents.moved[*i] = slice.count;
    extents.first[*i] = slice.first;
  }
  return extents;
}

} // namespace

std::optional<Transfer> transferOf(const Layout &layout, AxisSet moved,
                                   const std::vector<AxisSlice> &slices,
                                   int64_t elementBytes, std::string &why) {
  std::optional<Extents> extents = movedExtents(layout, moved, slices, why);
  if (!extents)
    return std::nullopt;

  Transfer transfer;
  // The widest access divides where every run begins: what the indices of
  // fixed axes, loops and the first element of slices contribute.
  int64_t width = std::min(Layout::kWidestAccess, layout.align());
  auto align = [&](unsigned i, int64_t step) {
    width = layout.stepAlignment(i, step, elementBytes, width);
  };
  bool inRun = true;
  // The axis of the slowest loop so far, if that is the whole of it.
  std::optional<unsigned> outermost;
  int64_t runs = 1;
  bool runTime = false;
  for (unsigned k = layout.rank(); k-- > 0;) {
    unsigned i = layout.orderAt(k);
    if (layout.dim(i).extent == 1)
      continue;
    int64_t extent = extents->moved[i];
    StrideFact stride = explicitStride(layout, i);
    bool isFixed = !moved.contains(layout.dim(i).axis.kind);
    if (extent == 1) {
      // One index, at some place or at a known one.
      align(i, isFixed ? 1 : extents->first[i]);
      continue;
    }
    if (inRun && extent != kRunTime &&
        stride == StrideFact::constant(transfer.runElements)) {
      transfer.runElements *= extent;
      align(i, extents->first[i]);
      continue;
    }
    inRun = false;
    align(i, 1);
    runTime |= extent == kRunTime;
    if (extent != kRunTime && __builtin_mul_overflow(runs, extent, &runs)) {
      why = "there are more than 2^52 runs";
      return std::nullopt;
    }
    // A loop continues the one inside of it where that one is whole.
    if (outermost && layout.isPackedOver(i, *outermost)) {
      int64_t &inner = transfer.loops.front().extent;
      inner =
          extent == kRunTime || inner == kRunTime ? kRunTime : inner * extent;
    } else {
      transfer.loops.insert(transfer.loops.begin(), {extent, stride});
    }
    outermost =
        extent == layout.dim(i).extent ? std::optional(i) : std::nullopt;
  }
  if (runs > Layout::kMaxSpan) {
    why = "there are more than 2^52 runs";
    return std::nullopt;
  }
  transfer.runs = runTime ? kRunTime : runs;
  transfer.accessBytes = alignmentOf(transfer.runElements, elementBytes, width);
  return transfer;
}

Transfer blockTransfer(const Layout &layout, int64_t elementBytes) {
  std::string why;
  // Without slices and with the strides of B or more below, nothing is refused.
  return *transferOf(layout,
                     {AxisKind::Layer, AxisKind::Side, AxisKind::Token,
                      AxisKind::Head, AxisKind::Channel},
                     {}, elementBytes, why);
}

} // namespace kvcache
