// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Layout/Access.h"

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

} // namespace kvcache
