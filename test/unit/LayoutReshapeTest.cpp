// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a reshape is made of, against addresses that are counted one by one: all
// orders of the axes, with every set of extents that are known at run time
// only.

#include "LayoutSamples.h"

#include "kvcache/Layout/Numbers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace layout_test {
namespace {

using kvcache::Axis;
using kvcache::AxisKind;
using kvcache::DimSource;
using kvcache::Integers;
using kvcache::kRunTime;
using kvcache::Layout;
using kvcache::LayoutDim;
using kvcache::ReshapedNumbers;
using kvcache::StridedDim;
using kvcache::StrideFact;

constexpr unsigned kRank = 6;
constexpr AxisKind kKinds[kRank] = {AxisKind::Layer, AxisKind::Side,
                                    AxisKind::Block, AxisKind::Token,
                                    AxisKind::Head,  AxisKind::Channel};
constexpr unsigned kAllAxes = (1u << kRank) - 1;
/// What a caller puts where the extent is 1.
constexpr int64_t kGarbage = 7777777;

struct Case {
  std::array<unsigned, kRank> order;                    ///< slowest first
  unsigned runTimeExtents, runTimeStrides, gaps, units; ///< sets of axes
};

/// A layout and a buffer that it describes.
struct Buffer {
  explicit Buffer(const Case &c) {
    static constexpr int64_t kExtents[kRank] = {2, 3, 4, 4, 3, 2};
    std::vector<LayoutDim> dims(kRank);
    std::vector<Axis> orderAxes;
    for (unsigned i = 0; i < kRank; ++i) {
      extents[i] = c.units >> i & 1 ? 1 : kExtents[i];
      dims[i] = {Axis{kKinds[i]},
                 c.runTimeExtents >> i & 1 ? kRunTime : extents[i],
                 c.runTimeStrides >> i & 1 ? StrideFact::runTime()
                                           : StrideFact::compact()};
      orderAxes.push_back(Axis{kKinds[c.order[i]]});
      sequence.push_back(Axis{kKinds[i]});
    }
    int64_t span = 1;
    for (unsigned k = kRank; k-- > 0;) {
      unsigned i = c.order[k];
      bool hasGap = (c.gaps & c.runTimeStrides) >> i & 1;
      strides[i] = extents[i] != 1 && hasGap ? span + 5 : span;
      span = strides[i] * extents[i];
    }
    std::string error;
    layout = Layout::get(dims, orderAxes, 16, error);
    for (unsigned i = 0; i < kRank; ++i) {
      bool isKnown = layout && layout->stride(i);
      reported[i] = extents[i] == 1 && !isKnown ? kGarbage : strides[i];
    }
  }

  /// Where the elements are, in the logical sequence.
  std::vector<int64_t> addresses() const {
    std::vector<int64_t> result = {0};
    for (unsigned i = 0; i < kRank; ++i)
      result = layout_test::spread(result, extents[i], strides[i]);
    return result;
  }

  std::array<int64_t, kRank> extents, strides, reported;
  std::vector<Axis> sequence;
  std::optional<Layout> layout;
};

/// The numbers of a view, as compiled programs compute them.
struct View {
  View(const Buffer &buffer, const std::vector<int64_t> &shape)
      : sources(reshapeSources(*buffer.layout, buffer.sequence, shape)) {
    Integers integers;
    ReshapedNumbers<Integers> numbers(
        integers, *buffer.layout,
        {buffer.extents.begin(), buffer.extents.end()},
        {buffer.reported.begin(), buffer.reported.end()}, buffer.sequence,
        shape);
    extents = numbers.extents;
    strides = numbers.strides;
  }

  bool isAt(const std::vector<int64_t> &addresses) const {
    for (size_t e = 0; e < addresses.size(); ++e) {
      int64_t offset = 0, rest = e;
      for (size_t d = extents.size(); d-- > 0;) {
        offset += rest % extents[d] * strides[d];
        rest /= extents[d];
      }
      if (offset != addresses[e] || rest != 0)
        return false;
    }
    return true;
  }

  std::vector<DimSource> sources;
  std::vector<int64_t> extents, strides;
};

std::string describe(const Case &c, const std::vector<int64_t> &shape) {
  std::string text = "order";
  for (unsigned i : c.order)
    text += " " + Axis{kKinds[i]}.str();
  text += ", run-time extents " + std::to_string(c.runTimeExtents) +
          ", strides " + std::to_string(c.runTimeStrides) + ", units " +
          std::to_string(c.units) + ", shape";
  for (int64_t extent : shape)
    text += " " + std::to_string(extent);
  return text;
}

/// The shapes that a block size, a merge or nothing makes; an extent that comes
/// from one known at run time is one.
std::vector<std::vector<int64_t>> shapesOf(const Case &c,
                                           const Buffer &buffer) {
  constexpr unsigned kB = 2, kN = 3;
  std::vector<int64_t> same;
  for (unsigned i = 0; i < kRank; ++i)
    same.push_back(c.runTimeExtents >> i & 1 ? kRunTime : buffer.extents[i]);
  std::vector<std::vector<int64_t>> shapes = {same};
  auto add = [&](auto change) {
    shapes.push_back(same);
    change(shapes.back());
  };
  if (same[kN] != kRunTime && same[kN] % 2 == 0)
    add([&](std::vector<int64_t> &shape) {
      shape[kN] /= 2;
      shape[kB] = same[kB] == kRunTime ? kRunTime : same[kB] * 2;
    });
  if (same[kN] != kRunTime && same[kB] != kRunTime && same[kB] % 2 == 0)
    add([&](std::vector<int64_t> &shape) {
      shape[kN] *= 2;
      shape[kB] /= 2;
    });
  for (unsigned i = 0; i + 1 < kRank; ++i)
    add([&](std::vector<int64_t> &shape) {
      bool isOpen = same[i] == kRunTime || same[i + 1] == kRunTime;
      shape[i] = isOpen ? kRunTime : same[i] * same[i + 1];
      shape.erase(shape.begin() + i + 1);
    });
  add([&](std::vector<int64_t> &shape) { shape.insert(shape.begin() + 3, 1); });
  return shapes;
}

struct Count {
  int64_t views = 0, copies = 0;
};

void check(const Case &c, Count &count) {
  Buffer buffer(c);
  // A gap may contradict a constant stride, and then there is no such type.
  if (!buffer.layout)
    return;
  std::vector<int64_t> addresses = buffer.addresses();
  for (const std::vector<int64_t> &shape : shapesOf(c, buffer)) {
    std::string why;
    auto dims = reshape(*buffer.layout, buffer.sequence, shape, why);
    if (!dims) {
      ++count.copies;
      continue;
    }
    ++count.views;
    View view(buffer, shape);
    ASSERT_TRUE(view.isAt(addresses)) << describe(c, shape);
    for (size_t d = 0; d < shape.size(); ++d) {
      StrideFact fact = (*dims)[d].stride;
      bool isConstant = fact.kind == StrideFact::Kind::Constant;
      if (view.extents[d] != 1)
        ASSERT_EQ(isConstant ? fact.value
                             : view.strides[d] / fact.value * fact.value,
                  view.strides[d])
            << describe(c, shape) << ", dimension " << d;
      for (size_t e = 0; e < shape.size(); ++e)
        if (d != e && view.extents[d] != 1 && view.extents[e] != 1 &&
            isPackedReshape(*buffer.layout, view.sources, shape, d, e))
          ASSERT_EQ(view.strides[d], view.extents[e] * view.strides[e])
              << describe(c, shape) << ", dimensions " << d << " and " << e;
    }
  }
}

TEST(ReshapeSourcesTest, EveryOrderAndSetOfRunTimeNumbersIsAddressedRight) {
  Count count;
  std::array<unsigned, kRank> order;
  std::iota(order.begin(), order.end(), 0u);
  unsigned seed = 1;
  do {
    for (unsigned extents = 0; extents <= kAllAxes; ++extents) {
      // No stride, all, one, and a set that differs from case to case.
      seed = seed * 1664525 + 1013904223;
      for (unsigned strides :
           {0u, kAllAxes, 1u << (seed >> 26) % kRank, seed >> 20 & kAllAxes}) {
        seed = seed * 1664525 + 1013904223;
        check({order, extents, strides, kAllAxes, 0}, count);
        check({order, extents, strides, seed >> 16 & kAllAxes,
               seed >> 24 & kAllAxes},
              count);
        if (testing::Test::HasFatalFailure())
          return;
      }
    }
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_GT(count.views, 500000);
  EXPECT_GT(count.copies, 500000);
}

TEST(ReshapeSourcesTest, LayersAndSidesOverBlocksKeepTheirStrides) {
  // [L, S, B, N, H, D], blocks of 4 tokens as blocks of 2.
  std::string error, why;
  std::vector<Axis> sequence;
  std::vector<LayoutDim> dims;
  const int64_t extents[] = {3, 2, kRunTime, 4, 1, 4};
  for (unsigned i = 0; i < kRank; ++i) {
    sequence.push_back(Axis{kKinds[i]});
    dims.push_back({sequence.back(), extents[i], {}});
  }
  std::optional<Layout> layout = Layout::get(dims, {}, 16, error);
  ASSERT_TRUE(layout.has_value()) << error;
  const std::vector<int64_t> shape = {3, 2, kRunTime, 2, 1, 4};
  ASSERT_TRUE(reshape(*layout, sequence, shape, why)) << why;
  std::vector<DimSource> sources = reshapeSources(*layout, sequence, shape);
  for (size_t d = 0; d < shape.size(); ++d) {
    EXPECT_EQ(sources[d].axes, (std::vector<unsigned>{0, 1, 2, 3, 5}));
    EXPECT_EQ(sources[d].end, shape.size());
  }
  EXPECT_EQ(sources[2].factor, 2);
  EXPECT_TRUE(isPackedReshape(*layout, sources, shape, 0, 1));
  EXPECT_TRUE(isPackedReshape(*layout, sources, shape, 3, 5));
  EXPECT_FALSE(isPackedReshape(*layout, sources, shape, 0, 2));
  EXPECT_FALSE(isPackedReshape(*layout, sources, shape, 1, 0));
}

} // namespace
} // namespace layout_test
