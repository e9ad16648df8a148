// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Layout/Access.h"

#include "kvcache/Layout/Numbers.h"
#include "kvcache/Layout/Transfers.h"

namespace kvcache {

static bool isMoved(AxisKind kind, Moved moved) {
  switch (moved) {
  case Moved::Row:
    return kind == AxisKind::Head || kind == AxisKind::Channel;
  case Moved::Channels:
    return kind == AxisKind::Channel;
  case Moved::Block:
    return kind != AxisKind::Block;
  }
  return false;
}

LayoutAccess accessOf(const Layout &layout, Moved moved, int64_t elementBytes) {
  LayoutAccess access;
  std::vector<Axis> packed;
  AxisSet kinds;
  int64_t elements = 1;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    const LayoutDim &dim = layout.dim(i);
    if (!isMoved(dim.axis.kind, moved))
      continue;
    packed.push_back(dim.axis);
    kinds.insert(dim.axis.kind);
    elements = elements == kRunTime || dim.extent == kRunTime
                   ? kRunTime
                   : elements * dim.extent;
  }
  // A block is moved as it lies; a row goes to or comes from a packed one.
  Run run = moved == Moved::Block ? layout.contiguousRun(kinds)
                                  : layout.commonRun(packed);
  access.runElements = run.elements;
  access.runs = elements == kRunTime ? kRunTime : elements / run.elements;
  access.accessBytes = layout.accessBytes(run, elementBytes);
  access.isFlat = layout.isFlat();
  for (unsigned k = 0; k + run.axes < layout.rank(); ++k) {
    unsigned i = layout.orderAt(k);
    bool isUsed = layout.dim(i).extent != 1 && !layout.stride(i);
    // The number of a row stands for that of its block.
    bool isNumbered =
        access.isFlat && layout.dim(i).axis.kind == AxisKind::Block;
    access.runTimeFactors += isUsed && !isNumbered;
  }
  return access;
}

bool canStream(const Layout &layout, int64_t runElements,
               int64_t elementBytes) {
  constexpr int64_t kLine = 64;
  return runElements * elementBytes % kLine == 0 &&
         blockTransfer(layout, elementBytes).accessBytes >= kStreamedBytes;
}

std::optional<unsigned> chunkAxis(const Layout &layout, int64_t elementBytes) {
  std::optional<unsigned> channel = layout.find(AxisKind::Channel);
  if (!channel)
    channel = layout.find(Axis{AxisKind::Channel, AxisPart::Inner});
  int64_t chunk = Layout::kWidestAccess / elementBytes;
  bool isCut =
      layout.stride(*channel) == 1 && layout.dim(*channel).extent % chunk == 0;
  return isCut ? channel : std::nullopt;
}

int64_t chunkBytes(const Layout &layout, int64_t elementBytes, AxisSet fixed) {
  Integers numbers;
  std::vector<int64_t> multiples;
  for (unsigned i = 0; i < layout.rank(); ++i)
    multiples.push_back(layout.strideMultiple(i));
  return chunkWidth(numbers, layout, layout.align(), multiples, elementBytes,
                    fixed);
}

/// The widest part of a row that a tensor map permutes, in bytes.
static constexpr int64_t kSwizzled = 128;

int64_t boxChannels(const Layout &layout, int64_t elementBytes, int64_t tokens,
                    AxisSet fixed) {
  int64_t channels = layout.extent(AxisKind::Channel);
  if (chunkBytes(layout, elementBytes, fixed) != Layout::kWidestAccess ||
      layout.extent(AxisKind::Token) % tokens ||
      channels * elementBytes % (2 * Layout::kWidestAccess) ||
      !layout.find(AxisKind::Head) ||
      (layout.has(AxisKind::Layer) && !layout.find(AxisKind::Layer)))
    return 0;
  auto inner = layout.find(Axis{AxisKind::Channel, AxisPart::Inner});
  if (!inner)
    return innerChannels(channels, elementBytes);
  int64_t extent = layout.dim(*inner).extent;
  return powerOfTwoDivisor(extent, kSwizzled / elementBytes) == extent ? extent
                                                                       : 0;
}

bool hasBoxes(const Layout &layout, int64_t elementBytes, int64_t tokens,
              int64_t inner, AxisSet fixed) {
  int64_t largest = boxChannels(layout, elementBytes, tokens, fixed);
  return largest == inner || (largest && layout.find(AxisKind::Channel));
}

ChannelDims channelDims(const Layout &layout, int64_t inner) {
  int64_t channels = layout.extent(AxisKind::Channel);
  if (channels % inner)
    return {channels, 1};
  return {inner, channels / inner};
}

HeadNeighbor headNeighbor(const Layout &layout) {
  auto head = layout.find(AxisKind::Head), token = layout.find(AxisKind::Token);
  auto channel = layout.find(AxisKind::Channel);
  if (!head || !token || !channel)
    return HeadNeighbor::None;
  auto steps = layout.stride(*head), ofToken = layout.stride(*token);
  if (!steps || layout.stride(*channel) != 1)
    return HeadNeighbor::None;
  if (*steps == layout.dim(*channel).extent)
    return HeadNeighbor::Channels;
  return ofToken && *steps == *ofToken * layout.dim(*token).extent
             ? HeadNeighbor::Tokens
             : HeadNeighbor::None;
}

int64_t innerChannels(int64_t channels, int64_t elementBytes) {
  return powerOfTwoDivisor(channels, kSwizzled / elementBytes);
}

} // namespace kvcache
