// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Layout/Scales.h"

#include "LayoutSamples.h"

using namespace kvcache;

namespace {

Layout layout(const std::vector<LayoutDim> &dims,
              const std::vector<Axis> &order = {}) {
  std::string error;
  std::optional<Layout> result = Layout::get(dims, order, 16, error);
  EXPECT_TRUE(result) << error;
  return *result;
}

Axis axis(const char *name) { return *Axis::parse(name); }

std::optional<Layout> scales(const Layout &stored,
                             const std::vector<ScaleAxis> &per,
                             const std::vector<ScaleStride> &strides = {}) {
  std::string why;
  std::optional<Layout> result = scalesLayout(stored, per, strides, 4, why);
  EXPECT_EQ(why.empty(), result.has_value()) << why;
  return result;
}

const std::vector<ScaleAxis> kToken = {
    {AxisKind::Side}, {AxisKind::Block}, {AxisKind::Token}};

TEST(LayoutScales, HaveTheOrderOfTheCache) {
  Layout stored =
      layout({{axis("S"), 2},
              {axis("B"), kRunTime},
              {axis("N"), 16},
              {axis("H"), 8},
              {axis("D"), 128}},
             {axis("B"), axis("H"), axis("S"), axis("N"), axis("D")});
  std::vector<ScaleAxis> per = kToken;
  per.push_back({AxisKind::Head});
  std::optional<Layout> found = scales(stored, per);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->orderAxes(), stored.orderAxes());
  EXPECT_EQ(found->extent(AxisKind::Channel), 1);
  EXPECT_EQ(found->stride(*found->find(AxisKind::Token)), 1);
  EXPECT_EQ(found->stride(*found->find(AxisKind::Side)), 16);
  EXPECT_EQ(found->stride(*found->find(AxisKind::Head)), 32);
  EXPECT_EQ(found->stride(*found->find(AxisKind::Block)), 256);
  EXPECT_EQ(found->align(), 4);
}

TEST(LayoutScales, AreSharedByAxesThatAreNotListed) {
  Layout stored = layout({{axis("B"), kRunTime},
                          {axis("N"), 4},
                          {axis("H"), 8},
                          {axis("D"), 128}});
  std::optional<Layout> found = scales(
      stored, {{AxisKind::Block}, {AxisKind::Token}, {AxisKind::Channel, 32}});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->extent(AxisKind::Head), 1);
  EXPECT_EQ(found->extent(AxisKind::Channel), 4);
  EXPECT_EQ(found->stride(*found->find(AxisKind::Token)), 4);
}

TEST(LayoutScales, AreSharedByBlocksAndTokens) {
  Layout stored = layout(
      {{axis("L"), 3},
       {axis("S"), 2},
       {axis("B"), kRunTime},
       {axis("N"), 4},
       {axis("H"), 8},
       {axis("D"), 128}},
      {axis("B"), axis("L"), axis("S"), axis("N"), axis("H"), axis("D")});
  std::optional<Layout> found =
      scales(stored, {{AxisKind::Layer}, {AxisKind::Side}, {AxisKind::Head}});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->extent(AxisKind::Block), 1);
  EXPECT_EQ(found->extent(AxisKind::Token), 1);
  EXPECT_EQ(found->stride(*found->find(AxisKind::Side)), 8);
  EXPECT_EQ(found->stride(*found->find(AxisKind::Layer)), 16);
  std::optional<Layout> one = scales(stored, {});
  ASSERT_TRUE(one);
  for (const LayoutDim &dim : one->listing())
    EXPECT_EQ(dim.extent, 1);
}

TEST(LayoutScales, HaveOneAxisOfChannels) {
  Layout stored = layout({{axis("B"), kRunTime},
                          {axis("N"), 4},
                          {axis("H.o"), 2},
                          {axis("H.i"), 3},
                          {axis("D.o"), 16},
                          {axis("D.i"), 8}},
                         {axis("B"), axis("D.o"), axis("H.o"), axis("H.i"),
                          axis("N"), axis("D.i")});
  std::optional<Layout> found = scales(stored, {{AxisKind::Block},
                                                {AxisKind::Token},
                                                {AxisKind::Head},
                                                {AxisKind::Channel, 64}});
  ASSERT_TRUE(found);
  std::vector<Axis> order = {axis("B"), axis("D"), axis("H.o"), axis("H.i"),
                             axis("N")};
  EXPECT_EQ(found->orderAxes(), order);
  EXPECT_EQ(found->extent(AxisKind::Channel), 2);
  EXPECT_EQ(found->stride(*found->find(AxisKind::Channel)), 24);
}

TEST(LayoutScales, KeepWhatIsKnownOfStrides) {
  Layout stored = layout({{axis("B"), kRunTime},
                          {axis("N"), 16},
                          {axis("H"), 8},
                          {axis("D"), 128}});
  std::vector<ScaleStride> given = {{axis("H"), StrideFact::constant(33)}};
  std::optional<Layout> found = scales(
      stored, {{AxisKind::Block}, {AxisKind::Token}, {AxisKind::Head}}, given);
  ASSERT_TRUE(found);
  EXPECT_EQ(scaleStrides(*found), given);
  EXPECT_EQ(found->stride(*found->find(AxisKind::Token)), 8 * 33);
}

TEST(LayoutScales, SayWhatWasExpected) {
  Layout stored = layout({{axis("S"), 2},
                          {axis("B"), kRunTime},
                          {axis("N"), 16},
                          {axis("D"), 96}});
  auto why = [&](std::vector<ScaleAxis> per,
                 const std::vector<ScaleStride> &strides = {}) {
    std::string text;
    EXPECT_FALSE(scalesLayout(stored, per, strides, 4, text));
    return text;
  };
  EXPECT_EQ(
      why({{AxisKind::Block}, {AxisKind::Token}}),
      "scales per S are expected where tokens have their own, got one for "
      "all");
  std::vector<ScaleAxis> per = kToken;
  per.push_back({AxisKind::Head});
  EXPECT_EQ(why(per), "scales per axis of the cache are expected, got H");
  per.back() = {AxisKind::Channel, 36};
  EXPECT_EQ(why(per), "a group that divides 96 channels is expected, got 36");
  EXPECT_EQ(
      why(kToken, {{axis("D"), StrideFact::constant(1)}}),
      "strides of axes that have scales of their own are expected, got D");
  EXPECT_EQ(why(kToken, {{axis("B"), StrideFact::constant(3)}}).substr(0, 9),
            "layout_c5");
  stored = layout({{axis("L"), kRunTime},
                   {axis("B"), kRunTime},
                   {axis("N"), 16},
                   {axis("D"), 96}});
  EXPECT_EQ(why({{AxisKind::Layer}}),
            "a constant number of layers is expected for scales per L that all "
            "blocks share, got ?");
}

} // namespace
