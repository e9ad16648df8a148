// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Merging, splitting and dropping axes, against plain enumeration.

#include "LayoutSamples.h"

#include "kvcache/Layout/Orders.h"
#include "kvcache/Layout/Views.h"

namespace layout_test {
namespace {

using kvcache::FlatScale;
using kvcache::Slice;
using kvcache::StridedDim;

constexpr int64_t kHuge = int64_t(1) << 40;

/// A known stride is the real one, and a multiple divides it.
void expectStride(StrideFact fact, int64_t stride) {
  if (fact.kind == StrideFact::Kind::Constant)
    EXPECT_EQ(fact.value, stride);
  else
    EXPECT_EQ(stride % fact.value, 0) << fact.value;
  EXPECT_NE(fact.kind, StrideFact::Kind::Compact);
}

/// The offsets of an array whose dimensions are these axes, row-major.
std::vector<int64_t> rowMajor(const Instance &instance,
                              const std::vector<unsigned> &axes) {
  Instance array = instance;
  array.order = axes;
  return array.offsets([](unsigned) { return true; });
}

/// The strides that make these offsets an array of this shape, if there are
/// any. Extents of 1 get 0.
std::optional<std::vector<int64_t>>
viewStrides(const std::vector<int64_t> &offsets,
            const std::vector<int64_t> &shape) {
  std::vector<int64_t> strides(shape.size(), 0);
  int64_t step = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    if (shape[d] != 1)
      strides[d] = offsets[step] - offsets[0];
    step *= shape[d];
  }
  for (size_t e = 0; e < offsets.size(); ++e) {
    int64_t offset = 0, rest = e;
    for (size_t d = shape.size(); d-- > 0;) {
      offset += rest % shape[d] * strides[d];
      rest /= shape[d];
    }
    if (offset != offsets[e])
      return std::nullopt;
  }
  return strides;
}

TEST(ViewsTest, RowMajorDimensionsAreContiguous) {
  int contiguous = 0, unknown = 0;
  forEachSample(19, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    unsigned first = random.between(0, instance.rank() - 1);
    std::vector<StridedDim> known, facts;
    std::vector<unsigned> inner;
    for (unsigned k = 0; k < instance.rank(); ++k) {
      unsigned i = instance.order[k];
      known.push_back(
          {instance.extents[i], StrideFact::constant(instance.strides[i])});
      facts.push_back(
          {sample.layout->dim(i).extent, explicitStride(*sample.layout, i)});
      if (k >= first)
        inner.push_back(i);
    }
    std::vector<int64_t> offsets = rowMajor(instance, inner);
    bool isContiguous = offsets.back() == int64_t(offsets.size()) - 1;
    EXPECT_EQ(isRowMajor(known, first), isContiguous);
    bool isProven = isRowMajor(facts, first);
    EXPECT_TRUE(isContiguous || !isProven);
    contiguous += isContiguous;
    unknown += isContiguous && !isProven;
  });
  EXPECT_GT(contiguous, 1000);
  EXPECT_GT(unknown, 100);
}

TEST(CollapseTest, CollapsedAxesHaveOneStride) {
  int yes = 0, no = 0, open = 0;
  forEachSample(20, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    for (int n = 0; n < 4; ++n) {
      unsigned first = random.between(0, instance.rank() - 1);
      unsigned last = random.between(first, instance.rank() - 1);
      std::vector<unsigned> indices(instance.order.begin() + first,
                                    instance.order.begin() + last + 1);
      std::vector<Axis> axes;
      int64_t elements = 1;
      bool hasRunTime = false;
      for (unsigned i : indices) {
        axes.push_back(instance.axes[i]);
        elements *= instance.extents[i];
        hasRunTime |= sample.dims[i].extent == kRunTime;
      }
      random.shuffle(axes);
      std::string why;
      std::optional<StridedDim> dim = collapse(*sample.layout, axes, why);
      std::optional<std::vector<int64_t>> truth =
          viewStrides(rowMajor(instance, indices), {elements});
      (dim ? yes : no)++;
      open += dim && !sample.allConstant;
      if (dim) {
        ASSERT_TRUE(truth.has_value());
        EXPECT_EQ(dim->extent, hasRunTime ? kRunTime : elements);
        if (elements != 1)
          expectStride(dim->stride, (*truth)[0]);
      } else {
        EXPECT_NE(why.find("is not packed over"), std::string::npos) << why;
      }
      if (sample.allConstant) {
        EXPECT_EQ(dim.has_value(), truth.has_value()) << why;
        if (dim)
          EXPECT_EQ(dim->stride.kind, StrideFact::Kind::Constant);
      }
    }
  });
  EXPECT_GT(yes, 1000);
  EXPECT_GT(no, 1000);
  EXPECT_GT(open, 1000);
}

/// Cut a number in factors, extents of 1 among them.
std::vector<int64_t> randomShape(int64_t elements, Random &random) {
  std::vector<int64_t> shape;
  while (elements > 1) {
    int64_t extent = random.divisor(elements);
    if (extent == 1 && random.percent(60))
      continue;
    shape.push_back(extent);
    elements /= extent;
  }
  if (random.percent(20))
    shape.push_back(1);
  random.shuffle(shape);
  return shape;
}

TEST(ReshapeTest, AReshapeIsAViewIfStridesDescribeIt) {
  int yes = 0, no = 0, open = 0;
  forEachSample(21, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    for (int n = 0; n < 4; ++n) {
      std::vector<unsigned> indices = instance.order;
      if (random.percent(50))
        std::swap(indices[random.between(0, indices.size() - 1)],
                  indices[random.between(0, indices.size() - 1)]);
      std::vector<Axis> sequence;
      int64_t elements = 1;
      for (unsigned i : indices) {
        elements *= instance.extents[i];
        if (instance.extents[i] != 1 || sample.dims[i].extent == kRunTime ||
            random.percent(50))
          sequence.push_back(instance.axes[i]);
      }
      // Merge neighbours, or anything.
      std::vector<int64_t> shape;
      std::vector<int64_t> given;
      if (random.percent(60)) {
        bool merge = false;
        for (unsigned i : indices) {
          bool isOpen = sample.dims[i].extent == kRunTime;
          if (merge) {
            shape.back() *= instance.extents[i];
            given.back() =
                given.back() == kRunTime || isOpen ? kRunTime : shape.back();
          } else {
            shape.push_back(instance.extents[i]);
            given.push_back(isOpen ? kRunTime : shape.back());
          }
          merge = random.percent(40);
        }
      } else {
        shape = given = randomShape(elements, random);
        if (!sample.allConstant && !shape.empty())
          given[random.between(0, shape.size() - 1)] = kRunTime;
      }

      std::string why;
      std::optional<std::vector<StridedDim>> view =
          reshape(*sample.layout, sequence, given, why);
      std::optional<std::vector<int64_t>> truth =
          viewStrides(rowMajor(instance, indices), shape);
      (view ? yes : no)++;
      open += view && !sample.allConstant;
      if (sample.allConstant)
        EXPECT_EQ(view.has_value(), truth.has_value()) << why;
      if (!view) {
        EXPECT_FALSE(why.empty());
        continue;
      }
      ASSERT_TRUE(truth.has_value());
      ASSERT_EQ(view->size(), shape.size());
      for (size_t d = 0; d < shape.size(); ++d) {
        EXPECT_EQ((*view)[d].extent, given[d]);
        if (shape[d] != 1)
          expectStride((*view)[d].stride, (*truth)[d]);
        if (sample.allConstant)
          EXPECT_EQ((*view)[d].stride.kind, StrideFact::Kind::Constant);
      }
    }
  });
  EXPECT_GT(yes, 1000);
  EXPECT_GT(no, 1000);
  EXPECT_GT(open, 1000);
}

/// Blocks at run time: the numbers of models that people run.
Layout model(std::string_view orderName, int64_t layers,
             StrideFact blockStride = {}) {
  std::vector<LayoutDim> dims;
  if (layers)
    dims.push_back({{AxisKind::Layer}, layers, {}});
  dims.push_back({{AxisKind::Side}, 2, {}});
  dims.push_back({{AxisKind::Block}, kRunTime, blockStride});
  dims.push_back({{AxisKind::Token}, 16, {}});
  dims.push_back({{AxisKind::Head}, 8, {}});
  dims.push_back({{AxisKind::Channel}, 128, {}});
  std::string error;
  std::optional<Layout> layout =
      Layout::get(dims, kvcache::orderByName(orderName).value(), 256, error);
  EXPECT_TRUE(layout.has_value()) << error;
  return *layout;
}

constexpr Axis kL{AxisKind::Layer}, kS{AxisKind::Side}, kB{AxisKind::Block},
    kN{AxisKind::Token}, kH{AxisKind::Head}, kD{AxisKind::Channel};

TEST(ReshapeTest, TheExamplesOfTheHeaderHold) {
  std::string why;
  Layout nhd = model("nhd", 0);
  auto rows = reshape(nhd, {kS, kB, kN, kH, kD}, {2, kRunTime, 8, 128}, why);
  ASSERT_TRUE(rows.has_value()) << why;
  EXPECT_EQ((*rows)[1], (StridedDim{kRunTime, StrideFact::constant(1024)}));
  EXPECT_EQ((*rows)[0].stride, StrideFact::runTime(16384));

  // And two sides in one number, as they are packed over the blocks.
  EXPECT_TRUE(reshape(nhd, {kS, kB, kN, kH, kD}, {kRunTime, 1024}, why));
  EXPECT_FALSE(
      reshape(nhd, {kS, kB, kN, kH, kD}, {2, kRunTime, 64, 1024}, why));
  EXPECT_NE(why.find("not known to be a multiple"), std::string::npos) << why;

  Layout content = model("LBHNC", 32);
  auto merged = reshape(content, {kL, kB, kH, kN, kS, kD},
                        {32, kRunTime, 8, 16, 256}, why);
  ASSERT_TRUE(merged.has_value()) << why;
  EXPECT_EQ((*merged)[3], (StridedDim{16, StrideFact::constant(256)}));
  EXPECT_EQ((*merged)[4], (StridedDim{256, StrideFact::constant(1)}));

  // One layer of a pool that is shared by all of them.
  Layout slice = model("paired_nhd", 0, StrideFact::constant(1048576));
  EXPECT_FALSE(
      reshape(slice, {kS, kB, kN, kH, kD}, {2, kRunTime, 8, 128}, why));
  EXPECT_EQ(why, "an extent of ? spans axes with a gap between them; B is not "
                 "packed over N: the stride of B is 1048576, expected 16 * "
                 "1024");
}

TEST(ReshapeTest, CountsThatDifferAreRefused) {
  std::string error, why;
  std::optional<Layout> layout =
      Layout::get({{kB, 4, {}}, {kN, 16, {}}, {kD, 8, {}}}, {}, 16, error);
  ASSERT_TRUE(layout.has_value()) << error;
  const std::vector<std::vector<int64_t>> shapes = {
      {4, 16, 4},        {8, 16, 8},    {4, 16},     {2, 4, 16, 8},
      {kRunTime, 16, 8}, {4, 16, 0},    {4, 16, -7}, {kHuge, kHuge, kHuge},
      {4, 16, 8, 2},     {kRunTime, 4}, {},          {4, 16, 8, kHuge + 1}};
  for (const std::vector<int64_t> &shape : shapes) {
    why.clear();
    EXPECT_FALSE(reshape(*layout, {kB, kN, kD}, shape, why));
    EXPECT_FALSE(why.empty());
  }
  EXPECT_TRUE(reshape(*layout, {kB, kN, kD}, {1, 512, 1}, why));
}

TEST(FlatScaleTest, RowNumbersAreTrue) {
  int constants = 0, runTime = 0, no = 0;
  forEachSample(22, [&](const Sample &sample, Random &) {
    const Instance &instance = sample.instance;
    std::string why;
    std::optional<FlatScale> scale = flatScale(*sample.layout, why);
    std::optional<unsigned> block = instance.find(AxisKind::Block);
    std::optional<unsigned> token = instance.find(AxisKind::Token);
    if (!block || !token) {
      EXPECT_FALSE(scale.has_value());
      return;
    }
    int64_t outer = instance.strides[*block], inner = instance.strides[*token];
    if (sample.allConstant)
      EXPECT_EQ(scale.has_value(), outer % inner == 0) << why;
    if (sample.layout->isFlat())
      EXPECT_TRUE(scale.has_value()) << why;
    if (!scale) {
      ++no;
      EXPECT_FALSE(why.empty());
      return;
    }
    ASSERT_EQ(outer % inner, 0);
    EXPECT_EQ(outer / inner % scale->multiple, 0);
    if (scale->rowsPerBlock == kRunTime) {
      ++runTime;
      EXPECT_FALSE(sample.allConstant);
    } else {
      ++constants;
      EXPECT_EQ(scale->rowsPerBlock, outer / inner);
    }
  });
  EXPECT_GT(constants, 500);
  EXPECT_GT(runTime, 50);
  EXPECT_GT(no, 500);
}

TEST(FlatScaleTest, TheTableOfTheHeaderHolds) {
  std::string why;
  EXPECT_EQ(flatScale(model("nhd", 0), why)->rowsPerBlock, 16);
  EXPECT_EQ(flatScale(model("paired_nhd", 0), why)->rowsPerBlock, 32);
  EXPECT_EQ(flatScale(model("paired_hnd", 0), why)->rowsPerBlock, 256);
  Layout slice = model("paired_nhd", 0, StrideFact::constant(1048576));
  EXPECT_EQ(flatScale(slice, why)->rowsPerBlock, 1024);
  Layout aligned = model("paired_nhd", 0, StrideFact::runTime(4096));
  EXPECT_EQ(flatScale(aligned, why)->rowsPerBlock, kRunTime);
  EXPECT_EQ(flatScale(aligned, why)->multiple, 4);
  EXPECT_FALSE(flatScale(model("paired_nhd", 0, StrideFact::runTime(16)), why));
  EXPECT_EQ(why, "the stride of B is known only at run time, as a multiple of "
                 "16, and the stride of N is 1024");
}

TEST(FlatScaleTest, AxesOfExtentOneDoNotHideAFlatLayout) {
  std::string error;
  std::optional<Layout> layout =
      Layout::get({{kS, 1, {}},
                   {kB, kRunTime, {}},
                   {kN, kRunTime, StrideFact::runTime(64)},
                   {kD, 64, {}}},
                  {kB, kS, kN, kD}, 16, error);
  ASSERT_TRUE(layout.has_value()) << error;
  EXPECT_TRUE(layout->isFlat());
}

TEST(PackedTest, AxesAndOrderStay) {
  forEachSample(23, [&](const Sample &sample, Random &) {
    Layout dense = packed(*sample.layout);
    EXPECT_TRUE(dense.isCompact());
    EXPECT_EQ(dense.orderAxes(), sample.instance.orderAxes());
    EXPECT_EQ(dense == *sample.layout, sample.layout->isCompact());
  });
}

/// The offsets of a slice are those of the parent, and its facts are true.
void expectPart(const Sample &sample, const Slice &slice, Axis axis,
                int64_t first, int64_t count, bool isDropped,
                int64_t elementBytes) {
  const Instance &instance = sample.instance;
  const Layout &layout = slice.layout;
  unsigned cut = *sample.layout->find(axis);
  if (instance.extents[cut] != 1 || sample.dims[cut].extent == kRunTime)
    expectStride(slice.step, instance.strides[cut]);
  EXPECT_EQ(layout.rank(), instance.rank() - isDropped);
  Instance part = instance;
  part.extents[cut] = count;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    unsigned parent = *sample.layout->find(layout.dim(i).axis);
    if (part.extents[parent] != 1) {
      int64_t stride = instance.strides[parent];
      if (std::optional<int64_t> known = layout.stride(i))
        EXPECT_EQ(*known, stride) << layout.dim(i).axis.str();
      EXPECT_EQ(stride % layout.strideMultiple(i), 0);
      // What the parent knew is not lost.
      EXPECT_EQ(
          layout.strideMultiple(i) % sample.layout->strideMultiple(parent), 0);
      EXPECT_EQ(layout.stride(i).has_value(),
                sample.layout->stride(parent).has_value())
          << layout.dim(i).axis.str();
    }
  }
  EXPECT_GE(layout.align(), 1);
  EXPECT_LE(layout.align(), sample.layout->align());
  EXPECT_EQ(first * instance.strides[cut] * elementBytes % layout.align(), 0);
}

TEST(SliceTest, PartsKeepTheStridesOfTheParent) {
  int slices = 0, ranges = 0, kept = 0;
  forEachSample(24, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    int64_t elementBytes = int64_t(1) << random.between(0, 2);
    for (unsigned i = 0; i < instance.rank(); ++i) {
      Axis axis = instance.axes[i];
      int64_t extent = instance.extents[i];
      int64_t index = random.between(0, extent - 1);
      std::optional<int64_t> given;
      if (random.percent(50))
        given = index;
      std::string why;
      bool needed = axis.kind == AxisKind::Block ||
                    axis.kind == AxisKind::Token ||
                    axis.kind == AxisKind::Channel;
      if (axis.part == AxisPart::Whole) {
        std::optional<Slice> slice =
            sliceAxis(*sample.layout, axis, given, elementBytes, why);
        ASSERT_EQ(slice.has_value(), !needed) << why;
        if (slice) {
          ++slices;
          expectPart(sample, *slice, axis, index, 1, true, elementBytes);
          kept += slice->layout.isCompact();
        }
      }
      int64_t count = random.between(1, extent - index);
      std::optional<Slice> range =
          narrowAxis(*sample.layout, axis, given,
                     random.percent(30) ? kRunTime : count, elementBytes, why);
      ASSERT_TRUE(range.has_value()) << why;
      ++ranges;
      expectPart(sample, *range, axis, index, count, false, elementBytes);
    }
  });
  EXPECT_GT(slices, 2000);
  EXPECT_GT(ranges, 2000);
  EXPECT_GT(kept, 100);
}

TEST(SliceTest, ALayerOfACrossLayerPoolIsTheExampleOfTheHeader) {
  std::string why;
  Layout pool = model("cross_layer_nhd", 32);
  std::optional<Slice> layer = sliceAxis(pool, kL, 3, 2, why);
  ASSERT_TRUE(layer.has_value()) << why;
  EXPECT_EQ(layer->step, StrideFact::constant(32768));
  EXPECT_TRUE(layer->layout ==
              model("paired_nhd", 0, StrideFact::constant(1048576)));
  // The first index keeps any alignment, an unknown one what the step has.
  std::optional<Layout> wide =
      Layout::get(pool.listing(), pool.orderAxes(), 4096, why);
  EXPECT_EQ(sliceAxis(*wide, kL, 0, 2, why)->layout.align(), 4096);

  // A key cache alone, out of it.
  std::optional<Slice> keys = sliceAxis(layer->layout, kS, 0, 2, why);
  ASSERT_TRUE(keys.has_value()) << why;
  EXPECT_EQ(keys->layout.stride(0), 1048576);
  EXPECT_EQ(keys->step, StrideFact::constant(16384));

  // With layers at run time the block stride is a multiple only.
  std::optional<Slice> open =
      narrowAxis(pool, kL, std::nullopt, kRunTime, 2, why);
  ASSERT_TRUE(open.has_value()) << why;
  EXPECT_EQ(open->layout.stride(2), 1048576);
  std::vector<LayoutDim> dims = pool.listing();
  dims[0].extent = kRunTime;
  std::optional<Layout> anyLayers =
      Layout::get(dims, pool.orderAxes(), 256, why);
  std::optional<Slice> some = sliceAxis(*anyLayers, kL, std::nullopt, 2, why);
  ASSERT_TRUE(some.has_value()) << why;
  EXPECT_EQ(some->layout.dim(1).stride, StrideFact::runTime(32768));
}

TEST(SliceTest, AnAxisOfExtentOneIsSeenThrough) {
  std::string why;
  // B is compact over S, which has extent 1 and is compact over L.
  std::optional<Layout> pool = Layout::get(
      {{kL, 4, {}}, {kS, 1, {}}, {kB, kRunTime, {}}, {kN, 2, {}}, {kD, 8, {}}},
      {kB, kS, kL, kN, kD}, 16, why);
  ASSERT_TRUE(pool.has_value()) << why;
  std::optional<Slice> layer = sliceAxis(*pool, kL, 1, 2, why);
  ASSERT_TRUE(layer.has_value()) << why;
  EXPECT_EQ(layer->layout.stride(1), 64);
}

TEST(SliceTest, NoPartOutsideOfTheExtent) {
  std::string why;
  Layout pool = model("cross_layer_nhd", 32);
  for (int64_t index : {int64_t(-1), int64_t(32), kHuge}) {
    EXPECT_FALSE(sliceAxis(pool, kL, index, 2, why));
    EXPECT_NE(why.find("got " + std::to_string(index)), std::string::npos);
    EXPECT_FALSE(narrowAxis(pool, kL, index, 1, 2, why));
  }
  EXPECT_FALSE(narrowAxis(pool, kL, 1, 32, 2, why));
  EXPECT_FALSE(narrowAxis(pool, kL, std::nullopt, 33, 2, why));
  EXPECT_FALSE(narrowAxis(pool, kL, 0, 0, 2, why));
  EXPECT_TRUE(narrowAxis(pool, kB, kHuge - 1, 1, 2, why));
  EXPECT_FALSE(narrowAxis(pool, kB, kHuge, 1, 2, why));
  EXPECT_FALSE(sliceAxis(pool, kN, 0, 2, why));
  EXPECT_EQ(why.rfind("layout_c2", 0), 0u) << why;
}

} // namespace
} // namespace layout_test
