// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tables of named orders in docs/layout.md, computed. A change here is a
// change there.

#include "LayoutOffsets.h"

#include "kvcache/Layout/Orders.h"
#include "kvcache/Layout/Transfers.h"
#include "kvcache/Layout/Views.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace {

using namespace kvcache;

/// 32 layers, 2 sides, 16 tokens, 8 heads, 128 channels in parts of 8.
int64_t modelExtent(Axis axis, int64_t blocks) {
  switch (axis.kind) {
  case AxisKind::Layer:
    return 32;
  case AxisKind::Side:
    return 2;
  case AxisKind::Block:
    return blocks;
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

std::optional<Layout> model(std::string_view name, int64_t blocks,
                            std::string &error) {
  std::vector<Axis> order = orderByName(name).value(), listed = order;
  std::sort(listed.begin(), listed.end());
  std::vector<LayoutDim> dims;
  for (const Axis &axis : listed)
    dims.push_back({axis, modelExtent(axis, blocks), {}});
  return Layout::get(dims, order, 256, error);
}

std::string row(std::string_view name) {
  std::string error;
  std::optional<Layout> layout = model(name, kRunTime, error);
  if (!layout)
    return error;
  std::vector<Axis> order = orderByName(name).value();

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

/// The most blocks with which every byte offset fits 32 bits.
int64_t mostBlocks(std::string_view name) {
  int64_t fits = 0, fails = int64_t(1) << 32;
  while (fails - fits > 1) {
    int64_t blocks = (fits + fails) / 2;
    std::string error;
    std::optional<Layout> layout = model(name, blocks, error);
    bool yes = layout && fitsOffset32(*layout, /*elementBytes=*/2,
                                      OffsetRange::Pool) == Proof::Yes;
    (yes ? fits : fails) = blocks;
  }
  return fits;
}

std::string inBlockText(const Layout &layout) {
  std::optional<int64_t> largest = blockSplit(layout).largestInBlock;
  return largest ? "0 ... " + std::to_string(*largest) : "grows with the pool";
}

std::string offsetRow(std::string_view name) {
  std::string error;
  std::optional<Layout> layout = model(name, kRunTime, error);
  if (!layout)
    return error;
  Layout keys = *layout;
  for (AxisKind kind : {AxisKind::Layer, AxisKind::Side})
    if (keys.has(kind)) {
      std::optional<Slice> slice =
          sliceAxis(keys, {kind}, 0, /*elementBytes=*/2, error);
      if (!slice)
        return error;
      keys = slice->layout;
    }
  return "| `" + std::string(name) + "` | block * " +
         strideText(blockSplit(*layout).blockStride) + " | " +
         inBlockText(*layout) + " | " + inBlockText(keys) + " | " +
         std::to_string(mostBlocks(name)) + " |";
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

constexpr const char *kOffsets[] = {
    "| `nhd` | block * 16384 | grows with the pool | 0 ... 16383 | 32768 |",
    "| `hnd` | block * 16384 | grows with the pool | 0 ... 16383 | 32768 |",
    "| `paired_nhd` | block * 32768 | 0 ... 32767 | 0 ... 16383 | 32768 |",
    "| `paired_hnd` | block * 32768 | 0 ... 32767 | 0 ... 16383 | 32768 |",
    "| `cross_layer_nhd` | block * 1048576 | 0 ... 1048575 | 0 ... 16383 | "
    "1024 |",
    "| `cross_layer_hnd` | block * 1048576 | 0 ... 1048575 | 0 ... 919551 | "
    "1024 |",
    "| `LBHNC` | block * 32768 | grows with the pool | 0 ... 32639 | 1024 |",
    "| `LBNHC` | block * 32768 | grows with the pool | 0 ... 32639 | 1024 |",
    "| `LHBNC` | block * 4096 | grows with the pool | grows with the pool | "
    "1024 |",
    "| `BLHNC` | block * 1048576 | 0 ... 1048575 | 0 ... 32639 | 1024 |",
    "| `BLNHC` | block * 1048576 | 0 ... 1048575 | 0 ... 32639 | 1024 |",
    "| `BHLNC` | block * 1048576 | 0 ... 1048575 | 0 ... 921471 | 1024 |",
    "| `x_packed_key` | block * 16384 | 0 ... 16383 | 0 ... 16383 | 65536 |",
    "| `x_packed_value` | block * 16384 | 0 ... 16383 | 0 ... 16383 | 65536 |",
};

TEST(DocsTest, TheTableOfOffsetsHolds) {
  std::vector<std::string_view> names = orderNames();
  ASSERT_EQ(names.size(), std::size(kOffsets));
  for (size_t i = 0; i < names.size(); ++i)
    EXPECT_EQ(offsetRow(names[i]), kOffsets[i]);
}

} // namespace
