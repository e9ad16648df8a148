// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Numbers of layouts as compiled programs compute them, against the concrete
// strides of an instance. Those of reshapes are in LayoutReshapeTest.cpp.

#include "LayoutOffsets.h"
#include "LayoutSamples.h"

#include "kvcache/Layout/Numbers.h"

namespace layout_test {
namespace {

using kvcache::boundedNumbers;
using kvcache::chunkAxis;
using kvcache::chunkWidth;
using kvcache::Integers;

bool isRunTime(const LayoutDim &dim) {
  return dim.stride.kind == StrideFact::Kind::RunTime;
}

TEST(NumbersTest, StridesOfAxesOfExtentOneAreNotLookedAt) {
  int garbage = 0;
  forEachSample(60, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    std::vector<int64_t> given = instance.strides;
    for (unsigned i = 0; i < instance.rank(); ++i)
      if (sample.layout->dim(i).extent == 1 || sample.layout->stride(i)) {
        given[i] = random.between(-1000, 1000);
        ++garbage;
      }
    Integers integers;
    std::vector<int64_t> strides =
        stridesOf(integers, *sample.layout, instance.extents, given);
    for (unsigned i = 0; i < instance.rank(); ++i)
      if (instance.extents[i] != 1)
        EXPECT_EQ(strides[i], instance.strides[i]) << sample.text;
  });
  EXPECT_GT(garbage, kLayouts);
}

TEST(NumbersTest, WhatIsRequiredIsWhatConcreteStridesRefuse) {
  int accepted = 0, refused = 0;
  forEachSample(61, [&](const Sample &sample, Random &random) {
    const Layout &layout = *sample.layout;
    std::vector<int64_t> extents = sample.instance.extents,
                         given(layout.rank(), kRunTime);
    for (unsigned i = 0; i < layout.rank(); ++i)
      if (isRunTime(layout.dim(i)))
        given[i] = sample.instance.strides[i];
    unsigned some = random.between(0, layout.rank() - 1);
    if (isRunTime(layout.dim(some)) && random.percent(60))
      given[some] += random.between(-4, 4);
    if (layout.dim(some).extent == kRunTime && random.percent(60))
      extents[some] = random.between(1, 12);

    bool holds = true;
    Integers integers;
    auto [bounded, strides, span] =
        boundedNumbers(integers, layout, extents, given,
                       [&](bool condition) { holds &= condition; });
    std::string why;
    auto expected = concreteStrides(layout, extents, given, why);
    ASSERT_EQ(holds, expected.has_value()) << sample.text << why;
    ++(holds ? accepted : refused);
    if (!holds)
      return;
    EXPECT_EQ(bounded, extents);
    EXPECT_EQ(strides, *expected) << sample.text;
    int64_t end = 1;
    for (unsigned i = 0; i < layout.rank(); ++i)
      end += (extents[i] - 1) * strides[i];
    EXPECT_EQ(span, end);
  });
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(refused, 200);
}

TEST(NumbersTest, NumbersThatMayBeAnythingStayBounded) {
  const int64_t hostile[] = {0,
                             -1,
                             1,
                             kMaxExtent + 1,
                             int64_t(1) << 62,
                             std::numeric_limits<int64_t>::max(),
                             std::numeric_limits<int64_t>::min()};
  forEachSample(62, [&](const Sample &sample, Random &random) {
    const Layout &layout = *sample.layout;
    std::vector<int64_t> extents, given;
    for (unsigned i = 0; i < layout.rank(); ++i) {
      extents.push_back(hostile[random.between(0, 6)]);
      given.push_back(hostile[random.between(0, 6)]);
    }
    Integers integers;
    auto [bounded, strides, span] =
        boundedNumbers(integers, layout, extents, given, [](bool) {});
    bool isEmpty = false;
    for (unsigned i = 0; i < layout.rank(); ++i) {
      isEmpty |= bounded[i] == 0;
      EXPECT_GE(bounded[i], 0);
      EXPECT_LE(bounded[i], kMaxExtent);
      EXPECT_GE(strides[i], 0);
    }
    EXPECT_EQ(span == 0, isEmpty);
    EXPECT_GE(span, 0);
  });
}

TEST(NumbersTest, ChunksAreAlignedWhereverTheyAre) {
  constexpr int64_t kElementBytes = 4;
  int wide = 0, proven = 0;
  forEachSample(63, [&](const Sample &sample, Random &random) {
    const Layout &layout = *sample.layout;
    const Instance &instance = sample.instance;
    Moved fixed = randomMoved(random);
    if (layout.align() < kElementBytes)
      return;
    Integers integers;
    int64_t known = chunkBytes(layout, kElementBytes, fixed.set);
    int64_t width = chunkWidth(integers, layout, instance.align,
                               instance.strides, kElementBytes, fixed.set);
    EXPECT_LE(known, width);
    std::optional<unsigned> channel = chunkAxis(layout, kElementBytes);
    if (!channel)
      return;
    wide += width == 16;
    proven += known == 16;
    EXPECT_EQ(instance.strides[*channel], 1);
    int64_t chunk = 16 / kElementBytes;
    EXPECT_EQ(instance.extents[*channel] % chunk, 0);
    for (int64_t offset : instance.offsets([&](unsigned i) {
           return i != *channel && !fixed.kinds.count(instance.axes[i].kind);
         }))
      EXPECT_EQ((instance.align + offset * kElementBytes) % width, 0);
  });
  EXPECT_GT(proven, 50);
  EXPECT_GT(wide, proven);
}

} // namespace
} // namespace layout_test
