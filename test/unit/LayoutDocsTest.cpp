// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The table of named orders in docs/layout.md, computed. A change here is a
// change there.

#include "kvcache/Layout/Orders.h"
#include "kvcache/Layout/Transfers.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace {

using namespace kvcache;

/// 32 layers, 2 sides, 16 tokens, 8 heads, 128 channels in parts of 8.
int64_t modelExtent(Axis axis) {
  switch (axis.kind) {
  case AxisKind::Layer:
    return 32;
  case AxisKind::Side:
    return 2;
  case AxisKind::Block:
    return kRunTime;
  case AxisKind::Token:
    return 16;
  case AxisKind::Head:
    return 8;
  case AxisKind::Channel:
    break;
  }
  return axis.part == AxisPart::Whole ? 128
                                      : (axis.part == AxisPart::Outer ? 16 : 8);
}

std::string strideText(StrideFact stride) {
  std::string value = std::to_string(stride.value);
  return stride.kind == StrideFact::Kind::Constant ? value : "?*" + value;
}

std::string transferText(const Layout &layout, AxisSet moved,
                         const std::vector<AxisSlice> &slices) {
  std::string why;
  std::optional<Transfer> transfer =
      transferOf(layout, moved, slices, /*elementBytes=*/2, why);
  if (!transfer)
    return why;
  return std::to_string(transfer->runs) + " x " +
         std::to_string(transfer->runElements * 2);
}

std::string row(std::string_view name) {
  std::vector<Axis> order = orderByName(name).value(), listed = order;
  std::sort(listed.begin(), listed.end());
  std::vector<LayoutDim> dims;
  for (const Axis &axis : listed)
    dims.push_back({axis, modelExtent(axis), {}});
  std::string error;
  std::optional<Layout> layout = Layout::get(dims, order, 256, error);
  if (!layout)
    return error;

  std::string text = "| `" + std::string(name) + "` | `";
  for (size_t i = 0; i < order.size(); ++i)
    text += (i ? " " : "") + order[i].str();
  text += "` |";
  for (const Axis &axis : order)
    text += " " + strideText(explicitStride(*layout, *layout->find(axis)));
  using K = AxisKind;
  AxisSet block = {K::Layer, K::Side, K::Token, K::Head, K::Channel};
  AxisSet layer = {K::Side, K::Token, K::Head, K::Channel};
  text += " | " + transferText(*layout, block, {});
  text += " | " + transferText(*layout, layer, {});
  text += " | " + transferText(*layout, block, {{{K::Head}, 4, 4}});
  std::optional<FlatScale> scale = flatScale(*layout, error);
  text += " | " +
          (!scale ? "no"
                  : strideText(scale->rowsPerBlock == kRunTime
                                   ? StrideFact::runTime(scale->multiple)
                                   : StrideFact::constant(scale->multiple)));
  return text + (layout->isFlat() ? ", flat |" : " |");
}

constexpr const char *kTable[] = {
    "| `nhd` | `S B N H D` | ?*16384 16384 1024 128 1 | 2 x 32768 | 2 x 32768 "
    "| 32 x 1024 | 16, flat |",
    "| `hnd` | `S B H N D` | ?*16384 16384 2048 128 1 | 2 x 32768 | 2 x 32768 "
    "| 2 x 16384 | 128 |",
    "| `paired_nhd` | `B S N H D` | 32768 16384 1024 128 1 | 1 x 65536 | 1 x "
    "65536 | 32 x 1024 | 32 |",
    "| `paired_hnd` | `B S H N D` | 32768 16384 2048 128 1 | 1 x 65536 | 1 x "
    "65536 | 2 x 16384 | 256 |",
    "| `cross_layer_nhd` | `B L S N H D` | 1048576 32768 16384 1024 128 1 | 1 "
    "x 2097152 | 1 x 65536 | 1024 x 1024 | 1024 |",
    "| `cross_layer_hnd` | `B H L S N D` | 1048576 131072 4096 2048 128 1 | 1 "
    "x 2097152 | 8 x 8192 | 1 x 1048576 | 8192 |",
    "| `LBHNC` | `L B H N S D` | ?*32768 32768 4096 256 128 1 | 32 x 65536 | 1 "
    "x 65536 | 32 x 32768 | 128 |",
    "| `LBNHC` | `L B N H S D` | ?*32768 32768 2048 256 128 1 | 32 x 65536 | 1 "
    "x 65536 | 512 x 2048 | 16, flat |",
    "| `LHBNC` | `L H B N S D` | ?*32768 ?*4096 4096 256 128 1 | 256 x 8192 | "
    "8 x 8192 | 128 x 8192 | 16, flat |",
    "| `BLHNC` | `B L H N S D` | 1048576 32768 4096 256 128 1 | 1 x 2097152 | "
    "1 x 65536 | 32 x 32768 | 4096 |",
    "| `BLNHC` | `B L N H S D` | 1048576 32768 2048 256 128 1 | 1 x 2097152 | "
    "1 x 65536 | 512 x 2048 | 512 |",
    "| `BHLNC` | `B H L N S D` | 1048576 131072 4096 256 128 1 | 1 x 2097152 | "
    "8 x 8192 | 1 x 1048576 | 4096 |",
    "| `x_packed_key` | `B H D.o N D.i` | 16384 2048 128 8 1 | 1 x 32768 | 1 x "
    "32768 | 1 x 16384 | 2048 |",
    "| `x_packed_value` | `B H D N` | 16384 2048 16 1 | 1 x 32768 | 1 x 32768 "
    "| 1 x 16384 | 16384 |",
};

TEST(DocsTest, TheTableOfNamedOrdersHolds) {
  std::vector<std::string_view> names = orderNames();
  ASSERT_EQ(names.size(), std::size(kTable));
  for (size_t i = 0; i < names.size(); ++i)
    EXPECT_EQ(row(names[i]), kTable[i]);
}

} // namespace
