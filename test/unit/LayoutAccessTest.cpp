// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What code gets out of a layout: the table of Access.h.

#include "kvcache/Layout/Access.h"

#include <gtest/gtest.h>

using namespace kvcache;

namespace {

constexpr Axis kS{AxisKind::Side}, kB{AxisKind::Block}, kN{AxisKind::Token},
    kH{AxisKind::Head}, kD{AxisKind::Channel};

Layout get(std::vector<Axis> order,
           std::vector<std::pair<Axis, StrideFact>> facts) {
  std::vector<LayoutDim> dims = {
      {kS, 2}, {kB, kRunTime}, {kN, 16}, {kH, 8}, {kD, 128}};
  for (auto [axis, fact] : facts)
    for (LayoutDim &dim : dims)
      if (dim.axis == axis)
        dim.stride = fact;
  std::string error;
  std::optional<Layout> layout = Layout::get(dims, order, 16, error);
  EXPECT_TRUE(layout.has_value()) << error;
  return *layout;
}

void expect(const Layout &layout, int64_t run, int64_t width, bool flat) {
  LayoutAccess access = accessOf(layout, Moved::Row, 2);
  EXPECT_EQ(access.runElements, run);
  EXPECT_EQ(access.runs, 1024 / run);
  EXPECT_EQ(access.accessBytes, width);
  EXPECT_EQ(access.isFlat, flat);
}

TEST(AccessTest, Rows) {
  StrideFact any = StrideFact::runTime(), sixteen = StrideFact::runTime(16);
  expect(get({kS, kB, kN, kH, kD}, {}), 1024, 16, true);
  expect(get({kS, kB, kH, kN, kD}, {}), 128, 16, false);
  expect(get({kS, kB, kN, kH, kD}, {{kB, any}}), 1024, 2, false);
  expect(get({kS, kB, kN, kH, kD}, {{kB, sixteen}}), 1024, 16, false);
  expect(get({kS, kB, kN, kH, kD}, {{kB, any}, {kN, any}, {kH, any}}), 128, 2,
         false);
  expect(
      get({kS, kB, kN, kH, kD}, {{kD, any}, {kH, any}, {kN, any}, {kB, any}}),
      1, 2, false);
}

TEST(AccessTest, Blocks) {
  LayoutAccess block = accessOf(get({kB, kS, kN, kH, kD}, {}), Moved::Block, 2);
  EXPECT_EQ(block.runElements, 2 * 16 * 1024);
  EXPECT_EQ(block.runs, 1);
  block = accessOf(get({kS, kB, kN, kH, kD}, {}), Moved::Block, 2);
  EXPECT_EQ(block.runElements, 16 * 1024);
  EXPECT_EQ(block.runs, 2);
}

TEST(AccessTest, RunTimeFactors) {
  // Of nhd, S is as far apart as there are blocks, and a slot is a row.
  EXPECT_EQ(
      accessOf(get({kS, kB, kN, kH, kD}, {}), Moved::Row, 2).runTimeFactors,
      1u);
  EXPECT_EQ(accessOf(get({kB, kS, kN, kH, kD}, {{kB, StrideFact::runTime()}}),
                     Moved::Row, 2)
                .runTimeFactors,
            1u);
  EXPECT_EQ(
      accessOf(get({kB, kS, kN, kH, kD}, {}), Moved::Row, 2).runTimeFactors,
      0u);
}

TEST(AccessTest, NumbersOfRunTimeMayBeAligned) {
  StrideFact any = StrideFact::runTime(), four = StrideFact::constant(16388);
  auto widthOf = [](const Layout &layout, bool aligned) {
    return layout.accessBytes(layout.commonRun({kH, kD}), 2, aligned);
  };
  Layout free = get({kB, kS, kN, kH, kD}, {{kB, any}, {kN, any}});
  EXPECT_EQ(widthOf(free, false), 2);
  EXPECT_EQ(widthOf(free, true), 16);
  Layout odd = get({kB, kS, kN, kH, kD}, {{kB, any}, {kS, four}});
  EXPECT_EQ(widthOf(odd, true), 8);
}

TEST(AccessTest, Boxes) {
  StrideFact eight = StrideFact::runTime(8), four = StrideFact::runTime(4);
  auto boxOf = [](const Layout &layout, AxisSet fixed = {}) {
    return boxChannels(layout, 2, 16, fixed);
  };
  EXPECT_EQ(boxOf(get({kS, kB, kN, kH, kD}, {})), 64);
  EXPECT_EQ(boxOf(get({kB, kS, kN, kH, kD}, {{kB, eight}})), 64);
  EXPECT_EQ(boxOf(get({kB, kS, kN, kH, kD}, {{kB, four}})), 0);
  EXPECT_EQ(boxOf(get({kB, kS, kH, kD, kN}, {})), 0);
  // Sides that are in the base may lie anywhere.
  Layout sides = get({kS, kB, kN, kH, kD}, {{kS, four}});
  EXPECT_EQ(boxOf(sides), 0);
  EXPECT_EQ(boxOf(sides, {AxisKind::Side}), 64);
  EXPECT_EQ(innerChannels(96, 2), 32);
  EXPECT_EQ(innerChannels(80, 2), 16);
  EXPECT_EQ(innerChannels(128, 2), 64);
  EXPECT_EQ(innerChannels(256, 1), 128);
  EXPECT_EQ(innerChannels(96, 1), 32);
}

TEST(AccessTest, BoxesOfAGivenWidth) {
  auto has = [](const Layout &layout, int64_t inner) {
    return hasBoxes(layout, 2, 16, inner, {});
  };
  Layout whole = get({kS, kB, kN, kH, kD}, {});
  EXPECT_TRUE(has(whole, 64));
  EXPECT_TRUE(has(whole, 32));
  EXPECT_FALSE(has(get({kB, kS, kH, kD, kN}, {}), 64));
  EXPECT_EQ(channelDims(whole, 64).adjacent, 64);
  EXPECT_EQ(channelDims(whole, 64).parts, 2);

  auto withChannels = [](std::vector<LayoutDim> channels) {
    std::vector<LayoutDim> dims = {{kB, kRunTime}, {kN, 16}, {kH, 8}};
    std::vector<Axis> order = {kB, kN, kH};
    for (const LayoutDim &dim : channels) {
      dims.push_back(dim);
      order.push_back(dim.axis);
    }
    std::string error;
    std::optional<Layout> layout = Layout::get(dims, order, 16, error);
    EXPECT_TRUE(layout.has_value()) << error;
    return *layout;
  };
  // The second box of 64 has 16 channels.
  Layout narrow = withChannels({{kD, 80}});
  EXPECT_TRUE(has(narrow, 64));
  EXPECT_EQ(channelDims(narrow, 64).adjacent, 80);
  EXPECT_EQ(channelDims(narrow, 64).parts, 1);
  // Channels in parts of 32 have boxes of 32, and no others.
  Layout split = withChannels({{Axis{AxisKind::Channel, AxisPart::Outer}, 4},
                               {Axis{AxisKind::Channel, AxisPart::Inner}, 32}});
  EXPECT_TRUE(has(split, 32));
  EXPECT_FALSE(has(split, 64));
  EXPECT_EQ(channelDims(split, 32).parts, 4);
}

TEST(AccessTest, HeadsAreOneDimensionWithTheirNeighbor) {
  StrideFact eight = StrideFact::runTime(8), wide = StrideFact::constant(160);
  auto of = [](std::vector<Axis> order,
               std::vector<std::pair<Axis, StrideFact>> facts) {
    return headNeighbor(get(order, facts));
  };
  EXPECT_EQ(of({kS, kB, kN, kH, kD}, {}), HeadNeighbor::Channels);
  EXPECT_EQ(of({kB, kS, kN, kH, kD}, {{kN, eight}}), HeadNeighbor::Channels);
  EXPECT_EQ(of({kB, kS, kH, kN, kD}, {}), HeadNeighbor::Tokens);
  EXPECT_EQ(of({kB, kS, kH, kN, kD}, {{kN, wide}}), HeadNeighbor::Tokens);
  // A gap between heads, heads at any distance, and blocks of each head.
  EXPECT_EQ(of({kB, kS, kN, kH, kD}, {{kH, wide}}), HeadNeighbor::None);
  EXPECT_EQ(of({kB, kS, kN, kH, kD}, {{kH, eight}}), HeadNeighbor::None);
  EXPECT_EQ(of({kH, kB, kS, kN, kD}, {}), HeadNeighbor::None);
  // Channels that are not side by side.
  EXPECT_EQ(of({kB, kS, kH, kD, kN}, {}), HeadNeighbor::None);
}

} // namespace
