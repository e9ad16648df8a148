// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Layout/Facts.h"

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

} // namespace kvcache
