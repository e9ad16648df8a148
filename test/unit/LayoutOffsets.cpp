// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "LayoutOffsets.h"

#include <algorithm>
#include <limits>

namespace kvcache {

std::optional<std::vector<int64_t>>
concreteStrides(const Layout &layout, const std::vector<int64_t> &extents,
                const std::vector<int64_t> &strides, std::string &why) {
  std::vector<int64_t> result(layout.rank());
  // From fastest to slowest: where the next axis would begin without a gap, and
  // what it begins at a multiple of, if that is all that is known.
  int64_t span = 1, multiple = 0;
  // What the axes with more than one index span.
  int64_t room = 1;
  for (unsigned k = layout.rank(); k-- > 0;) {
    unsigned i = layout.orderAt(k);
    const LayoutDim &dim = layout.dim(i);
    std::string name = dim.axis.str();
    auto refuse = [&](const std::string &what, const std::string &expected,
                      int64_t got) {
      why = "the " + what + " of " + name + " is expected to be " + expected +
            ", got " + std::to_string(got);
      return std::nullopt;
    };
    if (dim.extent != kRunTime && extents[i] != dim.extent)
      return refuse("extent", std::to_string(dim.extent), extents[i]);
    if (extents[i] < 1 || extents[i] > kMaxExtent)
      return refuse("extent", "between 1 and 2^40", extents[i]);

    // A constant is used by slower axes that are compact over this one, also
    // where the extent turns out to be 1.
    result[i] = span;
    bool isUnit = extents[i] == 1;
    bool isGiven = strides[i] != kRunTime && !isUnit;
    switch (dim.stride.kind) {
    case StrideFact::Kind::Compact:
      if (isGiven && multiple && strides[i] % multiple == 0 &&
          strides[i] <= kMaxExtent)
        result[i] = strides[i];
      else if (isGiven && strides[i] != span)
        return refuse("stride", "compact, " + std::to_string(span), strides[i]);
      break;
    case StrideFact::Kind::Constant:
      if (isGiven && strides[i] != dim.stride.value)
        return refuse("stride", std::to_string(dim.stride.value), strides[i]);
      result[i] = dim.stride.value;
      multiple = 0;
      break;
    case StrideFact::Kind::RunTime:
      multiple = dim.stride.value;
      if (isUnit) {
        result[i] = (span + multiple - 1) / multiple * multiple;
        break;
      }
      if (!isGiven)
        return refuse("stride", "given", strides[i]);
      if (strides[i] % dim.stride.value != 0)
        return refuse("stride",
                      "a multiple of " + std::to_string(dim.stride.value),
                      strides[i]);
      if (strides[i] > kMaxExtent)
        return refuse("stride", "at most 2^40", strides[i]);
      result[i] = strides[i];
      break;
    }
    if (!isUnit)
      multiple = 0;
    if (!isUnit && result[i] < room)
      return refuse("stride",
                    "at least " + std::to_string(room) +
                        ", the span of the faster axes",
                    result[i]);
    bool fits = !__builtin_mul_overflow(result[i], extents[i], &span) &&
                span <= Layout::kMaxSpan;
    if (!isUnit)
      room = span;
    if (!fits) {
      why = "the axes up to " + name +
            " are expected to span at most 2^52 elements";
      return std::nullopt;
    }
  }
  return result;
}

std::optional<int64_t> offsetOf(const Layout &layout,
                                const std::vector<int64_t> &indices,
                                const std::vector<int64_t> &extents,
                                const std::vector<int64_t> &strides,
                                std::string &why) {
  std::optional<std::vector<int64_t>> steps =
      concreteStrides(layout, extents, strides, why);
  if (!steps)
    return std::nullopt;
  int64_t offset = 0;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    if (indices[i] < 0 || indices[i] >= extents[i]) {
      why = "the index of " + layout.dim(i).axis.str() +
            " is expected to be nonnegative and below " +
            std::to_string(extents[i]) + ", got " + std::to_string(indices[i]);
      return std::nullopt;
    }
    // Below the span, as the axes do not overlap.
    offset += indices[i] * (*steps)[i];
  }
  return offset;
}

/// What the offsets of the last element are between, for any run-time values.
struct Reach {
  int64_t least = 0;
  std::optional<int64_t> exact = 0;
};

static Reach reachOf(const Layout &layout, OffsetRange range) {
  Reach reach;
  // What the faster axes span at least.
  int64_t span = 1;
  for (unsigned k = layout.rank(); k-- > 0;) {
    unsigned i = layout.orderAt(k);
    const LayoutDim &dim = layout.dim(i);
    std::optional<int64_t> known = layout.stride(i);
    int64_t stride = known.value_or(std::max(span, layout.strideMultiple(i)));
    int64_t extent = dim.extent == kRunTime ? 1 : dim.extent;
    span = stride * extent;
    if (dim.extent == 1 ||
        (range == OffsetRange::Block && dim.axis.kind == AxisKind::Block))
      continue;
    reach.least += (extent - 1) * stride;
    if (known && dim.extent != kRunTime && reach.exact)
      *reach.exact += (extent - 1) * stride;
    else
      reach.exact.reset();
  }
  return reach;
}

BlockSplit blockSplit(const Layout &layout) {
  return {explicitStride(layout, *layout.find(AxisKind::Block)),
          reachOf(layout, OffsetRange::Block).exact};
}

Proof fitsOffset32(const Layout &layout, int64_t elementBytes,
                   OffsetRange range) {
  Reach reach = reachOf(layout, range);
  int64_t limit = std::numeric_limits<int32_t>::max() / elementBytes;
  if (reach.least > limit)
    return Proof::No;
  return reach.exact ? Proof::Yes : Proof::Unknown;
}

} // namespace kvcache
