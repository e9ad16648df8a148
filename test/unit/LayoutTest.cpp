// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The layout value and its own queries.

#include "LayoutSamples.h"

namespace layout_test {
namespace {

//===----------------------------------------------------------------------===//
// Axes
//===----------------------------------------------------------------------===//

TEST(AxisTest, EveryAxisIsReadBackFromItsText) {
  std::set<std::string> texts;
  for (AxisKind kind : kAllKinds)
    for (AxisPart part : {AxisPart::Whole, AxisPart::Outer, AxisPart::Inner}) {
      Axis axis{kind, part};
      std::optional<Axis> parsed = Axis::parse(axis.str());
      ASSERT_TRUE(parsed.has_value()) << axis.str();
      EXPECT_EQ(*parsed, axis) << axis.str();
      texts.insert(axis.str());
    }
  EXPECT_EQ(texts.size(), 18u);
  EXPECT_EQ((Axis{AxisKind::Channel, AxisPart::Inner}.str()), "D.i");
}

TEST(AxisTest, OtherTextIsNoAxis) {
  for (const char *text :
       {"", "X", "b", "B.", "B.x", "B.o.i", "BB", ".o", "B "})
    EXPECT_FALSE(Axis::parse(text).has_value()) << text;
}

TEST(AxisTest, ASetHoldsWhatItWasMadeFrom) {
  AxisSet set = {AxisKind::Token, AxisKind::Channel};
  for (AxisKind kind : kAllKinds)
    EXPECT_EQ(set.contains(kind),
              kind == AxisKind::Token || kind == AxisKind::Channel);
}

TEST(PowerOfTwoTest, IsTheLargestDivisorUpToTheLimit) {
  for (int64_t value = 0; value <= 300; ++value)
    for (int64_t limit = 1; limit <= 64; limit *= 2) {
      int64_t expected = 1;
      for (int64_t power = 1; power <= limit; power *= 2)
        if (value % power == 0)
          expected = power;
      EXPECT_EQ(kvcache::powerOfTwoDivisor(value, limit), expected)
          << value << ", limit " << limit;
    }
}

//===----------------------------------------------------------------------===//
// Queries against enumeration
//===----------------------------------------------------------------------===//

TEST(LayoutTest, AxesOrderAndAlignmentAreThoseGiven) {
  forEachSample(1, [](const Sample &sample, Random &) {
    const Instance &instance = sample.instance;
    const Layout &layout = *sample.layout;
    ASSERT_EQ(layout.rank(), instance.rank());
    EXPECT_EQ(layout.align(), instance.align);
    bool listed = true;
    for (unsigned i = 0; i < instance.rank(); ++i) {
      EXPECT_EQ(layout.dim(i).axis, instance.axes[i]);
      EXPECT_EQ(layout.dim(i).extent, sample.dims[i].extent);
      EXPECT_EQ(layout.orderAt(i), instance.order[i]);
      EXPECT_EQ(layout.find(instance.axes[i]), i);
      listed &= instance.order[i] == i;
      std::optional<unsigned> faster = layout.nextFaster(instance.order[i]);
      if (i + 1 == instance.rank())
        EXPECT_FALSE(faster.has_value());
      else
        EXPECT_EQ(faster, instance.order[i + 1]);
    }
    EXPECT_EQ(layout.hasListedOrder(), listed);

    for (AxisKind kind : kAllKinds) {
      bool has = false, open = false;
      int64_t product = 1;
      for (unsigned i = 0; i < instance.rank(); ++i)
        if (instance.axes[i].kind == kind) {
          has = true;
          open |= sample.dims[i].extent == kRunTime;
          product *= instance.extents[i];
        }
      EXPECT_EQ(layout.has(kind), has);
      EXPECT_EQ(layout.find(kind), instance.find(kind));
      EXPECT_EQ(layout.extent(kind), open ? kRunTime : product);
    }
  });
}

TEST(LayoutTest, AKnownStrideIsTheStride) {
  forEachSample(2, [](const Sample &sample, Random &) {
    for (unsigned i = 0; i < sample.instance.rank(); ++i) {
      std::optional<int64_t> stride = sample.layout->stride(i);
      if (sample.allConstant ||
          sample.dims[i].stride.kind == StrideFact::Kind::Constant)
        EXPECT_TRUE(stride.has_value() || sample.dims[i].extent == 1) << i;
      if (sample.allConstant)
        ASSERT_TRUE(stride.has_value()) << i;
      if (stride)
        EXPECT_EQ(*stride, sample.instance.strides[i]) << i;
    }
  });
}

TEST(LayoutTest, TheStrideMultipleDividesTheStride) {
  forEachSample(3, [](const Sample &sample, Random &) {
    for (unsigned i = 0; i < sample.instance.rank(); ++i) {
      int64_t multiple = sample.layout->strideMultiple(i);
      ASSERT_GE(multiple, 1) << i;
      EXPECT_EQ(sample.instance.strides[i] % multiple, 0) << i;
      if (std::optional<int64_t> stride = sample.layout->stride(i))
        EXPECT_EQ(multiple, *stride) << i;
    }
  });
}

TEST(LayoutTest, ACompactLayoutHasNoGaps) {
  forEachSample(4, [](const Sample &sample, Random &) {
    bool truth = sample.instance.isCompact();
    if (sample.layout->isCompact())
      EXPECT_TRUE(truth);
    if (sample.allConstant)
      EXPECT_EQ(sample.layout->isCompact(), truth);
  });
}

TEST(LayoutTest, InAFlatLayoutTokensOfAllBlocksHaveOneStride) {
  int proven = 0;
  forEachSample(5, [&](const Sample &sample, Random &) {
    const Instance &instance = sample.instance;
    std::optional<unsigned> block = instance.find(AxisKind::Block);
    std::optional<unsigned> token = instance.find(AxisKind::Token);
    if (!block || !token) {
      EXPECT_FALSE(sample.layout->isFlat());
      return;
    }
    int64_t tokens = instance.extents[*token];
    int64_t blockStride = instance.strides[*block];
    int64_t tokenStride = instance.strides[*token];
    if (sample.layout->isFlat()) {
      ++proven;
      for (int64_t b = 0; b < instance.extents[*block]; ++b)
        for (int64_t n = 0; n < tokens; ++n)
          EXPECT_EQ(b * blockStride + n * tokenStride,
                    (b * tokens + n) * tokenStride);
    }
    if (sample.allConstant)
      EXPECT_EQ(sample.layout->isFlat(), blockStride == tokens * tokenStride);
  });
  EXPECT_GT(proven, kLayouts / 100);
}

TEST(LayoutTest, ARunIsContiguousAndTheLongest) {
  int64_t longest = 0;
  forEachSample(6, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    for (int n = 0; n < 6; ++n) {
      Moved moved = randomMoved(random);
      kvcache::Run run = sample.layout->contiguousRun(moved.set);
      ASSERT_LE(run.axes, instance.rank());
      longest = std::max(longest, run.elements);

      // Only moved axes, and those that have one index anyway, are covered.
      std::set<unsigned> covered;
      for (unsigned k = 0; k < run.axes; ++k) {
        unsigned i = instance.fastest(k);
        covered.insert(i);
        EXPECT_TRUE(moved.kinds.count(instance.axes[i].kind) ||
                    sample.dims[i].extent == 1);
      }
      std::vector<int64_t> run0 =
          instance.offsets([&](unsigned i) { return covered.count(i) > 0; });
      ASSERT_EQ(static_cast<int64_t>(run0.size()), run.elements);
      for (int64_t e = 0; e < run.elements; ++e)
        ASSERT_EQ(run0[e], e);

      if (!sample.allConstant)
        continue;
      // Longest: where all moved axes move, the elements without a gap from
      // the first one on are those of the run.
      std::vector<int64_t> all = instance.offsets([&](unsigned i) {
        return moved.kinds.count(instance.axes[i].kind) > 0;
      });
      int64_t stretch = 0;
      while (stretch < static_cast<int64_t>(all.size()) &&
             all[stretch] == stretch)
        ++stretch;
      EXPECT_EQ(run.elements, stretch);
      // And no axis of extent 1 above it is left out.
      if (run.axes < instance.rank())
        EXPECT_NE(instance.extents[instance.fastest(run.axes)], 1);
    }
  });
  EXPECT_GT(longest, 64);
}

/// Some of the axes in any sequence, as an array that is packed in it.
std::vector<Axis> randomPacked(const Instance &instance, Random &random) {
  std::vector<Axis> packed = instance.orderAxes();
  // Often the order of the layout itself or a part of it, or nothing is common.
  if (random.percent(40))
    random.shuffle(packed);
  size_t drop = random.percent(50) ? 0 : random.between(0, packed.size());
  packed.erase(packed.begin(), packed.begin() + drop);
  if (!packed.empty() && random.percent(20))
    packed.erase(packed.begin() + random.between(0, packed.size() - 1));
  return packed;
}

TEST(LayoutTest, ACommonRunIsContiguousOnBothSidesAndTheLongest) {
  int64_t longest = 0;
  forEachSample(10, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    for (int n = 0; n < 6; ++n) {
      std::vector<Axis> packed = randomPacked(instance, random);
      kvcache::Run run = sample.layout->commonRun(packed);
      ASSERT_LE(run.axes, instance.rank());
      longest = std::max(longest, run.elements);

      // The same array as an instance: the strides of its own sequence, and 0
      // for what it does not have.
      Instance other = instance;
      std::fill(other.strides.begin(), other.strides.end(), 0);
      int64_t stride = 1;
      for (size_t k = packed.size(); k-- > 0;) {
        unsigned i = *sample.layout->find(packed[k]);
        other.strides[i] = stride;
        stride *= instance.extents[i];
      }

      std::set<unsigned> covered;
      for (unsigned k = 0; k < run.axes; ++k)
        covered.insert(instance.fastest(k));
      auto isCovered = [&](unsigned i) { return covered.count(i) > 0; };
      std::vector<int64_t> ours = instance.offsets(isCovered);
      std::vector<int64_t> theirs = other.offsets(isCovered);
      ASSERT_EQ(static_cast<int64_t>(ours.size()), run.elements);
      for (int64_t e = 0; e < run.elements; ++e) {
        ASSERT_EQ(ours[e], e);
        ASSERT_EQ(theirs[e], e);
      }

      if (!sample.allConstant)
        continue;
      auto isPacked = [&](unsigned i) {
        return std::count(packed.begin(), packed.end(), instance.axes[i]) > 0;
      };
      ours = instance.offsets(isPacked);
      theirs = other.offsets(isPacked);
      int64_t stretch = 0;
      while (stretch < static_cast<int64_t>(ours.size()) &&
             ours[stretch] == stretch && theirs[stretch] == stretch)
        ++stretch;
      EXPECT_EQ(run.elements, stretch);
    }
  });
  EXPECT_GT(longest, 64);
}

TEST(LayoutTest, AccessesCutEveryRunAndAreAligned) {
  std::set<int64_t> seen;
  forEachSample(7, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    for (int n = 0; n < 6; ++n) {
      kvcache::Run run =
          n % 2 ? sample.layout->contiguousRun(randomMoved(random).set)
                : sample.layout->commonRun(randomPacked(instance, random));
      int64_t elementBytes = int64_t(1) << random.between(0, 2);
      int64_t width = sample.layout->accessBytes(run, elementBytes);
      seen.insert(width);

      std::set<unsigned> covered;
      for (unsigned k = 0; k < run.axes; ++k)
        covered.insert(instance.fastest(k));
      std::vector<int64_t> starts =
          instance.offsets([&](unsigned i) { return !covered.count(i); });
      // The base is a multiple of the alignment and of nothing more.
      auto works = [&](int64_t bytes) {
        return instance.align % bytes == 0 &&
               run.elements * elementBytes % bytes == 0 &&
               std::all_of(starts.begin(), starts.end(), [&](int64_t start) {
                 return start * elementBytes % bytes == 0;
               });
      };
      ASSERT_TRUE(width >= 1 && width <= Layout::kWidestAccess &&
                  (width & (width - 1)) == 0)
          << width;
      EXPECT_TRUE(works(width)) << width;
      if (sample.allConstant && width < Layout::kWidestAccess)
        EXPECT_FALSE(works(width * 2)) << width;
    }
  });
  EXPECT_EQ(seen, (std::set<int64_t>{1, 2, 4, 8, 16}));
}

TEST(LayoutTest, NoTwoElementsShareAnOffset) {
  int accepted = 0, refused = 0;
  Random random(8);
  for (int n = 0; n < kLayouts; ++n) {
    Instance instance = randomInstance(random);
    // Any constant strides, so that many overlap.
    std::vector<LayoutDim> dims;
    for (unsigned i = 0; i < instance.rank(); ++i) {
      if (instance.extents[i] != 1 && random.percent(15))
        instance.strides[i] = random.between(1, 40);
      dims.push_back({instance.axes[i], instance.extents[i],
                      StrideFact::constant(instance.strides[i])});
    }
    std::string error;
    std::optional<Layout> layout =
        Layout::get(dims, instance.orderAxes(), instance.align, error);
    std::vector<int64_t> offsets =
        instance.offsets([](unsigned) { return true; });
    if (layout) {
      ++accepted;
      std::set<int64_t> unique(offsets.begin(), offsets.end());
      EXPECT_EQ(unique.size(), offsets.size());
      continue;
    }
    // Refused: some axis really starts inside what a faster one spans.
    ++refused;
    EXPECT_EQ(error.rfind("layout_c5", 0), 0u) << error;
    bool inside = false;
    int64_t span = 1;
    for (unsigned k = 0; k < instance.rank(); ++k) {
      unsigned i = instance.fastest(k);
      if (instance.extents[i] == 1)
        continue;
      inside |= instance.strides[i] < span;
      span = instance.strides[i] * instance.extents[i];
    }
    EXPECT_TRUE(inside) << error;
  }
  EXPECT_GT(accepted, kLayouts / 10);
  EXPECT_GT(refused, kLayouts / 10);
}

TEST(LayoutTest, EqualLayoutsAreSpelledAlike) {
  forEachSample(9, [](const Sample &sample, Random &random) {
    if (!sample.allConstant)
      return;
    const Instance &instance = sample.instance;
    // The same instance in other words: compact strides as numbers, numbers
    // as compact, and any stride for an axis of extent 1.
    std::vector<LayoutDim> other = sample.dims;
    for (unsigned k = 0; k < instance.rank(); ++k) {
      unsigned i = instance.fastest(k);
      if (instance.extents[i] == 1)
        other[i].stride = StrideFact::runTime(random.between(1, 64));
      else if (instance.strides[i] == instance.compactStride(k) &&
               random.percent(50))
        other[i].stride = StrideFact::compact();
      else
        other[i].stride = StrideFact::constant(instance.strides[i]);
    }
    std::string error;
    std::optional<Layout> same =
        Layout::get(other, instance.orderAxes(), instance.align, error);
    ASSERT_TRUE(same.has_value()) << error;
    EXPECT_TRUE(*same == *sample.layout);
    EXPECT_FALSE(*same != *sample.layout);
    for (unsigned i = 0; i < instance.rank(); ++i)
      EXPECT_TRUE(same->dim(i) == sample.layout->dim(i)) << i;

    // Another alignment, or another stride that matters, is another layout.
    std::optional<Layout> aligned =
        Layout::get(other, instance.orderAxes(), instance.align * 2, error);
    ASSERT_TRUE(aligned.has_value()) << error;
    EXPECT_TRUE(*aligned != *sample.layout);
    unsigned slowest = instance.order[0];
    if (instance.extents[slowest] == 1)
      return;
    other[slowest].stride = StrideFact::constant(instance.strides[slowest] + 1);
    std::optional<Layout> wider =
        Layout::get(other, instance.orderAxes(), instance.align, error);
    ASSERT_TRUE(wider.has_value()) << error;
    EXPECT_TRUE(*wider != *sample.layout);
  });
}

TEST(LayoutTest, NoOrderMeansTheListedSequence) {
  std::vector<LayoutDim> dims = {
      {{AxisKind::Block}, kRunTime, {}},
      {{AxisKind::Token}, 16, {}},
      {{AxisKind::Channel}, 64, {}},
  };
  std::string error;
  std::optional<Layout> silent = Layout::get(dims, {}, 16, error);
  std::optional<Layout> spoken = Layout::get(
      dims, {{AxisKind::Block}, {AxisKind::Token}, {AxisKind::Channel}}, 16,
      error);
  ASSERT_TRUE(silent && spoken) << error;
  EXPECT_TRUE(*silent == *spoken);
  EXPECT_TRUE(silent->hasListedOrder());
}

TEST(LayoutTest, TheTableOfTheHeaderHolds) {
  std::vector<LayoutDim> dims = {
      {{AxisKind::Side}, 2, {}},
      {{AxisKind::Block}, kRunTime, StrideFact::constant(1048576)},
      {{AxisKind::Token}, 16, {}},
      {{AxisKind::Head}, 8, {}},
      {{AxisKind::Channel}, 128, {}},
  };
  std::string error;
  std::optional<Layout> layout = Layout::get(dims,
                                             {{AxisKind::Block},
                                              {AxisKind::Side},
                                              {AxisKind::Token},
                                              {AxisKind::Head},
                                              {AxisKind::Channel}},
                                             256, error);
  ASSERT_TRUE(layout.has_value()) << error;
  EXPECT_EQ(layout->stride(0), 16384);
  EXPECT_EQ(layout->stride(1), 1048576);
  EXPECT_EQ(layout->stride(2), 1024);
  EXPECT_EQ(layout->stride(3), 128);
  EXPECT_EQ(layout->stride(4), 1);
  EXPECT_FALSE(layout->isCompact());
  EXPECT_FALSE(layout->isFlat());
}

//===----------------------------------------------------------------------===//
// Errors
//===----------------------------------------------------------------------===//

constexpr Axis kBlock{AxisKind::Block};
constexpr Axis kToken{AxisKind::Token};
constexpr Axis kHead{AxisKind::Head};
constexpr Axis kChannel{AxisKind::Channel};
constexpr Axis kOuter{AxisKind::Channel, AxisPart::Outer};
constexpr Axis kInner{AxisKind::Channel, AxisPart::Inner};

LayoutDim unit(Axis axis) { return {axis, 1, {}}; }

/// The layout is refused by the rule of the label, and the message says what
/// was expected and that it got `got`.
void expectError(const std::vector<LayoutDim> &dims,
                 const std::vector<Axis> &order, int64_t align,
                 const std::string &label, const std::string &got) {
  std::string error;
  EXPECT_FALSE(Layout::get(dims, order, align, error).has_value()) << label;
  EXPECT_EQ(error.rfind(label + ": ", 0), 0u) << error;
  size_t expected = error.find("expected");
  size_t found = error.find("got " + got);
  EXPECT_NE(expected, std::string::npos) << error;
  EXPECT_NE(found, std::string::npos) << error << "\nlacks: got " << got;
  EXPECT_LT(expected, found) << error;
}

TEST(LayoutErrorTest, C1AxesAreListedOnceInSequenceWithBothParts) {
  expectError({{kBlock, 2, {}}, {kBlock, 2, {}}, unit(kToken), unit(kChannel)},
              {}, 1, "layout_c1", "B twice");
  expectError({unit(kBlock), unit(kToken), unit(kChannel), unit(kInner)}, {}, 1,
              "layout_c1", "D and D.i");
  expectError({unit(kToken), unit(kBlock), unit(kChannel)}, {}, 1, "layout_c1",
              "[N, B, D]");
  expectError({unit(kBlock), unit(kToken), unit(kOuter)}, {}, 1, "layout_c1",
              "only D.o");
  expectError({unit(kBlock), unit(kToken), unit(kInner)}, {}, 1, "layout_c1",
              "only D.i");

  std::vector<LayoutDim> many;
  for (AxisKind kind : kAllKinds)
    for (AxisPart part : {AxisPart::Outer, AxisPart::Inner})
      many.push_back({{kind, part}, 1, {}});
  expectError(many, {}, 1, "layout_c1", "12");
}

TEST(LayoutErrorTest, C2BlockTokenAndChannelArePresent) {
  expectError({unit(kToken), unit(kChannel)}, {}, 1, "layout_c2", "[N, D]");
  expectError({unit(kBlock), unit(kHead), unit(kChannel)}, {}, 1, "layout_c2",
              "[B, H, D]");
  expectError({unit(kBlock), unit(kToken)}, {}, 1, "layout_c2", "[B, N]");
  expectError({}, {}, 1, "layout_c2", "[]");
}

TEST(LayoutErrorTest, C3ExtentsAreInRange) {
  for (int64_t extent : {int64_t(0), int64_t(-2), kMaxExtent + 1})
    expectError({{kBlock, extent, {}}, unit(kToken), unit(kChannel)}, {}, 1,
                "layout_c3", std::to_string(extent));
}

TEST(LayoutErrorTest, C4TheOrderIsAPermutation) {
  std::vector<LayoutDim> dims = {unit(kBlock), unit(kToken), unit(kChannel)};
  expectError(dims, {kBlock, kToken}, 1, "layout_c4", "[B, N]");
  expectError(dims, {kBlock, kToken, kToken}, 1, "layout_c4", "[B, N, N]");
  expectError(dims, {kHead, kBlock, kToken, kChannel}, 1, "layout_c4",
              "[H, B, N, D]");
}

TEST(LayoutErrorTest, C5StridesAreInRangeAndDoNotOverlap) {
  for (int64_t stride : {int64_t(0), int64_t(-1), kMaxExtent + 1}) {
    expectError({{kBlock, 4, StrideFact::constant(stride)},
                 {kToken, 4, {}},
                 {kChannel, 4, {}}},
                {}, 1, "layout_c5", std::to_string(stride));
    expectError({{kBlock, 4, StrideFact::runTime(stride)},
                 {kToken, 4, {}},
                 {kChannel, 4, {}}},
                {}, 1, "layout_c5", std::to_string(stride));
  }
  expectError({{kBlock, 4, StrideFact::constant(15)},
               {kToken, 4, {}},
               {kChannel, 4, {}}},
              {}, 1, "layout_c5", "15");
  // A run-time stride is at least its multiple.
  expectError({{kBlock, 4, StrideFact::constant(1023)},
               {kToken, 4, StrideFact::runTime(256)},
               {kChannel, 4, {}}},
              {}, 1, "layout_c5", "1023");
  expectError(
      {{kBlock, kMaxExtent, {}}, {kToken, kMaxExtent, {}}, {kChannel, 4, {}}},
      {}, 1, "layout_c5", "more with extent 1099511627776");
}

TEST(LayoutErrorTest, C6TheAlignmentIsAPowerOfTwoInRange) {
  for (int64_t align : {0, -16, 3, 24, 8192})
    expectError({unit(kBlock), unit(kToken), unit(kChannel)}, {}, align,
                "layout_c6", std::to_string(align));
}

} // namespace
} // namespace layout_test
