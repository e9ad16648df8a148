// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Layout/Views.h"

#include <algorithm>

namespace kvcache {

static std::string strideStr(const Layout &layout, unsigned i) {
  if (std::optional<int64_t> stride = layout.stride(i))
    return std::to_string(*stride);
  return "known only at run time";
}

/// Why the two are not proven to be packed.
static std::string gapMessage(const Layout &layout, unsigned slower,
                              unsigned faster) {
  int64_t extent = layout.dim(faster).extent;
  std::string text = layout.dim(slower).axis.str() + " is not packed over " +
                     layout.dim(faster).axis.str() + ": the stride of " +
                     layout.dim(slower).axis.str() + " is " +
                     strideStr(layout, slower) + ", expected " +
                     (extent == kRunTime ? "?" : std::to_string(extent));
  if (std::optional<int64_t> stride = layout.stride(faster))
    return text + " * " + std::to_string(*stride);
  return text + " times the stride of " + layout.dim(faster).axis.str();
}

bool isRowMajor(const std::vector<StridedDim> &dims, unsigned first) {
  std::optional<int64_t> span = 1;
  for (unsigned d = dims.size(); d-- > first;) {
    int64_t extent = dims[d].extent, next;
    if (extent == 1)
      continue;
    if (!span || dims[d].stride != StrideFact::constant(*span))
      return false;
    bool isKnown =
        extent != kRunTime && !__builtin_mul_overflow(*span, extent, &next);
    span = isKnown ? std::optional(next) : std::nullopt;
  }
  return true;
}

StrideFact explicitStride(const Layout &layout, unsigned i) {
  if (std::optional<int64_t> stride = layout.stride(i))
    return StrideFact::constant(*stride);
  return StrideFact::runTime(layout.strideMultiple(i));
}

std::optional<StridedDim> collapse(const Layout &layout,
                                   const std::vector<Axis> &axes,
                                   std::string &why) {
  StridedDim result;
  std::optional<unsigned> faster;
  bool runTime = false;
  for (unsigned k = layout.rank(); k-- > 0;) {
    unsigned i = layout.orderAt(k);
    const LayoutDim &dim = layout.dim(i);
    if (std::find(axes.begin(), axes.end(), dim.axis) == axes.end() ||
        dim.extent == 1)
      continue;
    if (!faster)
      result.stride = explicitStride(layout, i);
    else if (!layout.isPackedOver(i, *faster)) {
      why = gapMessage(layout, i, *faster);
      return std::nullopt;
    }
    faster = i;
    runTime |= dim.extent == kRunTime;
    // At most the span of the layout.
    result.extent *= runTime ? 1 : dim.extent;
  }
  // Only axes of extent 1: any of them stands for all.
  if (!faster)
    result.stride = explicitStride(layout, *layout.find(axes.front()));
  if (runTime)
    result.extent = kRunTime;
  return result;
}

//===----------------------------------------------------------------------===//
// Reshape
//===----------------------------------------------------------------------===//

namespace {

/// Axes that are neighbours in the logical numbering and packed in memory: any
/// cut of their elements is a view.
struct Piece {
  std::vector<unsigned> axes;
  /// Of the extents that are constants.
  int64_t elements = 1;
  unsigned runTimeExtents = 0;

  unsigned slowest() const { return axes.front(); }
  unsigned fastest() const { return axes.back(); }
};

class Reshaper {
public:
  Reshaper(const Layout &layout, const std::vector<int64_t> &shape,
           std::string &why)
      : dims(shape.size()), sources(shape.size()), layout(layout), shape(shape),
        why(why) {}

  bool run(const std::vector<Axis> &sequence);

  std::vector<StridedDim> dims;
  std::vector<DimSource> sources;

private:
  bool addAxes(const std::vector<Axis> &sequence);
  bool matchConstant(const Piece &piece, const Piece *next, bool fromFastest);
  bool matchRunTime(size_t first, size_t last);
  bool fail(std::string message) {
    why = std::move(message);
    return false;
  }
  /// The dimensions [from, to) number these axes. A run-time extent among them
  /// is that of the axes, times `factor`.
  void assign(size_t from, size_t to, const std::vector<unsigned> &axes,
              int64_t factor = 1);
  std::string name(unsigned i) const { return layout.dim(i).axis.str(); }
  std::string names(const Piece &piece) const {
    return piece.axes.size() == 1
               ? name(piece.slowest())
               : name(piece.slowest()) + " to " + name(piece.fastest());
  }

  const Layout &layout;
  const std::vector<int64_t> &shape;
  std::string &why;
  /// As in the logical numbering, without extents of 1.
  std::vector<Piece> pieces;
  /// What is left of `shape`: [begin, end).
  size_t begin = 0, end = 0;
};

bool Reshaper::addAxes(const std::vector<Axis> &sequence) {
  for (const Axis &axis : sequence) {
    unsigned i = *layout.find(axis);
    const LayoutDim &dim = layout.dim(i);
    if (dim.extent == 1)
      continue;
    if (pieces.empty() || !layout.isPackedOver(pieces.back().fastest(), i))
      pieces.emplace_back();
    Piece &piece = pieces.back();
    piece.axes.push_back(i);
    if (dim.extent == kRunTime)
      ++piece.runTimeExtents;
    else
      piece.elements *= dim.extent;
  }
  for (int64_t extent : shape)
    if (extent != kRunTime && (extent < 1 || extent > kMaxExtent))
      return fail("an extent of the new shape is expected to be between 1 and "
                  "2^40, got " +
                  std::to_string(extent));
  return true;
}

void Reshaper::assign(size_t from, size_t to, const std::vector<unsigned> &axes,
                      int64_t factor) {
  StrideFact stride = explicitStride(layout, axes.back());
  for (size_t d = to; d-- > from;) {
    dims[d] = {shape[d], stride};
    sources[d] = {axes, to, factor};
    if (shape[d] == kRunTime)
      stride = StrideFact::runTime(stride.value * factor);
    else
      stride.value *= shape[d];
  }
}

/// Take new dimensions from one end until they make up the piece.
bool Reshaper::matchConstant(const Piece &piece, const Piece *next,
                             bool fromFastest) {
  size_t from = begin, to = end;
  int64_t product = 1;
  while (product < piece.elements) {
    if (begin == end)
      return fail("the new shape has fewer elements than " + names(piece));
    int64_t extent = shape[fromFastest ? end - 1 : begin];
    // Both factors are at most 2^52 and the product need not be.
    bool isOpen = extent == kRunTime;
    if (isOpen || __builtin_mul_overflow(product, extent, &product) ||
        product > piece.elements) {
      if (!next)
        return fail(isOpen ? "a run-time extent of the new shape covers " +
                                 names(piece) + ", whose extents are constants"
                           : "the new shape has more elements than " +
                                 names(piece));
      return fail("an extent of " + (isOpen ? "?" : std::to_string(extent)) +
                  " spans axes with a gap between them; " +
                  (fromFastest
                       ? gapMessage(layout, next->fastest(), piece.slowest())
                       : gapMessage(layout, piece.fastest(), next->slowest())));
    }
    if (fromFastest)
      --end;
    else
      ++begin;
  }
  if (fromFastest)
    assign(end, to, piece.axes);
  else
    assign(from, begin, piece.axes);
  return true;
}

/// The rest of the new dimensions for the pieces [first, last], the outer two
/// of which have run-time extents.
bool Reshaper::matchRunTime(size_t first, size_t last) {
  // Axis by axis, where nothing has to be known about the numbers.
  std::vector<unsigned> rest;
  for (size_t p = first; p <= last; ++p)
    rest.insert(rest.end(), pieces[p].axes.begin(), pieces[p].axes.end());
  std::vector<size_t> entries;
  for (size_t d = begin; d < end; ++d)
    if (shape[d] != 1)
      entries.push_back(d);
  bool same = rest.size() == entries.size();
  for (size_t k = 0; same && k < rest.size(); ++k)
    same = layout.dim(rest[k]).extent == shape[entries[k]];
  if (same) {
    size_t from = begin;
    for (size_t k = 0; k < rest.size(); ++k) {
      size_t to = k + 1 < rest.size() ? entries[k] + 1 : end;
      assign(from, to, {rest[k]});
      from = to;
    }
    return true;
  }

  const Piece &piece = pieces[first];
  if (first != last)
    return fail(
        "axes with a gap between them cannot be reshaped while their extents "
        "are known only at run time; " +
        gapMessage(layout, piece.fastest(), pieces[first + 1].slowest()));
  size_t open = 0;
  int64_t product = 1;
  for (size_t d : entries) {
    if (shape[d] == kRunTime) {
      ++open;
      continue;
    }
    if (__builtin_mul_overflow(product, shape[d], &product) ||
        piece.elements % product != 0)
      return fail("the run-time extent of " + names(piece) +
                  " is not known to be a multiple of what an extent of " +
                  std::to_string(shape[d]) + " requires");
  }
  if (open != 1)
    return fail("one run-time extent is expected for " + names(piece) +
                ", got " + std::to_string(open));
  assign(begin, end, piece.axes, piece.elements / product);
  return true;
}

bool Reshaper::run(const std::vector<Axis> &sequence) {
  if (!addAxes(sequence))
    return false;
  end = shape.size();
  // Constants from both ends, so that what is left is between run-time extents.
  size_t last = pieces.size(), first = 0;
  while (last > 0 && pieces[last - 1].runTimeExtents == 0) {
    const Piece *next = last > 1 ? &pieces[last - 2] : nullptr;
    if (!matchConstant(pieces[--last], next, /*fromFastest=*/true))
      return false;
  }
  for (; first < last && pieces[first].runTimeExtents == 0; ++first)
    if (!matchConstant(pieces[first], &pieces[first + 1],
                       /*fromFastest=*/false))
      return false;
  if (first < last)
    return matchRunTime(first, last - 1);
  // Only extents of 1 can be left; their stride is that of what they enclose.
  for (size_t d = end; d-- > begin;) {
    if (shape[d] != 1)
      return fail("the new shape has more elements than the layout");
    dims[d] = {1, StrideFact::constant(1)};
    sources[d].end = d + 1;
    if (d + 1 == shape.size())
      continue;
    dims[d].stride = dims[d + 1].stride;
    sources[d] = sources[d + 1];
    if (dims[d].stride.kind == StrideFact::Kind::Constant)
      dims[d].stride.value *= shape[d + 1];
  }
  return true;
}

} // namespace

std::optional<std::vector<StridedDim>>
reshape(const Layout &layout, const std::vector<Axis> &sequence,
        const std::vector<int64_t> &shape, std::string &why) {
  Reshaper reshaper(layout, shape, why);
  if (!reshaper.run(sequence))
    return std::nullopt;
  return std::move(reshaper.dims);
}

std::vector<DimSource> reshapeSources(const Layout &layout,
                                      const std::vector<Axis> &sequence,
                                      const std::vector<int64_t> &shape) {
  std::string why;
  Reshaper reshaper(layout, shape, why);
  reshaper.run(sequence);
  return std::move(reshaper.sources);
}

bool isPackedReshape(const Layout &layout,
                     const std::vector<DimSource> &sources,
                     const std::vector<int64_t> &shape, size_t slower,
                     size_t faster) {
  auto onlyUnits = [&](size_t from, size_t to) {
    return std::all_of(shape.begin() + from, shape.begin() + to,
                       [](int64_t extent) { return extent == 1; });
  };
  const DimSource &outer = sources[slower], &inner = sources[faster];
  if (outer.axes == inner.axes)
    return slower < faster && onlyUnits(slower + 1, faster);
  // The fastest dimension of its axes over the slowest one of others.
  size_t begin = faster;
  while (begin > 0 && sources[begin - 1].axes == inner.axes)
    --begin;
  return onlyUnits(slower + 1, outer.end) && onlyUnits(begin, faster) &&
         layout.isPackedOver(outer.axes.back(), inner.axes.front());
}

//===----------------------------------------------------------------------===//
// Rows of one number
//===----------------------------------------------------------------------===//

std::optional<FlatScale> flatScale(const Layout &layout, std::string &why) {
  std::optional<unsigned> block = layout.find(AxisKind::Block);
  std::optional<unsigned> token = layout.find(AxisKind::Token);
  if (!block || !token) {
    why = "the blocks or tokens are split into two axes";
    return std::nullopt;
  }
  std::optional<int64_t> outer = layout.stride(*block);
  std::optional<int64_t> inner = layout.stride(*token);
  if (outer && inner) {
    if (*outer % *inner == 0)
      return FlatScale{*outer / *inner, *outer / *inner};
    why = "the stride of B, " + std::to_string(*outer) +
          ", is not a multiple of the stride of N, " + std::to_string(*inner);
    return std::nullopt;
  }
  // From B down to N, each compact over the next: the scale is the product of
  // the extents, and the stride of N need not be known.
  FlatScale scale;
  bool runTime = false;
  for (unsigned i = *block;
       layout.dim(i).stride.kind == StrideFact::Kind::Compact;) {
    std::optional<unsigned> next = layout.nextFaster(i);
    if (!next)
      break;
    int64_t extent = layout.dim(*next).extent;
    runTime |= extent == kRunTime;
    scale.multiple *= extent == kRunTime ? 1 : extent;
    if (*next == *token) {
      scale.rowsPerBlock = runTime ? kRunTime : scale.multiple;
      return scale;
    }
    i = *next;
  }
  if (inner && layout.strideMultiple(*block) % *inner == 0)
    return FlatScale{kRunTime, layout.strideMultiple(*block) / *inner};
  why = "the stride of B is known only at run time, as a multiple of " +
        std::to_string(layout.strideMultiple(*block)) +
        ", and the stride of N is " + strideStr(layout, *token);
  if (outer)
    why = "the stride of N is known only at run time, and B is not packed over "
          "it";
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Other orders, parts
//===----------------------------------------------------------------------===//

Layout packed(const Layout &layout) {
  std::vector<LayoutDim> dims = layout.listing();
  for (LayoutDim &dim : dims)
    dim.stride = StrideFact::compact();
  std::string error;
  return *Layout::get(dims, layout.orderAxes(), layout.align(), error);
}

/// Say in numbers what follows from the extent or the place of axis `changed`:
/// the strides of the axes that are compact over it, also through axes of
/// extent 1, which cannot hold a number themselves.
static void detachFrom(const Layout &layout, unsigned changed,
                       std::vector<LayoutDim> &dims) {
  for (unsigned i = 0; i < layout.rank(); ++i) {
    if (dims[i].stride.kind != StrideFact::Kind::Compact)
      continue;
    std::optional<unsigned> next = layout.nextFaster(i);
    while (next && next != changed && layout.dim(*next).extent == 1)
      next = layout.nextFaster(*next);
    if (next == changed)
      dims[i].stride = explicitStride(layout, i);
  }
}

/// The alignment of base + index * stride(i); any index if there is none.
static int64_t offsetAlign(const Layout &layout, unsigned i,
                           std::optional<int64_t> index, int64_t elementBytes) {
  if (index == 0)
    return layout.align();
  // Factor by factor: the product may not fit.
  int64_t power = powerOfTwoDivisor(elementBytes, layout.align()) *
                  powerOfTwoDivisor(layout.strideMultiple(i), layout.align()) *
                  powerOfTwoDivisor(index.value_or(1), layout.align());
  return std::min(power, layout.align());
}

std::optional<Slice> sliceAxis(const Layout &layout, Axis axis,
                               std::optional<int64_t> index,
                               int64_t elementBytes, std::string &why) {
  unsigned dropped = *layout.find(axis);
  int64_t extent = layout.dim(dropped).extent;
  if (index && (*index < 0 || *index >= kMaxExtent ||
                (extent != kRunTime && *index >= extent))) {
    why = "the index of " + axis.str() +
          " is expected to be nonnegative and below " +
          (extent == kRunTime ? "2^40" : std::to_string(extent)) + ", got " +
          std::to_string(*index);
    return std::nullopt;
  }
  std::vector<LayoutDim> dims = layout.listing();
  // An axis of extent 1 leaves no gap behind.
  if (extent != 1)
    detachFrom(layout, dropped, dims);
  dims.erase(dims.begin() + dropped);
  std::vector<Axis> order = layout.orderAxes();
  order.erase(std::find(order.begin(), order.end(), axis));
  std::optional<Layout> rest = Layout::get(
      dims, order, offsetAlign(layout, dropped, index, elementBytes), why);
  if (!rest)
    return std::nullopt;
  return Slice{*rest, explicitStride(layout, dropped)};
}

std::optional<Slice> narrowAxis(const Layout &layout, Axis axis,
                                std::optional<int64_t> first, int64_t count,
                                int64_t elementBytes, std::string &why) {
  unsigned narrowed = *layout.find(axis);
  int64_t extent = layout.dim(narrowed).extent;
  int64_t most = extent == kRunTime ? kMaxExtent : extent;
  int64_t least = count == kRunTime ? 1 : count;
  if (least < 1 || least > most || first.value_or(0) < 0 ||
      first.value_or(0) > most - least) {
    why = "a range of " + axis.str() + " is expected to be within " +
          (extent == kRunTime ? "?" : std::to_string(extent)) + ", got " +
          (count == kRunTime ? "?" : std::to_string(count)) + " starting at " +
          (first ? std::to_string(*first) : "?");
    return std::nullopt;
  }
  std::vector<LayoutDim> dims = layout.listing();
  if (extent != count || count == kRunTime)
    detachFrom(layout, narrowed, dims);
  // With one index left the stride loses its meaning, and slower compact axes
  // would change with it.
  dims[narrowed].extent = count;
  std::optional<Layout> rest =
      Layout::get(dims, layout.orderAxes(),
                  offsetAlign(layout, narrowed, first, elementBytes), why);
  if (!rest)
    return std::nullopt;
  return Slice{*rest, explicitStride(layout, narrowed)};
}

} // namespace kvcache
