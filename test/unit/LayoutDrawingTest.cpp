// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Layout/Drawing.h"

#include <gtest/gtest.h>

namespace {

using namespace kvcache;

Layout make(const std::vector<LayoutDim> &dims,
            const std::vector<std::string> &order) {
  std::vector<Axis> axes;
  for (const std::string &name : order)
    axes.push_back(*Axis::parse(name));
  std::string error;
  std::optional<Layout> layout = Layout::get(dims, axes, 16, error);
  EXPECT_TRUE(layout) << error;
  return *layout;
}

LayoutDim dim(const char *axis, int64_t extent, StrideFact stride = {}) {
  return {*Axis::parse(axis), extent, stride};
}

TEST(LayoutDrawing, CellsAreInTheOrderOfMemory) {
  Layout layout = make({dim("B", kRunTime), dim("N", 16), dim("H", 8),
                        dim("D.o", 16), dim("D.i", 8)},
                       {"B", "H", "D.o", "N", "D.i"});
  Drawing drawing = drawingOf(layout, 2);
  EXPECT_EQ(drawing.order, "B, H, D.o, N, D.i (x_packed_key)");
  ASSERT_EQ(drawing.axes.size(), 5u);
  EXPECT_EQ(drawing.axes[0].cells, "0000000011111111");
  EXPECT_EQ(drawing.axes[0].extent, "?");
  EXPECT_EQ(drawing.axes[0].step, "32768");
  EXPECT_EQ(drawing.axes[2].name, "D.o channels");
  EXPECT_EQ(drawing.axes[2].cells, "0011001100110011");
  EXPECT_EQ(drawing.axes[3].cells, "0101010101010101");
  EXPECT_EQ(drawing.axes[4].cells, "");
  ASSERT_EQ(drawing.parts.size(), 3u);
  EXPECT_EQ(drawing.parts[1].name, "a head of a block");
  EXPECT_EQ(drawing.parts[1].cells, "####------------");
  EXPECT_EQ(drawing.parts[1].transfer, "1 x 4096");
  EXPECT_EQ(drawing.parts[2].name, "a token");
  EXPECT_EQ(drawing.parts[2].cells, "#-#-#-#---------");
  EXPECT_EQ(drawing.parts[2].transfer, "128 x 16");
}

TEST(LayoutDrawing, GapsAreOneCell) {
  Layout layout =
      make({dim("S", 2), dim("B", 7, StrideFact::constant(4096)), dim("N", 2),
            dim("H", 1), dim("D", 8, StrideFact::constant(2))},
           {"B", "S", "N", "H", "D"});
  Drawing drawing = drawingOf(layout, 4);
  EXPECT_EQ(drawing.axes[0].cells, "0.0.0.0.0.0.0.0..1.1.1.1.1.1.1.1");
  EXPECT_EQ(drawing.axes[1].cells, "k.k.k.k.v.v.v.v..k.k.k.k.v.v.v.v");
}

TEST(LayoutDrawing, AdjacentBlocksAreOneRunOfUnknownLength) {
  std::vector<LayoutDim> dims = {dim("L", 4), dim("S", 2), dim("B", kRunTime),
                                 dim("N", 2), dim("D", 8)};
  auto transferOfLayer = [&](const std::vector<std::string> &order) {
    Drawing drawing = drawingOf(make(dims, order), 2);
    EXPECT_EQ(drawing.parts.back().name, "a layer");
    return drawing.parts.back().transfer;
  };
  EXPECT_EQ(transferOfLayer({"L", "B", "S", "N", "D"}), "1 x ?*64");
  EXPECT_EQ(transferOfLayer({"L", "S", "B", "N", "D"}), "1 x ?*32");
  EXPECT_EQ(transferOfLayer({"B", "L", "S", "N", "D"}), "? x 64");
}

} // namespace
