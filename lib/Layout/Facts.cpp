// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Layout/Facts.h"

#include "kvcache/Layout/Views.h"

#include <algorithm>
#include <numeric>

namespace kvcache {

/// The same axes, in the same order but for those of extent 1 in both.
static bool haveSameOrder(const Layout &a, const Layout &b, std::string &why) {
  auto axesStr = [](const std::vector<Axis> &axes) {
    std::string text;
    for (const Axis &axis : axes)
      text += (text.empty() ? "" : ", ") + axis.str();
    return "[" + text + "]";
  };
  std::vector<Axis> orderA, orderB;
  bool same = a.rank() == b.rank();
  for (unsigned i = 0; same && i < a.rank(); ++i)
    same = a.dim(i).axis == b.dim(i).axis;
  for (unsigned k = 0; same && k < a.rank(); ++k) {
    unsigned i = a.orderAt(k), j = b.orderAt(k);
    auto isUnit = [&](unsigned d) {
      return a.dim(d).extent == 1 && b.dim(d).extent == 1;
    };
    if (!isUnit(i))
      orderA.push_back(a.dim(i).axis);
    if (!isUnit(j))
      orderB.push_back(b.dim(j).axis);
  }
  if (same && orderA == orderB)
    return true;
  why = "the order is expected to be " + axesStr(b.orderAxes()) + ", got " +
        axesStr(a.orderAxes());
  return false;
}

static std::string numberStr(int64_t value) {
  return value == kRunTime ? "?" : std::to_string(value);
}

bool implies(const Layout &stronger, const Layout &weaker, std::string &why) {
  if (!haveSameOrder(stronger, weaker, why))
    return false;
  if (stronger.align() < weaker.align()) {
    why = "the alignment is expected to be " + std::to_string(weaker.align()) +
          ", got " + std::to_string(stronger.align());
    return false;
  }
  for (unsigned i = 0; i < weaker.rank(); ++i) {
    const LayoutDim &have = stronger.dim(i), &want = weaker.dim(i);
    if (want.extent != kRunTime && have.extent != want.extent) {
      why = "the extent of " + want.axis.str() + " is expected to be " +
            numberStr(want.extent) + ", got " + numberStr(have.extent);
      return false;
    }
    // Its stride is never used.
    if (want.extent == 1)
      continue;
    bool proven = false;
    std::string expected;
    switch (want.stride.kind) {
    case StrideFact::Kind::Compact:
      // A number that means compact is spelled compact.
      proven = have.stride.kind == StrideFact::Kind::Compact;
      expected = "compact";
      break;
    case StrideFact::Kind::Constant:
      proven = stronger.stride(i) == want.stride.value;
      expected = std::to_string(want.stride.value);
      break;
    case StrideFact::Kind::RunTime:
      proven = stronger.strideMultiple(i) % want.stride.value == 0;
      expected = "a multiple of " + std::to_string(want.stride.value);
      break;
    }
    if (proven)
      continue;
    std::optional<int64_t> known = stronger.stride(i);
    why =
        "the stride of " + want.axis.str() + " is expected to be " + expected +
        ", got " +
        (known ? std::to_string(*known)
               : "a multiple of " + std::to_string(stronger.strideMultiple(i)));
    return false;
  }
  return true;
}

std::optional<Layout> join(const Layout &a, const Layout &b) {
  std::string why;
  if (!haveSameOrder(a, b, why))
    return std::nullopt;
  std::vector<LayoutDim> dims = a.listing();
  for (unsigned i = 0; i < a.rank(); ++i) {
    LayoutDim &dim = dims[i];
    if (dim.extent != b.dim(i).extent)
      dim.extent = kRunTime;
    std::optional<int64_t> strideA = a.stride(i), strideB = b.stride(i);
    if (dim.stride.kind == StrideFact::Kind::Compact &&
        b.dim(i).stride.kind == StrideFact::Kind::Compact)
      continue;
    if (strideA && strideA == strideB)
      dim.stride = StrideFact::constant(*strideA);
    else
      dim.stride = StrideFact::runTime(
          std::gcd(a.strideMultiple(i), b.strideMultiple(i)));
  }
  return Layout::get(dims, a.orderAxes(), std::min(a.align(), b.align()), why);
}

bool implies(const StrideFact &stronger, const StrideFact &weaker) {
  return weaker.kind == StrideFact::Kind::Constant
             ? stronger == weaker
             : stronger.value % weaker.value == 0;
}

bool contradict(const StrideFact &a, const StrideFact &b) {
  bool aIsKnown = a.kind == StrideFact::Kind::Constant;
  bool bIsKnown = b.kind == StrideFact::Kind::Constant;
  return (aIsKnown && !implies(a, b)) || (bIsKnown && !implies(b, a));
}

bool contradict(const Layout &a, const Layout &b) {
  for (unsigned i = 0; i < a.rank(); ++i) {
    int64_t left = a.dim(i).extent, right = b.dim(i).extent;
    if (left != kRunTime && right != kRunTime && left != right)
      return true;
    if (a.dim(i).extent == 1 || b.dim(i).extent == 1)
      continue;
    if (contradict(explicitStride(a, i), explicitStride(b, i)))
      return true;
  }
  return false;
}

/// More facts than `layout` has, if they do not contradict it.
static std::optional<Layout> withStrides(const Layout &layout,
                                         const std::vector<LayoutDim> &dims,
                                         std::string &why) {
  std::optional<Layout> more =
      Layout::get(dims, layout.orderAxes(), layout.align(), why);
  if (more && contradict(*more, layout)) {
    why = "the strides are known to differ";
    return std::nullopt;
  }
  return more;
}

std::optional<unsigned> fasterAxis(const Layout &layout, unsigned i) {
  std::optional<unsigned> next = layout.nextFaster(i);
  while (next && layout.dim(*next).extent == 1)
    next = layout.nextFaster(*next);
  return next;
}

bool isSpannedByCompact(const Layout &layout, unsigned i) {
  unsigned place = 0;
  while (layout.orderAt(place) != i)
    ++place;
  while (place-- > 0) {
    const LayoutDim &slower = layout.dim(layout.orderAt(place));
    if (slower.stride.kind != StrideFact::Kind::Compact)
      return false;
    if (slower.extent != 1)
      return true;
  }
  return false;
}

/// Puts back what `a` says where the facts of both together say more of the
/// axis at a place of the order than either of them: it is compact in one of
/// the two, and the fact of an axis that it spans, and that may have extent 1,
/// is that of the other. Gives whether there was anything to put back.
static bool separateFacts(std::vector<LayoutDim> &dims, const Layout &a,
                          const Layout &b, unsigned place) {
  auto isCompact = [](const StrideFact &fact) {
    return fact.kind == StrideFact::Kind::Compact;
  };
  const LayoutDim &slower = dims[a.orderAt(place)];
  if (slower.extent == 1 || !isCompact(slower.stride))
    return false;
  // Which of the two says what is spanned, as far as it was followed.
  bool byA = isCompact(a.dim(a.orderAt(place)).stride);
  bool byB = isCompact(b.dim(a.orderAt(place)).stride);
  for (unsigned k = place + 1; k < a.rank(); ++k) {
    unsigned i = a.orderAt(k);
    if (dims[i].extent != 1 && dims[i].extent != kRunTime)
      return false;
    StrideFact fact = dims[i].stride;
    if ((fact != a.dim(i).stride && !byB) ||
        (fact != b.dim(i).stride && !byA)) {
      for (unsigned taken = place; taken <= k; ++taken)
        dims[a.orderAt(taken)] = a.dim(a.orderAt(taken));
      return true;
    }
    if (!isCompact(fact))
      return false;
    byA &= isCompact(a.dim(i).stride);
    byB &= isCompact(b.dim(i).stride);
  }
  return false;
}

std::optional<Layout> meet(const Layout &a, const Layout &b) {
  std::string why;
  if (a.orderAxes() != b.orderAxes())
    return std::nullopt;
  std::vector<LayoutDim> dims = a.listing();
  for (unsigned i = 0; i < a.rank(); ++i) {
    LayoutDim &dim = dims[i];
    const LayoutDim &other = b.dim(i);
    if (dim.extent == kRunTime)
      dim.extent = other.extent;
    else if (other.extent != kRunTime && other.extent != dim.extent)
      return std::nullopt;
    if (dim.stride.kind == StrideFact::Kind::Compact)
      continue;
    std::optional<int64_t> strideA = a.stride(i), strideB = b.stride(i);
    if (strideA && strideB && strideA != strideB)
      return std::nullopt;
    if (other.stride.kind == StrideFact::Kind::Compact)
      dim.stride = StrideFact::compact();
    else if (strideA || strideB)
      dim.stride = StrideFact::constant(strideA ? *strideA : *strideB);
    else
      dim.stride = StrideFact::runTime(
          std::lcm(a.strideMultiple(i), b.strideMultiple(i)));
  }
  // Each time more axes are what they are in `a`.
  for (unsigned place = 0; place < a.rank();)
    place = separateFacts(dims, a, b, place) ? 0 : place + 1;
  std::optional<Layout> both =
      Layout::get(dims, a.orderAxes(), std::max(a.align(), b.align()), why);
  if (both && (contradict(*both, a) || contradict(*both, b)))
    return std::nullopt;
  return both;
}

std::optional<Layout> assumeFlat(const Layout &layout, std::string &why) {
  std::optional<unsigned> block = layout.find(AxisKind::Block);
  std::optional<unsigned> token = layout.find(AxisKind::Token);
  if (!block || !token) {
    why = "the blocks or tokens are split into two axes";
    return std::nullopt;
  }
  std::vector<LayoutDim> dims = layout.listing();
  std::optional<int64_t> inner = layout.stride(*token);
  int64_t tokens = layout.dim(*token).extent;
  std::optional<int64_t> outer = layout.stride(*block);
  if (outer && inner && tokens != kRunTime && *outer != tokens * *inner) {
    why = "the stride of B is " + std::to_string(*outer) + ", expected " +
          std::to_string(tokens) + " * " + std::to_string(*inner);
    return std::nullopt;
  }
  if (layout.nextFaster(*block) == token)
    dims[*block].stride = StrideFact::compact();
  else if (inner && tokens != kRunTime)
    dims[*block].stride = StrideFact::constant(tokens * *inner);
  std::optional<Layout> flat = withStrides(layout, dims, why);
  if (flat && flat->isFlat())
    return flat;
  if (flat)
    why = "the stride of N is known only at run time";
  return std::nullopt;
}

/// The layout with another fact for each stride that is known at run time only.
static std::optional<Layout> replaceRunTime(const Layout &layout,
                                            int64_t multiple) {
  std::vector<LayoutDim> dims = layout.listing();
  for (LayoutDim &dim : dims)
    if (dim.stride.kind == StrideFact::Kind::RunTime)
      dim.stride =
          multiple ? StrideFact::runTime(std::lcm(dim.stride.value, multiple))
                   : StrideFact::compact();
  std::string why;
  std::optional<Layout> more = withStrides(layout, dims, why);
  if (!more || *more == layout)
    return std::nullopt;
  return more;
}

std::optional<Layout> assumeCompact(const Layout &layout) {
  return replaceRunTime(layout, 0);
}

std::optional<Layout> assumeBlockStride(const Layout &layout, int64_t stride) {
  std::optional<unsigned> block = layout.find(AxisKind::Block);
  if (!block || layout.dim(*block).stride.kind != StrideFact::Kind::RunTime)
    return std::nullopt;
  std::vector<LayoutDim> dims = layout.listing();
  dims[*block].stride = StrideFact::constant(stride);
  std::string why;
  return withStrides(layout, dims, why);
}

std::optional<Layout> assumeMultiple(const Layout &layout, int64_t multiple) {
  return replaceRunTime(layout, multiple);
}

} // namespace kvcache
