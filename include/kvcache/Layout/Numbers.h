// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The numbers of a layout: extents and strides that are known only at run time,
// and those of views. Each function is written once, for any kind of number. A
// builder creates them: `Integers` computes them immediately, and the builder
// of the lowerings emits code. So compiled programs compute the same as the
// unit tests.
//
// A builder has a type `Number`, and methods named after operations of arith:
//
//   index, i1                  constants: a number, a condition
//   addi, subi, muli           of two numbers
//   minui, maxsi, select       of two numbers
//   remui, ceildivui           of a number and an integer
//   addSat, mulSat             of two numbers that are not negative; where the
//                              result does not fit 64 bits it is in no range
//   eq, ule, sge               these give a `Condition`
//   ori                        of two numbers or two conditions
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LAYOUT_NUMBERS_H
#define KVCACHE_LAYOUT_NUMBERS_H

#include "kvcache/Layout/Access.h"
#include "kvcache/Layout/Views.h"

#include <algorithm>
#include <limits>

namespace kvcache {

/// Known numbers: the builder that computes immediately.
class Integers {
public:
  using Number = int64_t;
  using Condition = bool;

  Number index(int64_t n) { return n; }
  Number addi(Number a, Number b) { return a + b; }
  Number subi(Number a, Number b) { return a - b; }
  Number muli(Number a, Number b) { return a * b; }
  Number remui(Number a, int64_t n) { return a % n; }
  Number minui(Number a, Number b) { return uint64_t(a) < uint64_t(b) ? a : b; }
  Number maxsi(Number a, Number b) { return std::max(a, b); }
  Number ceildivui(Number a, int64_t n) { return a / n + (a % n != 0); }
  Number ori(Number a, Number b) { return a | b; }
  Number addSat(Number a, Number b) { return std::min(a, kMost - b) + b; }
  Number mulSat(Number a, Number b) {
    return std::min(a, kMost / std::max<Number>(b, 1)) * b;
  }
  Condition i1(bool holds) { return holds; }
  Condition eq(Number a, Number b) { return a == b; }
  Condition ule(Number a, Number b) { return uint64_t(a) <= uint64_t(b); }
  Condition sge(Number a, Number b) { return a >= b; }
  Condition ori(Condition a, Condition b) { return a || b; }
  Number select(Condition c, Number a, Number b) { return c ? a : b; }

private:
  static constexpr Number kMost = std::numeric_limits<Number>::max();
};

/// The strides of all axes as listed. `given` are those of a descriptor, by
/// axis, which are used only where the layout does not know a stride: not for
/// an axis of extent 1, which has the compact stride.
template <typename Builder, typename Number = typename Builder::Number>
std::vector<Number> stridesOf(Builder &b, const Layout &layout,
                              const std::vector<Number> &extents,
                              const std::vector<Number> &given) {
  std::vector<Number> strides(layout.rank());
  for (unsigned k = layout.rank(); k-- > 0;) {
    unsigned i = layout.orderAt(k);
    std::optional<int64_t> known = layout.stride(i);
    std::optional<unsigned> faster = layout.nextFaster(i);
    if (known)
      strides[i] = b.index(*known);
    else if (layout.dim(i).extent == 1 && faster)
      strides[i] = b.muli(strides[*faster], extents[*faster]);
    else
      strides[i] = given[i];
  }
  return strides;
}

/// Arbitrary extents and strides, made safe to compute with.
template <typename Number> struct BoundedNumbers {
  std::vector<Number> extents, strides;
  /// The elements from the first to the end of the last, 0 if there are none.
  Number span;
};

/// Numbers of a layout whose run-time extents and strides, by axis, are
/// untrusted. `require` receives the conditions under which they match the
/// layout; results are bounded in any case: extents and strides by 2^40,
/// products by saturation.
template <typename Builder, typename Require,
          typename Number = typename Builder::Number>
BoundedNumbers<Number> boundedNumbers(Builder &b, const Layout &layout,
                                      const std::vector<Number> &givenExtents,
                                      const std::vector<Number> &givenStrides,
                                      Require require) {
  BoundedNumbers<Number> out;
  out.extents.resize(layout.rank());
  out.strides.resize(layout.rank());
  Number zero = b.index(0), one = b.index(1), most = b.index(kMaxExtent);
  typename Builder::Condition isEmpty = b.i1(false);
  out.span = one;
  // What the faster axes span, where that is not where the next one begins.
  std::optional<Number> room;
  for (unsigned k = layout.rank(); k-- > 0;) {
    unsigned i = layout.orderAt(k);
    const LayoutDim &dim = layout.dim(i);
    Number &extent = out.extents[i], &stride = out.strides[i];
    if (dim.extent == kRunTime) {
      require(b.ule(givenExtents[i], most));
      extent = b.minui(givenExtents[i], most);
      isEmpty = b.ori(isEmpty, b.eq(extent, zero));
    } else {
      extent = b.index(dim.extent);
    }
    std::optional<unsigned> faster = layout.nextFaster(i);
    Number packed =
        faster ? b.mulSat(out.strides[*faster], out.extents[*faster]) : one;
    // The stride of a single index is ignored: it is the smallest that the
    // layout allows, as slower axes that are compact over it use it.
    auto isUnit = b.eq(extent, one);
    auto requireOfStride = [&](typename Builder::Condition holds) {
      require(b.ori(isUnit, holds));
    };
    std::optional<int64_t> known = layout.stride(i);
    if (dim.stride.kind == StrideFact::Kind::RunTime) {
      int64_t multiple = dim.stride.value;
      requireOfStride(b.ule(givenStrides[i], most));
      Number given = b.minui(givenStrides[i], most);
      requireOfStride(b.eq(b.remui(given, multiple), zero));
      requireOfStride(b.sge(given, one));
      Number least = b.mulSat(b.ceildivui(packed, multiple), multiple);
      stride = b.select(isUnit, least, given);
    } else {
      stride = known ? b.index(*known) : packed;
    }
    // No axis overlaps the faster ones. A compact axis cannot, except over a
    // single index whose constant stride is less than their span.
    if (dim.stride.kind != StrideFact::Kind::Compact || room)
      requireOfStride(b.sge(stride, room ? *room : packed));
    bool mayBeLess =
        dim.stride.kind == StrideFact::Kind::Constant && dim.extent == kRunTime;
    if (mayBeLess || room)
      room = b.select(isUnit, room ? *room : packed, b.mulSat(stride, extent));
    Number last = b.maxsi(b.subi(extent, one), zero);
    out.span = b.addSat(out.span, b.mulSat(last, stride));
  }
  out.span = b.select(isEmpty, zero, out.span);
  return out;
}

/// The bitwise or of a base in bytes and the strides of the axes that are used:
/// an access of 2^k bytes is aligned at each index if the lowest k bits are 0.
/// Divisors of the strides may be used instead.
template <typename Builder, typename IsUsed,
          typename Number = typename Builder::Number>
Number alignmentBits(Builder &b, typename Builder::Number base,
                     const std::vector<Number> &strides, int64_t elementBytes,
                     IsUsed isUsed) {
  for (size_t i = 0; i < strides.size(); ++i)
    if (isUsed(i))
      base = b.ori(base, b.muli(strides[i], elementBytes));
  return base;
}

/// The widest copy that all chunks of channels are aligned to, whatever the
/// indices of axes that are not `fixed`: 16 or 4 bytes, or the size of an
/// element. The base is in bytes, and at least as aligned as an element of at
/// most 4 bytes.
template <typename Builder, typename Number = typename Builder::Number>
Number chunkWidth(Builder &b, const Layout &layout,
                  typename Builder::Number base,
                  const std::vector<Number> &strides, int64_t elementBytes,
                  AxisSet fixed) {
  std::optional<unsigned> channel = chunkAxis(layout, elementBytes);
  if (!channel)
    return b.index(elementBytes);
  Number bits = alignmentBits(b, base, strides, elementBytes, [&](unsigned i) {
    return i != *channel && !fixed.contains(layout.dim(i).axis.kind);
  });
  auto isMultiple = [&](int64_t n) {
    return b.eq(b.remui(bits, n), b.index(0));
  };
  typename Builder::Condition of16 = isMultiple(16), of4 = isMultiple(4);
  return b.select(of16, b.index(16),
                  b.select(of4, b.index(4), b.index(elementBytes)));
}

/// The numbers of a reshape, one for each dimension of `shape`: those of
/// `reshape` if constant, otherwise those of the axes that a dimension is made
/// of.
template <typename Builder, typename Number = typename Builder::Number>
class ReshapedNumbers {
public:
  ReshapedNumbers(Builder &b, const Layout &layout,
                  const std::vector<Number> &extents,
                  const std::vector<Number> &strides,
                  const std::vector<Axis> &sequence,
                  const std::vector<int64_t> &shape)
      : b(b), layout(layout), parentExtents(extents), parentStrides(strides) {
    std::string why;
    std::vector<DimSource> sources = reshapeSources(layout, sequence, shape);
    std::vector<StridedDim> dims = *reshape(layout, sequence, shape, why);
    for (size_t d = 0; d < shape.size(); ++d)
      this->extents.push_back(shape[d] != kRunTime ? b.index(shape[d])
                                                   : extentOf(sources[d]));
    for (size_t d = 0; d < shape.size(); ++d) {
      if (dims[d].stride.kind == StrideFact::Kind::Constant) {
        this->strides.push_back(b.index(dims[d].stride.value));
        continue;
      }
      Number step = unitStride(sources[d].axes);
      for (size_t i = d + 1; i < sources[d].end; ++i)
        step = b.muli(step, this->extents[i]);
      this->strides.push_back(step);
    }
  }

  std::vector<Number> extents, strides;

private:
  Number extentOf(const DimSource &source) {
    Number product = b.index(source.factor);
    for (unsigned axis : source.axes)
      if (layout.dim(axis).extent == kRunTime)
        product = b.muli(product, parentExtents[axis]);
    return product;
  }

  /// The distance between elements of packed axes: the stride of the fastest
  /// one that has more than one index, as the others are arbitrary.
  Number unitStride(const std::vector<unsigned> &axes) {
    std::optional<Number> step;
    for (unsigned axis : axes) {
      Number own = parentStrides[axis];
      if (step && layout.dim(axis).extent == kRunTime && !layout.stride(axis))
        own = b.select(b.eq(parentExtents[axis], b.index(1)), *step, own);
      step = own;
    }
    return *step;
  }

  Builder &b;
  const Layout &layout;
  const std::vector<Number> &parentExtents, &parentStrides;
};

} // namespace kvcache

#endif // KVCACHE_LAYOUT_NUMBERS_H
