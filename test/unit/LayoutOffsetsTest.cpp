// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Concrete offsets and what is known about them before, against enumeration.

#include "LayoutOffsets.h"
#include "LayoutSamples.h"

#include <limits>

namespace layout_test {
namespace {

using kvcache::BlockSplit;
using kvcache::OffsetRange;
using kvcache::Proof;

constexpr Axis kB{AxisKind::Block}, kN{AxisKind::Token}, kH{AxisKind::Head},
    kD{AxisKind::Channel};

TEST(OffsetsTest, AnOffsetIsTheSumOfItsSteps) {
  int derived = 0;
  forEachSample(50, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    std::vector<int64_t> strides = instance.strides, indices;
    for (unsigned i = 0; i < instance.rank(); ++i) {
      indices.push_back(random.between(0, instance.extents[i] - 1));
      if (sample.layout->dim(i).stride.kind != StrideFact::Kind::RunTime &&
          random.percent(50)) {
        strides[i] = kRunTime;
        ++derived;
      } else if (instance.extents[i] == 1) {
        strides[i] = random.between(-5, 99);
      }
    }
    std::string why;
    auto all = concreteStrides(*sample.layout, instance.extents, strides, why);
    ASSERT_TRUE(all.has_value()) << why;
    EXPECT_EQ(*all, instance.strides);
    int64_t expected = 0;
    for (unsigned i = 0; i < instance.rank(); ++i)
      expected += indices[i] * instance.strides[i];
    EXPECT_EQ(offsetOf(*sample.layout, indices, instance.extents, strides, why),
              expected)
        << why;
    unsigned some = random.between(0, instance.rank() - 1);
    indices[some] = random.percent(50) ? -1 : instance.extents[some];
    EXPECT_FALSE(
        offsetOf(*sample.layout, indices, instance.extents, strides, why));
  });
  EXPECT_GT(derived, kLayouts);
}

TEST(OffsetsTest, AValueThatBreaksAFactIsRefused) {
  int broken = 0, kept = 0;
  forEachSample(51, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    Instance other = instance;
    unsigned i = random.between(0, instance.rank() - 1);
    other.strides[i] = random.between(1, 2 * instance.strides[i]);
    if (other.extents[i] == 1)
      return;
    // True by the words of the header of Layout.h, and of one index by those of
    // Facts.h: any stride that it could have.
    bool holds = true;
    int64_t span = 1, multiple = 0;
    for (unsigned k = 0; k < other.rank(); ++k) {
      unsigned d = other.fastest(k);
      const LayoutDim &dim = sample.layout->dim(d);
      if (other.extents[d] == 1) {
        if (dim.stride.kind == StrideFact::Kind::Constant) {
          span = dim.stride.value;
          multiple = 0;
        } else if (dim.stride.kind == StrideFact::Kind::RunTime) {
          multiple = dim.stride.value;
          while (span % multiple != 0)
            ++span;
        }
        continue;
      }
      int64_t stride = other.strides[d];
      holds &= stride >= span;
      if (dim.stride.kind == StrideFact::Kind::Compact)
        holds &= multiple ? stride % multiple == 0 : stride == span;
      else if (dim.stride.kind == StrideFact::Kind::Constant)
        holds &= stride == dim.stride.value;
      else
        holds &= stride % dim.stride.value == 0;
      multiple = 0;
      span = stride * other.extents[d];
    }
    std::string why;
    auto strides =
        concreteStrides(*sample.layout, other.extents, other.strides, why);
    (holds ? kept : broken)++;
    EXPECT_EQ(strides.has_value(), holds) << why;
    if (!holds)
      EXPECT_NE(why.find("is expected to be"), std::string::npos) << why;
  });
  EXPECT_GT(broken, 500);
  EXPECT_GT(kept, 200);
}

TEST(OffsetsTest, HugePoolsDoNotWrap) {
  std::string error, why;
  std::optional<Layout> layout = Layout::get(
      {{kB, kRunTime, StrideFact::runTime(16)}, {kN, 16, {}}, {kD, 128, {}}},
      {}, 16, error);
  ASSERT_TRUE(layout.has_value()) << error;
  EXPECT_EQ(offsetOf(*layout, {4095, 15, 127}, {4096, 16, 128},
                     {kMaxExtent, kRunTime, kRunTime}, why),
            4095 * kMaxExtent + 2047)
      << why;
  EXPECT_FALSE(offsetOf(*layout, {0, 0, 0}, {4097, 16, 128},
                        {kMaxExtent, kRunTime, kRunTime}, why));
  EXPECT_NE(why.find("at most 2^52"), std::string::npos) << why;
  for (int64_t stride : {int64_t(0), int64_t(-16), int64_t(2047),
                         kMaxExtent + 16, std::numeric_limits<int64_t>::min()})
    EXPECT_FALSE(offsetOf(*layout, {0, 0, 0}, {2, 16, 128},
                          {stride, kRunTime, kRunTime}, why));
  EXPECT_FALSE(offsetOf(*layout, {0, 0, 0}, {2, 16, 128},
                        {kRunTime, kRunTime, kRunTime}, why));
  for (int64_t extent : {int64_t(0), int64_t(-1), kMaxExtent + 1,
                         std::numeric_limits<int64_t>::max()})
    EXPECT_FALSE(offsetOf(*layout, {0, 0, 0}, {extent, 16, 128},
                          {2048, kRunTime, kRunTime}, why));
}

TEST(OffsetsTest, TheSplitBoundsEveryOffsetOfABlock) {
  int known = 0;
  forEachSample(52, [&](const Sample &sample, Random &) {
    const Instance &instance = sample.instance;
    std::optional<unsigned> block = instance.find(AxisKind::Block);
    if (!block)
      return;
    BlockSplit split = blockSplit(*sample.layout);
    std::vector<int64_t> inside =
        instance.offsets([&](unsigned i) { return i != *block; });
    int64_t largest = *std::max_element(inside.begin(), inside.end());
    if (split.largestInBlock) {
      ++known;
      EXPECT_EQ(*split.largestInBlock, largest);
    }
    if (sample.allConstant) {
      EXPECT_TRUE(split.largestInBlock.has_value());
      EXPECT_EQ(split.blockStride,
                StrideFact::constant(instance.strides[*block]));
    }
  });
  EXPECT_GT(known, 1000);
}

// Pools around the limit: the small ones with the fastest axis made large.
TEST(OffsetsTest, AProofAboutThirtyTwoBitsIsTrue) {
  int count[3] = {};
  Random random(53);
  for (int n = 0; n < kLayouts; ++n) {
    Sample sample = randomSample(random);
    std::vector<LayoutDim> dims = sample.dims;
    Instance instance = sample.instance;
    unsigned fastest = instance.fastest(0);
    int64_t factor = int64_t(1) << random.between(16, 34);
    // All strides but that of the fastest axis grow.
    if (instance.strides[fastest] != 1)
      continue;
    instance.extents[fastest] *= factor;
    if (dims[fastest].extent != kRunTime)
      dims[fastest].extent = instance.extents[fastest];
    dims[fastest].stride = {};
    for (unsigned i = 0; i < instance.rank(); ++i) {
      if (i == fastest)
        continue;
      instance.strides[i] *= factor;
      if (dims[i].stride.kind != StrideFact::Kind::Compact)
        dims[i].stride.value *= factor;
      if (dims[i].extent == 1)
        dims[i].stride = {};
    }
    std::string error;
    std::optional<Layout> layout =
        Layout::get(dims, instance.orderAxes(), 16, error);
    if (!layout) {
      // Too large for any layout.
      ASSERT_EQ(error.rfind("layout_c5", 0), 0u) << error;
      continue;
    }
    int64_t elementBytes = int64_t(1) << random.between(0, 2);
    for (OffsetRange range : {OffsetRange::Pool, OffsetRange::Block}) {
      int64_t last = 0;
      for (unsigned i = 0; i < instance.rank(); ++i)
        if (range == OffsetRange::Pool ||
            instance.axes[i].kind != AxisKind::Block)
          last += (instance.extents[i] - 1) * instance.strides[i];
      bool fits = last * elementBytes <= std::numeric_limits<int32_t>::max();
      Proof proof = fitsOffset32(*layout, elementBytes, range);
      ++count[static_cast<int>(proof)];
      if (proof == Proof::Yes)
        EXPECT_TRUE(fits) << last;
      if (proof == Proof::No)
        EXPECT_FALSE(fits) << last;
      if (sample.allConstant)
        EXPECT_NE(proof, Proof::Unknown);
    }
  }
  for (int n : count)
    EXPECT_GT(n, 400);
}

TEST(OffsetsTest, TheTableOfTheHeaderHolds) {
  auto get = [](StrideFact blockStride, std::vector<Axis> order) {
    std::string error;
    std::optional<Layout> layout = Layout::get(
        {{kB, kRunTime, blockStride}, {kN, 16, {}}, {kH, 8, {}}, {kD, 128, {}}},
        order, 16, error);
    EXPECT_TRUE(layout.has_value()) << error;
    return *layout;
  };
  Layout plain = get({}, {});
  EXPECT_EQ(blockSplit(plain).blockStride, StrideFact::constant(16384));
  EXPECT_EQ(blockSplit(plain).largestInBlock, 16383);
  EXPECT_EQ(fitsOffset32(plain, 2, OffsetRange::Pool), Proof::Unknown);
  EXPECT_EQ(fitsOffset32(plain, 2, OffsetRange::Block), Proof::Yes);
  Layout wide = get(StrideFact::constant(1048576), {});
  EXPECT_EQ(blockSplit(wide).blockStride, StrideFact::constant(1048576));
  EXPECT_EQ(blockSplit(wide).largestInBlock, 16383);
  Layout heads = get({}, {kH, kB, kN, kD});
  EXPECT_EQ(blockSplit(heads).blockStride, StrideFact::constant(2048));
  EXPECT_FALSE(blockSplit(heads).largestInBlock.has_value());
  EXPECT_EQ(fitsOffset32(heads, 2, OffsetRange::Block), Proof::Unknown);
}

// Even the least stride that the facts allow is too large.
TEST(OffsetsTest, AMultipleAloneCanProveThatOffsetsDoNotFit) {
  for (int64_t multiple : {int64_t(1) << 29, int64_t(1) << 30}) {
    std::string error;
    std::optional<Layout> layout = Layout::get(
        {{kB, 3, StrideFact::runTime(multiple)}, {kN, 16, {}}, {kD, 128, {}}},
        {}, 16, error);
    ASSERT_TRUE(layout.has_value()) << error;
    bool isLarge = multiple * 2 >= int64_t(1) << 31;
    EXPECT_EQ(fitsOffset32(*layout, 1, OffsetRange::Pool),
              isLarge ? Proof::No : Proof::Unknown);
  }
}

// 2^31 bytes: the last offset fits, one element more and it does not.
TEST(OffsetsTest, TheLimitIsExact) {
  for (int64_t elementBytes : {1, 2, 4, 16})
    for (int64_t more : {0, 1}) {
      std::string error;
      int64_t blocks = (int64_t(1) << 31) / elementBytes + more;
      std::optional<Layout> layout = Layout::get(
          {{kB, blocks, {}}, {kN, 1, {}}, {kD, 1, {}}}, {}, 1, error);
      ASSERT_TRUE(layout.has_value()) << error;
      EXPECT_EQ(fitsOffset32(*layout, elementBytes, OffsetRange::Pool),
                more ? Proof::No : Proof::Yes);
      EXPECT_EQ(fitsOffset32(*layout, elementBytes, OffsetRange::Block),
                Proof::Yes);
    }
}

} // namespace
} // namespace layout_test
