// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs and loops of what moves together, against plain enumeration.

#include "LayoutSamples.h"

#include "kvcache/Layout/Orders.h"
#include "kvcache/Layout/Transfers.h"

namespace layout_test {
namespace {

using kvcache::AxisSlice;
using kvcache::StridedDim;
using kvcache::Transfer;

/// The contiguous pieces of a set of offsets: (begin, length).
std::vector<std::pair<int64_t, int64_t>>
piecesOf(std::vector<int64_t> offsets) {
  std::sort(offsets.begin(), offsets.end());
  std::vector<std::pair<int64_t, int64_t>> pieces;
  for (int64_t offset : offsets) {
    if (!pieces.empty() && pieces.back().first + pieces.back().second == offset)
      ++pieces.back().second;
    else
      pieces.push_back({offset, 1});
  }
  return pieces;
}

TEST(TransferTest, RunsAndLoopsCoverWhatMoves) {
  int sliced = 0, open = 0, single = 0;
  std::set<int64_t> widths;
  forEachSample(40, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    for (int n = 0; n < 4; ++n) {
      Moved moved = randomMoved(random);
      int64_t elementBytes = int64_t(1) << random.between(0, 2);
      std::vector<AxisSlice> slices;
      Instance part = instance;
      int64_t base = 0;
      std::vector<int64_t> fixed = {0};
      bool hasRunTime = false;
      for (unsigned i = 0; i < instance.rank(); ++i) {
        int64_t extent = instance.extents[i];
        if (!moved.kinds.count(instance.axes[i].kind)) {
          std::vector<int64_t> next;
          for (int64_t start : fixed)
            for (int64_t index = 0; index < extent; ++index)
              next.push_back(start + index * instance.strides[i]);
          fixed = next;
          continue;
        }
        if (random.percent(25)) {
          int64_t first = random.between(0, extent - 1);
          int64_t count = random.between(1, extent - first);
          slices.push_back({instance.axes[i], first, count});
          part.extents[i] = count;
          base += first * instance.strides[i];
        } else {
          hasRunTime |= sample.dims[i].extent == kRunTime;
        }
      }
      random.shuffle(slices);
      sliced += !slices.empty();

      std::string why;
      std::optional<Transfer> transfer =
          transferOf(*sample.layout, moved.set, slices, elementBytes, why);
      ASSERT_TRUE(transfer.has_value()) << why;
      std::vector<int64_t> offsets = part.offsets([&](unsigned i) {
        return moved.kinds.count(instance.axes[i].kind) > 0;
      });
      // Slower axes first, so these are ascending: runs begin every so often.
      ASSERT_EQ(offsets.size() % transfer->runElements, 0u);
      std::vector<int64_t> starts;
      for (size_t e = 0; e < offsets.size(); ++e) {
        if (e % transfer->runElements == 0)
          starts.push_back(offsets[e]);
        else
          ASSERT_EQ(offsets[e], offsets[e - 1] + 1);
      }
      EXPECT_EQ(transfer->runs == kRunTime, hasRunTime);
      if (!hasRunTime)
        EXPECT_EQ(transfer->runs, static_cast<int64_t>(starts.size()));
      single += transfer->runs == 1;

      bool known = true;
      for (const StridedDim &loop : transfer->loops)
        known &= loop.extent != kRunTime &&
                 loop.stride.kind == StrideFact::Kind::Constant;
      open += !known;
      if (known) {
        std::vector<int64_t> enumerated = {0};
        for (const StridedDim &loop : transfer->loops) {
          std::vector<int64_t> next;
          for (int64_t start : enumerated)
            for (int64_t index = 0; index < loop.extent; ++index)
              next.push_back(start + index * loop.stride.value);
          enumerated = next;
        }
        EXPECT_EQ(enumerated, starts);
      }

      // The access is aligned at every run of every fixed index.
      int64_t width = transfer->accessBytes;
      widths.insert(width);
      auto works = [&](int64_t bytes) {
        if (instance.align % bytes ||
            transfer->runElements * elementBytes % bytes)
          return false;
        for (int64_t outer : fixed)
          for (int64_t start : starts)
            if ((outer + base + start) * elementBytes % bytes)
              return false;
        return true;
      };
      EXPECT_TRUE(works(width)) << width;

      if (!sample.allConstant)
        continue;
      EXPECT_TRUE(known);
      auto pieces = piecesOf(offsets);
      EXPECT_EQ(transfer->runs, static_cast<int64_t>(pieces.size()));
      for (auto [begin, length] : pieces)
        EXPECT_EQ(length, transfer->runElements);
      // No two loops can be one.
      for (size_t k = 1; k < transfer->loops.size(); ++k)
        EXPECT_NE(transfer->loops[k - 1].stride.value,
                  transfer->loops[k].stride.value * transfer->loops[k].extent);
      if (slices.empty()) {
        kvcache::Run run = sample.layout->contiguousRun(moved.set);
        EXPECT_EQ(run.elements, transfer->runElements);
        EXPECT_LE(sample.layout->accessBytes(run, elementBytes), width);
        if (width < Layout::kWidestAccess)
          EXPECT_FALSE(works(width * 2)) << width;
      }
    }
  });
  EXPECT_GT(sliced, 1000);
  EXPECT_GT(open, 1000);
  EXPECT_GT(single, 500);
  EXPECT_EQ(widths, (std::set<int64_t>{1, 2, 4, 8, 16}));
}

constexpr AxisKind L = AxisKind::Layer, S = AxisKind::Side, B = AxisKind::Block,
                   N = AxisKind::Token, H = AxisKind::Head,
                   D = AxisKind::Channel;

Layout model(std::string_view orderName, bool hasLayers, bool hasSides = true) {
  std::vector<LayoutDim> dims;
  if (hasLayers)
    dims.push_back({{L}, 32, {}});
  if (hasSides)
    dims.push_back({{S}, 2, {}});
  dims.push_back({{B}, kRunTime, {}});
  dims.push_back({{N}, 16, {}});
  dims.push_back({{H}, 8, {}});
  dims.push_back({{D}, 128, {}});
  std::vector<Axis> axes;
  for (const LayoutDim &dim : dims)
    axes.push_back(dim.axis);
  std::string error;
  std::optional<Layout> layout = Layout::get(
      dims, orderName.empty() ? axes : *kvcache::orderByName(orderName, axes),
      256, error);
  EXPECT_TRUE(layout.has_value()) << error;
  return *layout;
}

void expectTransfer(const Layout &layout, AxisSet moved,
                    const std::vector<AxisSlice> &slices, int64_t elements,
                    const std::vector<StridedDim> &loops) {
  std::string why;
  std::optional<Transfer> transfer = transferOf(layout, moved, slices, 2, why);
  ASSERT_TRUE(transfer.has_value()) << why;
  EXPECT_EQ(transfer->runElements, elements);
  EXPECT_EQ(transfer->accessBytes, 16);
  int64_t runs = 1;
  ASSERT_EQ(transfer->loops.size(), loops.size());
  for (size_t i = 0; i < loops.size(); ++i) {
    EXPECT_EQ(transfer->loops[i].extent, loops[i].extent);
    EXPECT_TRUE(transfer->loops[i] == loops[i])
        << transfer->loops[i].stride.value;
    runs *= loops[i].extent;
  }
  EXPECT_EQ(transfer->runs, runs);
}

StridedDim loop(int64_t extent, int64_t stride) {
  return {extent, StrideFact::constant(stride)};
}
StridedDim openLoop(int64_t extent, int64_t multiple) {
  return {extent, StrideFact::runTime(multiple)};
}

TEST(TransferTest, TheTableOfTheHeaderHolds) {
  Layout nhd = model("cross_layer_nhd", true);
  Layout hnd = model("cross_layer_hnd", true);
  std::vector<AxisSlice> twoHeads = {{{H}, 4, 2}};
  expectTransfer(nhd, {L, S, N, H, D}, {}, 1048576, {});
  expectTransfer(nhd, {S, N, H, D}, {}, 32768, {});
  expectTransfer(nhd, {L, S, N, H, D}, twoHeads, 256, {loop(1024, 1024)});
  expectTransfer(hnd, {L, S, N, H, D}, {}, 1048576, {});
  expectTransfer(hnd, {S, N, H, D}, {}, 4096, {loop(8, 131072)});
  expectTransfer(hnd, {L, S, N, H, D}, twoHeads, 262144, {});
  expectTransfer(model("", true), {L, S, N, H, D}, {}, 16384,
                 {openLoop(64, 16384)});
  EXPECT_EQ(kvcache::blockTransfer(nhd, 2).runElements, 1048576);
}

// 32 layers with a buffer each: 64 pieces of 32 KB for a block, or one.
TEST(TransferTest, PackedSidesTakeTwoRunsPerBlockAndLayer) {
  expectTransfer(model("nhd", false), {S, N, H, D}, {}, 16384,
                 {openLoop(2, 16384)});
  expectTransfer(model("hnd", false), {S, N, H, D}, {}, 16384,
                 {openLoop(2, 16384)});
  expectTransfer(model("paired_nhd", false), {S, N, H, D}, {}, 32768, {});
}

TEST(TransferTest, HeadSlicesAreLongWhereHeadsAreSlow) {
  std::vector<AxisSlice> half = {{{H}, 4, 4}};
  // One layer, one rank of two: one run per side, or one per token and side.
  expectTransfer(model("paired_hnd", false), {S, N, H, D}, half, 8192,
                 {loop(2, 16384)});
  expectTransfer(model("paired_nhd", false), {S, N, H, D}, half, 512,
                 {loop(32, 1024)});
  expectTransfer(model("LBHNC", true), {L, S, N, H, D}, half, 16384,
                 {openLoop(32, 32768)});
  expectTransfer(model("BHLNC", true), {L, S, N, H, D}, half, 524288, {});
}

TEST(TransferTest, APartialFirstChunkBeginsInsideOfTheBlock) {
  std::vector<AxisSlice> tail = {{{N}, 5, 11}};
  expectTransfer(model("paired_nhd", false), {S, N, H, D}, tail, 11264,
                 {loop(2, 16384)});
  expectTransfer(model("paired_hnd", false), {S, N, H, D}, tail, 1408,
                 {loop(16, 2048)});
}

TEST(TransferTest, NoSliceOfWhatDoesNotMove) {
  Layout layout = model("nhd", false);
  std::string why;
  EXPECT_FALSE(transferOf(layout, {N, D}, {{{H}, 0, 1}}, 2, why));
  EXPECT_NE(why.find("one of those that move"), std::string::npos) << why;
  EXPECT_FALSE(transferOf(layout, {L, D}, {{{L}, 0, 1}}, 2, why));
  EXPECT_FALSE(transferOf(layout, {H}, {{{H}, 1, 8}}, 2, why));
  EXPECT_FALSE(transferOf(layout, {H}, {{{H}, -1, 2}}, 2, why));
  EXPECT_FALSE(transferOf(layout, {H}, {{{H}, 0, 0}}, 2, why));
  EXPECT_NE(why.find("slice of H"), std::string::npos) << why;
}

} // namespace
} // namespace layout_test
