// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Layout/Layout.h"

#include <algorithm>

namespace kvcache {

static constexpr std::string_view kLetters = "LSBNHD";

std::string Axis::str() const {
  std::string text(1, kLetters[static_cast<unsigned>(kind)]);
  if (part != AxisPart::Whole)
    text += part == AxisPart::Outer ? ".o" : ".i";
  return text;
}

std::optional<Axis> Axis::parse(std::string_view text) {
  size_t letter = text.empty() ? kLetters.npos : kLetters.find(text[0]);
  if (letter == kLetters.npos)
    return std::nullopt;
  Axis axis{static_cast<AxisKind>(letter)};
  std::string_view suffix = text.substr(1);
  if (suffix == ".o")
    axis.part = AxisPart::Outer;
  else if (suffix == ".i")
    axis.part = AxisPart::Inner;
  else if (!suffix.empty())
    return std::nullopt;
  return axis;
}

int64_t powerOfTwoDivisor(int64_t value, int64_t limit) {
  int64_t result = 1;
  while (result < limit && value % (result * 2) == 0)
    result *= 2;
  return result;
}

int64_t alignmentOf(int64_t elements, int64_t elementBytes, int64_t limit) {
  return powerOfTwoDivisor(powerOfTwoDivisor(elements, limit) * elementBytes,
                           limit);
}

static std::string extentStr(int64_t extent) {
  return extent == kRunTime ? "?" : std::to_string(extent);
}

static std::string listStr(const std::vector<Axis> &axes) {
  std::string text = "[";
  for (const Axis &axis : axes)
    text += (text.size() > 1 ? ", " : "") + axis.str();
  return text + "]";
}

static std::optional<std::string>
checkListing(const std::vector<LayoutDim> &dims) {
  std::vector<Axis> listed, sorted;
  for (const LayoutDim &dim : dims)
    listed.push_back(dim.axis);
  sorted = listed;
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 1; i < sorted.size(); ++i) {
    bool sameKind = sorted[i - 1].kind == sorted[i].kind;
    if (sorted[i - 1] == sorted[i])
      return "layout_c1: each axis is expected once, got " + sorted[i].str() +
             " twice";
    if (sameKind && sorted[i - 1].part == AxisPart::Whole)
      return "layout_c1: an axis is expected to be whole or split, got " +
             sorted[i - 1].str() + " and " + sorted[i].str();
  }
  if (listed != sorted)
    return "layout_c1: the axes are expected to be listed as " +
           listStr(sorted) + ", got " + listStr(listed) +
           "; use 'order' for the memory order";
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i].part == AxisPart::Whole)
      continue;
    bool outer = sorted[i].part == AxisPart::Outer;
    Axis other{sorted[i].kind, outer ? AxisPart::Inner : AxisPart::Outer};
    if (!std::count(sorted.begin(), sorted.end(), other))
      return "layout_c1: a split axis is expected with both parts, got only " +
             sorted[i].str() + " without " + other.str();
  }
  for (AxisKind kind : {AxisKind::Block, AxisKind::Token, AxisKind::Channel})
    if (std::none_of(sorted.begin(), sorted.end(),
                     [&](const Axis &axis) { return axis.kind == kind; }))
      return "layout_c2: a cache is expected to have the axes B, N and D, "
             "got " +
             listStr(sorted) + " without " + Axis{kind}.str();
  for (const LayoutDim &dim : dims)
    if (dim.extent != kRunTime && (dim.extent < 1 || dim.extent > kMaxExtent))
      return "layout_c3: the extent of " + dim.axis.str() +
             " is expected to be between 1 and 2^40, got " +
             std::to_string(dim.extent);
  return std::nullopt;
}

std::optional<Layout> Layout::get(const std::vector<LayoutDim> &dims,
                                  std::vector<Axis> order, int64_t align,
                                  std::string &error) {
  if (std::optional<std::string> problem = checkListing(dims)) {
    error = *problem;
    return std::nullopt;
  }
  if (dims.size() > kMaxRank) {
    error = "layout_c1: at most " + std::to_string(kMaxRank) +
            " axes are expected, got " + std::to_string(dims.size());
    return std::nullopt;
  }
  if (align < 1 || align > 4096 || (align & (align - 1))) {
    error = "layout_c6: the alignment is expected to be a power of two of at "
            "most 4096 bytes, got " +
            std::to_string(align);
    return std::nullopt;
  }

  Layout layout;
  layout.numDims = dims.size();
  layout.baseAlign = align;
  std::vector<Axis> listed;
  for (size_t i = 0; i < dims.size(); ++i) {
    layout.dims[i] = dims[i];
    listed.push_back(dims[i].axis);
  }
  if (order.empty())
    order = listed;
  std::vector<Axis> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  if (sorted != listed) {
    error = "layout_c4: the order is expected to be a permutation of " +
            listStr(listed) + ", got " + listStr(order);
    return std::nullopt;
  }
  for (size_t i = 0; i < order.size(); ++i)
    layout.order[i] = *layout.find(order[i]);

  // From fastest to slowest: what the faster axes span is the least stride of
  // the next axis. An extent of 1 or a run-time value leaves the span open,
  // which is right: nothing can be proven to overlap then.
  int64_t span = 1;
  for (unsigned i = layout.numDims; i-- > 0;) {
    LayoutDim &dim = layout.dims[layout.order[i]];
    if (dim.extent == 1)
      dim.stride = StrideFact::compact();
    if (dim.stride.kind != StrideFact::Kind::Compact &&
        (dim.stride.value < 1 || dim.stride.value > kMaxExtent)) {
      error = "layout_c5: the stride of " + dim.axis.str() +
              " is expected to be between 1 and 2^40, got " +
              std::to_string(dim.stride.value);
      return std::nullopt;
    }
    if (dim.stride.kind == StrideFact::Kind::Constant &&
        dim.stride.value < span) {
      error = "layout_c5: the stride of " + dim.axis.str() +
              " is expected to be at least " + std::to_string(span) +
              ", the span of the faster axes, got " +
              std::to_string(dim.stride.value);
      return std::nullopt;
    }
    if (dim.stride.kind == StrideFact::Kind::RunTime)
      span = std::max(span, dim.stride.value);
    std::optional<int64_t> stride = layout.stride(layout.order[i]);
    int64_t extent = dim.extent == kRunTime ? 1 : dim.extent;
    if (__builtin_mul_overflow(stride.value_or(span), extent, &span) ||
        span > kMaxSpan) {
      error =
          "layout_c5: the axes up to " + dim.axis.str() +
          " are expected to span at most 2^52 elements, got more with extent " +
          extentStr(dim.extent);
      return std::nullopt;
    }
    // A constant stride that says what compact means is spelled compact, so
    // that equal layouts are equal types.
    if (dim.stride.kind == StrideFact::Kind::Constant) {
      StrideFact given = dim.stride;
      dim.stride = StrideFact::compact();
      if (layout.stride(layout.order[i]) != given.value)
        dim.stride = given;
    }
  }
  return layout;
}

bool Layout::hasListedOrder() const {
  for (unsigned i = 0; i < numDims; ++i)
    if (order[i] != i)
      return false;
  return true;
}

std::optional<unsigned> Layout::find(Axis axis) const {
  for (unsigned i = 0; i < numDims; ++i)
    if (dims[i].axis == axis)
      return i;
  return std::nullopt;
}

bool Layout::has(AxisKind kind) const {
  for (unsigned i = 0; i < numDims; ++i)
    if (dims[i].axis.kind == kind)
      return true;
  return false;
}

int64_t Layout::extent(AxisKind kind) const {
  int64_t product = 1;
  for (unsigned i = 0; i < numDims; ++i) {
    if (dims[i].axis.kind != kind)
      continue;
    if (dims[i].extent == kRunTime)
      return kRunTime;
    product *= dims[i].extent;
  }
  return product;
}

std::optional<unsigned> Layout::nextFaster(unsigned i) const {
  for (unsigned k = 0; k + 1 < numDims; ++k)
    if (order[k] == i)
      return order[k + 1];
  return std::nullopt;
}

std::optional<int64_t> Layout::stride(unsigned i) const {
  switch (dims[i].stride.kind) {
  case StrideFact::Kind::Constant:
    return dims[i].stride.value;
  case StrideFact::Kind::RunTime:
    return std::nullopt;
  case StrideFact::Kind::Compact:
    break;
  }
  std::optional<unsigned> faster = nextFaster(i);
  if (!faster)
    return 1;
  std::optional<int64_t> inner = stride(*faster);
  if (!inner || dims[*faster].extent == kRunTime)
    return std::nullopt;
  return *inner * dims[*faster].extent;
}

int64_t Layout::strideMultiple(unsigned i) const {
  if (dims[i].stride.kind != StrideFact::Kind::Compact)
    return dims[i].stride.value;
  std::optional<unsigned> faster = nextFaster(i);
  if (!faster)
    return 1;
  int64_t extent = dims[*faster].extent;
  return strideMultiple(*faster) * (extent == kRunTime ? 1 : extent);
}

bool Layout::isCompact() const {
  for (unsigned i = 0; i < numDims; ++i)
    if (dims[i].stride.kind != StrideFact::Kind::Compact)
      return false;
  return true;
}

bool Layout::isPackedOver(unsigned slower, unsigned faster) const {
  // Whatever the extents and strides are: compact says so, and an axis of
  // extent 1 between the two changes nothing.
  for (unsigned i = slower; dims[i].stride.kind == StrideFact::Kind::Compact;) {
    std::optional<unsigned> next = nextFaster(i);
    if (next == faster)
      return true;
    if (!next || dims[*next].extent != 1)
      break;
    i = *next;
  }
  std::optional<int64_t> outer = stride(slower), inner = stride(faster);
  int64_t extent = dims[faster].extent;
  // A product of a stride and an extent that `get` accepted cannot overflow.
  return outer && inner && extent != kRunTime && *outer == extent * *inner;
}

std::vector<Axis> Layout::orderAxes() const {
  std::vector<Axis> axes;
  for (unsigned i = 0; i < numDims; ++i)
    axes.push_back(dims[order[i]].axis);
  return axes;
}

std::vector<LayoutDim> Layout::listing() const {
  return std::vector<LayoutDim>(dims.begin(), dims.begin() + numDims);
}

bool Layout::isFlat() const {
  std::optional<unsigned> block = find(AxisKind::Block);
  std::optional<unsigned> token = find(AxisKind::Token);
  return block && token && isPackedOver(*block, *token);
}

Run Layout::contiguousRun(AxisSet moved) const {
  Run run;
  for (unsigned i = numDims; i-- > 0;) {
    const LayoutDim &dim = dims[order[i]];
    // An axis of extent 1 is part of any run: its stride is never used.
    if (dim.extent != 1) {
      if (!moved.contains(dim.axis.kind) || dim.extent == kRunTime ||
          stride(order[i]) != run.elements)
        break;
      run.elements *= dim.extent;
    }
    ++run.axes;
  }
  return run;
}

Run Layout::commonRun(const std::vector<Axis> &packed) const {
  Run run;
  size_t left = packed.size();
  auto skipUnits = [&] {
    while (left && dims[*find(packed[left - 1])].extent == 1)
      --left;
  };
  for (unsigned i = numDims; i-- > 0; ++run.axes) {
    const LayoutDim &dim = dims[order[i]];
    if (dim.extent == 1)
      continue;
    skipUnits();
    if (!left || packed[left - 1] != dim.axis || dim.extent == kRunTime ||
        stride(order[i]) != run.elements)
      break;
    run.elements *= dim.extent;
    --left;
  }
  return run;
}

int64_t Layout::accessBytes(Run run, int64_t elementBytes, bool aligned) const {
  int64_t base = aligned ? kWidestAccess : std::min(kWidestAccess, baseAlign);
  int64_t width = alignmentOf(run.elements, elementBytes, base);
  for (unsigned k = 0; k + run.axes < numDims; ++k)
    if (!aligned || stride(order[k]))
      width = stepAlignment(order[k], 1, elementBytes, width);
  return width;
}

int64_t Layout::stepAlignment(unsigned i, int64_t step, int64_t elementBytes,
                              int64_t limit) const {
  if (dims[i].extent == 1)
    return limit;
  int64_t one = alignmentOf(strideMultiple(i), elementBytes, limit);
  return alignmentOf(step, one, limit);
}

bool Layout::operator==(const Layout &o) const {
  return numDims == o.numDims && baseAlign == o.baseAlign &&
         std::equal(dims.begin(), dims.begin() + numDims, o.dims.begin()) &&
         std::equal(order.begin(), order.begin() + numDims, o.order.begin());
}

} // namespace kvcache
